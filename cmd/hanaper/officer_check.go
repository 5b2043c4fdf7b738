package main

import (
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/ceremony"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/quorum"
)

func officerCheckCommand() *cli.Command {
	return &cli.Command{
		Name:        "check",
		Usage:       "prove that an officer's keys still work, once a year: a test signature and a test decryption",
		Description: "Example:\n  hanaper officer check --roster roster.json --officer ada.key --decryption-key ada-decryption.key --out check-ada.json",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "roster", Usage: "the roster in `FILE`", Required: true},
			officerFlag(),
			&cli.StringFlag{Name: "decryption-key", Usage: "the officer's decryption `KEY`, if the roster lists one"},
			&cli.StringFlag{Name: "time", Usage: "the `TIME` now (UTC, as 2026-11-21T09:00:00Z); by default it is asked for"},
			&cli.StringFlag{Name: "out", Usage: "write the record to `FILE`", Required: true},
			answersFlag,
		},
		Before: shell.NoArgs,
		Action: checkOfficer,
	}
}

func checkOfficer(c *cli.Context) error {
	r, err := readRoster(c.String("roster"))
	if err != nil {
		return err
	}
	if err := absent(c.String("out")); err != nil {
		return err
	}
	if len(c.StringSlice("officer")) != 1 {
		return advice.New(advice.Usage, "", "one officer is checked at a time")
	}
	refs := c.StringSlice("officer")
	if ref := c.String("decryption-key"); ref != "" {
		refs = append(refs, ref)
	}
	if err := keysThere(refs); err != nil {
		return err
	}
	ask, _, done, err := prompter(c)
	if err != nil {
		return err
	}
	defer done()
	at, err := assertedTime(c, ask)
	if err != nil {
		return err
	}
	keys, closer, err := openOfficer(c.Context, refs, ask)
	if err != nil {
		return err
	}
	defer closer()
	var decrypt quorum.Decrypter
	if len(keys) > 1 {
		decrypt = keys[1]
	}
	record, err := quorum.CheckCard(r, keys[0], decrypt, at)
	if err != nil {
		return err
	}
	if err := durable.Create(c.String("out"), record, 0o644); err != nil {
		return err
	}
	fmt.Fprintf(c.App.Writer, "the keys work; record written to %s\n", c.String("out"))
	return nil
}

func rosterCardsCommand() *cli.Command {
	return &cli.Command{
		Name:        "cards",
		Usage:       "show whose keys were checked lately, and how many officers could be lost before no quorum is left",
		Description: "Example:\n  hanaper roster cards roster.json check-ada.json check-grace.json\n  hanaper roster cards --ceremony 2027/out roster.json check-ada.json",
		ArgsUsage:   "ROSTER CHECK...",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "time", Usage: "the `TIME` now (UTC, as 2026-11-21T09:00:00Z); by default this machine's"},
			&cli.StringFlag{Name: "ceremony", Usage: "say which backups that the ceremony in `DIR` and those before it left the officers can open"},
			&cli.IntFlag{Name: "days", Usage: "a check counts for so many days", Value: 400},
			jsonFlag,
		},
		Action: showCards,
	}
}

type cardJSON struct {
	Name    string      `json:"name"`
	Role    quorum.Role `json:"role"`
	Checked string      `json:"checked,omitempty"`
	Live    bool        `json:"live"`
}

type cardsJSON struct {
	Threshold int                 `json:"threshold"`
	Spare     int                 `json:"spare"`
	Cards     []cardJSON          `json:"cards"`
	Backups   []ceremony.OpenedBy `json:"backups,omitempty"`
}

func showCards(c *cli.Context) error {
	if !c.Args().Present() {
		return advice.New(advice.Usage, "see 'hanaper roster cards --help'", "no roster given")
	}
	r, err := readRoster(c.Args().First())
	if err != nil {
		return err
	}
	now := time.Now()
	if c.String("time") != "" {
		if now, err = assertedTime(c, nil); err != nil {
			return err
		}
	}
	var checks [][]byte
	for _, path := range c.Args().Tail() {
		data, err := readFile(path)
		if err != nil {
			return err
		}
		checks = append(checks, data)
	}
	var backups []ceremony.OpenedBy
	if dir := c.String("ceremony"); dir != "" {
		if backups, err = ceremony.Backups(c.Context, input.Dir(dir), r); err != nil {
			return err
		}
	}
	cards, err := quorum.Cards(r, checks, now, time.Duration(c.Int("days"))*24*time.Hour)
	if err != nil {
		return err
	}
	spare := r.Spare(cards)
	var view []cardJSON
	var rows [][]string
	for _, k := range cards {
		v, state := cardJSON{Name: k.Officer.Name, Role: k.Officer.Role, Live: k.Live}, "overdue"
		if !k.Checked.IsZero() {
			v.Checked = k.Checked.Format(time.RFC3339)
		}
		if k.Live {
			state = "live"
		}
		view, rows = append(view, v), append(rows, []string{v.Name, string(v.Role), orDash(v.Checked), state})
	}
	if c.Bool("json") {
		if err := shell.JSON(c.App.Writer, cardsJSON{r.Threshold(), spare, view, backups}); err != nil {
			return err
		}
	} else {
		shell.Table(c.App.Writer, []string{"NAME", "ROLE", "CHECKED", "CARD"}, rows)
		showBackups(c.App.Writer, backups)
	}
	switch {
	case spare < 0:
		return advice.New(advice.Refused, "have the others checked, or replace them in a new roster while a quorum of this one can still approve it",
			"only %d officers have live cards; %d must agree", spare+r.Threshold(), r.Threshold())
	case spare == 0:
		fmt.Fprintln(c.App.ErrWriter, "hanaper: warning: exactly as many officers have live cards as must agree: one more lost card, and no quorum is left")
	}
	return nil
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
