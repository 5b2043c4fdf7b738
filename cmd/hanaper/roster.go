package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/quorum"
)

func rosterCommand() *cli.Command {
	return &cli.Command{
		Name:        "roster",
		Usage:       "make, approve, show and verify rosters of officers",
		Subcommands: []*cli.Command{rosterNewCommand(), rosterApproveCommand(), rosterShowCommand(), rosterVerifyCommand(), rosterCardsCommand()},
	}
}

func rosterNewCommand() *cli.Command {
	return &cli.Command{
		Name:        "new",
		Usage:       "put enrolments together to a roster",
		Description: "Example:\n  hanaper roster new --environment production --threshold 2 --out roster.json ada.json grace.json katherine.json",
		ArgsUsage:   "ENROLMENT...",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "environment", Usage: "the `NAME` of the environment, such as production", Required: true},
			&cli.IntFlag{Name: "threshold", Usage: "how many officers must agree: `M`", Required: true},
			&cli.StringFlag{Name: "previous", Usage: "the roster in `FILE` is to be replaced: M of its officers must approve the new one"},
			&cli.StringFlag{Name: "time", Usage: "the `TIME` at which it is made (UTC, as 2026-11-21T09:00:00Z); by default this machine's"},
			&cli.StringFlag{Name: "out", Usage: "write the roster to `FILE`", Required: true},
		},
		Action: newRoster,
	}
}

func newRoster(c *cli.Context) error {
	if !c.Args().Present() {
		return advice.New(advice.Usage, "hanaper officer enroll makes them", "no enrolment given")
	}
	config := quorum.RosterConfig{Environment: c.String("environment"), Threshold: c.Int("threshold"), Issued: time.Now()}
	if text := c.String("time"); text != "" {
		var err error
		if config.Issued, err = time.Parse("2006-01-02T15:04:05Z", text); err != nil {
			return advice.New(advice.Usage, "write it in UTC, as 2026-11-21T09:00:00Z", "--time %q is not a date", text)
		}
	}
	if path := c.String("previous"); path != "" {
		var err error
		if config.Previous, err = readRoster(path); err != nil {
			return err
		}
	}
	for _, path := range c.Args().Slice() {
		o, err := readEnrolment(path)
		if err != nil {
			return err
		}
		config.Officers = append(config.Officers, o)
	}
	r, err := quorum.NewRoster(config)
	if err != nil {
		return err
	}
	if err := durable.Create(c.String("out"), r.Data(), 0o644); errors.Is(err, fs.ErrExist) {
		return advice.Wrap(advice.Failed, err, "name another file with --out")
	} else if err != nil {
		return err
	}
	showRoster(c.App.Writer, r)
	fmt.Fprintf(c.App.Writer, "\nwritten to %s\n", c.String("out"))
	if r.Epoch() > 1 {
		fmt.Fprintf(c.App.Writer, "it counts when %d officers of the roster before it have run: hanaper roster approve\n", config.Previous.Threshold())
		return nil
	}
	fmt.Fprintln(c.App.Writer, "read the words aloud and write the SHA-256 down: it is what everything else is checked against")
	return nil
}

func rosterShowCommand() *cli.Command {
	return &cli.Command{
		Name:        "show",
		Usage:       "show a roster and its digest; whether it is the right one, roster verify says",
		Description: "Example:\n  hanaper roster show roster.json",
		ArgsUsage:   "ROSTER",
		Flags:       []cli.Flag{jsonFlag},
		Action: func(c *cli.Context) error {
			args, err := shell.Args(c, "ROSTER")
			if err != nil {
				return err
			}
			r, err := readRoster(args[0])
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return shell.JSON(c.App.Writer, rosterView(r))
			}
			showRoster(c.App.Writer, r)
			return nil
		},
	}
}

type rosterJSON struct {
	Environment string        `json:"environment"`
	Epoch       uint64        `json:"epoch"`
	Threshold   int           `json:"threshold"`
	Issued      string        `json:"issued"`
	SHA256      string        `json:"sha256"`
	Words       string        `json:"words"`
	Previous    string        `json:"previous,omitempty"`
	Officers    []officerJSON `json:"officers"`
}

func rosterView(r *quorum.Roster) rosterJSON {
	d := quorum.Digest(r.Digest())
	v := rosterJSON{Environment: r.Environment(), Epoch: r.Epoch(), Threshold: r.Threshold(),
		Issued: r.Issued().Format(time.RFC3339), SHA256: d.String(), Words: d.Words()}
	if !r.Previous().IsZero() {
		v.Previous = r.Previous().String()
	}
	for _, o := range r.Officers() {
		v.Officers = append(v.Officers, officerView(o))
	}
	return v
}

func showRoster(w io.Writer, r *quorum.Roster) {
	voters := 0
	var rows [][]string
	for _, o := range r.Officers() {
		if o.Role == quorum.RoleOfficer {
			voters++
		}
		shares := string(o.Decryption)
		if shares == "" {
			shares = "-"
		}
		rows = append(rows, []string{o.Name, string(o.Role), string(o.Scheme), o.KeyID[:16], shares})
	}
	fmt.Fprintf(w, "roster of %s, epoch %s, of %s: %d of %d officers must agree\n\n",
		show.Text(r.Environment()), strconv.FormatUint(r.Epoch(), 10), r.Issued().Format(time.RFC3339), r.Threshold(), voters)
	shell.Table(w, []string{"NAME", "ROLE", "SIGNS WITH", "KEY", "SHARES"}, rows)
	fmt.Fprintln(w)
	showDigest(w, quorum.Digest(r.Digest()).String())
	if !r.Previous().IsZero() {
		fmt.Fprintf(w, "\nreplaces the roster with SHA-256 %s\n", r.Previous())
	}
}

func readRoster(path string) (*quorum.Roster, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, err
	}
	r, err := quorum.ParseRoster(data)
	return r, inFile(path, err)
}
