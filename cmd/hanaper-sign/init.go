package main

import (
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/uptane"
	"github.com/hanaper/hanaper/uptane/repo"
)

func initCommand() *cli.Command {
	return &cli.Command{
		Name: "init", Usage: "make a local repository out of a credentials.zip",
		Flags: []cli.Flag{
			repoFlag(),
			&cli.StringFlag{Name: "credentials", Aliases: []string{"c"}, Required: true, Usage: "the `FILE` with your provisioning credentials (.zip)"},
			&cli.StringFlag{Name: "reposerver", Usage: "the server's `URL`, if not the one in the credentials"},
			&cli.StringFlag{Name: "servertype", Aliases: []string{"t"}, Value: "reposerver", Usage: "`TYPE` of the server, reposerver or director"},
		},
		Action: func(c *cli.Context) error {
			config := repo.InitConfig{Kind: uptane.Image, Server: c.String("reposerver")}
			switch t := strings.ToLower(c.String("servertype")); t {
			case "reposerver":
			case "director":
				config.Kind = uptane.Director
			default:
				return usagef("invalid server type %q; valid are reposerver and director", t)
			}
			var err error
			if config.Credentials, err = readInput(c.String("credentials")); err != nil {
				return err
			}
			_, warnings, err := repo.Init(repoDir(c), config, openKey)
			if err != nil {
				return err
			}
			for _, w := range warnings {
				warn(c, "%s", w)
			}
			say(c, "Finished init for %s using %s", c.String("repo"), c.String("credentials"))
			return nil
		},
	}
}
