package main

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/uptane"
	"github.com/hanaper/hanaper/uptane/repo"
	"github.com/hanaper/hanaper/uptane/reposerver"
)

func targetsCommand() *cli.Command {
	return &cli.Command{
		Name: "targets", Usage: "the targets metadata of an Image repository: each target is a software version",
		Flags: []cli.Flag{repoFlag()},
		Subcommands: []*cli.Command{
			{
				Name: "init", Usage: "begin an empty targets.json",
				Flags: []cli.Flag{
					&cli.StringFlag{Name: "version", Required: true, Usage: "`VERSION` of targets.json, which must rise each time"},
					&cli.StringFlag{Name: "expires", Required: true, Usage: "it expires at `TIME`, in UTC, such as 2027-01-01T00:01:00Z"},
				},
				Action: initTargets,
			},
			addTargetCommand(), addUploadedCommand(), uploadCommand(), verifyUploadedCommand(),
			{
				Name: "delete", Usage: "take a target away: devices cannot install it any more",
				Flags: []cli.Flag{&cli.StringFlag{Name: "filename", Required: true, Usage: "exact `NAME` of the target"}},
				Action: func(c *cli.Context) error {
					r, err := openRepo(c)
					if err != nil {
						return err
					}
					path, err := r.DeleteTarget(c.String("filename"))
					if err == nil {
						say(c, "deleted target from %s", path)
					}
					return err
				},
			},
			{
				Name: "get-unsigned", Usage: "print the unsigned targets.json in canonical form: the bytes to sign elsewhere",
				Action: func(c *cli.Context) error {
					r, err := openRepo(c)
					if err != nil {
						return err
					}
					t, err := r.UnsignedTargets()
					if err == nil {
						_, err = c.App.Writer.Write(t.Signed())
					}
					return err
				},
			},
			{
				Name: "increment-version", Usage: "raise the version of the unsigned targets.json",
				Action: func(c *cli.Context) error {
					r, err := openRepo(c)
					if err != nil {
						return err
					}
					path, err := r.IncrementTargetsVersion()
					if err == nil {
						say(c, "Version incremented for unsigned targets.json saved to %s", path)
					}
					return err
				},
			},
			{
				Name: "sign", Usage: "sign the unsigned targets.json as the next version; signatures over the same content stay",
				Flags: append([]cli.Flag{
					keyNamesFlag(false),
					&cli.StringFlag{Name: "version", Usage: "`VERSION` to sign as, in place of the next one"},
					signaturesFlag(),
				}, expiryFlags()...),
				Action: func(c *cli.Context) error { return sign(c, uptane.RoleTargets) },
			},
			{Name: "pull", Usage: "fetch targets.json from the server and verify it", Action: pullTargets},
			{Name: "push", Usage: "give targets.json to the server; exit code 2 if somebody else has pushed since the pull", Action: pushTargets},
			setThresholdCommand(uptane.RoleTargets),
			targetsDelegationsCommand(),
		},
	}
}

func initTargets(c *cli.Context) error {
	n, err := version(c)
	if err != nil {
		return err
	}
	expires, err := instant(c, "expires")
	if err != nil {
		return err
	}
	r, err := openRepo(c)
	if err != nil {
		return err
	}
	path, err := r.InitTargets(*n, *expires)
	if err == nil {
		say(c, "Wrote empty targets to %s", path)
	}
	return err
}

func pullTargets(c *cli.Context) error {
	r, err := openRepo(c)
	if err != nil {
		return err
	}
	if r.Kind() == uptane.Director {
		return noDirector("targets pull")
	}
	server, err := openServer(c, r)
	if err != nil {
		return err
	}
	t, err := fetchTargets(c, r, server)
	if err != nil {
		return err
	}
	say(c, "Pulled targets, version %d, %d targets", t.Version(), t.Len())
	return nil
}

func noDirector(what string) error {
	return advice.New(advice.Usage, "the director's targets are made by the server, with an online key", "%s does not work on a director repository", what)
}

// fetchTargets fetches targets, verifies them under the newest root, which it follows from the local one, and stores both.
func fetchTargets(c *cli.Context, r *repo.Repository, server *reposerver.Client) (*uptane.Targets, error) {
	root, err := fetchRoot(c, r, server, false)
	if err != nil {
		return nil, err
	}
	data, checksum, err := server.Targets(c.Context)
	if err != nil {
		return nil, err
	}
	t, err := uptane.ParseTargets(uptane.Image, data)
	if err != nil {
		return nil, err
	}
	if err := uptane.RoleAuthority(root, uptane.RoleTargets).Verify(t); err != nil {
		return nil, advice.Wrap(advice.Unverified, fmt.Errorf("could not pull targets: %w", err),
			"the root was rotated and no targets.json signed with its targets keys was pushed yet: sign the local one with them and push it")
	}
	if checksum != uptane.FileDigest(t) {
		return nil, advice.New(advice.Unverified, "the server, or something before it, is at fault", "did not receive a valid role checksum for the targets")
	}
	if seen, err := r.PulledTargets(); err == nil && seen.Version() > t.Version() {
		return nil, advice.New(advice.Unverified, "ask who restored the server from a backup; then remove "+r.Path("roles/pulled"),
			"the server's targets have version %d, older than %d, which was pulled before", t.Version(), seen.Version())
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if mine, err := ahead(r, root); err != nil {
		return nil, err
	} else if mine == nil {
		if err := r.StoreRoot(root); err != nil {
			return nil, err
		}
	}
	if uptane.CheckExpiry(t, time.Now()) != nil {
		warn(c, "the server's targets.json expired on %s", t.Expires().Format(time.RFC3339))
	}
	return t, r.StoreTargets(t, checksum)
}

func pushTargets(c *cli.Context) error {
	r, err := openRepo(c)
	if err != nil {
		return err
	}
	if r.Kind() == uptane.Director {
		return noDirector("targets push")
	}
	t, checksum, err := r.TargetsToPush()
	if err != nil {
		return err
	}
	root, err := r.Root()
	if err != nil {
		return err
	}
	data, err := uptane.Emit(t, uptane.RoleAuthority(root, uptane.RoleTargets))
	if err != nil {
		return err
	}
	if most := uptane.DefaultLimits().ImageTargets; len(data) > most/4*3 {
		warn(c, "targets.json has %d bytes; devices read no more than %d", len(data), most)
	}
	server, err := openServer(c, r)
	if err != nil {
		return err
	}
	if err := server.PushTargets(c.Context, data, checksum); err != nil {
		return err
	}
	// What was pushed is what the server has now: the next change starts from it.
	if err := r.StoreTargets(t, uptane.FileDigest(t)); err != nil {
		return err
	}
	say(c, "Pushed targets, version %d", t.Version())
	return nil
}
