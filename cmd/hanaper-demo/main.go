// Command hanaper-demo runs the whole chain on throw-away SoftHSM tokens, on loopback, in a folder of its own, with
// the real programs as child processes, and narrates it; or simulated boards on a line of its own. It is no part of an installation.
package main

import (
	"os"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/internal/shell"
)

func main() {
	os.Exit(shell.Run(&cli.App{
		Name:     "hanaper-demo",
		Usage:    "the whole of Hanaper at work, on throw-away tokens",
		Commands: []*cli.Command{runCommand(), boardCommand()},
	}, os.Args))
}
