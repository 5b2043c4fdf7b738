package fleet

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"

	batching "github.com/hanaper/hanaper/internal/batch"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/uptane/reposerver"
)

// change is one change of one device, in a transaction that it may share with others. A conflict is a result, not an
// error: an error of run undoes the whole transaction.
type change struct {
	run    func(ctx context.Context, tx *batch) error
	result error
	// after is called when the change is durable.
	after func()
}

// batch is a transaction at work.
type batch struct {
	*sql.Tx
	revision int64
	devices  int
}

// writer is what commits: many devices wait for one sync.
type writer struct {
	store  *SQLite
	queue  *batching.Queue[*change]
	opened os.FileInfo
}

func startWriter(s *SQLite) (*writer, error) {
	opened, err := os.Stat(s.path)
	if err != nil {
		return nil, err
	}
	w := &writer{store: s, opened: opened}
	w.queue = batching.New(w.commit)
	return w, nil
}

func (w *writer) stop() { w.queue.Stop() }

// do waits until the change is durable, and gives its result.
func (w *writer) do(ctx context.Context, c *change) error {
	if err := w.queue.Do(ctx, c); err != nil {
		return err
	}
	return c.result
}

func (w *writer) commit(todo []*change) error {
	ctx := context.Background()
	tx, err := w.store.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	b := &batch{Tx: tx}
	var before int64
	if err := tx.QueryRowContext(ctx, "SELECT revision, devices FROM state").Scan(&before, &b.devices); err != nil {
		return err
	}
	b.revision = before
	for _, c := range todo {
		if c.result = c.run(ctx, b); c.result != nil && !errors.Is(c.result, reposerver.ErrChanged) {
			return c.result
		}
	}
	if b.revision != before {
		if _, err := tx.ExecContext(ctx, "UPDATE state SET revision = ?, devices = ?", b.revision, b.devices); err != nil {
			return err
		}
	}
	if err := w.inPlace(); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	for _, c := range todo {
		if c.result == nil && c.after != nil {
			c.after()
		}
	}
	return nil
}

// inPlace refuses to go on in a file that has no name any more: all that is written to it would be gone at the next start.
func (w *writer) inPlace() error {
	now, err := os.Stat(w.store.path)
	if err == nil && !os.SameFile(now, w.opened) {
		err = fmt.Errorf("%s is another file", show.Text(w.store.path))
	}
	if err != nil {
		return fmt.Errorf("the fleet store was moved or removed while in use: %w", err)
	}
	return nil
}

// Save implements reposerver.Fleet.
func (s *SQLite) Save(ctx context.Context, id string, dev *reposerver.Device, with reposerver.With) error {
	record, err := reposerver.EncodeDevice(dev)
	if err != nil {
		return err
	}
	k := keyOf(id)
	c := &change{}
	var saved *reposerver.Device
	c.run = func(ctx context.Context, tx *batch) error {
		if err := tx.save(ctx, k, dev, record, with); err != nil {
			return err
		}
		copied := *dev
		copied.Revision = tx.revision
		saved = &copied
		return nil
	}
	c.after = func() { s.replace(k, saved) }
	if err := s.writer.do(ctx, c); err != nil {
		if errors.Is(err, reposerver.ErrChanged) {
			s.records.Remove(k)
		}
		return err
	}
	return nil
}

// Raise implements reposerver.Fleet.
func (s *SQLite) Raise(ctx context.Context, revision int64) error {
	return s.writer.do(ctx, &change{run: func(ctx context.Context, tx *batch) error {
		tx.revision = max(tx.revision, revision)
		return nil
	}})
}

// replace puts what was written into memory. The next look finds what another process has written since.
func (s *SQLite) replace(k key, dev *reposerver.Device) {
	s.looking.Lock()
	defer s.looking.Unlock()
	if dev.Revision > s.seen {
		s.records.Add(k, dev)
	} else {
		s.records.Remove(k)
	}
}

// save writes a record if it is still in the state that the caller built on.
func (tx *batch) save(ctx context.Context, k key, dev *reposerver.Device, record []byte, with reposerver.With) error {
	var now int64
	removed := 1
	err := tx.QueryRowContext(ctx, "SELECT revision, removed FROM device WHERE key = ?", k[:]).Scan(&now, &removed)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	if now != dev.Revision {
		return reposerver.ErrChanged
	}
	will := 0
	if dev.Removed != "" {
		will = 1
	}
	tx.devices += removed - will
	tx.revision++
	if _, err := tx.ExecContext(ctx, `INSERT INTO device (key, revision, removed, record, targets, snapshot, timestamp) VALUES (?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (key) DO UPDATE SET revision = excluded.revision, removed = excluded.removed, record = excluded.record,
		targets = excluded.targets, snapshot = excluded.snapshot, timestamp = excluded.timestamp`,
		k[:], tx.revision, will, record, dev.Targets, dev.Snapshot, dev.Timestamp); err != nil {
		return err
	}
	if with.Forget {
		for _, table := range []string{"manifest", "told", "event"} {
			if _, err := tx.ExecContext(ctx, "DELETE FROM "+table+" WHERE key = ?", k[:]); err != nil {
				return err
			}
		}
	}
	if with.Manifest != nil {
		_, err = tx.ExecContext(ctx, "INSERT INTO manifest (key, body) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET body = excluded.body", k[:], with.Manifest)
		return err
	}
	return nil
}

// present reports whether an identity is registered: what others tell of one that was removed meanwhile is not kept.
func (tx *batch) present(ctx context.Context, k key) (bool, error) {
	var n int
	err := tx.QueryRowContext(ctx, "SELECT count(*) FROM device WHERE key = ? AND removed = 0", k[:]).Scan(&n)
	return n == 1, err
}

// Tell implements reposerver.Fleet.
func (s *SQLite) Tell(ctx context.Context, id string, t reposerver.Told) error {
	k := keyOf(id)
	return s.writer.do(ctx, &change{run: func(ctx context.Context, tx *batch) error {
		if ok, err := tx.present(ctx, k); err != nil || !ok {
			return err
		}
		_, err := tx.ExecContext(ctx, "INSERT INTO told (key, kind, at, body) VALUES (?, ?, ?, ?) ON CONFLICT (key, kind) DO UPDATE SET at = excluded.at, body = excluded.body", k[:], t.Kind, t.At, t.Body)
		return err
	}})
}

// Report implements reposerver.Fleet.
func (s *SQLite) Report(ctx context.Context, id string, list []reposerver.Event) error {
	k := keyOf(id)
	return s.writer.do(ctx, &change{run: func(ctx context.Context, tx *batch) error {
		if ok, err := tx.present(ctx, k); err != nil || !ok {
			return err
		}
		for _, e := range list {
			if _, err := tx.ExecContext(ctx, "INSERT OR IGNORE INTO event (key, id, kind, at, body) VALUES (?, ?, ?, ?, ?)", k[:], e.ID, e.Kind, e.At, e.Body); err != nil {
				return err
			}
		}
		_, err := tx.ExecContext(ctx, `DELETE FROM event WHERE key = ?1 AND number <= (SELECT number FROM event WHERE key = ?1 ORDER BY number DESC LIMIT 1 OFFSET ?2)`, k[:], reposerver.KeepEvents)
		return err
	}})
}
