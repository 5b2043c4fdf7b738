package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/internal/shell"
)

func reportCommand() *cli.Command {
	return &cli.Command{
		Name:        "report",
		Usage:       "show hanaperd every certificate that this station got, after its store was lost or restored",
		Description: "Certificates that hanaperd's record lacks are taken in. Nothing else is changed; run it as often as you like.\n\nExample:\n  hanaper-station report --config station.yaml",
		Flags: []cli.Flag{
			configFlag(),
		},
		Before: shell.NoArgs,
		Action: func(c *cli.Context) error {
			conf, err := loadConfig(c)
			if err != nil {
				return err
			}
			sent, lacked, err := conf.Report(c.Context)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.App.Writer, "%d certificates were shown, %d of them were lacking and are taken in\n", sent, lacked)
			return err
		},
	}
}
