package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/trust"
	"github.com/hanaper/hanaper/trust/feed"
)

// Pin is the root that the gateway's trust starts from: a digest, or the digest of a root.json.
func (e *EnvironmentSettings) Pin() (trust.Pin, error) { return readPin(e.trust.Root, e.pin) }

func readPin(path, digest string) (trust.Pin, error) {
	if digest != "" {
		return trust.ParsePin(digest)
	}
	data, err := input.ReadFile(path)
	if err != nil {
		return trust.Pin{}, advice.New(advice.Usage, "name the environment's first root.json, or its SHA-256 in hex", "trust.root: %w", err)
	}
	if len(data) > trust.MaxRootSize {
		return trust.Pin{}, advice.New(advice.Usage, "", "trust.root: %s is too large for a root.json", show.Text(path))
	}
	return trust.PinRoot(data), nil
}

// NewFeed makes the feed that e describes. Its state folder is locked until the feed is closed.
func (e *EnvironmentSettings) NewFeed(now func() time.Time) (*feed.Feed, error) {
	pin, err := e.Pin()
	if err != nil {
		return nil, err
	}
	var ca []byte
	if e.trust.CA != "" {
		if ca, err = input.ReadFile(e.trust.CA); err != nil {
			return nil, advice.New(advice.Usage, "name a PEM file", "trust.ca: %w", err)
		}
	}
	client, err := feed.NewClient(ca)
	if err != nil {
		return nil, fmt.Errorf("trust.ca: %w", err)
	}
	return feed.New(feed.Config{Source: e.trust.Source, Pin: pin, Environment: e.name, StateDir: e.trust.State,
		Interval: e.trust.Interval, Client: client, Now: now})
}

// FirstLook has f look at its source and returns the view to begin with. It fails only if there is none at all, not even
// an earlier one; a source that fails is otherwise told as a warning.
func FirstLook(ctx context.Context, f *feed.Feed, log *slog.Logger) (*trust.View, error) {
	err := f.Refresh(ctx)
	view := f.Current()
	if view == nil {
		if err == nil {
			err = errors.New("the feed gives no view")
		}
		return nil, advice.Wrap(advice.KindOf(err), fmt.Errorf("no trust to start with: %w", err), advice.Hint(err))
	}
	if err != nil {
		log.Warn("the trust source fails: what was accepted earlier is in force", "why", err)
	}
	return view, nil
}

// Follow puts each new view of f, which is the feed of the environment named, in force until ctx ends, and logs when the source fails and when it is
// well again.
func (g *Gateway) Follow(ctx context.Context, name string, f *feed.Feed) {
	log := g.log.With("environment", name)
	if e := g.environment(name); e != nil {
		e.vitals.follow(f.Status)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = f.Run(ctx, func(v *trust.View) {
			if err := g.SetTrust(v); err != nil {
				log.Error("new trust refused", "why", err)
			}
		})
	}()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	told := ""
	for {
		select {
		case <-ended:
			return
		case <-tick.C:
			said := ""
			if err := f.Status().Err; err != nil {
				said = err.Error()
			}
			if said != told && said != "" {
				log.Error("trust source", "why", said)
			} else if said != told {
				log.Info("trust source is well again")
			}
			told = said
		}
	}
}
