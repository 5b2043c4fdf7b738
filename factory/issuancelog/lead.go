package issuancelog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hanaper/hanaper/factory/logbook"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/journal"
)

// ErrRecordBehind means a record that has fewer events than were logged: it was put back from a copy.
var ErrRecordBehind = errors.New("the record has fewer events than the issuance log: it was put back from an older copy")

const (
	rebuildHint = "if nobody changed it on purpose, find out who did; 'hanaperd log rebuild' makes the folder anew from the record and keeps the old one"
	behindHint  = "the log holds what the record has lost: see \"The record was put back\" in the runbook before anything is enrolled"
)

// beginning is what a log that agrees with the record begins from.
type beginning struct {
	builder *logbook.Builder
	// fresh says that there is no folder yet, and none is missed.
	fresh  bool
	secret [32]byte
	last   *logbook.Checkpoint
}

// beginTries bounds how often the folder is compared again because another server wrote it meanwhile.
const beginTries = 50

// begin compares the folder with the record. Where they do not agree, and the folder was written meanwhile, that may be another server at its
// work, seen half done: it is looked at again. What is wrong stays wrong when nobody writes.
func (l *Log) begin(ctx context.Context) (*beginning, error) {
	for try := 1; ; try++ {
		before, was, err := readState(l.c.Folder)
		if err != nil {
			return nil, advice.Wrap(advice.Unverified, err, rebuildHint)
		}
		g, bad := l.compareAll(ctx)
		if bad == nil {
			return g, nil
		}
		after, is, err := readState(l.c.Folder)
		same := was && is && after.Size == before.Size && bytes.Equal(after.Root, before.Root)
		// A folder without a state may be one that another server is making at this moment.
		if err != nil || same || !is && try > beginTries/3 || try == beginTries || ctx.Err() != nil {
			return nil, bad
		}
		pause(ctx, 20*time.Millisecond)
	}
}

// compareAll compares the folder with the record: with the record's last checkpoint, and with the record's events since then. The
// entries before that checkpoint are held by its root. It writes nothing.
func (l *Log) compareAll(ctx context.Context) (*beginning, error) {
	at := show.Text(l.c.Folder)
	g := &beginning{builder: logbook.NewBuilder()}
	var err error
	if g.secret, err = l.c.Record.LogSecret(ctx); err != nil {
		return nil, fmt.Errorf("the record: %w", err)
	}
	if g.last, err = l.recorded(ctx); err != nil {
		return nil, err
	}
	s, ok, err := readState(l.c.Folder)
	if err != nil {
		return nil, advice.Wrap(advice.Unverified, err, rebuildHint)
	}
	published, unread := l.published(ctx)
	// The events are counted last: another server may write what is in the record by then, and nothing else.
	events, err := l.c.Record.LogSize(ctx)
	if err != nil {
		return nil, fmt.Errorf("the record: %w", err)
	}
	if g.last != nil && uint64(g.last.Size) > events {
		return nil, advice.Wrap(advice.Unverified, fmt.Errorf("%w: %d events, and its own last checkpoint covers %d", ErrRecordBehind, events, g.last.Size), behindHint)
	}
	if !ok {
		there, err := exists(l.c.Folder)
		switch {
		case err != nil:
			return nil, err
		case there:
			return nil, advice.Wrap(advice.Unverified, fmt.Errorf("%w: %s lacks %s", ErrFolder, at, statePath), rebuildHint)
		case g.last != nil:
			return nil, advice.Wrap(advice.Unverified, fmt.Errorf("%w: %s is gone, and the record's last checkpoint covers %d entries", ErrFolder, at, g.last.Size), rebuildHint)
		}
		g.fresh = true
		return g, nil
	}
	held := int64(s.Size)
	if s.Size > events {
		return nil, advice.Wrap(advice.Unverified, fmt.Errorf("%w: %d events, and %s has %d entries", ErrRecordBehind, events, at, s.Size), behindHint)
	}
	if unread == nil && published != nil && uint64(published.Size) > events {
		return nil, advice.Wrap(advice.Unverified, fmt.Errorf("%w: %d events, and the checkpoint in %s covers %d", ErrRecordBehind, events, at, published.Size), behindHint)
	}
	if unread != nil {
		return nil, advice.Wrap(advice.Unverified, fmt.Errorf("%w: its checkpoint: %w", ErrFolder, unread), rebuildHint)
	}
	if g.last != nil {
		if g.last.Size > held {
			return nil, advice.Wrap(advice.Unverified, fmt.Errorf("%w: %s was cut back to %d entries, and the record's last checkpoint covers %d", ErrFolder, at, held, g.last.Size), rebuildHint)
		}
		if g.builder, err = logbook.Resume(ctx, logbook.Folder(l.c.Folder), g.last.Size, held); err == nil && g.builder.Root() != g.last.Root {
			err = fmt.Errorf("its first %d entries have another root than the record's last checkpoint", g.last.Size)
		}
		if err != nil {
			return nil, advice.Wrap(advice.Unverified, fmt.Errorf("%w: %w", ErrFolder, err), rebuildHint)
		}
	}
	if err := l.replay(ctx, g, held, published); err != nil {
		return nil, err
	}
	if err := agree(ctx, l.c.Folder, g.builder); err != nil {
		return nil, advice.Wrap(advice.Unverified, err, rebuildHint)
	}
	return g, nil
}

// replay adds to the builder what the record has up to a size, and holds the folder's own checkpoint against it on the way.
func (l *Log) replay(ctx context.Context, g *beginning, size int64, published *logbook.Checkpoint) error {
	for g.builder.Size() < size {
		events, err := l.events(ctx, uint64(g.builder.Size()), int(min(batchSize, size-g.builder.Size())))
		if err != nil {
			return err
		}
		if len(events) == 0 {
			return fmt.Errorf("the record has no event %d", g.builder.Size())
		}
		for _, e := range events {
			leaf, err := l.entry(ctx, g.secret, e, size)
			if err != nil {
				return err
			}
			g.builder.Add(leaf.Hash())
			if published != nil && published.Size == g.builder.Size() && published.Root != g.builder.Root() {
				return advice.Wrap(advice.Unverified, fmt.Errorf("%w: the checkpoint in the folder, which the log's key signed, is of other events than the record has", ErrFolder), behindHint)
			}
		}
	}
	return nil
}

// entry is what the log of this size has, or will have, for an event. What the record has lost the log may still have: that it
// is what was once there the log's checkpoints prove.
func (l *Log) entry(ctx context.Context, secret [32]byte, e Event, size int64) (logbook.Leaf, error) {
	if e.Kind != logbook.Lost || int64(e.Index) >= size {
		return e.Leaf(secret), nil
	}
	leaves, err := logbook.Bundle(ctx, logbook.Folder(l.c.Folder), e.Index/256, size)
	if err != nil {
		return logbook.Leaf{}, advice.Wrap(advice.Unverified, fmt.Errorf("%w: %w", ErrFolder, err), rebuildHint)
	}
	return leaves[e.Index%256], nil
}

// events reads from the record and checks that the sequence has no gap.
func (l *Log) events(ctx context.Context, from uint64, limit int) ([]Event, error) {
	events, err := l.c.Record.LogEvents(ctx, from, limit)
	if err != nil {
		return nil, fmt.Errorf("the record: %w", err)
	}
	for i, e := range events {
		if e.Index != from+uint64(i) {
			return nil, fmt.Errorf("the record: event %d is missing, %d comes instead", from+uint64(i), e.Index)
		}
	}
	return events, nil
}

// recorded is the record's last checkpoint, nil if there is none.
func (l *Log) recorded(ctx context.Context) (*logbook.Checkpoint, error) {
	data, err := l.c.Record.LastCheckpoint(ctx)
	if err != nil {
		return nil, fmt.Errorf("the record: %w", err)
	}
	if data == nil {
		return nil, nil
	}
	c, err := l.c.Policy.VerifySigned(data)
	if err != nil {
		return nil, advice.Wrap(advice.Unverified, fmt.Errorf("the record's last checkpoint: %w", err), "was log.key changed? a log keeps its key and its name for good; a new key is a new log")
	}
	return &c, nil
}

// published is the checkpoint in the folder, nil if there is none.
func (l *Log) published(ctx context.Context) (*logbook.Checkpoint, error) {
	data, err := logbook.Folder(l.c.Folder).Read(ctx, logbook.CheckpointPath, journal.MaxCheckpoint)
	if errors.Is(err, fs.ErrNotExist) {
		// A crash can come between the making of the folder and that of its first checkpoint; the next one is written anew.
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	c, err := l.c.Policy.VerifySigned(data)
	if err != nil {
		return nil, err
	}
	return &c, nil
}

// lead writes the log until ctx ends or something is wrong.
func (l *Log) lead(ctx context.Context) error {
	g, err := l.begin(ctx)
	if err != nil {
		return err
	}
	f, err := openFolder(l.c.Folder, l.signer, l.c.Log)
	if err != nil {
		return err
	}
	defer f.close()
	if g.last != nil {
		if c, err := l.c.Policy.Verify(g.last.Note); err == nil {
			l.take(c)
		}
	}
	l.note(func(s *State) {
		s.Fault, l.stuck, s.Size = "", false, uint64(g.builder.Size())
		if g.last != nil {
			s.Signed = uint64(g.last.Size)
		}
	})
	p := &publisher{log: l, folder: f, wake: make(chan struct{}, 1)}
	p.grow(g.builder)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return p.run(ctx, g.last) })
	group.Go(func() error { return l.feed(ctx, g, f, p) })
	group.Go(func() error { return l.scrub(ctx, g.secret, p) })
	return group.Wait()
}

// feed carries events from the record into the folder.
func (l *Log) feed(ctx context.Context, g *beginning, f *folder, p *publisher) error {
	b := g.builder
	// fresh: the folder was held against b a moment ago, when the batch before was written.
	fresh := false
	for ctx.Err() == nil {
		events, err := l.events(ctx, uint64(b.Size()), batchSize)
		if err != nil {
			return err
		}
		if err := l.count(ctx, uint64(b.Size())+uint64(len(events)), len(events) == batchSize); err != nil {
			return err
		}
		if len(events) == 0 || !fresh {
			if err := agree(ctx, f.dir, b); err != nil {
				return advice.Wrap(advice.Unverified, err, rebuildHint)
			}
		}
		if fresh = false; len(events) == 0 {
			pause(ctx, poll)
			continue
		}
		leaves, next := make([]logbook.Leaf, len(events)), b.Clone()
		for i, e := range events {
			leaves[i] = e.Leaf(g.secret)
			next.Add(leaves[i].Hash())
		}
		if err := f.append(ctx, uint64(b.Size()), leaves); err != nil {
			return fmt.Errorf("the issuance log's folder: %w", err)
		}
		if err := agree(ctx, f.dir, next); err != nil {
			return advice.Wrap(advice.Unverified, err, rebuildHint)
		}
		b = next
		p.grow(b)
		l.note(func(s *State) { s.Size = uint64(b.Size()) })
		// Each batch syncs a handful of files on the disk that enrolments wait for too: few large ones cost them less than many small ones.
		if fresh = len(events) == batchSize; !fresh {
			pause(ctx, poll)
		}
	}
	return ctx.Err()
}

// count notes how many events there are; only where there may be more than were read is the record asked.
func (l *Log) count(ctx context.Context, known uint64, more bool) (err error) {
	if more {
		if known, err = l.c.Record.LogSize(ctx); err != nil {
			return fmt.Errorf("the record: %w", err)
		}
	}
	l.note(func(s *State) { s.Events = known })
	return nil
}

// scrub reads the whole folder again and again, slowly, and compares it with the record: a file that was changed behind the
// right edge is noticed, which nothing else reads.
func (l *Log) scrub(ctx context.Context, secret [32]byte, p *publisher) error {
	step, rest := min(250*time.Millisecond, l.c.Rest), l.c.Rest
	var took time.Duration
	for n := uint64(0); ; n++ {
		// On a busy machine reading waits, and rests for longer.
		wait := max(step, min(50*took, l.c.Rest))
		size := p.size()
		if int64(n)*256 >= size {
			n, wait = 0, rest
		}
		pause(ctx, wait)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if size = p.size(); size == 0 {
			continue
		}
		begun := time.Now()
		if err := l.compare(ctx, secret, n, size); err != nil {
			return advice.Wrap(advice.Unverified, err, rebuildHint)
		}
		took = time.Since(begun)
	}
}

// compare holds one bundle, and the tile over it, against the record.
func (l *Log) compare(ctx context.Context, secret [32]byte, n uint64, size int64) error {
	f := logbook.Folder(l.c.Folder)
	leaves, err := logbook.Bundle(ctx, f, n, size)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFolder, err)
	}
	events, err := l.events(ctx, n*256, len(leaves))
	if err != nil {
		return err
	}
	if len(events) < len(leaves) {
		return ErrRecordBehind
	}
	for i, leaf := range leaves {
		if events[i].Kind != logbook.Lost && events[i].Leaf(secret) != leaf {
			return fmt.Errorf("%w: entry %d is not what the record says", ErrFolder, events[i].Index)
		}
	}
	if err := logbook.CheckTile(ctx, f, n, leaves); err != nil {
		return fmt.Errorf("%w: %w", ErrFolder, err)
	}
	return nil
}
