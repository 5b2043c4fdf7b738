package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/factory/order"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/show"
)

// asOlga are the flags of an operator in examples.
const asOlga = "--url https://factory.plant7.example:8443 --ca operations-root.pem --cert olga.pem --key olga.key"

func lotCommand() *cli.Command {
	return &cli.Command{
		Name:  "lot",
		Usage: "as an operator, open, look at, close and export lots of a running hanaperd",
		Subcommands: []*cli.Command{{
			Name:  "open",
			Usage: "have a signed order applied: it opens a lot, or changes an open one",
			Description: "An order is applied once: sent again it changes nothing, also after the lot was closed.\n\n" +
				"Example:\n  hanaperd lot open " + asOlga + " brakes-48.order",
			ArgsUsage: "ORDER",
			Flags:     callerFlags(),
			Action: func(c *cli.Context) error {
				args, err := shell.Args(c, "ORDER")
				if err != nil {
					return err
				}
				env, err := input.Read(args[0], maxOrderFile)
				if err != nil {
					return advice.Wrap(advice.Usage, err, "")
				}
				if _, err := order.Parse(env); err == nil {
					return advice.New(advice.Usage, "sign it first: hanaperd order sign", "%s is an order that nobody has signed yet", show.Text(args[0]))
				}
				client, err := caller(c)
				if err != nil {
					return err
				}
				a, err := client.OpenLot(c.Context, env)
				if err != nil {
					return err
				}
				if c.Bool("json") {
					return shell.JSON(c.App.Writer, a)
				}
				said := "by " + show.Text(strings.Join(a.SignedBy, ", "))
				if !a.Changed {
					said = "the order was applied before, and changes nothing"
				}
				fmt.Fprintf(c.App.Writer, "lot %s: %d of %d devices, %s; %s\n", show.Text(a.Name), a.Taken, a.Quantity, show.Text(a.State), said)
				return nil
			},
		}, {
			Name:        "close",
			Usage:       "end a lot, for good; known devices are answered as before",
			Description: "Example:\n  hanaperd lot close " + asOlga + " --note \"delivered\" brakes-48",
			ArgsUsage:   "LOT",
			Flags:       append(callerFlags(), noteFlag()),
			Action: func(c *cli.Context) error {
				args, err := shell.Args(c, "LOT")
				if err != nil {
					return err
				}
				client, err := caller(c)
				if err != nil {
					return err
				}
				a, err := client.CloseLot(c.Context, factory.CloseLotRequest{Name: args[0], Note: c.String("note")})
				if err != nil {
					return err
				}
				return printLot(c, a)
			},
		}, {
			Name:        "show",
			Usage:       "show how a lot stands",
			Description: "--order writes the signed order in force into a file.\n\nExample:\n  hanaperd lot show " + asOlga + " brakes-48",
			ArgsUsage:   "LOT",
			Flags:       append(callerFlags(), &cli.StringFlag{Name: "order", Usage: "`FILE` for the signed order in force, which must not exist", TakesFile: true}),
			Action:      lotShow,
		}, {
			Name:        "list",
			Usage:       "list lots",
			Description: "Example:\n  hanaperd lot list " + asOlga + " --state open",
			Flags:       append(callerFlags(), &cli.StringFlag{Name: "state", Usage: "`STATE` open or closed; both unless given"}),
			Before:      shell.NoArgs,
			Action:      lotList,
		}, {
			Name:  "export",
			Usage: "write a lot's enrolments into a CSV file",
			Description: "One line for each enrolment, all generations of a device. A cell that a spreadsheet would take for a formula has an apostrophe before it.\n\n" +
				"Example:\n  hanaperd lot export " + asOlga + " --out brakes-48.csv brakes-48",
			ArgsUsage: "LOT",
			Flags:     append(callerFlags(), &cli.StringFlag{Name: "out", Aliases: []string{"o"}, Required: true, Usage: "CSV `FILE`, which must not exist", TakesFile: true}),
			Action:    lotExport,
		}},
	}
}

func noteFlag() cli.Flag {
	return &cli.StringFlag{Name: "note", Usage: "why, in `WORDS`; kept in the record"}
}

func printLot(c *cli.Context, a *factory.LotAnswer) error {
	if c.Bool("json") {
		return shell.JSON(c.App.Writer, a)
	}
	rows := [][]string{{"lot", a.Name}, {"state", a.State}, {"devices", fmt.Sprintf("%d of %d", a.Taken, a.Quantity)}}
	add := func(name, value string) {
		if value != "" {
			rows = append(rows, []string{name, value})
		}
	}
	add("ids", a.IDPattern)
	if a.Listed > 0 {
		add("listed ids", fmt.Sprint(a.Listed))
	}
	add("profile", a.Profile)
	add("environment", a.Environment)
	add("stations", strings.Join(a.Stations, ", "))
	add("hardware ids", strings.Join(a.HardwareIDs, ", "))
	for _, t := range []struct {
		name string
		at   time.Time
	}{{"from", a.From}, {"until", a.Until}, {"opened", a.OpenedAt}, {"closed", a.ClosedAt}} {
		if !t.at.IsZero() {
			add(t.name, t.at.UTC().Format(time.RFC3339))
		}
	}
	add("order", a.Order)
	shell.Table(c.App.Writer, []string{"lot", "stands"}, rows)
	return nil
}

func lotList(c *cli.Context) error {
	client, err := caller(c)
	if err != nil {
		return err
	}
	var all []factory.LotAnswer
	q := factory.LotQuery{State: c.String("state")}
	for {
		a, err := client.Lots(c.Context, q)
		if err != nil {
			return err
		}
		all = append(all, a.Lots...)
		if q.After = a.Next; a.Next == "" {
			break
		}
	}
	if c.Bool("json") {
		return shell.JSON(c.App.Writer, factory.LotsAnswer{Lots: all})
	}
	var rows [][]string
	for _, l := range all {
		rows = append(rows, []string{l.Name, l.State, fmt.Sprintf("%d of %d", l.Taken, l.Quantity), l.OpenedAt.UTC().Format(time.RFC3339)})
	}
	shell.Table(c.App.Writer, []string{"lot", "state", "devices", "opened"}, rows)
	return nil
}
