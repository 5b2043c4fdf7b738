package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/ceremony"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/term"
)

func ceremonyResumeCommand() *cli.Command {
	return &cli.Command{
		Name:        "resume",
		Usage:       "go on with a run that was cut short",
		Description: "Example:\n  hanaper ceremony resume --bindings bindings.yaml --officer ada.key ceremony-1",
		ArgsUsage:   "DIR",
		Flags:       performFlags(),
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
	plan, approvals, err := ceremony.Unfinished(c.Context, out)
	if err != nil {
		return err
	}
	config := ceremony.RunConfig{Plan: plan, Out: out, Approvals: approvals}
	return withPeople(c, &config, func(ask term.Prompter) error {
		return yes(ask, fmt.Sprintf("Go on with ceremony %s where its journal ends? Type Yes: ", plan.Script().Ceremony()))
	}, func(term.Prompter) error {
		result, err := ceremony.Resume(c.Context, config)
		if err != nil {
			return err
		}
		return tellResult(c, result)
	})
}

func ceremonyAbortCommand() *cli.Command {
	return &cli.Command{
		Name:        "abort",
		Usage:       "end a run that was cut short: remove only the keys that it made, and sign its transcript",
		Description: "Example:\n  hanaper ceremony abort --reason \"power failed, HSM did not come back\" --bindings bindings.yaml --officer ada.key ceremony-1",
		ArgsUsage:   "DIR",
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "reason", Usage: "why, for the transcript", Required: true},
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
	plan, approvals, err := ceremony.Unfinished(c.Context, out)
	if err != nil {
		return err
	}
	config := ceremony.AbortConfig{RunConfig: ceremony.RunConfig{Plan: plan, Out: out, Approvals: approvals}, Reason: c.String("reason")}
	return withPeople(c, &config.RunConfig, func(term.Prompter) error { return nil }, func(ask term.Prompter) error {
		config.Agree = func(a ceremony.Aborting) error {
			fmt.Fprintf(c.App.ErrWriter, "This will be removed: %s.\n", list(a.Destroys))
			fmt.Fprintf(c.App.ErrWriter, "This cannot be undone: %s.\n", list(a.Remains))
			return yes(ask, "Type Yes to abort the ceremony: ")
		}
		result, err := ceremony.Abort(c.Context, config)
		if err != nil {
			return err
		}
		fmt.Fprintf(c.App.Writer, "aborted: the transcript in %s is closed and signed by %s\n", result.Out, strings.Join(result.Officers, ", "))
		return nil
	})
}

func list(items []string) string {
	if len(items) == 0 {
		return "nothing"
	}
	return strings.Join(items, "; ")
}

// confirm asks the people present to agree to what cannot be undone.
func confirm(ask term.Prompter) func(string) error {
	return func(what string) error { return yes(ask, term.Wrap(what, "")+"\n"+ceremony.AskYes) }
}

// yes asks for the exact word.
func yes(ask term.Prompter, question string) error {
	answer, err := ask.Line(question)
	if err != nil {
		return err
	}
	if answer != "Yes" {
		return advice.New(advice.Refused, "", "nothing was done: the answer was not Yes")
	}
	return nil
}
