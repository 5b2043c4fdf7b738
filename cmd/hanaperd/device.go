package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/term"
)

func deviceCommand() *cli.Command {
	// A command above others must not insist on flags that those have themselves.
	flags := callerFlags()
	for _, f := range flags {
		if s, ok := f.(*cli.StringFlag); ok {
			s.Required = false
		}
	}
	return &cli.Command{
		Name:        "device",
		Usage:       "as an operator, look at devices of a running hanaperd, and say what becomes of them",
		Description: "'hanaperd device ID' is 'hanaperd device show ID'.\n\nExample:\n  hanaperd device show " + asOlga + " vin-0001",
		ArgsUsage:   "ID",
		Flags:       flags,
		Action: func(c *cli.Context) error {
			for _, name := range []string{"url", "ca", "cert", "key"} {
				if c.String(name) == "" {
					return advice.New(advice.Usage, "see 'hanaperd device --help'", "--%s is missing", name)
				}
			}
			return deviceShow(c)
		},
		Subcommands: []*cli.Command{{
			Name:        "show",
			Usage:       "show what is on record for a device id",
			Description: "Example:\n  hanaperd device show " + asOlga + " vin-0001",
			ArgsUsage:   "ID",
			Flags:       callerFlags(),
			Action:      deviceShow,
		}, {
			Name:  "list",
			Usage: "list enrolments by station, lot, key and time",
			Description: "In the order in which they were begun, all generations of a device; --csv writes them into a file.\n\n" +
				"Example:\n  hanaperd device list " + asOlga + " --station line-3 --since 2026-11-26T06:00:00Z",
			Flags: append(append(callerFlags(), selectFlags()...),
				&cli.StringFlag{Name: "lot", Usage: "only under this lot, by `NAME`"},
				&cli.StringFlag{Name: "key-sha256", Usage: "only with the key that has this SHA-256, in `HEX`"},
				&cli.StringFlag{Name: "csv", Usage: "CSV `FILE`, which must not exist", TakesFile: true}),
			Before: shell.NoArgs,
			Action: deviceList,
		}, {
			Name:  "reissue",
			Usage: "let a device id be enrolled again, with another key",
			Description: "For a board that died and is replaced, or whose key store was changed. The old certificate is revoked at once, as superseded; the next request with another " +
				"key gets the id's next certificate. The id keeps its place in its lot.\n\nExample:\n  hanaperd device reissue " + asOlga + " --note \"board replaced\" vin-0001",
			ArgsUsage: "ID",
			Flags:     append(callerFlags(), noteFlag()),
			Action: func(c *cli.Context) error {
				return acting(c, []string{"ID"}, "may be enrolled again, with another key", func(client *factory.Client, ids []string) (*factory.ActAnswer, error) {
					return client.Reissue(c.Context, factory.ReissueRequest{DeviceID: ids[0], Note: c.String("note")})
				})
			},
		}, {
			Name:  "scrap",
			Usage: "end a device id for good",
			Description: "Its certificates are revoked (cessation of operation), an open enrolment is closed, and the id gets no further certificate.\n\n" +
				"Example:\n  hanaperd device scrap " + asOlga + " --free-slot --note \"burnt\" vin-0001",
			ArgsUsage: "ID",
			Flags:     append(callerFlags(), noteFlag(), &cli.BoolFlag{Name: "free-slot", Usage: "give its place in the lot to another device"}),
			Action: func(c *cli.Context) error {
				return acting(c, []string{"ID"}, "is scrapped", func(client *factory.Client, ids []string) (*factory.ActAnswer, error) {
					return client.Scrap(c.Context, factory.ScrapRequest{DeviceID: ids[0], FreeSlot: c.Bool("free-slot"), Note: c.String("note")})
				})
			},
		}, {
			Name:  "swap",
			Usage: "mend that boards were scanned wrongly: give each of two ids the key of the other",
			Description: "Both certificates are revoked as superseded, and each board is enrolled anew under its right id. One of the ids may have no device yet: then the other's board " +
				"gets it, and the other id waits for its own board.\n\nExample:\n  hanaperd device swap " + asOlga + " --note \"labels exchanged\" vin-0001 vin-0002",
			ArgsUsage: "ID ID",
			Flags:     append(callerFlags(), noteFlag()),
			Action:    deviceSwap,
		}, {
			Name:  "revoke",
			Usage: "revoke all that a station enrolled, as after it was stolen",
			Description: "It shows what it would do, and asks. It goes on where it stopped when it is run again, and one revocation list carries all.\n\n" +
				"Example:\n  hanaperd device revoke " + asOlga + " --station line-3 --since 2026-11-26T06:00:00Z --reason key_compromise",
			Flags: append(append(callerFlags(), selectFlags()...),
				&cli.StringFlag{Name: "reason", Required: true, Usage: "one of " + strings.Join(factory.Reasons(), ", ")},
				&cli.BoolFlag{Name: "yes", Usage: "do not ask"}),
			Before: shell.NoArgs,
			Action: deviceRevoke,
		}},
	}
}

// selectFlags say which enrolments.
func selectFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "station", Usage: "only those of the station with this `NAME`"},
		&cli.StringFlag{Name: "since", Usage: "only those begun at this `TIME` or later, such as 2026-11-26T06:00:00Z"},
		&cli.StringFlag{Name: "until", Usage: "only those begun before this `TIME`"},
	}
}

func deviceShow(c *cli.Context) error {
	args, err := shell.Args(c, "ID")
	if err != nil {
		return err
	}
	client, err := caller(c)
	if err != nil {
		return err
	}
	d, err := client.Device(c.Context, args[0])
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return shell.JSON(c.App.Writer, d)
	}
	shell.Table(c.App.Writer, []string{"device", "status", "serial", "station", "hardware", "lot", "until"}, [][]string{
		{d.DeviceID, d.Status, d.Serial, d.Station, d.HardwareID, d.Lot, d.NotAfter.Format(time.RFC3339)}})
	if a := d.Attested; a != nil {
		fmt.Fprintf(c.App.Writer, "attested: key born in a %s of %s; SHA-256 of the chip's certificate\n  %s\n", show.Text(string(a.Kind)), show.Text(a.Manufacturer), show.Text(a.Chip))
	}
	if d.Scrapped {
		fmt.Fprintln(c.App.Writer, "scrapped: it gets no further certificate")
	}
	if p := d.Permit; p != nil {
		key := "any other key"
		if p.Key != "" {
			key = "the key " + show.Text(p.Key)
		}
		fmt.Fprintf(c.App.Writer, "may be enrolled again with %s: %s, at %s\n", key, show.Text(p.By), p.At.UTC().Format(time.RFC3339))
	}
	return nil
}

// selection is the query that the flags say.
func selection(c *cli.Context) (q factory.DeviceQuery, err error) {
	q = factory.DeviceQuery{Station: c.String("station"), Lot: c.String("lot"), Key: c.String("key-sha256")}
	if q.From, err = moment(c, "since"); err == nil {
		q.Until, err = moment(c, "until")
	}
	return q, err
}

// most is how many enrolments a table or JSON shows: more belong into a file.
const most = 10_000

func deviceList(c *cli.Context) error {
	q, err := selection(c)
	if err != nil {
		return err
	}
	client, err := caller(c)
	if err != nil {
		return err
	}
	if path := c.String("csv"); path != "" {
		n, err := exportCSV(c, client, q, path)
		if err != nil {
			return err
		}
		fmt.Fprintf(c.App.Writer, "%d enrolments are in %s\n", n, show.Text(path))
		return nil
	}
	found := []factory.DeviceAnswer{}
	err = each(c, client, q, func(d factory.DeviceAnswer) error {
		if found = append(found, d); len(found) > most {
			return advice.New(advice.Usage, "write them into a file with --csv, or ask for fewer", "more than %d enrolments were found", most)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return shell.JSON(c.App.Writer, factory.DevicesAnswer{Devices: found})
	}
	var rows [][]string
	for _, d := range found {
		issued := ""
		if d.IssuedAt != nil {
			issued = d.IssuedAt.UTC().Format(time.RFC3339)
		}
		rows = append(rows, []string{d.DeviceID, fmt.Sprint(d.Generation), d.Status, d.Serial, d.Station, d.Lot, issued})
	}
	shell.Table(c.App.Writer, []string{"device", "gen", "status", "serial", "station", "lot", "issued"}, rows)
	return nil
}

// acting has something done to devices, and says what was.
func acting(c *cli.Context, names []string, what string, do func(*factory.Client, []string) (*factory.ActAnswer, error)) error {
	ids, err := shell.Args(c, names...)
	if err != nil {
		return err
	}
	client, err := caller(c)
	if err != nil {
		return err
	}
	a, err := do(client, ids)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return shell.JSON(c.App.Writer, a)
	}
	list := "; what was revoked is on CRL " + fmt.Sprint(a.CRLNumber)
	switch {
	case !a.Changed:
		list = " already; nothing was changed"
	case a.CRLNumber == 0:
		list = "; the CRL follows by itself"
	}
	fmt.Fprintf(c.App.Writer, "%s %s%s\n", show.List(a.Devices), what, list)
	return nil
}

func deviceSwap(c *cli.Context) error {
	return acting(c, []string{"ID", "ID"}, "have exchanged keys: enrol both boards again, each under its right id", func(client *factory.Client, ids []string) (*factory.ActAnswer, error) {
		q := factory.SwapRequest{A: ids[0], B: ids[1], Note: c.String("note")}
		// What is looked at now is what is swapped: a call that is made again, after an answer that was lost, does not take it back.
		for _, one := range []struct {
			id   string
			into *string
		}{{q.A, &q.KeyA}, {q.B, &q.KeyB}} {
			d, err := client.Device(c.Context, one.id)
			if factory.IsNotFound(err) {
				continue
			}
			if err != nil {
				return nil, err
			}
			*one.into = d.KeyDigest
			if d.Permit != nil {
				*one.into = d.Permit.Key
			}
		}
		return client.Swap(c.Context, q)
	})
}

func deviceRevoke(c *cli.Context) error {
	q, err := selection(c)
	if err != nil {
		return err
	}
	if q.Station == "" {
		return advice.New(advice.Usage, "name the station whose devices are to be revoked", "--station is missing")
	}
	client, err := caller(c)
	if err != nil {
		return err
	}
	todo, done, open := 0, 0, 0
	first, last := "", ""
	if err := each(c, client, q, func(d factory.DeviceAnswer) error {
		switch d.Status {
		case "issued":
			if todo++; first == "" {
				first = d.DeviceID
			}
			last = d.DeviceID
		case "revoked":
			done++
		default:
			open++
		}
		return nil
	}); err != nil {
		return err
	}
	fmt.Fprintf(c.App.Writer, "station %s: %d certificates to revoke, %d are revoked already, %d enrolments have none\n", show.Text(q.Station), todo, done, open)
	if todo > 0 {
		fmt.Fprintf(c.App.Writer, "the first is that of %s, the last that of %s\n", show.Text(first), show.Text(last))
	}
	if todo+done+open == 0 {
		fmt.Fprintf(c.App.Writer, "no enrolment of a station with this name is on record in that time: is the name as its certificate has it, and the time in UTC?\n")
	}
	if todo > 0 && !c.Bool("yes") {
		said, err := term.TTY().Line(fmt.Sprintf("Revoke %d certificates, for good? Type their number to go on: ", todo))
		if err != nil {
			return advice.Wrap(advice.KindOf(err), err, "run it at a terminal, or with --yes once you know what it revokes")
		}
		if strings.TrimSpace(said) != fmt.Sprint(todo) {
			return advice.New(advice.Refused, "", "nothing was revoked")
		}
	}
	return revokeAll(c, client, factory.RevokeDevicesRequest{DeviceQuery: q, Reason: c.String("reason")})
}

// revokeAll goes on from page to page. When it breaks off, it is run again from the start: what is revoked stays so.
func revokeAll(c *cli.Context, client *factory.Client, q factory.RevokeDevicesRequest) error {
	progress := term.Stderr()
	defer progress.Clear()
	total := factory.RevokeDevicesAnswer{}
	for q.Limit = page; ; {
		a, err := client.RevokeDevices(c.Context, q)
		if err != nil {
			return advice.New(advice.KindOf(err), "run the same command again: it goes on where it stopped", "%d certificates are revoked, and then: %w", total.Revoked, err)
		}
		total.Revoked, total.Already, total.Open, total.CRLNumber = total.Revoked+a.Revoked, total.Already+a.Already, total.Open+a.Open, a.CRLNumber
		progress.Step("%d revoked", total.Revoked)
		if q.After = a.Next; a.Next == "" {
			break
		}
	}
	progress.Clear()
	if c.Bool("json") {
		return shell.JSON(c.App.Writer, total)
	}
	list := "their CRL follows by itself"
	if total.CRLNumber != 0 {
		list = fmt.Sprintf("CRL %d says so", total.CRLNumber)
	}
	fmt.Fprintf(c.App.Writer, "revoked %d certificates, %d were revoked before; %s\n", total.Revoked, total.Already, list)
	return nil
}
