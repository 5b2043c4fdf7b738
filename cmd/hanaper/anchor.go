package main

import (
	"errors"
	"io/fs"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/ceremony"
	"github.com/hanaper/hanaper/ceremony/machine"
	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
)

var (
	stateFlag = &cli.StringFlag{Name: "state", EnvVars: []string{"HANAPER_STATE"},
		Usage: "`DIR` in which this machine remembers what it did; by default hanaper below $XDG_STATE_HOME. A machine that forgets needs one on a stick of its own"}
	earlierAnchorFlag    = &cli.StringFlag{Name: "earlier", Usage: "the SHA-256 `DIGEST` of the checkpoint of the ceremony that the script carries on from, as people wrote it down; needed where this machine does not remember that one"}
	rosterAnchorFlag     = &cli.StringFlag{Name: "roster", Usage: "the roster's SHA-256 `DIGEST`, as on your paper; needed, with the keys of M officers, where this machine does not remember the ceremony"}
	transcriptAnchorFlag = &cli.StringFlag{Name: "transcript", Usage: "the `DIGEST` of the transcript so far, as the program showed it at its last stop and people wrote it down; needed to resume where this machine does not remember the ceremony. abort without it removes no key"}
)

// anchorOf is what this machine remembers, and what the people gave.
func anchorOf(c *cli.Context) (a ceremony.Anchor, err error) {
	dir, err := stateFolder(c)
	if err != nil {
		return a, err
	}
	a.State = machine.At(dir)
	if a.Roster, err = digestFlag(c, "roster"); err != nil {
		return a, err
	}
	if a.Transcript, err = digestFlag(c, "transcript"); err != nil {
		return a, err
	}
	a.Earlier, err = digestFlag(c, "earlier")
	return a, err
}

// digestFlag is the digest that a flag gives; nil without.
func digestFlag(c *cli.Context, name string) (*[32]byte, error) {
	text := c.String(name)
	if text == "" {
		return nil, nil
	}
	// From paper people type capital letters, too.
	d, err := ceremony.ParseDigest(strings.ToLower(text))
	return &d, err
}

// keysThere refuses keys that are not there, before a secret is asked for.
func keysThere(refs []string) error {
	for _, ref := range refs {
		if hsm.IsURI(ref) {
			if _, err := hsm.ParseURI(ref); err != nil {
				return err
			}
			continue
		}
		path, _, _ := strings.Cut(strings.TrimPrefix(ref, "file:"), "?pin-source=")
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return advice.Wrap(advice.Usage, err, "name a key file that exists, or the pkcs11: URI of a key")
		} else if err != nil {
			return advice.Wrap(advice.Usage, err, "")
		}
	}
	return nil
}
