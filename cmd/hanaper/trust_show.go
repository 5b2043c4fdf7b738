package main

import (
	"crypto/x509"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/trust"
)

// trustDocument is what status and show print for programs.
type trustDocument struct {
	Environment string    `json:"environment"`
	Root        string    `json:"root"`
	Previous    int64     `json:"previous_version"`
	Version     int64     `json:"version"`
	Digest      string    `json:"digest"`
	Expires     string    `json:"expires"`
	RootExpires string    `json:"root_expires"`
	Threshold   int       `json:"threshold"`
	Signed      []string  `json:"signed"`
	Missing     []string  `json:"missing"`
	Complete    bool      `json:"complete"`
	Changes     []string  `json:"changes"`
	CAs         []trustCA `json:"cas,omitempty"`
	Says        []string  `json:"says,omitempty"`
}

type trustCA struct {
	Kind    string `json:"kind"`
	ID      string `json:"id"`
	Subject string `json:"subject"`
	Until   string `json:"until"`
}

func trustStatusCommand() *cli.Command {
	return &cli.Command{
		Name: "status", Usage: "versions, who has signed, who is missing, and what expires when", ArgsUsage: "WORK",
		Description: "Example:\n  hanaper trust status work",
		Flags:       []cli.Flag{rootPinFlag(false), jsonFlag, uptaneTimeFlag},
		Action:      func(c *cli.Context) error { return tellTrust(c, false) },
	}
}

func trustShowCommand() *cli.Command {
	return &cli.Command{
		Name: "show", Usage: "show the draft: what it changes, and all that it says", ArgsUsage: "WORK",
		Description: "Example:\n  hanaper trust show --root 1.root.json work",
		Flags:       []cli.Flag{rootPinFlag(false), jsonFlag, uptaneTimeFlag},
		Action:      func(c *cli.Context) error { return tellTrust(c, true) },
	}
}

func tellTrust(c *cli.Context, all bool) error {
	args, pin, now, err := trustArgs(c, "WORK")
	if err != nil {
		return err
	}
	w, err := viewWork(args[0], pin, now)
	if err != nil {
		return err
	}
	d := describeTrust(w, all)
	if c.Bool("json") {
		return shell.JSON(c.App.Writer, d)
	}
	if all {
		tellDraft(c.App.Writer, w)
		rows := [][]string{}
		for _, ca := range d.CAs {
			rows = append(rows, []string{ca.Kind, ca.ID, ca.Subject, ca.Until})
		}
		shell.Table(c.App.Writer, []string{"ca", "id", "subject", "until"}, rows)
		for _, line := range d.Says {
			fmt.Fprintf(c.App.Writer, "  %s\n", show.Line(line))
		}
		return nil
	}
	rows := [][]string{}
	for _, id := range d.Signed {
		rows = append(rows, []string{id, "signed"})
	}
	for _, id := range d.Missing {
		rows = append(rows, []string{id, "-"})
	}
	fmt.Fprintf(c.App.Writer, "environment %s: version %d after version %d in force, good until %s\ndigest %s\n", show.Text(d.Environment), d.Version, d.Previous, show.Text(d.Expires), show.Text(d.Digest))
	shell.Table(c.App.Writer, []string{"key", "signature"}, rows)
	tellClock(c.App.Writer, w, now)
	tellSignatures(c.App.Writer, w, now)
	return nil
}

func describeTrust(w *work, all bool) trustDocument {
	prev, next, s := w.draft.Previous(), w.draft.Next(), w.draft.Standing()
	d := trustDocument{Environment: prev.Environment(), Root: w.pin.String(), Previous: prev.TargetsVersion(), Version: w.draft.Version(), Digest: hexDigest(w.draft.Digest()),
		Expires: stampOf(w.draft.Expires()), RootExpires: stampOf(prev.RootExpires()), Threshold: s.Threshold, Complete: s.Met(),
		Signed: append([]string{}, s.Signed...), Missing: append([]string{}, s.Missing...), Changes: append([]string{}, trust.Changes(prev, next)...)}
	if !all {
		return d
	}
	for _, list := range []struct {
		kind  string
		certs []*x509.Certificate
	}{{"anchor", next.Anchors()}, {"issuing CA", next.Intermediates()}} {
		for _, c := range list.certs {
			d.CAs = append(d.CAs, trustCA{list.kind, trust.IssuerID(c).String(), c.Subject.String(), stampOf(c.NotAfter)})
		}
	}
	for _, line := range trust.Changes(nil, next) {
		d.Says = append(d.Says, strings.TrimPrefix(line, "+ "))
	}
	return d
}
