// Command hanaper is the security officers' program at the air-gapped machine: ceremonies, tokens, officers, rosters.
// It links no network code. Every verb that makes a token generate, sign, destroy or change a PIN keeps a transcript, or a log that nobody signs.
package main

import (
	"fmt"
	"os"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/show"
)

func main() {
	harden()
	pkcs11.OnSlow(func(library string, since time.Duration) {
		fmt.Fprintf(os.Stderr, "\nhanaper: the token library %s has not answered for %.0f s: look at the token and its reader\nhanaper: hint: if it does not come back, press Ctrl-C twice; what was begun is then resumed or aborted\n", show.Text(library), since.Seconds())
	})
	os.Exit(shell.Run(&cli.App{
		Name:     "hanaper",
		Usage:    "keep, and prove, the roots of trust of a device fleet",
		Commands: commands(),
	}, os.Args))
}
