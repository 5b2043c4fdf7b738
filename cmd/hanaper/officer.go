package main

import (
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/quorum"
)

func officerCommand() *cli.Command {
	return &cli.Command{
		Name:        "officer",
		Usage:       "enrol the people of a roster",
		Subcommands: []*cli.Command{officerEnrollCommand(), officerShowCommand(), officerCheckCommand(), officerSetupCommand()},
	}
}

func officerShowCommand() *cli.Command {
	return &cli.Command{
		Name:        "show",
		Usage:       "check an enrolment and show whose it is",
		Description: "Example:\n  hanaper officer show ada.json",
		ArgsUsage:   "ENROLMENT",
		Flags:       []cli.Flag{jsonFlag},
		Action: func(c *cli.Context) error {
			args, err := shell.Args(c, "ENROLMENT")
			if err != nil {
				return err
			}
			o, err := readEnrolment(args[0])
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return shell.JSON(c.App.Writer, officerView(o))
			}
			showOfficer(c.App.Writer, o)
			return nil
		},
	}
}

var jsonFlag = &cli.BoolFlag{Name: "json", Usage: "print JSON"}

type officerJSON struct {
	Name            string            `json:"name"`
	Role            quorum.Role       `json:"role"`
	KeyID           string            `json:"key_id"`
	Scheme          quorum.Scheme     `json:"scheme"`
	DecryptionKeyID string            `json:"decryption_key_id,omitempty"`
	Decryption      quorum.Decryption `json:"decryption,omitempty"`
}

func officerView(o quorum.Officer) officerJSON {
	return officerJSON{o.Name, o.Role, o.KeyID, o.Scheme, o.DecryptionKeyID, o.Decryption}
}

// showOfficer prints an enrolment with the words by which people compare its signing key.
func showOfficer(w io.Writer, o quorum.Officer) {
	fmt.Fprintf(w, "%s, %s\n\nsigning key (%s)\n", show.Text(o.Name), show.Text(o.Role), show.Text(o.Scheme))
	showDigest(w, o.KeyID)
	if o.DecryptionKey == nil {
		fmt.Fprintln(w, "\nno decryption key: cannot hold shares of a secret")
		return
	}
	fmt.Fprintf(w, "\ndecryption key (%s)\n", show.Text(o.Decryption))
	showDigest(w, o.DecryptionKeyID)
}

// showDigest prints a hexadecimal digest and its words, four lines of eight.
func showDigest(w io.Writer, text string) {
	d, err := quorum.ParseDigest(text)
	if err != nil {
		fmt.Fprintf(w, "  %s\n", show.Line(text))
		return
	}
	fmt.Fprintf(w, "  SHA-256 %s\n", d)
	for i := 0; i < len(d); i += 8 {
		fmt.Fprintf(w, "  %s\n", quorum.Words(d[i:i+8]))
	}
}

func readEnrolment(path string) (quorum.Officer, error) {
	data, err := readFile(path)
	if err != nil {
		return quorum.Officer{}, err
	}
	o, err := quorum.ParseEnrolment(data)
	return o, inFile(path, err)
}
