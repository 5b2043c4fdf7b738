package main

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/trust"
)

func now() time.Time { return time.Now() }

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func statusCommand() *cli.Command {
	return &cli.Command{
		Name: "status", Usage: "verify and describe what is published; needs no token",
		Description: "Asks the running 'serve', if there is one, what it could not publish. Exit code 4 if what is published does not verify or has expired, also where\n" +
			"that is the CRL of one CA; 1 if the running 'serve' cannot publish something, or cannot be asked.\n\n" +
			"Example:\n  hanaper-repo status --config hanaper-repo.yaml",
		Flags:  []cli.Flag{configFlag, &cli.BoolFlag{Name: "json", Usage: "for programs"}},
		Before: shell.NoArgs,
		Action: status,
	}
}

type statusDocument struct {
	Environment string         `json:"environment"`
	Valid       bool           `json:"valid"`
	Expires     string         `json:"expires"`
	Versions    trust.Versions `json:"versions"`
	Fingerprint string         `json:"fingerprint"`
	CRLs        []statusCRL    `json:"crls"`
	Logs        []statusLog    `json:"logs"`
	// Serving says whether a 'serve' of this configuration runs, and Faults what it could not do and tries again.
	Serving bool    `json:"serving"`
	Faults  []fault `json:"faults"`
}

type statusLog struct {
	Origin string `json:"origin"`
	Size   int64  `json:"size"`
	Root   string `json:"root"`
}

type statusCRL struct {
	Issuer     string `json:"issuer"`
	IssuerID   string `json:"issuer_id"`
	Number     string `json:"number"`
	Entries    int    `json:"entries"`
	ThisUpdate string `json:"this_update"`
	NextUpdate string `json:"next_update"`
	// State is "current", or what gateways make of it, or which newer list is not published.
	State string `json:"state"`
}

func status(c *cli.Context) error {
	cfg, err := loadConfig(c.String("config"))
	if err != nil {
		return err
	}
	pin, err := cfg.pin()
	if err != nil {
		return err
	}
	dir := cfg.path(cfg.Publish)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return advice.New(advice.Unverified, "run 'hanaper-repo init' first", "nothing is published in %s", show.Text(dir))
	}
	v, err := trust.Recall(input.Dir(dir), pin.Digest())
	if err != nil {
		return err
	}
	if v.Environment() != cfg.Environment {
		return advice.New(advice.Unverified, "check environment in the configuration", "%s is environment %s, not %s", show.Text(dir), show.Text(v.Environment()), show.Text(cfg.Environment))
	}
	d := describe(v)
	service, unasked := cfg.askRunning()
	d.add(service)
	if c.Bool("json") {
		err = shell.JSON(c.App.Writer, d)
	} else {
		d.tell(c.App.Writer)
	}
	if err != nil {
		return err
	}
	if err := published(v); err != nil {
		return err
	}
	switch {
	case unasked != nil:
		return unasked
	case service == nil:
		fmt.Fprintln(c.App.ErrWriter, "hanaper-repo: note: no 'hanaper-repo serve' of this configuration runs: nothing is signed anew, and no new CRL is taken up")
	case len(d.Faults) > 0:
		f := d.Faults[0]
		return advice.New(advice.Failed, show.Line(f.Hint), "the running service cannot publish everything: since %s: %s", show.Text(f.Since), show.Line(f.Error))
	}
	return nil
}

// published holds what is published to what gateways ask of it now: none has expired, and of each CA that has a list it is one that they take.
func published(v *trust.View) error {
	if err := v.Valid(now()); err != nil {
		return err
	}
	for _, ca := range slices.Concat(v.Anchors(), v.Intermediates()) {
		if state, refused := listState(v, ca, now()); refused && state != noList {
			return advice.New(advice.Unverified, "is its hanaperd running, and does its CRL reach this machine? The officers can grant a grace, or freeze the list of a CA whose key is gone",
				"the CRL of %s has %s", show.Text(ca.Subject.String()), state)
		}
	}
	return nil
}

// tell shows it in tables.
func (d *statusDocument) tell(w io.Writer) {
	number := func(n int64) string { return strconv.FormatInt(n, 10) }
	shell.Table(w, []string{"environment", "good until", "root", "targets", "crl", "snapshot", "timestamp"}, [][]string{{
		d.Environment, d.Expires, number(d.Versions.Root), number(d.Versions.Targets), number(d.Versions.CRL), number(d.Versions.Snapshot), number(d.Versions.Timestamp)}})
	rows := [][]string{}
	for _, l := range d.CRLs {
		rows = append(rows, []string{l.Issuer, l.Number, strconv.Itoa(l.Entries), l.NextUpdate, l.State})
	}
	shell.Table(w, []string{"crl of", "number", "revoked", "next update", "state"}, rows)
	rows = nil
	for _, l := range d.Logs {
		rows = append(rows, []string{l.Origin, number(l.Size), l.Root})
	}
	if len(rows) > 0 {
		shell.Table(w, []string{"issuance log", "entries", "root"}, rows)
	}
	for _, f := range d.Faults {
		fmt.Fprintf(w, "not published since %s: %s\n  %s\n", show.Text(f.Since), show.Line(f.Error), show.Line(f.Hint))
	}
}

// add says what the running service says of itself; nil for none that runs.
func (d *statusDocument) add(service *running) {
	d.Faults = []fault{}
	if service == nil {
		return
	}
	d.Serving, d.Faults = true, append(d.Faults, service.Faults...)
	for _, f := range d.Faults {
		for i := range d.CRLs {
			if f.Number != "" && f.IssuerID == d.CRLs[i].IssuerID {
				d.CRLs[i].State = "not the newest: number " + show.Text(f.Number) + " is not published; this one: " + d.CRLs[i].State
			}
		}
	}
}

func describe(v *trust.View) statusDocument {
	f := v.Fingerprint()
	d := statusDocument{Environment: v.Environment(), Valid: v.Valid(now()) == nil, Expires: stamp(v.Expires()), Versions: v.Versions(),
		Fingerprint: hex.EncodeToString(f[:]), CRLs: []statusCRL{}, Logs: []statusLog{}}
	for _, ca := range slices.Concat(v.Anchors(), v.Intermediates()) {
		one := statusCRL{Issuer: ca.Subject.String(), IssuerID: trust.IssuerID(ca).String()}
		one.State, _ = listState(v, ca, now())
		if l, ok := v.CRL(ca); ok {
			one.Number, one.Entries, one.ThisUpdate, one.NextUpdate = l.Number.String(), l.Entries, stamp(l.ThisUpdate), stamp(l.NextUpdate)
		}
		d.CRLs = append(d.CRLs, one)
	}
	for _, l := range v.Logs() {
		d.Logs = append(d.Logs, statusLog{l.Origin, l.Size, base64.StdEncoding.EncodeToString(l.Root[:])})
	}
	return d
}
