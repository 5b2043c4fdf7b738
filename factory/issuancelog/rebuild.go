package issuancelog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/hanaper/hanaper/factory/logbook"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
)

// RebuildConfig is what a log's folder is made anew from.
type RebuildConfig struct {
	Folder string
	Policy *logbook.Policy
	Record Record
	// Since are checkpoints that others kept: the new folder must begin with the log of each.
	Since [][]byte
	Log   *slog.Logger
	Now   func() time.Time
	// Step is told now and then how many entries were written of how many; nil for silence.
	Step func(done, of uint64)
}

// nobody stands in for a key where nothing is signed: Tessera wants one to make a folder.
type nobody struct{ name string }

func (n nobody) Name() string                { return n.name }
func (n nobody) KeyHash() uint32             { return 0 }
func (n nobody) Sign([]byte) ([]byte, error) { return make([]byte, 64), nil }

// leadTime is how long Rebuild waits until no server writes the log.
const leadTime = 5 * time.Second

// ErrRebuilt means that the record's events do not give the log of a checkpoint: the record itself was changed.
var ErrRebuilt = errors.New("the record's events are not those of the checkpoint")

// Rebuild makes the log's folder from the record's events, holds it against the record's last checkpoint and those in Since,
// and puts it in the old one's place, which is kept and whose new name is returned ("" if there was none). Nothing is signed. Where
// the events do not give the checkpoints, the old folder stays as it is. No server may run.
func Rebuild(ctx context.Context, c RebuildConfig) (size uint64, kept string, err error) {
	waiting, cancel := context.WithTimeout(ctx, leadTime)
	_, release, err := c.Record.LeadLog(waiting)
	defer cancel()
	if err != nil {
		return 0, "", advice.New(advice.Failed, "stop every hanaperd on this record first", "a server writes the issuance log: %w", err)
	}
	defer release()
	fresh := c.Folder + ".new"
	if err := os.RemoveAll(fresh); err != nil {
		return 0, "", err
	}
	l := &Log{c: Config{Folder: c.Folder, Policy: c.Policy, Record: c.Record, Log: c.Log}}
	last, err := l.recorded(ctx)
	if err != nil {
		return 0, "", err
	}
	var marks []logbook.Checkpoint
	if last != nil {
		marks = append(marks, *last)
	}
	for _, data := range c.Since {
		m, err := c.Policy.VerifySigned(data)
		if err != nil {
			return 0, "", advice.Wrap(advice.Unverified, fmt.Errorf("a checkpoint to compare with: %w", err), "")
		}
		marks = append(marks, m)
	}
	if size, err = l.fill(ctx, fresh, marks, c); err != nil {
		_ = os.RemoveAll(fresh)
		return 0, "", err
	}
	if there, err := exists(c.Folder); err != nil {
		return 0, "", err
	} else if there {
		if kept, err = aside(c.Folder, c.Now()); err != nil {
			return 0, "", err
		}
	} else if err := os.RemoveAll(c.Folder); err != nil {
		return 0, "", err
	}
	if err := os.Rename(fresh, c.Folder); err != nil {
		return 0, kept, err
	}
	return size, kept, durable.SyncDir(filepath.Dir(c.Folder))
}

// aside renames the old folder to a name that nothing has yet.
func aside(dir string, now time.Time) (string, error) {
	at := dir + ".was-" + now.UTC().Format("20060102T150405Z")
	for n := 1; ; n++ {
		to := at
		if n > 1 {
			to = fmt.Sprintf("%s-%d", at, n)
		}
		if _, err := os.Lstat(to); errors.Is(err, fs.ErrNotExist) {
			return to, os.Rename(dir, to)
		} else if err != nil {
			return "", err
		}
	}
}

// fill writes all events into a new folder.
func (l *Log) fill(ctx context.Context, fresh string, marks []logbook.Checkpoint, c RebuildConfig) (uint64, error) {
	secret, err := c.Record.LogSecret(ctx)
	if err != nil {
		return 0, fmt.Errorf("the record: %w", err)
	}
	all, err := c.Record.LogSize(ctx)
	if err != nil {
		return 0, fmt.Errorf("the record: %w", err)
	}
	for _, m := range marks {
		if uint64(m.Size) > all {
			return 0, advice.Wrap(advice.Unverified, fmt.Errorf("%w: %d events, and a checkpoint covers %d", ErrRecordBehind, all, m.Size), behindHint)
		}
	}
	// What the record has lost is taken from the old folder, as far as that has it; the checkpoints tell whether it is right.
	held := int64(0)
	if s, ok, err := readState(l.c.Folder); err == nil && ok {
		held = int64(s.Size)
	}
	f, err := openFolder(fresh, nobody{c.Policy.Origin()}, c.Log)
	if err != nil {
		return 0, err
	}
	defer f.close()
	b := logbook.NewBuilder()
	for uint64(b.Size()) < all {
		events, err := l.events(ctx, uint64(b.Size()), batchSize)
		if err != nil {
			return 0, err
		}
		leaves, at := make([]logbook.Leaf, len(events)), uint64(b.Size())
		for i, e := range events {
			if leaves[i], err = l.entry(ctx, secret, e, held); err != nil {
				leaves[i] = e.Leaf(secret)
			}
			b.Add(leaves[i].Hash())
			for _, m := range marks {
				if m.Size == b.Size() && m.Root != b.Root() {
					return 0, advice.Wrap(advice.Unverified, fmt.Errorf("%w: of the first %d", ErrRebuilt, m.Size),
						"the record was changed after the checkpoint was signed: put it back from a copy that is older than the change, and see \"The record was put back\" in the runbook")
				}
			}
		}
		if err := f.append(ctx, at, leaves); err != nil {
			return 0, err
		}
		if c.Step != nil {
			c.Step(uint64(b.Size()), all)
		}
	}
	if err := agree(ctx, fresh, b); err != nil {
		return 0, err
	}
	var newest *logbook.Checkpoint
	for i, m := range marks {
		if newest == nil || m.Size > newest.Size {
			newest = &marks[i]
		}
	}
	if newest == nil {
		return all, durable.Remove(filepath.Join(fresh, logbook.CheckpointPath))
	}
	return all, f.publish(newest.Note)
}
