package main

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/show"
)

func lotShow(c *cli.Context) error {
	args, err := shell.Args(c, "LOT")
	if err != nil {
		return err
	}
	client, err := caller(c)
	if err != nil {
		return err
	}
	a, err := client.Lot(c.Context, args[0])
	if err != nil {
		return err
	}
	if path := c.String("order"); path != "" {
		env, err := client.LotOrder(c.Context, args[0])
		if err != nil {
			return err
		}
		if err := durable.Create(path, env, 0o644); err != nil {
			return err
		}
		shell.Wrote(c, "signed order", path)
	}
	return printLot(c, a)
}

// exported are the columns of the CSV.
var exported = []string{"device_id", "generation", "status", "serial", "lot", "station", "hardware_id", "key_sha256", "not_before", "not_after", "issued_at", "revoked_at", "reason", "scrapped"}

func lotExport(c *cli.Context) error {
	args, err := shell.Args(c, "LOT")
	if err != nil {
		return err
	}
	client, err := caller(c)
	if err != nil {
		return err
	}
	if _, err := client.Lot(c.Context, args[0]); err != nil {
		return err
	}
	n, err := exportCSV(c, client, factory.DeviceQuery{Lot: args[0]}, c.String("out"))
	if err != nil {
		return err
	}
	fmt.Fprintf(c.App.Writer, "%d enrolments are in %s\n", n, show.Text(c.String("out")))
	return nil
}

// page is how many enrolments are asked for at once.
const page = 1000

// each gives every enrolment that a query finds to do, a page at a time.
func each(c *cli.Context, client *factory.Client, q factory.DeviceQuery, do func(factory.DeviceAnswer) error) error {
	for q.Limit = page; ; {
		a, err := client.Devices(c.Context, q)
		if err != nil {
			return err
		}
		for _, d := range a.Devices {
			if err := do(d); err != nil {
				return err
			}
		}
		if q.After = a.Next; a.Next == "" {
			return nil
		}
	}
}

// exportCSV writes what a query finds into a new file, which is there only when it is whole.
func exportCSV(c *cli.Context, client *factory.Client, q factory.DeviceQuery, path string) (n int, err error) {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return 0, advice.New(advice.Usage, "name another file", "%s is there already", show.Text(path))
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".export-")
	if err != nil {
		return 0, advice.Wrap(advice.Usage, err, "")
	}
	defer os.Remove(f.Name())
	defer f.Close()
	w := csv.NewWriter(f)
	w.UseCRLF = true // RFC 4180, section 2
	if err := w.Write(exported); err != nil {
		return 0, err
	}
	if err := each(c, client, q, func(d factory.DeviceAnswer) error { n++; return w.Write(row(d)) }); err != nil {
		return 0, err
	}
	w.Flush()
	if err := errors.Join(w.Error(), f.Chmod(0o644), f.Sync()); err != nil {
		return 0, err
	}
	if err := os.Link(f.Name(), path); err != nil {
		return 0, err
	}
	return n, durable.SyncDir(filepath.Dir(path))
}

// row is one line of the CSV.
func row(d factory.DeviceAnswer) []string {
	at := func(t *time.Time) string {
		if t == nil {
			return ""
		}
		return t.UTC().Format(time.RFC3339)
	}
	scrapped := "no"
	if d.Scrapped {
		scrapped = "yes"
	}
	cells := []string{d.DeviceID, fmt.Sprint(d.Generation), d.Status, d.Serial, d.Lot, d.Station, d.HardwareID, d.KeyDigest, at(&d.NotBefore), at(&d.NotAfter), at(d.IssuedAt), at(d.RevokedAt), d.Reason, scrapped}
	for i, cell := range cells {
		cells[i] = unformula(cell)
	}
	return cells
}

// unformula keeps a spreadsheet from taking a cell for a formula: device ids and hardware ids come from devices and stations. What begins with one of
// these characters, or has one behind blanks, gets an apostrophe before it.
func unformula(cell string) string {
	if bare := strings.TrimLeft(cell, " \t\r\n\u00a0"); bare != cell || bare != "" && strings.ContainsRune("=+-@|%\uff1d\uff0b\uff0d\uff20", []rune(bare)[0]) {
		return "'" + cell
	}
	return cell
}
