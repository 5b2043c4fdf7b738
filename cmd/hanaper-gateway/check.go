package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/gateway"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/show"
)

func checkCommand() *cli.Command {
	config := configFlag()
	config.Required = true
	return &cli.Command{
		Name:  "check",
		Usage: "check the config, the TLS files and the trust source, and change nothing",
		Description: "Trust is looked at as a new gateway would: what this one has seen earlier is not taken into account. With --kept nothing else is:\n" +
			"the versions that this gateway holds are what a publisher that lost its folder is held against ('hanaper-repo restore').\n\n" +
			"Example:\n  hanaper-gateway check --config gateway.yaml\n  hanaper-gateway check --config gateway.yaml --kept",
		Flags:  []cli.Flag{config, jsonFlag(), &cli.BoolFlag{Name: "kept", Usage: "say which versions of the trust repository this gateway keeps, and look at nothing else; it may be running"}},
		Before: shell.NoArgs,
		Action: check,
	}
}

func check(c *cli.Context) error {
	settings, err := gateway.LoadSettings(c.String("config"))
	if err != nil {
		return err
	}
	if c.Bool("kept") {
		return tellKept(c, settings)
	}
	if err := settings.CheckFiles(time.Now()); err != nil {
		return err
	}
	var reports []gateway.Assessment
	for _, e := range settings.Environments() {
		report, err := checkTrust(c, e)
		if err != nil && len(settings.Environments()) > 1 {
			return fmt.Errorf("%s: %w", show.Text(e.Name()), err)
		} else if err != nil {
			return err
		}
		reports = append(reports, report)
	}
	if c.Bool("json") {
		if len(reports) == 1 {
			return shell.JSON(c.App.Writer, reports[0])
		}
		return shell.JSON(c.App.Writer, map[string]any{"environments": reports})
	}
	for _, report := range reports {
		fmt.Fprintf(c.App.Writer, "environment %s, trust good until %s\n", show.Text(report.Environment), report.Expires.Format(time.RFC3339))
		if len(report.Names) > 0 {
			fmt.Fprintf(c.App.Writer, "devices call it %s\n", show.Text(strings.Join(report.Names, ", ")))
		}
		var rows [][]string
		for _, a := range report.Authorities {
			rows = append(rows, []string{a.Subject, a.NotAfter.Format(time.RFC3339), a.CRL, a.State})
		}
		shell.Table(c.App.Writer, []string{"CA", "not after", "next CRL due", "state"}, rows)
	}
	return nil
}

func tellKept(c *cli.Context, settings *gateway.Settings) error {
	var list []gateway.KeptTrust
	for _, e := range settings.Environments() {
		kept, err := e.KeptTrust()
		if err != nil {
			return fmt.Errorf("%s: %w", show.Text(e.Name()), err)
		}
		list = append(list, kept)
	}
	if c.Bool("json") {
		return shell.JSON(c.App.Writer, map[string]any{"environments": list})
	}
	var rows [][]string
	for _, k := range list {
		state := "kept"
		if k.Behind {
			state = "something newer was in force, and could not be kept"
		}
		v := k.Versions
		rows = append(rows, []string{k.Environment, fmt.Sprint(v.Timestamp), fmt.Sprint(v.Snapshot), fmt.Sprint(v.CRL), fmt.Sprint(v.Targets), fmt.Sprint(v.Root), k.Expires.Format(time.RFC3339), state})
	}
	shell.Table(c.App.Writer, []string{"environment", "timestamp", "snapshot", "crl", "targets", "root", "good until", "state"}, rows)
	return nil
}

func checkTrust(c *cli.Context, e *gateway.EnvironmentSettings) (gateway.Assessment, error) {
	view, err := e.LookAtTrust(c.Context, time.Now)
	if err != nil {
		if advice.Hint(err) == "" {
			err = advice.Wrap(advice.KindOf(err), err, "is trust.source right, and does 'hanaper-repo serve' run there? 'hanaper-repo status' shows what it publishes")
		}
		return gateway.Assessment{}, err
	}
	return e.Assess(view, time.Now())
}
