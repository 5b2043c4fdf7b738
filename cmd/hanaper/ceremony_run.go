package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/ceremony"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/term"
	"github.com/hanaper/hanaper/quorum"
)

func ceremonyRunCommand() *cli.Command {
	return &cli.Command{
		Name:      "run",
		Usage:     "perform a script on its tokens",
		ArgsUsage: "SCRIPT",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "out", Usage: "write artefacts and transcript into the new folder `DIR`", Required: true},
			officerFlag(),
			&cli.StringSliceFlag{Name: "approval", Usage: "an officer's approval, a `FILE`; give one for each"},
			&cli.StringFlag{Name: "bindings", Usage: "module and PIN source of each token, a YAML `FILE`"},
			&cli.StringFlag{Name: "module", Usage: "PKCS#11 `LIBRARY` of tokens that the bindings do not name"},
			&cli.StringFlag{Name: "time", Usage: "the asserted `TIME`, as 2026-11-21T09:00:00Z; asked for without"},
			&cli.StringFlag{Name: "state", Usage: "`DIR` that remembers used nonces", EnvVars: []string{"HANAPER_STATE"}},
			answersFlag,
			&cli.BoolFlag{Name: "json", Usage: "print JSON"},
		},
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
	ask, fromFile, done, err := prompter(c)
	if err != nil {
		return err
	}
	defer done()
	config := ceremony.RunConfig{Plan: plan, Out: c.String("out"), AnswersFromFile: fromFile, Progress: term.Stderr()}
	if config.Tool, err = thisTool(); err != nil {
		return err
	}
	for _, f := range c.StringSlice("approval") {
		data, err := readFile(f)
		if err != nil {
			return err
		}
		config.Approvals = append(config.Approvals, data)
	}
	b, err := loadBindings(c.String("bindings"), c.String("module"))
	if err != nil {
		return err
	}
	if err := b.fit(plan.Script()); err != nil {
		return err
	}
	config.Open = b.opener(ask)
	if config.UseNonce, err = nonceFolder(c.String("state")); err != nil {
		return err
	}
	if config.Asserted, err = assertedTime(c, ask); err != nil {
		return err
	}
	explain(c.App.ErrWriter, plan)
	d := quorum.Digest(plan.Script().Digest())
	answer, err := ask.Line(fmt.Sprintf("Read these words aloud and compare them with the printed script:\n  %s\nType Yes to begin: ", d.Words()))
	if err != nil {
		return err
	}
	if answer != "Yes" {
		return advice.New(advice.Refused, "", "not begun: the answer was not Yes")
	}
	keys, closer, err := openOfficer(c.Context, c.StringSlice("officer"), ask)
	if err != nil {
		return err
	}
	defer closer()
	config.Officers = keys
	result, err := ceremony.Run(c.Context, config)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return shell.JSON(c.App.Writer, result)
	}
	fmt.Fprintf(c.App.Writer, "\ndone: %d artefacts and a transcript of %d entries in %s, signed by %v\n", len(result.Artefacts), result.Entries, result.Out, result.Officers)
	fmt.Fprintf(c.App.Writer, "checkpoint SHA-256 %s\n", result.Checkpoint)
	return nil
}

// nonceFolder remembers on this machine which approvals were used.
func nonceFolder(dir string) (func(nonce string) error, error) {
	if dir == "" {
		base := os.Getenv("XDG_STATE_HOME")
		if base == "" {
			home, err := os.UserHomeDir()
			if err != nil {
				return nil, advice.Wrap(advice.Usage, err, "name a folder with --state")
			}
			base = filepath.Join(home, ".local", "state")
		}
		dir = filepath.Join(base, "hanaper")
	}
	return func(nonce string) error {
		folder := filepath.Join(dir, "nonces")
		if err := durable.Mkdir(folder, 0o700); err != nil {
			return err
		}
		err := durable.Create(filepath.Join(folder, nonce), []byte("used\n"), 0o600)
		if errors.Is(err, fs.ErrExist) {
			return advice.New(advice.Refused, "have the officers approve anew", "rule %s: these approvals were used on this machine before", ceremony.RuleQuorum.ID)
		}
		return err
	}, nil
}
