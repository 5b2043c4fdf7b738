package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/uptane"
)

func uptaneVerifyCommand() *cli.Command {
	return &cli.Command{
		Name: "verify", Usage: "verify metadata from a root that you trust, as a device does", HideHelpCommand: true,
		Description: "With targets, snapshot and timestamp, the whole Image repository is verified as a device does; without snapshot and timestamp, the targets' signatures and expiry alone. With the Director's root and targets too, what it assigns to a vehicle is compared with the Image repository, as the vehicle does before it installs anything.\n\n" +
			"Example:\n  hanaper uptane verify --trusted-root 1.root.json --targets targets.json --snapshot snapshot.json --timestamp timestamp.json",
		Flags: append([]cli.Flag{
			repositoryFlag, uptaneTimeFlag,
			&cli.StringFlag{Name: "targets", Usage: "the targets.json `FILE`"},
			&cli.StringFlag{Name: "snapshot", Usage: "the snapshot.json `FILE`"},
			&cli.StringFlag{Name: "timestamp", Usage: "the timestamp.json `FILE`"},
			&cli.StringSliceFlag{Name: "delegation", Usage: "a delegation's document, `NAME=FILE`; may be repeated"},
			&cli.StringFlag{Name: "director-root", Usage: "the Director's root.json that you trust, a `FILE`"},
			&cli.StringFlag{Name: "director-targets", Usage: "a vehicle's targets.json from the Director, a `FILE`"},
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
	director, err := directorOf(c, now)
	if err != nil {
		return err
	}
	switch {
	case director != nil && (which == uptane.Director || files["targets"] == nil || files["snapshot"] == nil || files["timestamp"] == nil):
		return advice.New(advice.Usage, "add --targets, --snapshot and --timestamp of the Image repository", "the Director's assignments are compared with the whole Image repository")
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
		if director != nil {
			if err := agreed(c, director, v); err != nil {
				return err
			}
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

// directorOf verifies the Director's targets from the root that the flags name; nil where they name none.
func directorOf(c *cli.Context, now time.Time) (*uptane.VerifiedDirector, error) {
	rootFile, targetsFile := c.String("director-root"), c.String("director-targets")
	if rootFile == "" && targetsFile == "" {
		return nil, nil
	}
	if rootFile == "" || targetsFile == "" {
		return nil, advice.New(advice.Usage, "add the other one", "--director-root and --director-targets belong together")
	}
	root, err := readRoot(rootFile)
	if err != nil {
		return nil, err
	}
	targets, err := readBounded(targetsFile)
	if err != nil {
		return nil, err
	}
	d, err := uptane.VerifyDirector(root, uptane.DirectorFiles{Targets: targets}, nil, now)
	if err != nil {
		return nil, fmt.Errorf("director: %w", err)
	}
	return d, nil
}

// agreed compares what the Director assigns with what the Image repository holds, and shows it.
func agreed(c *cli.Context, d *uptane.VerifiedDirector, image *uptane.VerifiedImage) error {
	list, err := uptane.VerifyAgreement(d, image, nil)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.App.Writer, "director's targets version %d: %d assignments, each as the Image repository has it\n", d.Targets().Version(), len(list))
	for _, a := range list {
		fmt.Fprintf(c.App.Writer, "  ECU %s (%s): %s\n", show.Text(a.ECU), show.Text(a.HardwareID), show.Text(a.Name))
	}
	return nil
}

func verified(c *cli.Context, t *uptane.Targets) error {
	_, err := fmt.Fprintf(c.App.Writer, "targets version %d, %d targets, expires %s\nverified\n", t.Version(), t.Len(), t.Expires().Format(time.RFC3339))
	return err
}
