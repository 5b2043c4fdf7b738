// Command hanaper-gateway terminates mutual TLS for a fleet: it admits devices by the CN of a certificate under a Fleet
// Root of its environment and forwards their requests. It holds no signing key but its TLS key.
package main

import (
	"os"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/gateway"
	"github.com/hanaper/hanaper/internal/shell"
)

func main() { os.Exit(shell.Run(app(), os.Args)) }

func app() *cli.App {
	return &cli.App{
		Name:     "hanaper-gateway",
		Usage:    "admits the devices of one environment and forwards their requests",
		Commands: []*cli.Command{serveCommand(), checkCommand(), shell.ConfigCommand("hanaper-gateway config > gateway.yaml", gateway.Example), admitCommand(), devicesCommand(), registryCommand()},
	}
}

func configFlag() *cli.StringFlag {
	return &cli.StringFlag{Name: "config", Aliases: []string{"c"}, Usage: "the gateway's config `FILE`", TakesFile: true}
}

func jsonFlag() *cli.BoolFlag {
	return &cli.BoolFlag{Name: "json", Usage: "print JSON for programs"}
}
