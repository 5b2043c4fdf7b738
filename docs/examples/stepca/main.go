// Command stepca is a step-ca whose certificates hanaperd issues: step-ca's own command, the key stores that it shall know, and one
// import of Hanaper. docs/runbooks/step-ca.md says how it is configured.
package main

import (
	"fmt"
	"os"

	"github.com/urfave/cli"

	"github.com/smallstep/certificates/commands"
	_ "go.step.sm/crypto/kms/pkcs11"
	_ "go.step.sm/crypto/kms/softkms"

	_ "github.com/hanaper/hanaper/factory/stepcas" // "authority": {"type": "hanapercas", ...}
)

func main() {
	app := cli.NewApp()
	app.Name, app.Usage = "step-ca", "an online certificate authority"
	app.HideVersion = true
	app.Flags, app.Action = commands.AppCommand.Flags, commands.AppCommand.Action
	if err := app.Run(os.Args); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
