package main

import (
	"crypto"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/ceremony"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/shell"
)

func ceremonyAttestCommand() *cli.Command {
	return &cli.Command{
		Name:      "attest",
		Usage:     "verify a finished ceremony's folder, and sign its transcript as one more officer",
		ArgsUsage: "DIR",
		Description: "The folder counts as attested when as many officers signed as must agree to a ceremony. The signature is a new file below " +
			"attestations/ in the folder; no other file changes, and copies of the folder can be given the same file.\n\n" +
			"Example:\n  hanaper ceremony attest --roster $(cat roster.sha256) --officer katherine.key ceremony-1",
		Flags: append([]cli.Flag{officerFlag(), answersFlag}, anchorFlags()...),
		Action: func(c *cli.Context) error {
			args, err := shell.Args(c, "DIR")
			if err != nil {
				return err
			}
			return attest(c, args[0])
		},
	}
}

func attest(c *cli.Context, dir string) error {
	held, err := anchors(c, "")
	if err != nil {
		return err
	}
	refs := c.StringSlice("officer")
	if len(refs) != 1 {
		return advice.New(advice.Usage, "name one with --officer", "one officer signs at a time")
	}
	if err := keysThere(refs); err != nil {
		return err
	}
	if err := notARelease(dir); err != nil {
		return err
	}
	ask, _, done, err := prompter(c)
	if err != nil {
		return err
	}
	defer done()
	closeKey := func() {}
	defer func() { closeKey() }()
	name, err := ceremony.Attest(c.Context, dir, input.Dir(dir), held, func(r *ceremony.Report) (crypto.Signer, error) {
		tellReport(c.App.ErrWriter, r)
		fmt.Fprintln(c.App.ErrWriter, "\nYou sign that this is what was done. Compare the checkpoint's SHA-256 with the paper from the room, and ask those who were there.")
		if err := yes(ask, "Type Yes to sign: "); err != nil {
			return nil, err
		}
		keys, closer, err := openOfficer(c.Context, refs, ask)
		if err != nil {
			return nil, err
		}
		closeKey = closer
		return keys[0], nil
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(c.App.Writer, "signed; written to %s in %s\n", name, dir)
	return nil
}
