package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/quorum"
)

func rosterApproveCommand() *cli.Command {
	return &cli.Command{
		Name:        "approve",
		Usage:       "sign that a new roster may replace the one that you are in",
		Description: "Example:\n  hanaper roster approve --previous roster.json --officer ada.key --out roster-2-ada.json roster-2.json",
		ArgsUsage:   "ROSTER",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "previous", Usage: "the roster in `FILE`, which is replaced and lists you", Required: true},
			officerFlag(),
			&cli.StringFlag{Name: "out", Usage: "write the approval to `FILE`", Required: true},
			answersFlag,
		},
		Action: func(c *cli.Context) error {
			args, err := shell.Args(c, "ROSTER")
			if err != nil {
				return err
			}
			return approveRoster(c, args[0])
		},
	}
}

func approveRoster(c *cli.Context, path string) error {
	next, err := readRoster(path)
	if err != nil {
		return err
	}
	old, err := readRoster(c.String("previous"))
	if err != nil {
		return err
	}
	if next.Previous() != quorum.Digest(old.Digest()) {
		return advice.New(advice.Refused, "", "%s does not replace %s: it names roster %s", path, c.String("previous"), next.Previous())
	}
	if err := oneOfficer(c); err != nil {
		return err
	}
	ask, _, done, err := prompter(c)
	if err != nil {
		return err
	}
	defer done()
	showRoster(c.App.Writer, next)
	fmt.Fprintln(c.App.Writer)
	if answer, err := ask.Line("Compare names and words with what was agreed. Type Yes to approve: "); err != nil {
		return err
	} else if answer != "Yes" {
		return advice.New(advice.Refused, "", "not approved: the answer was not Yes")
	}
	keys, closer, err := openOfficer(c.Context, c.StringSlice("officer"), ask)
	if err != nil {
		return err
	}
	defer closer()
	signer, o, err := old.Signer(keys[0])
	if err != nil {
		return advice.Wrap(advice.Refused, err, "approve with the key that you enrolled")
	}
	if o.Role != quorum.RoleOfficer {
		return advice.New(advice.Refused, "", "%s has the role %s and cannot approve a roster", show.Text(o.Name), show.Text(o.Role))
	}
	env, err := quorum.ApproveRoster(next, signer)
	if err != nil {
		return err
	}
	if err := durable.Create(c.String("out"), env, 0o644); err != nil {
		return err
	}
	fmt.Fprintf(c.App.Writer, "approved by %s; written to %s\n", show.Text(o.Name), c.String("out"))
	return nil
}
