package issuancelog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hanaper/hanaper/factory/logbook"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/journal"
)

// publisher signs what feed has added, has it cosigned, and hands it out.
type publisher struct {
	log    *Log
	folder *folder
	wake   chan struct{}

	mu    sync.Mutex
	grown *logbook.Builder
}

// grow tells that the folder has all that b was made of.
func (p *publisher) grow(b *logbook.Builder) {
	p.mu.Lock()
	p.grown = b.Clone()
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *publisher) now() (size int64, root journal.Hash) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.grown.Size(), p.grown.Root()
}

func (p *publisher) size() int64 {
	size, _ := p.now()
	return size
}

// run publishes a checkpoint whenever the log has grown, at most once in Every. A key or a witness that is away is tried again;
// a witness that knows another history ends it.
func (p *publisher) run(ctx context.Context, last *logbook.Checkpoint) error {
	// A log without entries is not signed: there is nothing that could be taken back.
	done := int64(0)
	if last != nil {
		done = last.Size
	}
	var tried time.Time
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-p.wake:
		case <-time.After(retry):
		}
		size, root := p.now()
		if size == done {
			continue
		}
		if since := time.Since(tried); since < p.log.c.Every {
			pause(ctx, p.log.c.Every-since)
			size, root = p.now()
		}
		tried = time.Now()
		err := p.publish(ctx, size, root)
		switch {
		case err == nil:
			done = size
			p.log.note(func(s *State) { s.Fault = "" })
		case errors.Is(err, ErrWitness), errors.Is(err, ErrCheckpointBack), ctx.Err() != nil:
			return err
		default:
			p.log.note(func(s *State) { s.Fault = words(err) })
		}
	}
}

// publish signs size and root, which were computed from the record, and hands the checkpoint out when the policy is met.
func (p *publisher) publish(ctx context.Context, size int64, root journal.Hash) error {
	l := p.log
	data, err := journal.SignCheckpoint(journal.FormatCheckpoint(l.c.Policy.Origin(), size, root), l.signer)
	if err != nil {
		return advice.Wrap(advice.Failed, fmt.Errorf("the checkpoint of %d entries cannot be signed: %w", size, err), "is the token of log.key there?")
	}
	if data, err = l.cosign(ctx, data, size); err != nil {
		return err
	}
	c, err := l.c.Policy.Verify(data)
	if err != nil {
		return advice.Wrap(advice.Failed, fmt.Errorf("the checkpoint of %d entries is not handed out: %w", size, err), "are the witnesses running, and is the log known to them?")
	}
	// The record first: what is in the folder or with a caller, the record knows.
	if err := l.c.Record.PutCheckpoint(ctx, uint64(size), root, data); err != nil {
		if errors.Is(err, ErrCheckpointBack) {
			return err
		}
		return fmt.Errorf("the record: %w", err)
	}
	if err := p.folder.publish(data); err != nil {
		return fmt.Errorf("the issuance log's folder: %w", err)
	}
	l.take(c)
	l.note(func(s *State) { s.Signed = uint64(size) })
	return nil
}
