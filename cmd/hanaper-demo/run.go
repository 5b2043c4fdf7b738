package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/softhsm"
)

// play is the demo's state: the stage, its tokens, and where the services are.
type play struct {
	*stage
	tokens   *softhsm.Store
	labels   []string // of the tokens to make
	boards   map[string]softhsm.Board
	now      time.Time
	roster   string // SHA-256 that the auditor was given
	factory  string // addresses
	repo     string
	gateway  string
	devices  string // the Uptane repositories, for the gateway
	admin    string // the same, for release engineers
	upstream *upstream
	hanaperd *server
	gate     *server
}

func runCommand() *cli.Command {
	return &cli.Command{
		Name: "run", Usage: "run the demo", Before: shell.NoArgs,
		Description: "With --keep the services go on after the last scene, with their addresses and what to try on the screen, until Ctrl-C.\n\n" +
			"Example: hanaper-demo run --bin bin --dir demo --keep",
		Flags: []cli.Flag{
			&cli.PathFlag{Name: "bin", Value: "bin", Usage: "`FOLDER` of the programs"},
			&cli.PathFlag{Name: "dir", Value: "demo", Usage: "`FOLDER` to play in; an earlier demo there is wiped"},
			&cli.BoolFlag{Name: "prepare", Usage: "end after the ceremony, without services: who installs packages sets those up himself"},
			&cli.BoolFlag{Name: "keep", Usage: "leave everything running at the end, until Ctrl-C"},
		},
		Action: func(c *cli.Context) error {
			s, err := newStage(c.Path("bin"), c.Path("dir"), c.App.Writer)
			if err != nil {
				return err
			}
			p := newPlay(s, "vin-0001", "vin-0002")
			defer p.close()
			if c.Bool("prepare") {
				return p.prepare(c.Context)
			}
			if err := p.perform(c.Context); err != nil || !c.Bool("keep") {
				return err
			}
			return p.keep(c.Context)
		},
	}
}

// newPlay is a demo with these devices, whose on-board HSMs are tokens too.
func newPlay(s *stage, devices ...string) *play {
	return &play{stage: s, boards: map[string]softhsm.Board{}, labels: slices.Concat(tokenLabels, devices), now: time.Now().UTC()}
}

// prepare plays the scenes before there are services.
func (p *play) prepare(ctx context.Context) error {
	fmt.Fprintf(p.out, "Hanaper, the whole chain, on throw-away SoftHSM tokens in %s\n", p.dir)
	for _, scene := range []func(context.Context) error{p.makeTokens, p.enrolOfficers, p.requestCertificates, p.holdCeremony, p.verifyCeremony} {
		if err := scene(ctx); err != nil {
			return err
		}
	}
	return nil
}

// perform plays the scenes in their order.
func (p *play) perform(ctx context.Context) error {
	if err := p.prepare(ctx); err != nil {
		return err
	}
	for _, scene := range []func(context.Context) error{
		p.startFactory,
		p.publishTrust, p.serveUptane, p.startGateway,
		p.enrolDevices, p.admitDevices, p.releaseSoftware, p.fetchSoftware,
		p.judge, p.refuseForeign, p.refuseRevoked, p.refuseTampered,
	} {
		if err := scene(ctx); err != nil {
			return err
		}
	}
	fmt.Fprintf(p.out, "\nDone in %.1f s. Look around in %s: ceremony/ has the artefacts and the transcript, *.log what the services said.\n",
		time.Since(p.started).Seconds(), p.dir)
	return nil
}
