package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/ceremony"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/term"
)

func ceremonyCommand() *cli.Command {
	return &cli.Command{
		Name:  "ceremony",
		Usage: "perform a reviewed script on tokens, under a quorum, and prove it afterwards",
		Subcommands: []*cli.Command{
			ceremonyNewCommand(), ceremonyCheckCommand(), ceremonyApproveCommand(), ceremonyRunCommand(),
			ceremonyRehearseCommand(), ceremonyResumeCommand(), ceremonyAbortCommand(), ceremonyVerifyCommand(), ceremonyStatusCommand(), ceremonySharesCommand(), ceremonyAttestCommand(),
			ceremonyPrintCommand(), ceremonyRecordCommand(), ceremonyDiffCommand(),
		},
	}
}

// thisTool is this program's version and the digest of its file, which approvals and transcripts name.
func thisTool() (ceremony.Tool, error) {
	path, err := os.Executable()
	if err != nil {
		return ceremony.Tool{}, err
	}
	f, err := input.Open(path)
	if err != nil {
		return ceremony.Tool{}, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return ceremony.Tool{}, err
	}
	return ceremony.Tool{Version: shell.Version, SHA256: hex.EncodeToString(h.Sum(nil))}, nil
}

// prompter asks at the terminal, or answers from a file where --answers names one.
func prompter(c *cli.Context) (p term.Prompter, fromFile bool, done func(), err error) {
	path := c.String("answers")
	if path == "" {
		return term.TTY(), false, func() {}, nil
	}
	f, err := input.Open(path)
	if err != nil {
		return nil, false, nil, advice.Wrap(advice.Usage, err, "name a file that holds one answer a line")
	}
	return term.Script(f), true, func() { f.Close() }, nil
}

var answersFlag = &cli.StringFlag{Name: "answers", Usage: "take answers from `FILE`, one a line; the transcript says so"}

const timeForm = "2006-01-02T15:04:05Z"

// assertedTime is the --time flag, or what the people present answer.
func assertedTime(c *cli.Context, p term.Prompter) (time.Time, error) {
	text := c.String("time")
	asked := text == "" && c.String("answers") == ""
	for {
		if c.String("time") == "" {
			var err error
			if text, err = p.Line(ceremony.AskTime); err != nil {
				return time.Time{}, err
			}
		}
		if _, err := time.Parse(timeForm, text); err == nil || !asked {
			break
		}
		fmt.Fprintf(c.App.ErrWriter, "%s is not a time. Write it in UTC, as 2026-11-21T09:00:00Z.\n", show.Text(text))
	}
	t, err := time.Parse(timeForm, text)
	if err != nil {
		return t, advice.New(advice.Usage, "write it in UTC, as 2026-11-21T09:00:00Z", "the time %q is not a date", text)
	}
	return t, nil
}

// readFile reads a file that a flag names.
func readFile(path string) ([]byte, error) {
	data, err := input.ReadFile(path)
	if err != nil {
		return nil, advice.Wrap(advice.Usage, err, "name a file that exists and that you may read")
	}
	return data, nil
}

func loadPlan(c *cli.Context, path string) (*ceremony.Plan, error) {
	s, err := ceremony.LoadScript(path)
	if err != nil {
		return nil, err
	}
	return s.Validate(c.Context)
}

func hexDigest(d [32]byte) string { return fmt.Sprintf("%x", d[:]) }
