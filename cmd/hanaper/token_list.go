package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/piv"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/internal/shell"
)

// listedToken is a token as `token list --json` tells it.
type listedToken struct {
	hsm.TokenInfo
	URI     string `json:"uri"`
	Warning string `json:"warning,omitempty"`
}

func tokenListCommand() *cli.Command {
	return &cli.Command{
		Name: "list", Usage: "list the tokens that a library or a TPM shows, with the URI to name each by",
		Description: "Example:\n  hanaper token list --module /usr/lib/softhsm/libsofthsm2.so\n  hanaper token list --store /var/lib/hanaper/roots", HideHelpCommand: true,
		Flags: []cli.Flag{moduleFlag, storeFlag, deviceFlag, jsonFlag},
		Action: func(c *cli.Context) error {
			if err := shell.NoArgs(c); err != nil {
				return err
			}
			infos, at, nothing, err := listed(c)
			if err != nil {
				return err
			}
			tokens := []listedToken{}
			for _, i := range infos {
				u := i.URI().OnMachine(at)
				l := listedToken{TokenInfo: i, Warning: i.PINWarning()}
				if i.Initialized {
					l.URI = u.String()
				}
				tokens = append(tokens, l)
			}
			if c.Bool("json") {
				return shell.JSON(c.App.Writer, tokens)
			}
			var rows [][]string
			for _, t := range tokens {
				state := "ready"
				switch {
				case !t.Initialized:
					state = "blank"
				case t.Warning != "":
					state = t.Warning
				case !t.PINSet:
					state = "no user PIN is set"
				}
				if n, known := triesLeft(t.TokenInfo); known {
					state = fmt.Sprintf("PIN LOCKED, in reader %s", t.Reader)
					if n > 0 {
						state = fmt.Sprintf("%s left, in reader %s", piv.TriesText(n), t.Reader)
					}
				}
				rows = append(rows, []string{t.Label, t.Serial, t.Manufacturer + " " + t.Model, state, t.URI})
			}
			shell.Table(c.App.Writer, []string{"LABEL", "SERIAL", "MODEL", "STATE", "URI"}, rows)
			if len(rows) == 0 {
				fmt.Fprintln(c.App.Writer, "no tokens: "+nothing)
			}
			return nil
		},
	}
}

// listed are the tokens of a library, or of a TPM, and where they are on this machine. nothing says where to look when there are none.
func listed(c *cli.Context) (infos []hsm.TokenInfo, at hsm.URI, nothing string, err error) {
	if onTPM(c) {
		infos, at, err = listTPM(c)
		return infos, at, "", err
	}
	module, err := moduleOf(c, hsm.URI{})
	if err != nil {
		return nil, at, "", err
	}
	infos, err = pkcs11.List(module)
	return infos, at.InLibrary(module), pkcs11.Advice(module), err
}
