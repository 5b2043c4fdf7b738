package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/trust"
)

func crlCommand() *cli.Command {
	return &cli.Command{
		Name: "crl", Usage: "CRLs",
		Subcommands: []*cli.Command{{
			Name: "add", Usage: "publish a CA's CRL, DER or PEM; 'serve' may be running",
			Description: "Example:\n  hanaper-repo crl add --config hanaper-repo.yaml factory-ca.crl", ArgsUsage: "FILE",
			Flags:  []cli.Flag{configFlag},
			Action: addCRL,
		}},
	}
}

func addCRL(c *cli.Context) error {
	args, err := shell.Args(c, "FILE")
	if err != nil {
		return err
	}
	data, err := readCRL(args[0])
	if err != nil {
		return err
	}
	o, err := openOffice(c)
	if err != nil {
		return err
	}
	defer o.Close()
	if err := o.AddCRL(data); err != nil {
		return advice.Wrap(advice.KindOf(err), fmt.Errorf("%s: %w", args[0], err), advice.Hint(err))
	}
	fmt.Fprintf(c.App.ErrWriter, "hanaper-repo: published %s\n", args[0])
	return nil
}

func readCRL(path string) ([]byte, error) {
	data, err := input.Read(path, 2*trust.MaxCRLSize) // PEM is a third larger than DER
	return data, advice.Wrap(advice.Usage, err, "name a CRL file that you may read")
}
