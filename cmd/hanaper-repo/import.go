package main

import (
	"fmt"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/trust"
)

func initCommand() *cli.Command {
	return &cli.Command{
		Name: "init", Usage: "publish for the first time", ArgsUsage: "TRUST-FOLDER",
		Description: "TRUST-FOLDER is the ceremony's trust/ folder. It is verified against the root in the configuration.\n\n" +
			"Example:\n  hanaper-repo init --config hanaper-repo.yaml ceremony-1/trust",
		Flags:  []cli.Flag{configFlag},
		Action: func(c *cli.Context) error { return importOfficers(c, true) },
	}
}

func importCommand() *cli.Command {
	return &cli.Command{
		Name: "import", Usage: "publish the officers' newer part", ArgsUsage: "TRUST-FOLDER",
		Description: "TRUST-FOLDER is a later ceremony's trust/ folder. 'serve' may be running. What appears and disappears is said before it is published; then\n" +
			"the CRLs that the configuration names are taken up again.\n\n" +
			"Example:\n  hanaper-repo import --config hanaper-repo.yaml --dry-run ceremony-2/trust\n  hanaper-repo import --config hanaper-repo.yaml ceremony-2/trust",
		Flags:  []cli.Flag{configFlag, &cli.BoolFlag{Name: "dry-run", Usage: "say what would change, and publish nothing"}},
		Action: func(c *cli.Context) error { return importOfficers(c, false) },
	}
}

func importOfficers(c *cli.Context, first bool) error {
	args, err := shell.Args(c, "TRUST-FOLDER")
	if err != nil {
		return err
	}
	o, err := openOffice(c)
	if err != nil {
		return err
	}
	defer o.Close()
	if first && o.View() != nil {
		return advice.New(advice.Refused, "'hanaper-repo import' publishes a newer part", "%s is published already", show.Text(o.config.path(o.config.Publish)))
	}
	if !first && o.View() == nil {
		return advice.New(advice.Refused, "run 'hanaper-repo init' first", "nothing is published yet")
	}
	files := input.Dir(args[0])
	pin, err := o.config.pin()
	if err != nil {
		return err
	}
	// Looked at before anything is published: the CAs that it names must not have their keys here.
	rep, err := trust.OpenRepository(files, pin, now())
	if err != nil {
		return advice.Wrap(advice.KindOf(err), fmt.Errorf("%s: %w", args[0], err), advice.Hint(err))
	}
	if err := o.checkApart(c.Context, slices.Concat(rep.Anchors(), rep.Intermediates()), c.App.ErrWriter); err != nil {
		return err
	}
	var was *trust.Repository
	if v := o.View(); v != nil {
		was = v.Officers()
	}
	for _, line := range trust.Changes(was, rep) {
		fmt.Fprintln(c.App.ErrWriter, show.Line(line))
	}
	if c.Bool("dry-run") {
		return nil
	}
	sources, err := newSources(o.config)
	if err != nil {
		return err
	}
	if err := o.Import(files); err != nil {
		return err
	}
	// A CA that is named again has no CRL until its list is handed over again.
	for _, s := range sources {
		if err := s.take(c.Context, o.AddCRL); err != nil {
			fmt.Fprintf(c.App.ErrWriter, "hanaper-repo: warning: not published: %v\n", err)
		}
	}
	v := o.View()
	warnOfLists(c.App.ErrWriter, v, now())
	fmt.Fprintf(c.App.ErrWriter, "hanaper-repo: published %s: root %d, targets %d, good until %s\n",
		show.Text(v.Environment()), v.Versions().Root, v.Versions().Targets, stamp(v.Expires()))
	return nil
}
