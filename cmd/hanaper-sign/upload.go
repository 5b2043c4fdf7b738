package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/uptane"
	"github.com/hanaper/hanaper/uptane/office"
	"github.com/hanaper/hanaper/uptane/repo"
	"github.com/hanaper/hanaper/uptane/reposerver"
)

func uploadFlags() []cli.Flag {
	return []cli.Flag{
		inputFlag("the `FILE` to upload"),
		&cli.StringFlag{Name: "name", Required: true, Usage: "`NAME` of the target"},
		&cli.StringFlag{Name: "version", Required: true, Usage: "`VERSION` of the target"},
		&cli.Int64Flag{Name: "timeout", Value: 3600, Usage: "give up after `SECONDS`"},
	}
}

func uploadCommand() *cli.Command {
	return &cli.Command{
		Name: "upload", Usage: "upload a binary; then add it with add-uploaded. One that was cut short is carried on",
		Flags:  append(uploadFlags(), &cli.BoolFlag{Name: "force", Usage: "replace a binary of this name and version"}),
		Action: upload,
	}
}

func upload(c *cli.Context) error {
	name, r, server, cancel, err := openUpload(c)
	if err != nil {
		return err
	}
	defer cancel()
	f, err := input.Open(c.String("input"))
	if err != nil {
		return advice.Wrap(advice.Usage, err, "name a file that exists and that you may read")
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return advice.New(advice.Usage, "name a file", "%s is not a regular file", f.Name())
	}
	state := r.Path("uploads/" + hex.EncodeToString(digest([]byte(name)))[:32] + ".json")
	err = server.Upload(c.Context, reposerver.Upload{
		Name: name, Source: f, Size: info.Size(), Force: c.Bool("force"), State: loadUpload(state),
		Save: func(s reposerver.UploadState) error {
			b, err := json.Marshal(s)
			if err != nil {
				return err
			}
			if err := durable.Mkdir(r.Path("uploads"), 0o700); err != nil {
				return err
			}
			return durable.WriteFile(state, b, 0o600)
		},
	})
	if errors.Is(err, reposerver.ErrExists) {
		return advice.Wrap(advice.Refused, err, "give it another version, or replace it with --force")
	}
	if err != nil {
		if _, serr := os.Stat(state); serr == nil {
			return advice.Wrap(advice.Failed, err, "run the same command again: it carries on where this one ended")
		}
		return err
	}
	if err := durable.Remove(state); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	say(c, "Target uploaded. You can now add this target to your targets with `targets add-uploaded`")
	return nil
}

// openUpload opens what an upload needs and bounds the time that it takes.
func openUpload(c *cli.Context) (name string, r *repo.Repository, server *reposerver.Client, cancel func(), err error) {
	if c.Int64("timeout") < 1 {
		return "", nil, nil, nil, usagef("timeout %d is not a number of seconds", c.Int64("timeout"))
	}
	name = c.String("name") + "-" + c.String("version")
	if err := uptane.CheckTargetName(name); err != nil {
		return "", nil, nil, nil, err
	}
	if r, err = openRepo(c); err != nil {
		return "", nil, nil, nil, err
	}
	if err = office.NoDirector(r.Kind(), "targets upload"); err != nil {
		return "", nil, nil, nil, err
	}
	if server, err = openServer(c, r); err != nil {
		return "", nil, nil, nil, err
	}
	c.Context, cancel = context.WithTimeout(c.Context, time.Duration(c.Int64("timeout"))*time.Second)
	return name, r, server, cancel, nil
}

func loadUpload(path string) *reposerver.UploadState {
	b, err := input.ReadFile(path)
	if err != nil {
		return nil
	}
	var s reposerver.UploadState
	if json.Unmarshal(b, &s) != nil {
		return nil // a broken state costs a new upload, no more
	}
	return &s
}

func addUploadedCommand() *cli.Command {
	return &cli.Command{
		Name: "add-uploaded", Usage: "add a target whose binary was uploaded",
		Flags: append(targetFlags(false), inputFlag("the `FILE` that was uploaded"),
			&cli.BoolFlag{Name: "verifyIntegrity", Usage: "compare it with what the server has first"},
			&cli.Int64Flag{Name: "timeout", Value: 3600, Usage: "give up after `SECONDS`"}),
		Action: func(c *cli.Context) error {
			n, err := newTarget(c)
			if err != nil {
				return err
			}
			if n.SHA256, n.Length, err = fileDigest(c.String("input")); err != nil {
				return err
			}
			n.Format, n.Uploaded = uptane.Binary, true
			if c.Bool("verifyIntegrity") {
				if err := verifyUploaded(c, n.SHA256, n.Length); err != nil {
					return err
				}
			}
			r, err := openRepo(c)
			if err != nil {
				return err
			}
			path, err := putTarget(r, n)
			if err == nil {
				say(c, "added uploaded target to %s", path)
			}
			return err
		},
	}
}

func verifyUploadedCommand() *cli.Command {
	return &cli.Command{
		Name: "verify-uploaded", Usage: "compare a file with what the server has under its name",
		Flags: uploadFlags(),
		Action: func(c *cli.Context) error {
			digest, size, err := fileDigest(c.String("input"))
			if err != nil {
				return err
			}
			if err := verifyUploaded(c, digest, size); err != nil {
				return err
			}
			say(c, "the server has exactly this file, SHA-256 %s", digest)
			return nil
		},
	}
}

func verifyUploaded(c *cli.Context, want string, size int64) error {
	name, _, server, cancel, err := openUpload(c)
	if err != nil {
		return err
	}
	defer cancel()
	got, n, err := server.Uploaded(c.Context, name)
	if err != nil {
		return err
	}
	if got != want || n != size {
		return advice.New(advice.Unverified, "upload it again, with --force", "the server has other content for %s: %d bytes, SHA-256 %s", name, n, got)
	}
	return nil
}

func fileDigest(path string) (sum string, size int64, err error) {
	f, err := input.Open(path)
	if err != nil {
		return "", 0, advice.Wrap(advice.Usage, err, "name a file that exists and that you may read")
	}
	defer f.Close()
	h := sha256.New()
	if size, err = io.Copy(h, f); err != nil {
		return "", 0, err
	}
	return hex.EncodeToString(h.Sum(nil)), size, nil
}

func digest(b []byte) []byte {
	d := sha256.Sum256(b)
	return d[:]
}
