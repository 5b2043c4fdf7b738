package main

import (
	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/trust"
)

// trustCommand is the officers' part of the trust repository between two ceremonies: a folder in which its next version is drafted, carried from one
// officer to the next, and signed by each at a machine and with a token of their own. The root's keys stay where they are: a ceremony changes
// those.
//
// An attacker who can change the folder, or the stick, can have officers see another draft, or none. Each holds what is before the draft against a root
// that they keep, and against what this machine remembers; a signature is over what was shown.
func trustCommand() *cli.Command {
	return &cli.Command{
		Name: "trust", Usage: "draft, review and sign what gateways must believe, offline and with several officers",
		Description: "WORK is a folder that holds the officers' part in force and the draft of the next one. 'add' and 'remove' change the draft, 'sign' shows what it changes and signs it, " +
			"'export' and 'import' carry it on a stick; signatures add up. When as many have signed as must, 'hanaper-repo import WORK/next' publishes it.",
		Subcommands: []*cli.Command{
			trustAddCommand(), trustRemoveCommand(), trustSignCommand(), trustStatusCommand(), trustShowCommand(), trustExportCommand(), trustImportCommand(),
		},
	}
}

func rootPinFlag(required bool) cli.Flag {
	return &cli.StringFlag{Name: "root", Required: required, Usage: "the environment's first root.json, or its SHA-256 `DIGEST`, as you keep it"}
}

// pinFlagOf is --root; nil without it.
func pinFlagOf(c *cli.Context) (*trust.Pin, error) {
	text := c.String("root")
	if text == "" {
		return nil, nil
	}
	if pin, err := trust.ParsePin(text); err == nil {
		return &pin, nil
	}
	data, err := readBounded(text)
	if err != nil {
		return nil, advice.Wrap(advice.Usage, err, "--root is the environment's first root.json, or its SHA-256 in hex")
	}
	if len(data) > trust.MaxRootSize {
		return nil, advice.New(advice.Usage, "", "%s is too large for a root.json", text)
	}
	pin := trust.PinRoot(data)
	return &pin, nil
}
