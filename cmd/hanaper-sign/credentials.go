package main

import (
	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/uptane/repo"
)

func exportCommand() *cli.Command {
	return &cli.Command{
		Name: "export-credentials", Usage: "write a credentials.zip with the present root and a targets key; a key in a token goes along by its names, without library and PIN",
		Flags: []cli.Flag{repoFlag(), keyNamesFlag(true), &cli.StringFlag{Name: "output", Aliases: []string{"o"}, Required: true, Usage: "the `FILE` to write (.zip)"}},
		Action: func(c *cli.Context) error {
			names := c.StringSlice("key-name")
			if len(names) != 1 {
				return usagef("a credentials.zip holds one targets key, not %d", len(names))
			}
			r, err := openRepo(c)
			if err != nil {
				return err
			}
			if err := r.ExportCredentials(names[0], c.String("output")); err != nil {
				return err
			}
			say(c, "exported credentials to %s", c.String("output"))
			return nil
		},
	}
}

func importCertCommand() *cli.Command {
	return &cli.Command{
		Name: "import-client-cert", Usage: "log in to the server by a client certificate from now on",
		Flags: []cli.Flag{
			repoFlag(),
			&cli.StringFlag{Name: "client-cert", Aliases: []string{"c"}, Required: true, Usage: "PKCS#12 `FILE` with certificate and key, and an empty password"},
			&cli.StringFlag{Name: "server-cert", Aliases: []string{"s"}, Usage: "PKCS#12 `FILE` with the certificates that verify the server"},
		},
		Action: func(c *cli.Context) error {
			r, err := openRepo(c)
			if err != nil {
				return err
			}
			client, err := readInput(c.String("client-cert"))
			if err != nil {
				return err
			}
			if _, _, err := repo.ReadClientCertificate(c.String("client-cert"), client); err != nil {
				return err
			}
			var server []byte
			if path := c.String("server-cert"); path != "" {
				if server, err = readInput(path); err != nil {
					return err
				}
				if _, err := repo.ReadServerCertificates(path, server); err != nil {
					return err
				}
			}
			if err := r.ImportClientCertificate(client, server); err != nil {
				return err
			}
			say(c, "Certificate(s) imported")
			return nil
		},
	}
}
