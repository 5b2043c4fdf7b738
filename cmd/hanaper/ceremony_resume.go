package main

import (
	"fmt"
	"io"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/ceremony"
	"github.com/hanaper/hanaper/ceremony/machine"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/term"
)

func ceremonyResumeCommand() *cli.Command {
	return &cli.Command{
		Name:        "resume",
		Usage:       "go on with a run that was cut short",
		Description: "Example:\n  hanaper ceremony resume --bindings bindings.yaml --officer ada.key ceremony-1",
		ArgsUsage:   "DIR",
		Flags:       append([]cli.Flag{rosterAnchorFlag, transcriptAnchorFlag}, performFlags()...),
		Action: func(c *cli.Context) error {
			args, err := shell.Args(c, "DIR")
			if err != nil {
				return err
			}
			return resume(c, args[0])
		},
	}
}

func resume(c *cli.Context, out string) error {
	anchor, err := anchorOf(c)
	if err != nil {
		return err
	}
	st, err := ceremony.Unfinished(c.Context, out, anchor)
	if err != nil {
		return err
	}
	config := ceremony.RunConfig{Plan: st.Plan, Out: out, Approvals: st.Approvals, Anchor: anchor}
	if err := readyToGoOn(c, st, false); err != nil {
		return err
	}
	return withPeople(c, &config, true, func(ask term.Prompter) error {
		if err := st.NotBefore(config.Asserted); err != nil {
			return err
		}
		if len(st.Ahead) > 0 {
			if err := st.Plan.Script().InWindow(config.Asserted); err != nil {
				return err
			}
		}
		w := c.App.ErrWriter
		tellStanding(w, st)
		fmt.Fprintln(w, "These steps are still to be done; the first of them may be half done:")
		for _, s := range st.Ahead {
			fmt.Fprintf(w, "  %d. %s\n", s.Number, show.Line(s.Describe))
		}
		if len(st.Ahead) == 0 {
			fmt.Fprintln(w, "  none: only the transcript is to be signed")
		}
		if st.By == machine.ByRoster {
			return words(ask, st.Plan, "Type Yes to go on where its journal ends: ")
		}
		return yes(ask, fmt.Sprintf("Go on with ceremony %s where its journal ends? Type Yes: ", st.Plan.Script().Ceremony()))
	}, func(term.Prompter) error {
		result, err := ceremony.Resume(c.Context, config)
		if err != nil {
			return err
		}
		return tellResult(c, result)
	})
}

// readyToGoOn checks what needs no secret.
func readyToGoOn(c *cli.Context, st *ceremony.Standing, abort bool) error {
	tool, err := thisTool()
	if err != nil {
		return err
	}
	return st.Ready(tool, len(c.StringSlice("officer")), abort)
}

// meant asks for the date again where it is long after the last entry.
func meant(ask term.Prompter, st *ceremony.Standing, asserted time.Time) error {
	days, long := st.LongAfter(asserted)
	if !long {
		return nil
	}
	answer, err := ask.Line(fmt.Sprintf("That is %d days after the transcript's last entry, and no later ceremony can be held before it.\nType the date again, as 2026-11-21: ", days))
	if err != nil {
		return err
	}
	if answer != asserted.UTC().Format(time.DateOnly) {
		return advice.New(advice.Refused, "begin again, and read the time aloud", "nothing was done: the two dates differ")
	}
	return nil
}

// tellStanding says against what the folder was held, and what that cannot exclude.
func tellStanding(w io.Writer, st *ceremony.Standing) {
	s := st.Plan.Script()
	if st.By == machine.ByRun {
		fmt.Fprintf(w, "Ceremony %s for environment %s: the folder is the one that this machine wrote last, with %d entries.\n", show.Text(s.Ceremony()), show.Text(s.Environment()), st.Entries)
		return
	}
	fmt.Fprintf(w, "Ceremony %s for environment %s, with %d entries. This machine does NOT remember it. The roster is that of the digest given.\nThese things cannot be excluded:\n", show.Text(s.Ceremony()), show.Text(s.Environment()), st.Entries)
	for _, d := range st.Doubts {
		fmt.Fprintf(w, "  - %s\n", d)
	}
	fmt.Fprintln(w, "Ask those who were there before you go on.")
}

func ceremonyAbortCommand() *cli.Command {
	return &cli.Command{
		Name:        "abort",
		Usage:       "end a run that was cut short: remove only the keys that it made, and sign its transcript",
		Description: "Example:\n  hanaper ceremony abort --reason \"power failed, HSM did not come back\" --bindings bindings.yaml --officer ada.key ceremony-1",
		ArgsUsage:   "DIR",
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "reason", Usage: "why, for the transcript", Required: true},
			rosterAnchorFlag, transcriptAnchorFlag,
		}, performFlags()...),
		Action: func(c *cli.Context) error {
			args, err := shell.Args(c, "DIR")
			if err != nil {
				return err
			}
			return abort(c, args[0])
		},
	}
}

func abort(c *cli.Context, out string) error {
	anchor, err := anchorOf(c)
	if err != nil {
		return err
	}
	st, err := ceremony.Abandoned(out, anchor)
	if err != nil {
		return err
	}
	config := ceremony.AbortConfig{RunConfig: ceremony.RunConfig{Plan: st.Plan, Out: out, Approvals: st.Approvals, Anchor: anchor}, Reason: c.String("reason")}
	if err := ceremony.CheckReason(config.Reason); err != nil {
		return err
	}
	if err := readyToGoOn(c, st, true); err != nil {
		return err
	}
	return withPeople(c, &config.RunConfig, false, func(ask term.Prompter) error {
		if err := st.NotBefore(config.Asserted); err != nil {
			return err
		}
		if err := meant(ask, st, config.Asserted); err != nil {
			return err
		}
		w := c.App.ErrWriter
		tellStanding(w, st)
		list(w, "This will be removed", st.Aborting.Destroys)
		list(w, "This cannot be undone", st.Aborting.Remains)
		if st.By == machine.ByRoster {
			return words(ask, st.Plan, "Type Yes to abort the ceremony: ")
		}
		return yes(ask, "Type Yes to abort the ceremony: ")
	}, func(ask term.Prompter) error {
		config.Agree = func(x ceremony.Aborting) error {
			if x.Wrong == "" {
				return nil
			}
			fmt.Fprintf(c.App.ErrWriter, "The transcript is not what the script leads to:\n  - %s\n", show.Line(x.Wrong))
			list(c.App.ErrWriter, "This will be removed", x.Destroys)
			return yes(ask, "Type Yes to abort the ceremony all the same: ")
		}
		config.Leave = func(key string, why error) error {
			fmt.Fprintf(c.App.ErrWriter, "The %s cannot be removed:\n  %s\nYes writes that it stays there; anything else stops, and abort can be tried again.\n", show.Line(key), show.Line(why.Error()))
			return yes(ask, "Type Yes to leave it: ")
		}
		result, err := ceremony.Abort(c.Context, config)
		if err != nil {
			return err
		}
		fmt.Fprintf(c.App.Writer, "aborted: the transcript in %s is closed and signed by %s\n", show.Text(result.Out), show.List(result.Officers))
		tellEnd(c.App.Writer, result)
		return nil
	})
}

// list shows items below one another.
func list(w io.Writer, what string, items []string) {
	if len(items) == 0 {
		items = []string{"nothing"}
	}
	fmt.Fprintf(w, "%s:\n", what)
	for _, item := range items {
		fmt.Fprintf(w, "  - %s\n", show.Line(item))
	}
}

// confirm asks the people present to agree to what cannot be undone.
func confirm(ask term.Prompter) func(string) error {
	return func(what string) error { return yes(ask, term.Wrap(what, "")+"\n"+ceremony.AskYes) }
}

// yes asks for the exact word.
func yes(ask term.Prompter, question string) error {
	answer, err := ask.Line(show.Lines(question))
	if err != nil {
		return err
	}
	if answer != "Yes" {
		return advice.New(advice.Refused, "", "nothing was done: the answer was not Yes")
	}
	return nil
}
