package main

import (
	"bufio"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/gateway"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/show"
)

// maxList bounds a file that is imported, in bytes.
const maxList = 64 << 20

// importColumns are those that a list may have; the first must be there.
var importColumns = []string{"device_id", "environment", "key_sha256", "generation", "notes"}

func importDevices(c *cli.Context, r records) error {
	args, err := shell.Args(c, "FILE")
	if err != nil {
		return err
	}
	data, err := input.Read(args[0], maxList)
	if err != nil {
		return advice.Wrap(advice.Usage, err, "name a CSV file")
	}
	list, err := parseList(data, r.environment)
	for i := 0; err == nil && r.known != nil && i < len(list); i++ {
		err = r.known(list[i].Environment)
	}
	if err == nil {
		err = gateway.CheckImport(list, gateway.By{Why: c.String("why")})
	}
	if err != nil {
		return advice.Wrap(advice.Usage, fmt.Errorf("%s: %w", show.Text(args[0]), err), "nothing was imported: mend the list")
	}
	if c.Bool("dry-run") {
		err = known(c, r, list)
	} else {
		err = r.Import(c.Context, list, gateway.By{Who: whoAmI(), Why: c.String("why"), At: time.Now()})
	}
	var twice gateway.Duplicates
	if errors.As(err, &twice) {
		return advice.New(advice.Refused, "nothing was imported: take them out of the list", "known already: %s", show.List(twice))
	}
	if err != nil {
		return err
	}
	done := "registered"
	if c.Bool("dry-run") {
		done = "would be registered"
	}
	if c.Bool("json") {
		return shell.JSON(c.App.Writer, map[string]any{"devices": len(list), "done": !c.Bool("dry-run")})
	}
	fmt.Fprintf(c.App.Writer, "%d devices %s\n", len(list), done)
	return nil
}

// known says which devices of a list are there already.
func known(c *cli.Context, r records, list []gateway.Registration) error {
	var twice gateway.Duplicates
	for _, one := range list {
		_, err := r.Device(c.Context, one.Environment, one.Device)
		if err == nil && len(twice) < 20 {
			twice = append(twice, one.Device)
		}
		if err != nil && !errors.Is(err, gateway.ErrNoDevice) {
			return err
		}
	}
	if len(twice) > 0 {
		return twice
	}
	return nil
}

// parseList reads a CSV list of devices (RFC 4180) whose first line names the columns. environment is that of devices whose line says none.
func parseList(data []byte, environment string) ([]gateway.Registration, error) {
	if !utf8.Valid(data) {
		return nil, errors.New("it is not UTF-8")
	}
	in := csv.NewReader(strings.NewReader(strings.TrimPrefix(string(data), "\ufeff")))
	in.ReuseRecord = true
	head, err := in.Read()
	if err != nil {
		return nil, fmt.Errorf("the first line, which names the columns: %w", err)
	}
	columns := slices.Clone(head)
	if !slices.Contains(columns, "device_id") {
		return nil, fmt.Errorf("the first line does not name the column device_id, but %s", show.List(columns))
	}
	for i, name := range columns {
		if !slices.Contains(importColumns, name) || slices.Contains(columns[:i], name) {
			return nil, fmt.Errorf("column %s is not one of %s, or stands twice", show.Text(name), strings.Join(importColumns, ", "))
		}
	}
	var list []gateway.Registration
	for {
		cells, err := in.Read()
		if errors.Is(err, io.EOF) {
			return list, nil
		}
		if err != nil {
			return nil, err
		}
		line, _ := in.FieldPos(0)
		one, err := parseLine(columns, cells, environment)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		if list = append(list, one); len(list) > gateway.MaxImport {
			return nil, fmt.Errorf("it has more than %d devices", gateway.MaxImport)
		}
	}
}

func parseLine(columns, cells []string, environment string) (one gateway.Registration, err error) {
	one.Environment = environment
	for i, name := range columns {
		cell := strings.Clone(cells[i])
		switch {
		case name == "device_id":
			one.Device = cell
		case cell == "":
		case name == "environment":
			one.Environment = cell
		case name == "notes":
			one.Notes = cell
		case name == "generation":
			if one.Generation, err = strconv.Atoi(cell); err != nil || one.Generation < 1 {
				return one, fmt.Errorf("generation %s is no number from 1 on", show.Text(cell))
			}
		case name == "key_sha256":
			sum, err := hex.DecodeString(cell)
			if err != nil || len(sum) != 32 || [32]byte(sum) == ([32]byte{}) {
				return one, fmt.Errorf("key_sha256 %s is no SHA-256 in hex", show.Text(cell))
			}
			one.Key = [32]byte(sum)
		}
	}
	if one.Environment == "" {
		return one, errors.New("it says no environment: add the column, or --environment NAME")
	}
	return one, nil
}

var exported = []string{"environment", "device_id", "state", "generation", "first_seen", "last_seen", "since", "why", "notes", "key_sha256", "flags"}

// exportDevices writes page after page, so that a registry of any size takes no more memory than one.
func exportDevices(c *cli.Context, r records) error {
	f, err := filter(c, r)
	if err != nil {
		return err
	}
	f.Limit = 5000
	out := bufio.NewWriter(c.App.Writer)
	put, flush := func(d gateway.Device) error { return json.NewEncoder(out).Encode(d) }, func() error { return nil }
	switch c.String("format") {
	case "ndjson":
	case "csv":
		w := csv.NewWriter(out)
		w.UseCRLF = true // RFC 4180, section 2
		put = func(d gateway.Device) error { return w.Write(csvRow(d)) }
		flush = func() error { w.Flush(); return w.Error() }
		if err := w.Write(exported); err != nil {
			return err
		}
	default:
		return advice.New(advice.Usage, "csv or ndjson", "--format %s is unknown", show.Text(c.String("format")))
	}
	for {
		list, err := r.Devices(c.Context, f)
		if err != nil {
			return err
		}
		for _, d := range list {
			if err := put(d); err != nil {
				return err
			}
			f.AfterEnvironment, f.After = d.Environment, d.Name
		}
		if len(list) < f.Limit {
			return errors.Join(flush(), out.Flush())
		}
	}
}

func csvRow(d gateway.Device) []string {
	at := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return t.UTC().Format(time.RFC3339)
	}
	cells := []string{d.Environment, d.Name, string(d.State), strconv.Itoa(d.Generation), at(d.FirstSeen), at(d.LastSeen), at(d.Since), d.Why, d.Notes, d.Key, strings.Join(d.Flags, " ")}
	for i, cell := range cells {
		cells[i] = unformula(cell)
	}
	return cells
}

// unformula keeps a spreadsheet from taking a cell for a formula: device ids come from devices. What begins with one of these characters, or has one behind
// blanks, gets an apostrophe before it.
func unformula(cell string) string {
	if bare := strings.TrimLeft(cell, " \t\r\n\u00a0"); bare != cell || bare != "" && strings.ContainsRune("=+-@|%\uff1d\uff0b\uff0d\uff20", []rune(bare)[0]) {
		return "'" + cell
	}
	return cell
}

func showLog(c *cli.Context, r records) error {
	f := gateway.LogFilter{Newest: true, After: c.Int64("before"), Environment: c.String("environment"), Device: c.String("device"), Limit: c.Int("limit")}
	if f.Limit < 1 || f.After < 0 {
		return advice.New(advice.Usage, "--limit 100", "--limit and --before are positive numbers")
	}
	acts, err := r.Log(c.Context, f)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		if acts == nil {
			acts = []gateway.LogEntry{}
		}
		return shell.JSON(c.App.Writer, map[string]any{"acts": acts})
	}
	printLog(c, acts)
	return nil
}
