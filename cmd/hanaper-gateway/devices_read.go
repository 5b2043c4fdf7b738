package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/gateway"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/show"
)

// filter reads the flags that narrow.
func filter(c *cli.Context, r records) (gateway.Filter, error) {
	f := gateway.Filter{Environment: r.environment, State: gateway.State(c.String("state")), Flag: c.String("flag"), Prefix: c.String("prefix"), Limit: c.Int("limit")}
	if f.State != "" && !slices.Contains(gateway.States(), f.State) {
		return f, advice.New(advice.Usage, "pending, active, blocked or retired", "--state %s is no state", show.Text(f.State))
	}
	if f.Flag != "" && f.Flag != "any" && !slices.Contains(gateway.Flags(), f.Flag) {
		return f, advice.New(advice.Usage, strings.Join(gateway.Flags(), ", ")+", or any", "--flag %s is no flag", show.Text(f.Flag))
	}
	if after := c.String("after"); after != "" {
		var err error
		f.After = after
		if f.AfterEnvironment, err = r.one(c.Context); err != nil {
			return f, err
		}
	}
	return f, nil
}

func listDevices(c *cli.Context, r records) error {
	f, err := filter(c, r)
	if err != nil {
		return err
	}
	if f.Limit < 1 {
		return advice.New(advice.Usage, "--limit 1000", "--limit is %d", f.Limit)
	}
	list, err := r.Devices(c.Context, f)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		if list == nil {
			list = []gateway.Device{}
		}
		return shell.JSON(c.App.Writer, map[string]any{"devices": list})
	}
	var rows [][]string
	for _, d := range list {
		rows = append(rows, []string{d.Environment, d.Name, string(d.State), when(d.FirstSeen), when(d.LastSeen), strings.Join(d.Flags, " ")})
	}
	shell.Table(c.App.Writer, []string{"environment", "device", "state", "first seen", "last seen", "flags"}, rows)
	return nil
}

func showDevice(c *cli.Context, r records) error {
	name, err := deviceArg(c)
	if err != nil {
		return err
	}
	env, err := r.one(c.Context)
	if err != nil {
		return err
	}
	d, err := r.Device(c.Context, env, name)
	if err != nil {
		if errors.Is(err, gateway.ErrNoDevice) {
			err = advice.Wrap(advice.Failed, err, "it was never met under this id, nor registered, in the environment "+env)
		}
		return err
	}
	acts, err := r.Log(c.Context, gateway.LogFilter{Environment: env, Device: name, Newest: true, Limit: 20})
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return shell.JSON(c.App.Writer, map[string]any{"device": d, "acts": acts})
	}
	w := c.App.Writer
	fmt.Fprintf(w, "%s in %s: %s, generation %s, first seen %s, last seen %s\n", show.Text(d.Name), show.Text(d.Environment), show.Text(d.State), generationText(d.Generation), when(d.FirstSeen), when(d.LastSeen))
	if !d.Since.IsZero() {
		fmt.Fprintf(w, "%s since %s %s\n", show.Text(d.State), when(d.Since), show.Text(d.Why))
	}
	if d.Notes != "" {
		fmt.Fprintf(w, "notes: %s\n", show.Text(d.Notes))
	}
	if d.RekeyAllowed {
		fmt.Fprintln(w, "its next other key is taken")
	}
	for _, f := range d.Flags {
		fmt.Fprintf(w, "look at: %s\n", show.Text(f))
	}
	if d.LiveKeys > 1 {
		fmt.Fprintf(w, "look at: %d keys have certificates that have not expired\n", d.LiveKeys)
	}
	var rows [][]string
	for _, one := range d.Certificates {
		rows = append(rows, []string{one.Serial, one.Issuer, generationText(one.Generation), when(one.NotAfter), when(one.FirstSeen), when(one.LastSeen), one.Key[:16]})
	}
	shell.Table(w, []string{"serial", "issuer", "generation", "not after", "first seen", "last seen", "key"}, rows)
	printLog(c, acts)
	return nil
}

func generationText(n int) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprint(n)
}

func printLog(c *cli.Context, acts []gateway.LogEntry) {
	var rows [][]string
	for _, e := range acts {
		rows = append(rows, []string{fmt.Sprint(e.Number), when(e.At), e.Who, string(e.Verb), e.Environment, e.Device, e.Why, e.Detail})
	}
	shell.Table(c.App.Writer, []string{"no.", "at", "who", "act", "environment", "device", "why", "detail"}, rows)
}

func when(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}
