package station

import (
	"context"
	"errors"
	"time"

	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/factory/logbook"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
)

// LogConfig is the section about the factory's issuance log, whose last checkpoint the station keeps. An attacker who puts the
// factory's record back, or changes it, cannot change what stations keep.
type LogConfig struct {
	Key          string   `yaml:"key"`
	Witnesses    []string `yaml:"witnesses"`
	Cosignatures int      `yaml:"cosignatures"`
	// Kept is the file of the last checkpoint; stations on one machine may share it.
	Kept   string `yaml:"kept"`
	Demand bool   `yaml:"demand"`
}

func (c *LogConfig) policy() (*logbook.Policy, error) {
	if c.Key == "" || c.Kept == "" {
		return nil, advice.New(advice.Usage, "see 'hanaper-station config'", "log.key or log.kept is missing")
	}
	return logbook.NewPolicy(logbook.PolicyConfig{Key: c.Key, Witnesses: c.Witnesses, Cosignatures: c.Cosignatures})
}

// issuances is what the station keeps of the issuance log.
type issuances struct {
	kept   *logbook.Kept
	demand bool
	// client is nil where nothing can be asked.
	client *factory.Client
	done   func(format string, args ...any)
}

// reportTime bounds the telling of a checkpoint that was refused.
const reportTime = 5 * time.Second

func newIssuances(c *LogConfig, client *factory.Client, now func() time.Time, done func(string, ...any)) (*issuances, error) {
	if c == nil {
		return nil, nil
	}
	policy, err := c.policy()
	if err != nil {
		return nil, err
	}
	return &issuances{kept: logbook.NewKept(c.Kept, policy, now), demand: c.Demand, client: client, done: done}, nil
}

// held is how many entries the kept checkpoint covers; 0 for none.
func (i *issuances) held() (int64, error) {
	if i == nil {
		return 0, nil
	}
	return i.kept.Size()
}

// accept holds the checkpoint that came with an answer against the kept one, and keeps it. One that is older or of another
// history is refused, and hanaperd is told of the one that is kept.
func (i *issuances) accept(ctx context.Context, held int64, a *factory.LogAnswer) error {
	if i == nil {
		return nil
	}
	if a == nil || a.Checkpoint == "" {
		why := "hanaperd keeps no issuance log"
		if a != nil {
			why = show.Text(a.Words)
		}
		if i.demand {
			return advice.New(advice.Refused, "log.demand asks for one with each answer; the certificate waits at hanaperd: enrol again when the log is in order", "there is no checkpoint of the issuance log: %s", why)
		}
		i.done("no checkpoint of the issuance log: %s", why)
		return nil
	}
	proof, err := logbook.ParseHashes(a.Consistency)
	if err != nil {
		return advice.New(advice.Failed, "try again", "the answer's proof of the issuance log: %w", err)
	}
	offer := logbook.Offer{Note: []byte(a.Checkpoint), From: held, Proof: proof, Source: "hanaperd's answer"}
	if i.client != nil {
		offer.Files = i.client
	}
	_, err = i.kept.Accept(ctx, offer)
	if errors.Is(err, logbook.ErrOlder) || errors.Is(err, logbook.ErrFork) {
		i.report(ctx)
	}
	return err
}

// report shows hanaperd what the station keeps; what becomes of it changes nothing here.
func (i *issuances) report(ctx context.Context) {
	if i.client == nil {
		i.done("hanaperd is not told: take the file of the evidence to it")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, reportTime)
	defer cancel()
	last, ok, err := i.kept.Last()
	if err == nil && ok {
		err = i.client.ReportCheckpoint(ctx, last.Note)
	}
	if err != nil {
		i.done("hanaperd could not be told: %v", err)
	}
}
