package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/factory/station"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/term"
)

func spoolCommand() *cli.Command {
	return &cli.Command{
		Name:  "spool",
		Usage: "for a station without a network: requests to a desk and answers back, on a stick",
		Subcommands: []*cli.Command{
			{
				Name:  "export",
				Usage: "make the keys of the boards of a list, and write their requests into a file that this station signs",
				Description: "What the answers will be held against is kept in the folder spool.state. The file holds names and public keys, and no secret.\n\n" +
					"Example:\n  hanaper-station spool export --config station.yaml --boards monday.csv --import \"devices/{id}\" --out /media/stick/monday.spool",
				Flags:  append(listFlags(), &cli.StringFlag{Name: "out", Aliases: []string{"o"}, Required: true, Usage: "the spool, a `FILE` that must not exist", TakesFile: true}, &cli.BoolFlag{Name: "json", Usage: "print JSON"}),
				Before: shell.NoArgs, Action: exportSpool,
			},
			{
				Name:  "submit",
				Usage: "at a connected desk: bring a spool's requests to hanaperd, and write the answers into a file that the desk signs",
				Description: "The desk is a station with a certificate of its own; hanaperd's record names it as the station. It takes spools of stations under the Operations Root only, of those in spool.stations where that is set. " +
					"Where hanaperd is away nothing is written; the same again gets the same certificates.\n\n" +
					"Example:\n  hanaper-station spool submit --config desk.yaml --spool /media/stick/monday.spool --out /media/stick/monday.answers",
				Flags: []cli.Flag{
					configFlag(),
					&cli.StringFlag{Name: "spool", Required: true, Usage: "the spool, a `FILE`", TakesFile: true},
					&cli.StringFlag{Name: "out", Aliases: []string{"o"}, Required: true, Usage: "the answers, a `FILE` that must not exist", TakesFile: true},
					&cli.BoolFlag{Name: "json", Usage: "print JSON"},
				},
				Before: shell.NoArgs, Action: submitSpool,
			},
			{
				Name:  "import",
				Usage: "back at the station: check the answers, and finish each board; run again, it goes on with those that are not finished",
				Description: "Every answer is held to the spool that this station wrote, the boards' own keys and the fleet root before the first is written. Exit code 0: all boards are enrolled; 3: some were refused; 1: some failed, such as one that is not connected; 4: the file is not what this station asked for.\n\n" +
					"Example:\n  hanaper-station spool import --config station.yaml --answers /media/stick/monday.answers",
				Flags: []cli.Flag{
					configFlag(),
					&cli.StringFlag{Name: "answers", Aliases: []string{"a"}, Required: true, Usage: "the answers, a `FILE`", TakesFile: true},
					&cli.BoolFlag{Name: "json", Usage: "print JSON"},
				},
				Before: shell.NoArgs, Action: importSpool,
			},
		},
	}
}

func exportSpool(c *cli.Context) error {
	conf, boards, err := listed(c)
	if err != nil {
		return err
	}
	progress := term.Stderr()
	e, err := station.ExportSpool(c.Context, conf, boards, c.String("out"), station.With{OpenToken: openToken, Tokens: pkcs11.List, Step: progress.Step, Done: progress.Done})
	progress.Clear()
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return shell.JSON(c.App.Writer, e)
	}
	_, err = fmt.Fprintf(c.App.Writer, "spool %s: %d requests in %s\n", show.Text(e.ID), e.Devices, show.Text(e.File))
	return err
}

func submitSpool(c *cli.Context) error {
	conf, err := loadConfig(c)
	if err != nil {
		return err
	}
	progress := term.Stderr()
	s, err := station.SubmitSpool(c.Context, conf, c.String("spool"), c.String("out"), station.With{Step: progress.Step, Done: progress.Done})
	progress.Clear()
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return shell.JSON(c.App.Writer, s)
	}
	_, err = fmt.Fprintf(c.App.Writer, "spool %s of station %s: %d requests, %d enrolled, %d refused; answers in %s\n", show.Text(s.ID), show.Text(s.Station), s.Devices, s.Enrolled, s.Refused, show.Text(s.File))
	return err
}

func importSpool(c *cli.Context) error {
	conf, err := loadConfig(c)
	if err != nil {
		return err
	}
	progress := term.Stderr()
	t, err := station.ImportSpool(c.Context, conf, c.String("answers"), station.With{OpenToken: openToken, Tokens: pkcs11.List, Done: progress.Done})
	if err != nil {
		return err
	}
	return tell(c, t)
}
