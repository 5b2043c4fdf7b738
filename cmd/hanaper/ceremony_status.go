package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/ceremony"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/term"
)

func ceremonyStatusCommand() *cli.Command {
	return &cli.Command{
		Name:      "status",
		Usage:     "say what exists after a ceremony and those before it: officers, tokens, keys, backups, certificates, CRLs, versions, and what ends when",
		ArgsUsage: "DIR",
		Description: "DIR is the folder of the last ceremony, which is verified as by 'hanaper ceremony verify'. Whether a token has died since then, no folder knows.\n\n" +
			"Example:\n  hanaper ceremony status --roster $(cat roster.sha256) ceremony-2",
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "time", Usage: "the `TIME` now (UTC, as 2026-11-21T09:00:00Z); by default this machine's"},
			&cli.BoolFlag{Name: "json", Usage: "print JSON"},
		}, anchorFlags()...),
		Action: func(c *cli.Context) error {
			args, err := shell.Args(c, "DIR")
			if err != nil {
				return err
			}
			return status(c, args[0])
		},
	}
}

func status(c *cli.Context, dir string) error {
	held, err := anchors(c, "")
	if err != nil {
		return err
	}
	now := time.Now().UTC()
	if c.String("time") != "" {
		if now, err = assertedTime(c, nil); err != nil {
			return err
		}
	}
	if _, err := os.Stat(dir); err != nil {
		return advice.Wrap(advice.Usage, err, "name the folder of a ceremony")
	}
	if err := notARelease(dir); err != nil {
		return err
	}
	s, err := ceremony.ReadStatus(c.Context, input.Dir(dir), dir, held)
	if s == nil {
		return err
	}
	if c.Bool("json") {
		return errors.Join(shell.JSON(c.App.Writer, s), err)
	}
	tellStatus(c.App.Writer, s, now)
	return err
}

const dayForm = "2006-01-02"

// left says how many days are left.
func left(until, now time.Time) string {
	if !until.After(now) {
		return "OVER"
	}
	return fmt.Sprintf("%d days", int(until.Sub(now).Hours()/24))
}

// unvouched is what stands above a page of a folder for which nobody vouches: whoever keeps the page without the error must not take it
// for true.
func unvouched(w io.Writer, authenticated, attested bool) {
	switch {
	case !authenticated:
		fmt.Fprintln(w, "NOT AUTHENTICATED: anybody may have made this folder. Nothing below is known.")
	case !attested:
		fmt.Fprintln(w, "NOT ATTESTED: too few officers signed that this was done. Do not rely on it.")
	}
}

func tellStatus(w io.Writer, s *ceremony.Status, now time.Time) {
	unvouched(w, s.Authenticated, s.Attested)
	fmt.Fprintf(w, "environment %s after ceremony %s, which ended %s, the last of %d\ncheckpoint %s\n", show.Text(s.Environment), show.Text(s.Ceremony), show.Text(s.Ended), len(s.Ceremonies), show.Text(s.Checkpoint))
	if s.Aborted {
		fmt.Fprintln(w, "It was ABORTED: keys and files are of the ceremonies before it. Its roster counts, and a PIN that it changed stays changed.")
	}
	table := func(title string, header []string, rows [][]string) {
		if len(rows) > 0 {
			fmt.Fprintf(w, "\n%s\n", show.Line(title))
			shell.Table(w, header, rows)
		}
	}
	var rows [][]string
	for _, o := range s.Roster.Officers {
		rows = append(rows, []string{o.Name, o.Role, yesNo(o.HoldsShares)})
	}
	table(fmt.Sprintf("Officers: any %d must agree (roster %.16s, epoch %d)", s.Roster.Threshold, s.Roster.SHA256, s.Roster.Epoch), []string{"name", "role", "can hold shares"}, rows)
	rows = nil
	for _, t := range s.Tokens {
		rows = append(rows, []string{t.Label, t.Serial, fmt.Sprint(len(t.Keys)), t.Ceremony})
	}
	table("Tokens", []string{"label", "serial", "keys", "last used in"}, rows)
	table("Who opens what", []string{"what", "opens with", "shares"}, opens(s))
	rows = nil
	for _, k := range s.Keys {
		rows = append(rows, []string{k.Names[0], orDash(strings.TrimPrefix(strings.Join(k.For, ", "), "CN=")), placesOf(k), backupOf(k)})
	}
	table("Keys", []string{"name", "for", "lies in", "backup"}, rows)
	rows = nil
	for _, c := range slices.SortedStableFunc(slices.Values(s.Certificates), func(a, b ceremony.StatusCert) int { return rank(a.Kind) - rank(b.Kind) }) {
		if c.Kind == "end entity" && !c.NotAfter.After(now) {
			continue
		}
		trusted := "-"
		switch {
		case c.Revoked:
			trusted = "REVOKED"
		case c.Anchor:
			trusted = "anchor"
		case c.Published:
			trusted = "intermediate"
		}
		rows = append(rows, []string{c.Name, orDash(c.IssuedBy), c.Key, trusted, ends(c.NotAfter, now)})
	}
	table("Certificates", []string{"name", "under", "its key is", "in trust", "ends"}, rows)
	rows = nil
	for _, l := range s.CRLs {
		rows = append(rows, []string{strings.TrimPrefix(l.Issuer, "CN="), l.Number, fmt.Sprint(l.Revoked), ends(l.NextUpdate, now)})
	}
	table("CRLs", []string{"of", "number", "revoked", "ends"}, rows)
	rows = nil
	if t := s.Trust; t != nil {
		rows = append(rows, []string{"trust repository", fmt.Sprint(t.RootVersion), fmt.Sprint(t.TargetsVersion), t.RootKeys, ends(t.Expires, now)})
	}
	for _, u := range s.Uptane {
		rows = append(rows, []string{"Uptane " + u.Repository, fmt.Sprint(u.RootVersion), fmt.Sprint(u.TargetsVersion), u.RootKeys, ends(u.Expires, now)})
	}
	table("Versions", []string{"of", "root", "targets", "root keys", "ends"}, rows)
	tellEnds(w, s, now)
	for _, p := range s.Problems {
		fmt.Fprintf(w, "\n%s\n", term.Wrap("TO DO: "+p, "  "))
	}
}

// tellEnds lists the next dates.
func tellEnds(w io.Writer, s *ceremony.Status, now time.Time) {
	const most = 8
	var rows [][]string
	for _, e := range s.Ends {
		if e.Note == "" && len(rows) < most {
			rows = append(rows, []string{e.Expires.Format(dayForm), left(e.Expires, now), e.What})
		}
	}
	if len(rows) > 0 {
		fmt.Fprintln(w, "\nWhat ends next (all: hanaper calendar)")
		shell.Table(w, []string{"ends", "left", "what"}, rows)
	}
}

func rank(kind string) int { return slices.Index([]string{"root", "cross", "CA", "end entity"}, kind) }

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// ends is a date, with the days that are left where they are few.
func ends(until, now time.Time) string {
	text := until.Format(dayForm)
	if !until.After(now) || until.Before(now.AddDate(1, 1, 0)) {
		text += " (" + left(until, now) + ")"
	}
	return text
}

// opens lists the secrets that officers hold together, each once.
func opens(s *ceremony.Status) [][]string {
	var rows [][]string
	for _, t := range s.Tokens {
		for _, p := range []struct {
			what   string
			shares *ceremony.StatusShares
		}{{"user PIN of ", t.User}, {"SO PIN of ", t.SO}} {
			if p.shares != nil && len(t.Keys) > 0 {
				rows = append(rows, []string{p.what + t.Label, sharesText(*p.shares), p.shares.Name})
			}
		}
	}
	backups, order := map[string]int{}, []ceremony.StatusShares{}
	for _, k := range s.Keys {
		for _, b := range k.Backups {
			if b.ReplacedBy != "" {
				continue
			}
			if backups[b.Shares.SHA256]++; backups[b.Shares.SHA256] == 1 {
				order = append(order, b.Shares)
			}
		}
	}
	for _, d := range order {
		rows = append(rows, []string{fmt.Sprintf("%d backups", backups[d.SHA256]), sharesText(d), d.Name})
	}
	return rows
}

func sharesText(s ceremony.StatusShares) string {
	text := fmt.Sprintf("%d of %s", s.Threshold, orDash(strings.Join(s.Holders, ", ")))
	if !s.Opens {
		text = "NOT ENOUGH: " + text
	}
	if len(s.Gone) > 0 {
		text += "; gone: " + strings.Join(s.Gone, ", ")
	}
	return text
}

// placesOf says where a key lies; what became of it where it lies nowhere.
func placesOf(k ceremony.StatusKey) string {
	var list []string
	for _, c := range k.Copies {
		text := c.Token
		if c.Left {
			text += " (left by an aborted ceremony)"
		}
		list = append(list, text)
	}
	if len(list) == 0 {
		return k.State
	}
	return strings.Join(list, ", ")
}

// backupOf says whether a backup of a key opens.
func backupOf(k ceremony.StatusKey) string {
	switch {
	case len(k.Backups) == 0:
		return "-"
	case slices.ContainsFunc(k.Backups, func(b ceremony.StatusBackup) bool { return b.Shares.Opens }):
		return "opens"
	}
	return "OPENS NO MORE"
}
