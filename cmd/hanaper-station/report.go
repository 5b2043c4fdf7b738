package main

import (
	"fmt"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/factory/station"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/shell"
)

func reportCommand() *cli.Command {
	return &cli.Command{
		Name:        "report",
		Usage:       "show hanaperd every certificate that this station got, after its store was lost or restored",
		Description: "Certificates that hanaperd's record lacks are taken in. Nothing else is changed; run it as often as you like.\n\nExample:\n  hanaper-station report --config station.yaml",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "config", Aliases: []string{"c"}, Value: "/etc/hanaper/hanaper-station.yaml", Usage: "configuration `FILE`; 'hanaper-station config' prints one", TakesFile: true},
		},
		Before: shell.NoArgs,
		Action: func(c *cli.Context) error {
			path := c.String("config")
			dir, err := filepath.Abs(filepath.Dir(path))
			if err != nil {
				return err
			}
			data, err := input.ReadFile(path)
			if err != nil {
				return advice.Wrap(advice.Usage, err, "'hanaper-station config' prints one")
			}
			conf, err := station.ParseConfig(path, data, dir)
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
