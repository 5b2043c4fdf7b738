package main

import (
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/uptane"
	"github.com/hanaper/hanaper/uptane/office"
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
						_, err = show.Raw(c.App.Writer, t.Signed())
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
			{
				Name: "pull", Usage: "fetch targets.json from the server and verify it", Action: pullTargets,
				Flags: []cli.Flag{&cli.BoolFlag{Name: "superseded", Usage: "fetch targets that only an earlier root vouches for, show what differs, and keep them as a draft (not in garage-sign)"}},
			},
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
		say(c, "Wrote empty targets to %s", show.Text(path))
	}
	return err
}

func pullTargets(c *cli.Context) error {
	o, _, err := openOffice(c)
	if err != nil {
		return err
	}
	if c.Bool("superseded") {
		return pullSuperseded(c, o)
	}
	t, err := o.FetchTargets(c.Context)
	if err == nil {
		say(c, "Pulled targets, version %d, %d targets", t.Version(), t.Len())
	}
	return err
}

// pullSuperseded is for people: what it keeps must be read before it is signed.
func pullSuperseded(c *cli.Context, o *office.Office) error {
	s, err := o.FetchSuperseded(c.Context)
	if err != nil {
		return err
	}
	say(c, "%s", strings.TrimRight(s.Diff.String(), "\n"))
	warn(c, "SUPERSEDED: targets version %d are signed with keys of root version %d only, which do not count any more. Above is what differs from the targets that verified last; "+
		"delete from the draft whatever none of you made", s.Targets.Version(), s.Root.Version())
	return nil
}

func pushTargets(c *cli.Context) error {
	o, _, err := openOffice(c)
	if err != nil {
		return err
	}
	t, err := o.PushTargets(c.Context)
	if err == nil {
		say(c, "Pushed targets, version %d", t.Version())
	}
	return err
}
