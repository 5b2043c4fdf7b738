package main

import (
	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/term"
)

func tokenCommand() *cli.Command {
	return &cli.Command{
		Name:  "token",
		Usage: "look at tokens, initialise blank ones, change and unblock PINs",
		Subcommands: []*cli.Command{tokenListCommand(), tokenShowCommand(), tokenInitCommand(), tokenChangePINCommand(), tokenUnblockCommand(),
			tokenKeyCommand(), tokenSealPINCommand(), tokenAttestorCommand(), tokenChallengeCommand()},
	}
}

var (
	moduleFlag = &cli.StringFlag{Name: "module", Usage: "the PKCS#11 library, a `FILE` such as /usr/lib/softhsm/libsofthsm2.so; for one that wants a string at its start, pkcs11:?module-path=FILE&x-init-reserved=STRING"}
	pinFlag    = &cli.StringFlag{Name: "pin-source", Usage: "read the user PIN from `FILE` (mode 0600) instead of asking"}
)

// moduleOf is the library that a flag names, or the URI.
func moduleOf(c *cli.Context, u hsm.URI) (string, error) {
	if m := c.String("module"); m != "" {
		return m, nil
	}
	if u.ModulePath != "" {
		return u.Library(), nil
	}
	return "", advice.New(advice.Usage, "for SoftHSM on Debian: --module /usr/lib/softhsm/libsofthsm2.so", "no PKCS#11 library is named")
}

// pinOf is the PIN's source: the flag, the URI's pin-source, or the terminal.
func pinOf(c *cli.Context, u hsm.URI) hsm.PINSource {
	if file := c.String("pin-source"); file != "" {
		return pinFile(file)
	}
	return hsm.PINFromURI(u, pinPrompt(term.TTY()))
}
