package main

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/ceremony"
	"github.com/hanaper/hanaper/ceremony/calendar"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/quorum"
)

func calendarCommand() *cli.Command {
	return &cli.Command{
		Name:      "calendar",
		Usage:     "list every date on which something ends: certificates, CRLs, trust and Uptane metadata, officers' card checks",
		ArgsUsage: "[DIR...]",
		Description: "DIR is the folder of a ceremony, which must agree with itself as for 'hanaper ceremony status', a published repository, or any other, whose dates are read and whose signatures are not checked. " +
			"Of CRLs and metadata only the newest counts. Who can open which backup is said after the dates: of the officers of --roster, or else of the last ceremony's.\n\n" +
			"Example:\n  hanaper calendar --within 90d --ics fleet.ics ceremony-1 published",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "roster", Usage: "officers whose yearly card checks belong into the list, and who are to open the backups, a `FILE`"},
			&cli.StringSliceFlag{Name: "check", Usage: "a record of a card check, a `FILE`; give one for each"},
			&cli.IntFlag{Name: "days", Usage: "a card check counts for so many days", Value: 400},
			&cli.StringFlag{Name: "within", Usage: "only what ends within `TIME` from now, such as 90d, 12w or 36h"},
			&cli.StringFlag{Name: "time", Usage: "the `TIME` now (UTC, as 2026-11-21T09:00:00Z); by default this machine's"},
			&cli.StringFlag{Name: "ics", Usage: "write a calendar (RFC 5545) to `FILE` too, in place of what is there"},
			jsonFlag,
		},
		Action: showCalendar,
	}
}

type calendarReport struct {
	Now      string           `json:"now"`
	Entries  []calendar.Entry `json:"entries"`
	Backups  []calendarBackup `json:"backups"`
	Warnings []string         `json:"warnings"`
}

// calendarBackup says who can open a backup, as the status of its folder does.
type calendarBackup struct {
	Environment string `json:"environment"`
	ceremony.OpenedBy
	Opens bool `json:"opens"`
}

func showCalendar(c *cli.Context) error {
	if !c.Args().Present() && c.String("roster") == "" {
		return advice.New(advice.Usage, "see 'hanaper calendar --help'", "no folder and no roster given")
	}
	for _, a := range c.Args().Slice() {
		if strings.HasPrefix(a, "-") {
			return advice.New(advice.Usage, "see 'hanaper calendar --help'", "flags stand before DIR: %q", a)
		}
	}
	now := time.Now().UTC()
	if c.String("time") != "" {
		var err error
		if now, err = assertedTime(c, nil); err != nil {
			return err
		}
	}
	var lists [][]calendar.Entry
	var held []*ceremony.Status
	for _, dir := range c.Args().Slice() {
		if st, err := os.Stat(dir); err != nil {
			return advice.Wrap(advice.Usage, err, "name a folder that exists")
		} else if !st.IsDir() {
			return advice.New(advice.Usage, "name a folder", "%s is no folder", dir)
		}
		list, s, err := endsIn(c, dir)
		if err != nil {
			return err
		}
		if lists = append(lists, list); s != nil {
			held = append(held, s)
		}
	}
	r := calendarReport{Now: now.Format(time.RFC3339), Backups: []calendarBackup{}, Warnings: []string{}}
	cards, err := cardDates(c, now, &r)
	if err != nil {
		return err
	}
	if err := backupsIn(c, held, &r); err != nil {
		return err
	}
	all := calendar.Merge(append(lists, cards)...)
	if text := c.String("within"); text != "" {
		d, err := parseSpan(text)
		if err != nil {
			return err
		}
		all = calendar.Within(all, now, d)
	}
	if r.Entries = all; all == nil {
		r.Entries = []calendar.Entry{}
	}
	if out := c.String("ics"); out != "" {
		var b bytes.Buffer
		if err := calendar.ICS(&b, all, now); err != nil {
			return err
		}
		if err := durable.WriteFile(out, b.Bytes(), 0o644); err != nil {
			return err
		}
		shell.Wrote(c, "calendar", out)
	}
	return tellCalendar(c, r, now)
}

// endsIn lists what ends in a folder. That of a finished ceremony is read as 'ceremony status' reads it: it must agree with itself.
func endsIn(c *cli.Context, dir string) ([]calendar.Entry, *ceremony.Status, error) {
	folder := input.Dir(dir)
	if !ceremony.IsFinished(folder) {
		list, err := calendar.Read(folder, dir)
		return list, nil, err
	}
	s, err := ceremony.ReadStatus(c.Context, folder, dir, ceremony.Anchors{})
	if s == nil {
		return nil, nil, fmt.Errorf("%s: %w", show.Text(dir), err)
	}
	return s.Ends, s, nil
}

// backupsIn says who of the roster given, or of the last ceremony's, can open the backups, and warns. A folder whose ceremonies another
// one carries on from adds nothing.
func backupsIn(c *cli.Context, held []*ceremony.Status, r *calendarReport) error {
	var roster *quorum.Roster
	if path := c.String("roster"); path != "" {
		var err error
		if roster, err = readRoster(path); err != nil {
			return err
		}
	}
	for i, s := range held {
		if slices.ContainsFunc(held[i+1:], s.Within) || slices.ContainsFunc(held[:i], func(o *ceremony.Status) bool { return s.Within(o) && !o.Within(s) }) {
			continue
		}
		of := roster
		if of != nil && of.Environment() != s.Environment {
			of = nil
		}
		for _, b := range s.Backups(of) {
			r.Backups = append(r.Backups, calendarBackup{s.Environment, b, b.Opens()})
			if text := b.Warning(); text != "" {
				r.Warnings = append(r.Warnings, text)
			}
		}
	}
	return nil
}

func tellCalendar(c *cli.Context, r calendarReport, now time.Time) error {
	for _, w := range r.Warnings {
		fmt.Fprintf(c.App.ErrWriter, "hanaper: warning: %s\n", show.Line(w))
	}
	if c.Bool("json") {
		return shell.JSON(c.App.Writer, r)
	}
	var rows [][]string
	for _, e := range r.Entries {
		rows = append(rows, []string{e.Expires.Format("2006-01-02 15:04"), left(e.Expires, now), e.Kind, e.What, orDash(e.Note), orDash(e.Environment), orDash(e.File)})
	}
	shell.Table(c.App.Writer, []string{"ends (UTC)", "left", "kind", "what", "note", "environment", "file"}, rows)
	var backups []ceremony.OpenedBy
	for _, b := range r.Backups {
		backups = append(backups, b.OpenedBy)
	}
	tableOfBackups(c.App.Writer, backups)
	return nil
}

// cardDates are the dates of card checks; r is warned where live cards come near the number that must agree.
func cardDates(c *cli.Context, now time.Time, r *calendarReport) ([]calendar.Entry, error) {
	path := c.String("roster")
	if path == "" {
		if len(c.StringSlice("check")) > 0 {
			return nil, advice.New(advice.Usage, "give the roster with --roster", "a card check says nothing without its roster")
		}
		return nil, nil
	}
	roster, err := readRoster(path)
	if err != nil {
		return nil, err
	}
	var checks [][]byte
	for _, f := range c.StringSlice("check") {
		data, err := readFile(f)
		if err != nil {
			return nil, err
		}
		checks = append(checks, data)
	}
	maxAge := time.Duration(c.Int("days")) * 24 * time.Hour
	if maxAge <= 0 || c.Int("days") > 36500 {
		return nil, advice.New(advice.Usage, "", "--days %d: give 1 to 36500", c.Int("days"))
	}
	cards, err := quorum.Cards(roster, checks, now, maxAge)
	if err != nil {
		return nil, err
	}
	switch spare := roster.Spare(cards); {
	case spare < 0:
		r.Warnings = append(r.Warnings, fmt.Sprintf("only %d officers have live cards, and %d must agree: have the others checked now", spare+roster.Threshold(), roster.Threshold()))
	case spare <= 1:
		r.Warnings = append(r.Warnings, fmt.Sprintf("%d officers have live cards, and %d must agree: no more than %d may be lost", spare+roster.Threshold(), roster.Threshold(), spare))
	}
	return calendar.Cards(roster, cards, maxAge), nil
}

// parseSpan reads days (90d), weeks (12w), or a duration of Go (36h).
func parseSpan(text string) (time.Duration, error) {
	day := 24 * time.Hour
	for suffix, unit := range map[string]time.Duration{"d": day, "w": 7 * day} {
		if n, ok := strings.CutSuffix(text, suffix); ok {
			if v, err := strconv.ParseUint(n, 10, 14); err == nil {
				return time.Duration(v) * unit, nil
			}
		}
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return d, nil
	}
	return 0, advice.New(advice.Usage, "write it as 90d, 12w or 36h", "--within %q is no span of time", text)
}
