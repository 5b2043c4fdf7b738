package main

import (
	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/factory/station"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/internal/shell"
)

func checkCommand() *cli.Command {
	return &cli.Command{
		Name:  "check",
		Usage: "look whether this station could enrol: configuration, certificates, hanaperd, clock, folders, token",
		Description: "Nothing is made or changed, no PIN is tried, and hanaperd is only asked how it is. Exit code 0: nothing is wrong; 1: something is.\n\n" +
			"Example:\n  hanaper-station check --config station.yaml",
		Flags: []cli.Flag{
			configFlag(),
			&cli.StringFlag{Name: "token", Usage: "the device's token, a pkcs11: `URI` without object"},
			&cli.StringFlag{Name: "import", Usage: "import `FOLDER`", TakesFile: true},
			&cli.BoolFlag{Name: "json", Usage: "print JSON"},
		},
		Before: shell.NoArgs,
		Action: func(c *cli.Context) error {
			conf, err := loadConfig(c)
			if err != nil {
				return err
			}
			findings := station.Check(c.Context, conf, station.With{Tokens: pkcs11.List})
			if c.Bool("json") {
				if err := shell.JSON(c.App.Writer, findings); err != nil {
					return err
				}
				return station.CheckErr(findings)
			}
			var rows [][]string
			for _, f := range findings {
				text := f.Text
				if f.Hint != "" {
					text += " (" + f.Hint + ")"
				}
				rows = append(rows, []string{f.State, f.What, text})
			}
			shell.Table(c.App.Writer, []string{"", "WHAT", "FOUND"}, rows)
			return station.CheckErr(findings)
		},
	}
}
