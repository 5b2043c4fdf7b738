package main

import (
	"os"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/shell"
)

func csrCommand() *cli.Command {
	return &cli.Command{
		Name:        "csr",
		Usage:       "make this station's own key, if it is not there, and its certificate request for the ceremony",
		Description: "Example:\n  hanaper-station csr --name line-3 --key station.key --out station.csr",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "name", Aliases: []string{"n"}, Required: true, Usage: "the station's `NAME`"},
			&cli.StringFlag{Name: "key", Aliases: []string{"k"}, Required: true, Usage: "key `FILE` (PKCS#8, mode 0600); made if it is not there", TakesFile: true},
			&cli.StringFlag{Name: "out", Aliases: []string{"o"}, Required: true, Usage: "request `FILE`, which must not exist", TakesFile: true},
		},
		Before: shell.NoArgs,
		Action: func(c *cli.Context) error {
			if _, err := os.Lstat(c.String("out")); err == nil {
				return advice.New(advice.Usage, "move it away, or choose another name", "%s exists already", c.String("out"))
			}
			made, err := factory.WriteCallerRequest(c.String("name"), c.String("key"), c.String("out"))
			if err != nil {
				return err
			}
			if made {
				shell.Wrote(c, "new key", c.String("key"))
			}
			shell.Wrote(c, "request", c.String("out"))
			return nil
		},
	}
}
