package shell

import (
	"fmt"

	"github.com/urfave/cli/v2"
)

// manCommand prints the manual page, made from the same text as --help.
func manCommand() *cli.Command {
	return &cli.Command{
		Name: "man", Usage: "print the manual page (roff)", Hidden: true, HideHelpCommand: true,
		Action: func(c *cli.Context) error {
			page, err := c.App.ToManWithSection(1)
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(c.App.Writer, page)
			return err
		},
	}
}
