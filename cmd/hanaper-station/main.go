// Command hanaper-station stands between a device's key store and hanaperd on the production line.
package main

import (
	"os"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/factory/station"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/internal/shell"
)

func main() {
	pkcs11.OnSlow(pkcs11.SlowAfter, shell.Hanging("hanaper-station", "if it does not come back, press Ctrl-C twice, and enrol the device again"))
	os.Exit(shell.Run(&cli.App{
		Name:     "hanaper-station",
		Usage:    "gives a device its key, its certificate and its import folder",
		Commands: []*cli.Command{enrollCommand(), boardsCommand(), scanCommand(), spoolCommand(), copyCommand(), checkCommand(), reportCommand(), csrCommand(), shell.ConfigCommand("hanaper-station config > station.yaml", station.Example)},
	}, os.Args))
}
