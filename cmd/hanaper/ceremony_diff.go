package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/ceremony"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/show"
)

func ceremonyDiffCommand() *cli.Command {
	return &cli.Command{
		Name:      "diff",
		Usage:     "say in what a script differs from an earlier one: head, roster, tokens, inputs, steps",
		ArgsUsage: "OLD NEW",
		Description: "OLD and NEW are scripts, or folders of ceremonies, whose copy of the script is read. Whether a folder is genuine, " +
			"'hanaper ceremony verify' says.\n\n" +
			"Example:\n  hanaper ceremony diff ceremony-1 script-2.yaml",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "json", Usage: "print JSON"}},
		Action: func(c *cli.Context) error {
			args, err := shell.Args(c, "OLD", "NEW")
			if err != nil {
				return err
			}
			return diff(c, args[0], args[1])
		},
	}
}

type diffReport struct {
	Old     string            `json:"old_sha256"`
	New     string            `json:"new_sha256"`
	Changes []ceremony.Change `json:"changes"`
}

func diff(c *cli.Context, before, after string) error {
	old, err := ceremony.OpenScript(before)
	if err != nil {
		return err
	}
	now, err := ceremony.OpenScript(after)
	if err != nil {
		return err
	}
	r := diffReport{hexDigest(old.Digest()), hexDigest(now.Digest()), ceremony.Compare(old, now)}
	if r.Changes == nil {
		r.Changes = []ceremony.Change{}
	}
	if c.Bool("json") {
		return shell.JSON(c.App.Writer, r)
	}
	fmt.Fprintf(c.App.Writer, "old script %s\nnew script %s\n\n", show.Text(r.Old), show.Text(r.New))
	if len(r.Changes) == 0 {
		fmt.Fprintln(c.App.Writer, "no differences in what they say")
		return nil
	}
	var rows [][]string
	for _, x := range r.Changes {
		name := x.Name
		if x.OldStep != 0 || x.NewStep != 0 {
			name = stepNumbers(x) + " " + name
		}
		rows = append(rows, []string{x.What, x.In, name, orDash(x.Field), orDash(x.Old), orDash(x.New)})
	}
	shell.Table(c.App.Writer, []string{"what", "in", "name", "field", "old", "new"}, rows)
	return nil
}

// stepNumbers are the step's numbers in the old and the new script.
func stepNumbers(x ceremony.Change) string {
	switch {
	case x.OldStep == x.NewStep || x.OldStep == 0:
		return fmt.Sprint(x.NewStep)
	case x.NewStep == 0:
		return fmt.Sprint(x.OldStep)
	}
	return fmt.Sprintf("%d->%d", x.OldStep, x.NewStep)
}
