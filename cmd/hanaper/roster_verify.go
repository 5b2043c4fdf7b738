package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/quorum"
)

func rosterVerifyCommand() *cli.Command {
	return &cli.Command{
		Name:        "verify",
		Usage:       "check a roster against a digest that people compared, and each one after it against the one before",
		Description: "Example:\n  hanaper roster verify --digest $(cat roster.sha256) --approval roster-2-ada.json --approval roster-2-grace.json roster.json roster-2.json",
		ArgsUsage:   "ROSTER [NEXT...]",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "digest", Usage: "the `SHA256` of the first roster", Required: true},
			&cli.StringSliceFlag{Name: "approval", Usage: "an approval of one of the next rosters, in `FILE`"},
			jsonFlag,
		},
		Action: verifyRosters,
	}
}

func verifyRosters(c *cli.Context) error {
	if !c.Args().Present() {
		return advice.New(advice.Usage, "see 'hanaper roster verify --help'", "no roster given")
	}
	anchor, err := quorum.ParseDigest(c.String("digest"))
	if err != nil {
		return advice.Wrap(advice.Usage, err, "copy it from the record of the roster's making")
	}
	approvals := map[quorum.Digest][][]byte{}
	for _, path := range c.StringSlice("approval") {
		env, err := readFile(path)
		if err != nil {
			return err
		}
		of, err := quorum.PayloadDigest(env, quorum.RosterPayload)
		if err != nil {
			return inFile(path, err)
		}
		approvals[of] = append(approvals[of], env)
	}
	var files []quorum.RosterFile
	for _, path := range c.Args().Slice() {
		data, err := readFile(path)
		if err != nil {
			return err
		}
		files = append(files, quorum.RosterFile{Data: data, Approvals: approvals[quorum.Sum(data)]})
		delete(approvals, quorum.Sum(data))
	}
	for of := range approvals {
		return advice.New(advice.Usage, "name every roster in between", "an approval is of a roster that is not given, with SHA-256 %s", of)
	}
	r, err := quorum.OpenRoster(anchor, files...)
	if err != nil {
		return advice.Wrap(advice.Unverified, err, advice.Hint(err))
	}
	if c.Bool("json") {
		return shell.JSON(c.App.Writer, rosterView(r))
	}
	showRoster(c.App.Writer, r)
	fmt.Fprintln(c.App.Writer, "\nverified: it is the roster of that digest, or follows from it by the approvals of each quorum")
	return nil
}
