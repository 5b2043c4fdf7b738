package main

import (
	"fmt"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/uptane"
	"github.com/hanaper/hanaper/uptane/repo"
)

func uptaneTargetsCommand() *cli.Command {
	return &cli.Command{
		Name: "targets", Usage: "draft the next targets",
		Subcommands: []*cli.Command{
			{
				Name: "new-version", Usage: "begin a draft of the version after TARGETS, a delegation's too",
				Description: "Example:\n  hanaper uptane targets new-version --expire-after 1M --out targets.draft.json targets.json", ArgsUsage: "TARGETS",
				Flags:  append(expiryFlags(), outFlag("write the draft to `FILE`")),
				Action: newTargetsVersion,
			},
			{
				Name: "add", Usage: "add a target, in place of one of the same name and version",
				Description: "Example:\n  hanaper uptane targets add --name firmware --version 2.1 --sha256 $(sha256sum firmware.bin | cut -d\" \" -f1) --length 1048576 --hardware-id imx8-board targets.draft.json", ArgsUsage: "DRAFT",
				Flags: []cli.Flag{
					&cli.StringFlag{Name: "name", Required: true, Usage: "`NAME` of the image"},
					&cli.StringFlag{Name: "version", Required: true, Usage: "`VERSION` of the image"},
					&cli.StringFlag{Name: "sha256", Required: true, Usage: "`HASH` of the binary, or of the OSTree commit"},
					&cli.Int64Flag{Name: "length", Usage: "length in `BYTES`, 0 for OSTree"},
					&cli.StringFlag{Name: "format", Value: "BINARY", Usage: "`FORMAT`, OSTREE or BINARY"},
					&cli.StringSliceFlag{Name: "hardware-id", Required: true, Usage: "`ID` of hardware that it is for; may be repeated"},
					&cli.StringFlag{Name: "url", Usage: "`URL` that devices download from, if not from the server"},
					uptaneTimeFlag,
				},
				Action: addTarget,
			},
			{
				Name: "remove", Usage: "take a target away",
				Description: "Example:\n  hanaper uptane targets remove --filename firmware-2.0 targets.draft.json", ArgsUsage: "DRAFT",
				Flags: []cli.Flag{&cli.StringSliceFlag{Name: "filename", Required: true, Usage: "exact `NAME` of the target; may be repeated"}},
				Action: func(c *cli.Context) error {
					return editTargets(c, func(t *uptane.TargetsConfig) error {
						for _, name := range c.StringSlice("filename") {
							if _, ok := t.Targets[name]; !ok {
								return advice.New(advice.Usage, "see 'hanaper uptane show'", "the draft has no target %q", name)
							}
							delete(t.Targets, name)
						}
						return nil
					})
				},
			},
		},
	}
}

func newTargetsVersion(c *cli.Context) error {
	args, err := shell.Args(c, "TARGETS")
	if err != nil {
		return err
	}
	t, err := readTargets(uptane.Image, args[0])
	if err != nil {
		return err
	}
	expires, err := expiryOf(c, uptane.Period{Days: 31})
	if err != nil {
		return err
	}
	next, err := t.Next(expires, func(*uptane.TargetsConfig) error { return nil })
	if err != nil {
		return err
	}
	if err := createFile(c.String("out"), indent(next.Signed())); err != nil {
		return err
	}
	fmt.Fprintf(c.App.Writer, "draft of targets version %d: %s\n", next.Version(), c.String("out"))
	return nil
}

func addTarget(c *cli.Context) error {
	now, err := timeNow(c)
	if err != nil {
		return err
	}
	n := repo.NewTarget{
		Name: c.String("name"), Version: c.String("version"), SHA256: c.String("sha256"), Length: c.Int64("length"),
		Format: uptane.TargetFormat(c.String("format")), HardwareIDs: c.StringSlice("hardware-id"), URL: c.String("url"), Now: now,
	}
	name, target, err := n.Build()
	if err != nil {
		return err
	}
	return editTargets(c, func(t *uptane.TargetsConfig) error {
		t.Targets[name] = target
		return nil
	})
}

// editTargets changes an unsigned targets document in place.
func editTargets(c *cli.Context, change func(*uptane.TargetsConfig) error) error {
	args, err := shell.Args(c, "DRAFT")
	if err != nil {
		return err
	}
	doc, signed, err := readDocument(uptane.Image, args[0])
	if err != nil {
		return err
	}
	t, ok := doc.(*uptane.Targets)
	if !ok || signed {
		return advice.New(advice.Usage, "begin one with 'hanaper uptane targets new-version'", "%s is not a draft of targets", args[0])
	}
	config := t.Config()
	if err := change(&config); err != nil {
		return err
	}
	next, err := uptane.NewTargets(config)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(args[0], indent(next.Signed()), 0o644); err != nil {
		return err
	}
	fmt.Fprintf(c.App.Writer, "draft of targets version %d: %d targets, %d delegations\n", next.Version(), next.Len(), len(next.Delegations()))
	return nil
}

func uptaneDelegationCommand() *cli.Command {
	name := &cli.StringFlag{Name: "name", Required: true, Usage: "`NAME` of the delegation"}
	return &cli.Command{
		Name: "delegation", Usage: "draft what targets delegate to others, and the delegations' own documents",
		Subcommands: []*cli.Command{
			{
				Name: "new", Usage: "begin a draft of a delegation's first document; later ones begin with targets new-version",
				Description: "Example:\n  hanaper uptane delegation new --expire-after 6M --out supplier.draft.json", HideHelpCommand: true,
				Flags: append(expiryFlags(), outFlag("write the draft to `FILE`")), Before: shell.NoArgs,
				Action: func(c *cli.Context) error {
					expires, err := expiryOf(c, uptane.Period{Years: 1})
					if err != nil {
						return err
					}
					draft, err := repo.NewDelegation(expires)
					if err != nil {
						return err
					}
					if err := createFile(c.String("out"), draft); err != nil {
						return err
					}
					shell.Wrote(c, "draft", c.String("out"))
					return nil
				},
			},
			{
				Name: "add", Usage: "let other keys sign for targets whose names match a pattern, in place of a delegation of the same name",
				Description: "Example:\n  hanaper uptane delegation add --name supplier --path \"supplier-*\" --key supplier.pub targets.draft.json", ArgsUsage: "DRAFT",
				Flags: []cli.Flag{
					name,
					&cli.StringSliceFlag{Name: "path", Required: true, Usage: "`PATTERN` of target names, such as 'supplier01*'; may be repeated"},
					&cli.StringSliceFlag{Name: "key", Required: true, Usage: "public `KEY` of who signs, a .pub or PEM file; may be repeated"},
					&cli.IntFlag{Name: "threshold", Value: 1, Usage: "`NUMBER` of keys that must sign"},
					&cli.BoolFlag{Name: "terminating", Usage: "end the search for a matching target here"},
				},
				Action: func(c *cli.Context) error {
					d := uptane.Delegation{Name: c.String("name"), Paths: c.StringSlice("path"), Terminating: c.Bool("terminating")}
					d.Threshold = c.Int("threshold")
					for _, file := range c.StringSlice("key") {
						key, err := readPublicKey(file)
						if err != nil {
							return err
						}
						d.Keys = addKeys(d.Keys, []uptane.Key{key})
					}
					return editTargets(c, func(t *uptane.TargetsConfig) error {
						rest := slices.DeleteFunc(t.Delegations, func(have uptane.Delegation) bool { return have.Name == d.Name })
						t.Delegations = append([]uptane.Delegation{d}, rest...)
						return nil
					})
				},
			},
			{
				Name: "remove", Usage: "take a delegation away",
				Description: "Example:\n  hanaper uptane delegation remove --name supplier targets.draft.json", ArgsUsage: "DRAFT",
				Flags: []cli.Flag{name},
				Action: func(c *cli.Context) error {
					return editTargets(c, func(t *uptane.TargetsConfig) error {
						before := len(t.Delegations)
						t.Delegations = slices.DeleteFunc(t.Delegations, func(d uptane.Delegation) bool { return d.Name == c.String("name") })
						if len(t.Delegations) == before {
							return advice.New(advice.Usage, "see 'hanaper uptane show'", "the draft has no delegation %q", c.String("name"))
						}
						return nil
					})
				},
			},
		},
	}
}
