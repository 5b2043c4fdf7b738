package main

import (
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/ceremony"
	"github.com/hanaper/hanaper/ceremony/machine"
	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/term"
	"github.com/hanaper/hanaper/quorum"
)

// performFlags are those of every verb that acts on tokens.
func performFlags() []cli.Flag {
	return []cli.Flag{
		officerFlag(),
		&cli.StringSliceFlag{Name: "custodian", Usage: "decryption `KEY` of a holder of shares present, as for --officer"},
		&cli.StringFlag{Name: "bindings", Usage: "module and PIN source of each token, a YAML `FILE`"},
		&cli.StringFlag{Name: "module", Usage: "PKCS#11 `LIBRARY` of tokens that the bindings do not name"},
		stateFlag, machineFlag, earlierAnchorFlag,
		&cli.StringFlag{Name: "time", Usage: "the asserted `TIME`, as 2026-11-21T09:00:00Z; asked for without"},
		answersFlag,
		noPauseFlag,
		&cli.BoolFlag{Name: "json", Usage: "print JSON"},
	}
}

func ceremonyRunCommand() *cli.Command {
	return &cli.Command{
		Name:        "run",
		Usage:       "perform a script on its tokens",
		Description: "Example:\n  hanaper ceremony run --out ceremony-1 --bindings bindings.yaml --officer ada.key --approval approval-ada.json --approval approval-grace.json script.yaml",
		ArgsUsage:   "SCRIPT",
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "out", Usage: "write artefacts and transcript into the new folder `DIR`", Required: true},
			&cli.StringSliceFlag{Name: "approval", Usage: "an officer's approval, a `FILE`; give one for each"},
		}, performFlags()...),
		Action: func(c *cli.Context) error {
			args, err := shell.Args(c, "SCRIPT")
			if err != nil {
				return err
			}
			return runCeremony(c, args[0])
		},
	}
}

func runCeremony(c *cli.Context, path string) error {
	plan, err := loadPlan(c, path)
	if err != nil {
		return err
	}
	config := ceremony.RunConfig{Plan: plan, Out: c.String("out")}
	for _, f := range c.StringSlice("approval") {
		data, err := readFile(f)
		if err != nil {
			return err
		}
		config.Approvals = append(config.Approvals, data)
	}
	if config.Anchor, err = anchorOf(c); err != nil {
		return err
	}
	if config.Tool, err = thisTool(); err != nil {
		return err
	}
	if err := ceremony.Ready(config, ceremony.Present{Signers: len(c.StringSlice("officer")), Holders: len(c.StringSlice("custodian"))}); err != nil {
		return err
	}
	return withPeople(c, &config, true, func(ask term.Prompter) error {
		if err := plan.Script().InWindow(config.Asserted); err != nil {
			return err
		}
		explain(c.App.ErrWriter, plan)
		fmt.Fprintf(c.App.ErrWriter, "\nThis program, %s, has the SHA-256\n  %s\n", show.Text(config.Tool.Version), show.Text(config.Tool.SHA256))
		if err := tellMemory(c.App.ErrWriter, config.Anchor.State); err != nil {
			return err
		}
		return words(ask, plan, ceremony.AskBegin)
	}, func(term.Prompter) error {
		result, err := ceremony.Run(c.Context, config)
		if err != nil {
			return err
		}
		return tellResult(c, result)
	})
}

// tellMemory says what the machine cannot know: it remembers nothing, or a file of what it remembers is damaged.
func tellMemory(w io.Writer, state machine.Store) error {
	empty, err := state.Empty()
	if err != nil {
		return err
	}
	damaged, err := state.Damaged()
	if err != nil {
		return err
	}
	if empty {
		fmt.Fprintln(w, "\n"+term.Wrap("This machine remembers no ceremony (state folder "+show.Text(state.Dir())+"). If this is not its first one, stop: nobody can exclude that these approvals were used before.", ""))
	}
	for _, d := range damaged {
		fmt.Fprintln(w, "\n"+term.Wrap("REMARK: what this machine remembers is damaged: "+show.Line(d.String())+". This ceremony is another one and can begin. Keep the file, and write its name into the record.", "  !!!!  "))
	}
	return nil
}

// words has the people compare the script's digest with what is printed, and asks.
func words(ask term.Prompter, plan *ceremony.Plan, question string) error {
	return yes(ask, "Read these words aloud and compare them with the printed script:\n"+aloud(quorum.Digest(plan.Script().Digest()))+"\n"+question)
}

// unlocked says why the process's memory is not locked; empty where it is.
var unlocked string

// withPeople completes config by what this machine and the people present say: tool, bindings, time, officers.
// Where the tokens are needed they must be there, before anybody types a secret.
func withPeople(c *cli.Context, config *ceremony.RunConfig, tokens bool, agree, act func(term.Prompter) error) error {
	ask, fromFile, done, err := prompter(c)
	if err != nil {
		return err
	}
	defer done()
	config.AnswersFromFile, config.Progress = fromFile, term.Stderr()
	if unlocked != "" {
		fmt.Fprintf(c.App.ErrWriter, "hanaper: memory is not locked: %s. PINs are, but other secrets may reach swap: turn swap off.\n", unlocked)
	}
	if config.Tool, err = thisTool(); err != nil {
		return err
	}
	if config.Platform, err = platformOf(c); err != nil {
		return err
	}
	b, err := loadBindings(c.String("bindings"), c.String("module"))
	if err != nil {
		return err
	}
	idle, err := b.fit(config.Plan.Script())
	if err != nil {
		return err
	}
	if len(idle) > 0 {
		fmt.Fprintf(c.App.ErrWriter, "hanaper: the bindings name tokens that the script does not have, and that stay unused: %s\n", show.List(idle))
	}
	if err := keysThere(append(c.StringSlice("officer"), c.StringSlice("custodian")...)); err != nil {
		return err
	}
	if tokens {
		if err := ceremony.Tokens(config.Plan.Script(), func(name string) ([]hsm.TokenInfo, error) { return b.list(c.Context, name) }); err != nil {
			return err
		}
	}
	people := &custodians{bindings: b, ask: ask, tell: c.App.ErrWriter}
	config.Open, config.Init, config.Custodians = b.opener(config.Plan.Script(), people), b.initialiser(), people
	if !fromFile {
		config.Remarks = remarks(c.App.ErrWriter, ask, config.Plan.Script().Sealed())
	}
	defer people.forget()
	config.Confirm = confirm(ask)
	config.Stop = (&stops{c.App.ErrWriter, ask, config.Progress, !fromFile && !c.Bool("no-pause")}).at
	if config.Asserted, err = assertedTime(c, ask); err != nil {
		return err
	}
	tellPlatform(c)
	if err := agree(ask); err != nil {
		return err
	}
	ring := &keyring{ask: ask}
	defer ring.close()
	if config.Officers, err = ring.open(c.Context, c.StringSlice("officer")); err != nil {
		return err
	}
	if people.keys, err = ring.open(c.Context, c.StringSlice("custodian")); err != nil {
		return err
	}
	return act(ask)
}

// tellEnd tells what people write down, and who has yet to sign.
func tellEnd(w io.Writer, r *ceremony.Result) {
	fmt.Fprintf(w, "checkpoint SHA-256 %s\n", show.Text(r.Checkpoint))
	for _, k := range r.Stays {
		fmt.Fprintf(w, "NOT REMOVED: %s is there still\n", show.Text(k))
	}
	if r.Missing > 0 {
		fmt.Fprintf(w, "performed, NOT attested: signatures of officers that are missing: %d. Have them run `hanaper ceremony attest` on the folder\n", r.Missing)
	}
}

func tellResult(c *cli.Context, r *ceremony.Result) error {
	if c.Bool("json") {
		return shell.JSON(c.App.Writer, r)
	}
	fmt.Fprintf(c.App.Writer, "\ndone: %d artefacts and a transcript of %d entries in %s, signed by %s\n", len(r.Artefacts), r.Entries, show.Text(r.Out), show.List(r.Officers))
	tellEnd(c.App.Writer, r)
	for _, v := range r.Values() {
		if ends, ok := v.Ends(); ok {
			v.Value = ends
		}
		fmt.Fprintf(c.App.Writer, "%s: %s\n", show.Line(v.Label), show.Line(v.Value))
	}
	return nil
}

// remarks asks the people present what to record; an empty line ends the list.
func remarks(w io.Writer, ask term.Prompter, sealed []ceremony.Value) func(when string) ([]ceremony.Remark, error) {
	questions := map[string][][2]string{
		ceremony.AtBegin: {{"present", ceremony.AskPresent}, {"seal", ceremony.AskSeal}},
		ceremony.AtEnd:   {{"exception", ceremony.AskException}, {"deviation", ceremony.AskDeviation}},
	}
	return func(when string) ([]ceremony.Remark, error) {
		var list []ceremony.Remark
		for _, q := range questions[when] {
			if q[0] == "seal" {
				fmt.Fprintln(w, "Bags and seals as the script expects them:")
				for _, v := range sealed {
					fmt.Fprintln(w, show.Lines(hanging(show.Line(v.Label), show.Line(v.Value))))
				}
			}
			for {
				text, err := ask.Line(q[1])
				if err != nil {
					return nil, err
				}
				if text == "" {
					break
				}
				list = append(list, ceremony.Remark{About: q[0], Text: text})
			}
		}
		return list, nil
	}
}
