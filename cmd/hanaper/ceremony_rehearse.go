package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/ceremony"
	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/term"
	"github.com/hanaper/hanaper/quorum"
	"github.com/hanaper/hanaper/softhsm"
)

func ceremonyRehearseCommand() *cli.Command {
	return &cli.Command{
		Name:        "rehearse",
		Usage:       "perform the same script, byte for byte, on throw-away tokens; nothing of it can be used",
		Description: "Example:\n  hanaper ceremony rehearse --out rehearsal script.yaml",
		ArgsUsage:   "SCRIPT",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "out", Usage: "write the marked result into the new folder `DIR`", Required: true},
			&cli.StringFlag{Name: "time", Usage: "the asserted `TIME`, as 2026-11-21T09:00:00Z; asked for without"},
			answersFlag,
			noPauseFlag,
			&cli.BoolFlag{Name: "json", Usage: "print JSON"},
		},
		Action: func(c *cli.Context) error {
			args, err := shell.Args(c, "SCRIPT")
			if err != nil {
				return err
			}
			return rehearse(c, args[0])
		},
	}
}

func rehearse(c *cli.Context, path string) error {
	plan, err := loadPlan(c, path)
	if err != nil {
		return err
	}
	ask, fromFile, done, err := prompter(c)
	if err != nil {
		return err
	}
	defer done()
	config := ceremony.RunConfig{Plan: plan, Out: c.String("out"), Rehearsal: true, AnswersFromFile: fromFile, Progress: term.Stderr()}
	if config.Tool, err = thisTool(); err != nil {
		return err
	}
	if config.Asserted, err = assertedTime(c, ask); err != nil {
		return err
	}
	explain(c.App.ErrWriter, plan)
	d := quorum.Digest(plan.Script().Digest())
	if err := yes(ask, "This is a REHEARSAL. Read these words aloud and compare them with the printed script:\n"+aloud(d)+"\n"+ceremony.AskBegin); err != nil {
		return err
	}
	p, err := newProps(plan.Script())
	if err != nil {
		return err
	}
	defer p.close()
	config.Open, config.Init, config.Custodians = p.open, p.init, p
	config.Confirm = confirm(ask)
	config.Stop = (&stops{c.App.ErrWriter, ask, config.Progress, !fromFile && !c.Bool("no-pause")}).at
	result, err := ceremony.Run(c.Context, config)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return shell.JSON(c.App.Writer, result)
	}
	fmt.Fprintf(c.App.Writer, "\nrehearsed: %d entries, %d artefacts, all marked, in %s\n", result.Entries, len(result.Artefacts), show.Text(result.Out))
	return nil
}

// props are the throw-away tokens that stand in for a script's.
type props struct {
	dir    string
	store  *softhsm.Store
	module string
	boards map[string]softhsm.Board
	pins   map[string][]byte
}

func newProps(s *ceremony.Script) (*props, error) {
	dir, err := os.MkdirTemp("", "hanaper-rehearsal-")
	if err != nil {
		return nil, err
	}
	p := &props{dir: dir, boards: map[string]softhsm.Board{}, pins: map[string][]byte{}}
	if p.store, err = softhsm.New(filepath.Join(dir, "tokens")); err == nil {
		err = p.store.Use()
	}
	if err == nil {
		p.module, err = softhsm.Module()
	}
	for _, t := range s.TokenNames() {
		if err != nil || s.Initialises(t) {
			continue
		}
		p.boards[t], err = p.store.Create(s.TokenURI(t).Token)
	}
	if err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *props) close() {
	if p.store != nil {
		_ = p.store.Destroy()
	}
	_ = os.RemoveAll(p.dir)
}

func (p *props) open(ctx context.Context, name string, uri hsm.URI, _ hsm.PINSource) (hsm.Token, error) {
	c := pkcs11.Config{Module: p.module, URI: hsm.URI{Token: uri.Token}, PIN: hsm.PINBytes(p.pins[name+" user"])}
	if b, ok := p.boards[name]; ok {
		c.URI.Serial, c.PIN = b.Serial, hsm.PINFile(b.PINFile)
	}
	t, err := pkcs11.Open(ctx, c)
	if err != nil {
		return nil, err
	}
	return t, nil
}

func (p *props) init(ctx context.Context, name string, uri hsm.URI, so, user []byte) (hsm.TokenInfo, error) {
	return pkcs11.Init(ctx, p.module, "", uri.Token, so, user)
}

// Secret and Test are never asked for: nobody's card is at a rehearsal.
func (p *props) Secret(context.Context, *quorum.Shares) (*quorum.Secret, error) {
	return nil, fmt.Errorf("no card is at a rehearsal")
}

func (p *props) Test(context.Context, *quorum.Shares) error { return nil }

// PIN gives a throw-away PIN.
func (p *props) PIN(ctx context.Context, token, which string, info hsm.TokenInfo) ([]byte, error) {
	if b, ok := p.boards[token]; ok && which == "so" {
		return hsm.PINFile(b.SOPINFile)(ctx, info)
	}
	key := token + " " + which
	if p.pins[key] == nil {
		raw := make([]byte, 8)
		if _, err := rand.Read(raw); err != nil {
			return nil, err
		}
		p.pins[key] = []byte(hex.EncodeToString(raw))
	}
	return []byte(string(p.pins[key])), nil
}
