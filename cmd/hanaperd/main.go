// Command hanaperd is the factory CA service: one issuing key, in a token of its own, serving stations and operators.
package main

import (
	"os"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/internal/shell"
)

func main() {
	os.Exit(shell.Run(&cli.App{
		Name:  "hanaperd",
		Usage: "the factory CA: enrols devices on the production line",
		Commands: []*cli.Command{
			serveCommand(), checkCommand(), configCommand(),
			csrCommand(), tlsCSRCommand(), operatorCSRCommand(),
			revokeCommand(), deviceCommand(), crlCommand(),
		},
	}, os.Args))
}
