// Command hanaperd is the factory CA service: one issuing key, in a token of its own, serving stations and operators.
package main

import (
	"os"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/hsm/pkcs11/apart"
	"github.com/hanaper/hanaper/internal/shell"
)

func main() {
	apart.Main()
	pkcs11.OnSlow(pkcs11.SlowAfter, shell.Hanging("hanaperd", "if it does not come back, end the program (Ctrl-C twice, or the service's restart): what was not finished is finished at the next start"))
	os.Exit(shell.Run(&cli.App{
		Name:  "hanaperd",
		Usage: "the factory CA: enrols devices on the production line",
		Commands: []*cli.Command{
			serveCommand(), checkCommand(), shell.ConfigCommand("hanaperd config > hanaperd.yaml", factory.Example),
			csrCommand(), tlsCSRCommand(), operatorCSRCommand(),
			revokeCommand(), deviceCommand(), crlCommand(), attestationCommand(),
			lotCommand(), orderCommand(), sharedCommand(), storeCommand(), backupCommand(), restoreCommand(), logCommand(),
		},
	}, os.Args))
}
