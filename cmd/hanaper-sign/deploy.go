package main

import (
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/term"
	"github.com/hanaper/hanaper/uptane"
	"github.com/hanaper/hanaper/uptane/repo"
	"github.com/hanaper/hanaper/uptane/reposerver"
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
	if c.IsSet("expires") && c.IsSet("expire-after") {
		return usagef("the expiration date should be given with either --expires or --expire-after, not both")
	}
	o := repo.SignOptions{Context: c.Context, Keys: c.StringSlice("key-name"), Now: time.Now()}
	var err error
	if o.Expires, err = instant(c, "expires"); err != nil {
		return err
	}
	if o.ExpireAfter, err = period(c, "expire-after"); err != nil {
		return err
	}
	commit := strings.ToLower(c.String("commit"))
	if len(commit) != 64 || strings.Trim(commit, "0123456789abcdef") != "" {
		return usagef("--commit wants 64 hex digits")
	}
	// Both local repositories are of this run alone.
	dir, err := os.MkdirTemp("", "hanaper-sign-deploy-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	from, source, err := openCredentials(c, filepath.Join(dir, "from"), "fetch-credentials")
	if err != nil {
		return err
	}
	to, destination, err := openCredentials(c, filepath.Join(dir, "to"), "push-credentials")
	if err != nil {
		return err
	}
	name, target, err := sourceTarget(c, from, source, commit)
	if err != nil {
		return advice.New(advice.KindOf(err), advice.Hint(err), "source: %w", err)
	}
	name, target, err = adapt(c, name, target)
	if err != nil {
		return err
	}
	if _, err := fetchTargets(c, to, destination); err != nil {
		return advice.New(advice.KindOf(err), advice.Hint(err), "destination: %w", err)
	}
	if _, err := to.EditTargets(func(t *uptane.TargetsConfig) error {
		t.Targets[name] = target
		return nil
	}); err != nil {
		return err
	}
	if c.Bool("dry-run") {
		return showDeploy(c, to)
	}
	if len(o.Keys) == 0 {
		o.Keys = []string{"targets"}
	}
	return signAndPush(c, to, destination, o)
}

// openCredentials makes a repository of this run alone.
func openCredentials(c *cli.Context, dir, flag string) (*repo.Repository, *reposerver.Client, error) {
	b, err := readInput(c.String(flag))
	if err != nil {
		return nil, nil, err
	}
	r, _, err := repo.Init(dir, repo.InitConfig{Credentials: b}, openKey)
	if err != nil {
		return nil, nil, err
	}
	if _, err := r.Root(); err != nil {
		return nil, nil, advice.New(advice.Refused, "export them anew with export-credentials", "%s holds no root.json to verify metadata with", c.String(flag))
	}
	server, err := openServer(c, r)
	return r, server, err
}

// sourceTarget verifies the source's metadata and finds the one target with this hash.
func sourceTarget(c *cli.Context, from *repo.Repository, source *reposerver.Client, commit string) (string, uptane.Target, error) {
	t, err := fetchTargets(c, from, source)
	if err != nil {
		return "", uptane.Target{}, err
	}
	if err := uptane.CheckExpiry(t, time.Now()); err != nil {
		return "", uptane.Target{}, advice.Wrap(advice.Unverified, err, "have the source's targets signed anew")
	}
	var found []string
	for _, n := range t.Names() {
		target, _ := t.Target(n)
		custom, err := target.ImageCustom()
		if target.SHA256 == commit && (c.String("name") == "" || err == nil && custom.Name == c.String("name")) {
			found = append(found, n)
		}
	}
	if len(found) == 0 && c.String("name") != "" {
		// garage-deploy may give an image another name at the destination.
		for _, n := range t.Names() {
			if target, _ := t.Target(n); target.SHA256 == commit {
				found = append(found, n)
			}
		}
	}
	switch len(found) {
	case 0:
		return "", uptane.Target{}, advice.New(advice.Refused, "only what the source has signed is copied", "no target has the hash %s", commit)
	case 1:
		target, _ := t.Target(found[0])
		return found[0], target, nil
	}
	return "", uptane.Target{}, advice.New(advice.Usage, "name one with --name", "several targets have the hash %s: %s", commit, strings.Join(found, ", "))
}

// adapt gives the target the destination's name and hardware ids.
func adapt(c *cli.Context, name string, target uptane.Target) (string, uptane.Target, error) {
	custom, err := target.ImageCustom()
	if err != nil {
		return "", target, err
	}
	now := time.Now().UTC().Truncate(time.Second)
	custom.UpdatedAt = now
	if custom.CreatedAt.IsZero() {
		custom.CreatedAt = now
	}
	if n := c.String("name"); n != "" && n != custom.Name {
		custom.Name = n
		name = n + "-" + custom.Version
	}
	if ids := list(c.String("hardwareids")); len(ids) > 0 {
		custom.HardwareIDs = ids
	}
	target.Custom, err = custom.JSON()
	if err != nil {
		return "", target, err
	}
	return name, target, uptane.CheckTarget(name, target)
}

func showDeploy(c *cli.Context, to *repo.Repository) error {
	old, err := to.PulledTargets()
	if err != nil {
		return err
	}
	next, err := to.UnsignedTargets()
	if err != nil {
		return err
	}
	say(c, "%s", strings.TrimRight(uptane.DiffDocuments(old, next).String(), "\n"))
	say(c, "Dry run: nothing was signed or pushed")
	return nil
}

func signAndPush(c *cli.Context, to *repo.Repository, destination *reposerver.Client, o repo.SignOptions) error {
	if err := defaultExpiry(to, uptane.RoleTargets, &o); err != nil {
		return err
	}
	o.Policy = uptane.DefaultPolicy()
	o.Confirm = func(d *uptane.Diff, findings []uptane.Finding) error {
		say(c, "%s", strings.TrimRight(d.String(), "\n"))
		for _, f := range findings {
			warn(c, "%s", f.Text)
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
	if _, err := to.SignTargets(o); err != nil {
		return err
	}
	t, checksum, err := to.TargetsToPush()
	if err != nil {
		return err
	}
	root, err := to.Root()
	if err != nil {
		return err
	}
	data, err := uptane.Emit(t, uptane.RoleAuthority(root, uptane.RoleTargets))
	if err != nil {
		return err
	}
	if err := destination.PushTargets(c.Context, data, checksum); err != nil {
		return err
	}
	say(c, "Pushed targets, version %d", t.Version())
	return nil
}
