package main

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/term"
	"github.com/hanaper/hanaper/uptane"
	"github.com/hanaper/hanaper/uptane/office"
	"github.com/hanaper/hanaper/uptane/repo"
)

func deployCommand() *cli.Command {
	return &cli.Command{
		Name: "deploy", Usage: "copy an image's metadata from one environment to another, with the flags of garage-deploy",
		Description: "The source's metadata is verified under the root in the source's credentials; the target is shown, signed under the destination's keys, and pushed. " +
			"The image itself is not copied: garage-deploy, garage-push or ostree do that.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "fetch-credentials", Aliases: []string{"f"}, Required: true, Usage: "the source's credentials `FILE` (.zip)"},
			&cli.StringFlag{Name: "push-credentials", Aliases: []string{"p"}, Required: true, Usage: "the destination's credentials `FILE` (.zip), with its targets key or a stub that names it"},
			&cli.StringFlag{Name: "commit", Required: true, Usage: "OSTree `COMMIT`, or SHA-256 of the binary, that the source must have"},
			&cli.StringFlag{Name: "name", Usage: "`NAME` of the image at the destination, and of the source's if there are several"},
			&cli.StringFlag{Name: "hardwareids", Aliases: []string{"h"}, Usage: "`LIST` of hardware ids at the destination; the source's otherwise"},
			&cli.StringFlag{Name: "cacert", Usage: "PEM `FILE` with the certificates that verify the servers"},
			&cli.StringSliceFlag{Name: "key-name", Aliases: []string{"k"}, Usage: "`NAME` or URI of the destination's key; targets of the credentials otherwise"},
			&cli.StringFlag{Name: "expires", Usage: "the destination's targets expire at `TIME`, in UTC"},
			&cli.StringFlag{Name: "expire-after", Usage: "the destination's targets expire after a `PERIOD`, such as 31D"},
			&cli.BoolFlag{Name: "dry-run", Aliases: []string{"n"}, Usage: "show what would be signed, and stop"},
			&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "do not ask before signing"},
			&cli.IntFlag{Name: "jobs", Hidden: true, Usage: "of garage-deploy, for objects: not used"},
			&cli.BoolFlag{Name: "disable-integrity-checks", Hidden: true, Usage: "of garage-deploy, for objects: not used"},
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Hidden: true, Usage: "of garage-deploy: not used"},
			&cli.IntFlag{Name: "loglevel", Hidden: true, Usage: "of garage-deploy: not used"},
		},
		Action: deploy,
	}
}

func deploy(c *cli.Context) error {
	s, err := expiry(c)
	if err != nil {
		return err
	}
	s.Policy, s.Confirm = uptane.DefaultPolicy(), confirmDeploy(c)
	if s.Keys = c.StringSlice("key-name"); len(s.Keys) == 0 {
		s.Keys = []string{"targets"}
	}
	config := office.DeployConfig{Commit: c.String("commit"), Name: c.String("name"), HardwareIDs: list(c.String("hardwareids"))}
	if err := config.Check(); err != nil {
		return err
	}
	// Both local repositories are of this run alone.
	dir, err := os.MkdirTemp("", "hanaper-sign-deploy-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	from, err := openCredentials(c, filepath.Join(dir, "from"), "fetch-credentials")
	if err != nil {
		return err
	}
	to, err := openCredentials(c, filepath.Join(dir, "to"), "push-credentials")
	if err != nil {
		return err
	}
	diff, err := to.DraftFrom(c.Context, from, config)
	if err != nil {
		return err
	}
	if c.Bool("dry-run") {
		say(c, "%s", strings.TrimRight(diff.String(), "\n"))
		say(c, "Dry run: nothing was signed or pushed")
		return nil
	}
	t, err := to.SignAndPush(c.Context, s)
	if err == nil {
		say(c, "Pushed targets, version %d", t.Version())
	}
	return err
}

// openCredentials makes a repository of this run alone.
func openCredentials(c *cli.Context, dir, flag string) (*office.Office, error) {
	b, err := readInput(c.String(flag))
	if err != nil {
		return nil, err
	}
	r, _, err := repo.Init(dir, repo.InitConfig{Credentials: b}, openKey)
	if err != nil {
		return nil, err
	}
	if _, err := r.Root(); err != nil {
		return nil, advice.New(advice.Refused, "export them anew with export-credentials", "%s holds no root.json to verify metadata with", c.String(flag))
	}
	return newOffice(c, r)
}

// confirmDeploy shows what is about to be signed, and asks unless --yes is given.
func confirmDeploy(c *cli.Context) func(*uptane.Diff, []uptane.Finding) error {
	return func(d *uptane.Diff, findings []uptane.Finding) error {
		say(c, "%s", strings.TrimRight(d.String(), "\n"))
		for _, f := range findings {
			warn(c, "%s", show.Line(f.Text))
		}
		if c.Bool("yes") {
			return nil
		}
		answer, err := term.TTY().Line("Type Yes to sign this for the destination: ")
		if err == nil && answer != "Yes" {
			err = advice.New(advice.Refused, "", "not signed: the answer was not Yes")
		}
		return err
	}
}
