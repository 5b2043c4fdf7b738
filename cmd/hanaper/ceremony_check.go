package main

import (
	"fmt"
	"io"
	"sort"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/ceremony"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/term"
	"github.com/hanaper/hanaper/quorum"
)

func ceremonyCheckCommand() *cli.Command {
	return &cli.Command{
		Name:        "check",
		Usage:       "say everything that can be known about a script before a token is touched",
		Description: "Example:\n  hanaper ceremony check script.yaml",
		ArgsUsage:   "SCRIPT",
		Flags:       []cli.Flag{&cli.BoolFlag{Name: "json", Usage: "print JSON"}},
		Action: func(c *cli.Context) error {
			args, err := shell.Args(c, "SCRIPT")
			if err != nil {
				return err
			}
			plan, err := loadPlan(c, args[0])
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return shell.JSON(c.App.Writer, checkJSON(plan))
			}
			explain(c.App.Writer, plan)
			return nil
		},
	}
}

type checkReport struct {
	Ceremony    string                 `json:"ceremony"`
	Environment string                 `json:"environment"`
	Script      string                 `json:"script_sha256"`
	Words       string                 `json:"words"`
	Roster      string                 `json:"roster_sha256"`
	Threshold   int                    `json:"threshold"`
	Steps       []ceremony.PlannedStep `json:"steps"`
	Outputs     []string               `json:"outputs"`
	Warnings    []string               `json:"warnings"`
	Signatures  map[string]int         `json:"signatures"`
	Backups     []ceremony.OpenedBy    `json:"backups"`
}

func checkJSON(p *ceremony.Plan) checkReport {
	s := p.Script()
	d := quorum.Digest(s.Digest())
	return checkReport{s.Ceremony(), s.Environment(), d.String(), d.Words(), hexDigest(p.Roster().Digest()), p.Roster().Threshold(),
		p.Steps, p.Outputs, p.Warnings, p.Signatures, p.Backups()}
}

// aloud is a digest in words, four a line.
func aloud(d quorum.Digest) string { return term.InColumns(d.Words(), 4, "    ") }

// showBackups says which backups the officers of a roster can open, and warns.
func showBackups(w io.Writer, list []ceremony.OpenedBy) {
	tableOfBackups(w, list)
	for _, b := range list {
		if warning := b.Warning(); warning != "" {
			fmt.Fprintf(w, "\n%s\n", term.Wrap("WARNING: "+warning, "  !!!!  "))
		}
	}
}

// tableOfBackups says which backups the officers of a roster can open.
func tableOfBackups(w io.Writer, list []ceremony.OpenedBy) {
	if len(list) == 0 {
		return
	}
	var rows [][]string
	for _, b := range list {
		state := "yes"
		switch {
		case b.ReplacedBy != "":
			state = "replaced by " + show.Text(b.ReplacedBy)
		case !b.Opens():
			state = "NO"
		}
		rows = append(rows, []string{show.Text(b.Backup), show.Text(b.Key), fmt.Sprintf("%d of %s", b.Threshold, show.List(b.Holders)), orDash(show.List(b.Living)), state})
	}
	fmt.Fprintln(w, "\nBackups, and who of the roster can open them:")
	shell.Table(w, []string{"backup", "of key", "opens with", "in the roster", "opens"}, rows)
}

func explain(w io.Writer, p *ceremony.Plan) {
	s := p.Script()
	from, until := s.Window()
	fmt.Fprintln(w, term.Wrap(fmt.Sprintf("Ceremony %s for environment %s, to be held between %s and %s (UTC).", s.Ceremony(), s.Environment(),
		from.Format("2006-01-02 15:04:05"), until.Format("2006-01-02 15:04:05")), ""))
	fmt.Fprintf(w, "It needs approvals of %d officers of the roster\n  %x\n", p.Roster().Threshold(), p.Roster().Digest())
	for _, st := range p.Steps {
		fmt.Fprintf(w, "\n%3d. %s\n", st.Number, show.Line(st.Kind))
		showStep(w, p.View(st.Number))
	}
	fmt.Fprintf(w, "\nIt will write %d artefacts and make these signatures:\n", len(p.Outputs))
	var rows [][]string
	for k, n := range p.Signatures {
		rows = append(rows, []string{k, fmt.Sprint(n)})
	}
	sort.Slice(rows, func(i, j int) bool { return rows[i][0] < rows[j][0] })
	shell.Table(w, []string{"key", "signatures"}, rows)
	showBackups(w, p.Backups())
	for _, warning := range p.Warnings {
		fmt.Fprintf(w, "\n%s\n", term.Wrap("WARNING: "+warning, "  !!!!  "))
	}
	showRemarks(w, p.Remarks())
	d := quorum.Digest(s.Digest())
	fmt.Fprintf(w, "\nThe script's SHA-256 is\n  %s\nread aloud:\n%s\n", d, aloud(d))
}
