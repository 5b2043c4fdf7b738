package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/uptane"
)

func uptaneVerifyCommand() *cli.Command {
	return &cli.Command{
		Name: "verify", Usage: "verify metadata from a root that you trust, as a device does", HideHelpCommand: true,
		Description: "With targets, snapshot and timestamp, the whole Image repository is verified as a device does; without snapshot and timestamp, the targets' signatures and expiry alone.\n\n" +
			"Example:\n  hanaper uptane verify --trusted-root 1.root.json --targets targets.json --snapshot snapshot.json --timestamp timestamp.json",
		Flags: append([]cli.Flag{
			repositoryFlag, uptaneTimeFlag,
			&cli.StringFlag{Name: "targets", Usage: "the targets.json `FILE`"},
			&cli.StringFlag{Name: "snapshot", Usage: "the snapshot.json `FILE`"},
			&cli.StringFlag{Name: "timestamp", Usage: "the timestamp.json `FILE`"},
			&cli.StringSliceFlag{Name: "delegation", Usage: "a delegation's document, `NAME=FILE`; may be repeated"},
		}, trustedRootFlags()...),
		Action: uptaneVerify,
	}
}

func uptaneVerify(c *cli.Context) error {
	if err := shell.NoArgs(c); err != nil {
		return err
	}
	which, err := repositoryOf(c)
	if err != nil {
		return err
	}
	now, err := timeNow(c)
	if err != nil {
		return err
	}
	root, err := trustedRoot(c)
	if err != nil {
		return err
	}
	if root == nil {
		return advice.New(advice.Usage, "add --trusted-root FILE, the root.json that you keep", "nothing to verify from")
	}
	if err := uptane.VerifyRoot(root); err != nil {
		return err
	}
	if err := uptane.CheckExpiry(root, now); err != nil {
		return err
	}
	fmt.Fprintf(c.App.Writer, "root version %d, expires %s\n", root.Version(), root.Expires().Format(time.RFC3339))
	files := map[string][]byte{}
	for _, name := range []string{"targets", "snapshot", "timestamp"} {
		if path := c.String(name); path != "" {
			if files[name], err = readBounded(path); err != nil {
				return err
			}
		}
	}
	delegations := map[string][]byte{}
	for _, d := range c.StringSlice("delegation") {
		name, path, ok := strings.Cut(d, "=")
		if !ok {
			return advice.New(advice.Usage, "write it as NAME=FILE", "--delegation %q", d)
		}
		if delegations[name], err = readBounded(path); err != nil {
			return err
		}
	}
	switch {
	case files["targets"] == nil:
		return nil
	case which == uptane.Director:
		v, err := uptane.VerifyDirector(root, uptane.DirectorFiles{Targets: files["targets"]}, nil, now)
		if err != nil {
			return err
		}
		return verified(c, v.Targets())
	case files["snapshot"] != nil && files["timestamp"] != nil:
		v, err := uptane.VerifyImage(root, uptane.ImageFiles{Timestamp: files["timestamp"], Snapshot: files["snapshot"], Targets: files["targets"], Delegations: delegations}, nil, now)
		if err != nil {
			return err
		}
		return verified(c, v.Targets())
	case files["snapshot"] != nil || files["timestamp"] != nil:
		return advice.New(advice.Usage, "add the other one", "--snapshot and --timestamp belong together")
	}
	t, err := uptane.ParseTargets(which, files["targets"], uptane.Local())
	if err != nil {
		return err
	}
	if err := uptane.RoleAuthority(root, uptane.RoleTargets).Verify(t); err != nil {
		return err
	}
	for name, data := range delegations {
		a, err := uptane.DelegationAuthority(t, name)
		if err != nil {
			return err
		}
		d, err := uptane.ParseTargets(which, data, uptane.Local())
		if err != nil {
			return err
		}
		if err := a.Verify(d); err != nil {
			return err
		}
		if err := uptane.CheckExpiry(d, now); err != nil {
			return err
		}
	}
	if err := uptane.CheckExpiry(t, now); err != nil {
		return err
	}
	return verified(c, t)
}

func verified(c *cli.Context, t *uptane.Targets) error {
	_, err := fmt.Fprintf(c.App.Writer, "targets version %d, %d targets, expires %s\nverified\n", t.Version(), t.Len(), t.Expires().Format(time.RFC3339))
	return err
}
