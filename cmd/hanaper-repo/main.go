// Command hanaper-repo is the back office: it publishes an environment's trust repository, with online keys in a token of its own.
package main

import (
	"os"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/hsm/pkcs11/apart"
	"github.com/hanaper/hanaper/internal/shell"
)

func main() {
	apart.Main()
	pkcs11.OnSlow(pkcs11.SlowAfter, shell.Hanging("hanaper-repo", "if it does not come back, end the program (Ctrl-C twice, or the service's restart): what is published stays as it is"))
	os.Exit(run(os.Args))
}

func run(args []string) int {
	return shell.Run(&cli.App{
		Name:  "hanaper-repo",
		Usage: "publishes what gateways must believe, and serves Uptane repositories",
		Commands: []*cli.Command{
			shell.ConfigCommand("hanaper-repo config > hanaper-repo.yaml", exampleConfig), keysCommand(), initCommand(), importCommand(), crlCommand(), statusCommand(), serveCommand(), restoreTrustCommand(),
			uptaneCommand(), directorCommand(),
		},
	}, args)
}
