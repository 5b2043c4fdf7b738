package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
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
			"The destination must have the image: OSTree commits are copied by garage-deploy, garage-push or ostree, and a binary by --carry. " +
			"Where several officers must sign, --draft keeps the destination's targets as a local repository, in which they go on with targets sign and targets push.",
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
			&cli.BoolFlag{Name: "carry", Usage: "copy a binary from the source if the destination does not have it (not in garage-deploy)"},
			&cli.BoolFlag{Name: "unchecked", Usage: "do not ask whether the destination has the image (not in garage-deploy)"},
			&cli.StringFlag{Name: "draft", Usage: "push nothing, and keep the targets, signed by --key-name if it is given, as the local repository `NAME` (not in garage-deploy)"},
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
	s.Keys = c.StringSlice("key-name")
	if len(s.Keys) == 0 && c.String("draft") == "" {
		s.Keys = []string{"targets"}
	}
	config := office.DeployConfig{Commit: c.String("commit"), Name: c.String("name"), HardwareIDs: list(c.String("hardwareids")),
		Carry: c.Bool("carry"), Unchecked: c.Bool("unchecked")}
	if err := config.Check(); err != nil {
		return err
	}
	dir, keep, err := deployDirs(c)
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
	draft, err := to.DraftFrom(c.Context, from, config)
	if err != nil {
		return err
	}
	if keep == "" {
		if err := to.EnoughKeys(len(s.Keys)); err != nil {
			return err
		}
	}
	if c.Bool("dry-run") || len(s.Keys) == 0 {
		say(c, "%s", strings.TrimRight(draft.Diff.String(), "\n"))
		if draft.Carried != "" {
			say(c, "The destination does not have %s, which is copied first", show.Text(draft.Carried))
		}
	}
	if c.Bool("dry-run") {
		say(c, "Dry run: nothing was signed or pushed")
		return nil
	}
	if len(s.Keys) > 0 {
		if err := to.Sign(c.Context, s); err != nil {
			return err
		}
	}
	if err := to.Send(c.Context, draft); err != nil {
		return err
	}
	if keep != "" {
		if err := errors.Join(os.Rename(filepath.Join(dir, "to"), keep), durable.SyncDir(filepath.Dir(keep))); err != nil {
			return err
		}
		name := show.Text(c.String("draft"))
		say(c, "Nothing was pushed. The draft is the local repository %s: each officer runs targets sign -r %s, and the last one targets push -r %s", show.Text(keep), name, name)
		return nil
	}
	t, err := to.PushTargets(c.Context)
	if err == nil {
		say(c, "Pushed targets, version %d", t.Version())
	}
	return err
}

// deployDirs makes the folder of both local repositories, which are of this run alone; keep is where the destination's
// goes in the end, if it is to stay.
func deployDirs(c *cli.Context) (dir, keep string, err error) {
	name := c.String("draft")
	if name == "" {
		dir, err = os.MkdirTemp("", "hanaper-sign-deploy-")
		return dir, "", err
	}
	if err := repo.CheckKeyName(name); err != nil {
		return "", "", advice.New(advice.Usage, "use letters, digits, '-', '_' and '.'", "--draft %q cannot be a folder's name", name)
	}
	keep = filepath.Join(c.String("home-dir"), name)
	if _, err := os.Lstat(keep); !errors.Is(err, fs.ErrNotExist) {
		return "", "", advice.New(advice.Refused, "choose another name with --draft", "%s is in the way", show.Text(keep))
	}
	if err := durable.Mkdir(c.String("home-dir"), 0o700); err != nil {
		return "", "", err
	}
	dir, err = os.MkdirTemp(c.String("home-dir"), ".deploy-")
	return dir, keep, err
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
