// Command hanaper is the security officers' program at the air-gapped machine: ceremonies, tokens, officers, rosters.
// It links no network code. Every verb that makes a token generate, sign, destroy or change a PIN keeps a transcript, or a log that nobody signs.
package main

import (
	"os"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/internal/shell"
)

func main() {
	harden()
	pkcs11.OnSlow(pkcs11.SlowAfter, shell.Hanging("hanaper", "if it does not come back, press Ctrl-C twice; what was begun is then resumed or aborted"))
	os.Exit(shell.Run(&cli.App{
		Name:     "hanaper",
		Usage:    "keep, and prove, the roots of trust of a device fleet",
		Commands: commands(),
		Action:   bare,
	}, os.Args))
}
