// Package fleet keeps the Director's devices, in SQLite.
//
// It trusts its file. An attacker who can write to it can take a device's updates back, show it older ones, which it
// refuses, or make it register again with another key; what they write themselves no device believes, for it lacks the
// signatures. Device identities are personal data: the file has mode 0600, and of a removed device only a digest stays.
package fleet

import (
	"context"
	"crypto/sha256"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	_ "modernc.org/sqlite" // the driver, without cgo

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/input"
	objects "github.com/hanaper/hanaper/internal/schema"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/uptane/reposerver"
)

//go:embed schema.sql
var schema string

const (
	// format is the schema's number, in PRAGMA user_version; application marks the file as ours, in PRAGMA application_id ("HNPF").
	format      = 1
	application = 0x484e5046
	// known bounds the records in memory, about 5 KB each.
	known = 100_000
	// LookEvery is how old what a reader sees may be, after another process has changed something.
	LookEvery = 100 * time.Millisecond
)

type key = [sha256.Size]byte

func keyOf(id string) key { return sha256.Sum256([]byte(id)) }

// SQLite is a reposerver.Fleet in one file, which several processes may use at the same time.
type SQLite struct {
	path        string
	read, write *sql.DB
	writer      *writer

	// records is by key; missing is remembered too, as nil. seen is the revision up to which changes of other processes
	// are known, looked when they were last looked for.
	records *lru.Cache[key, *reposerver.Device]
	looking sync.Mutex
	seen    int64
	looked  atomic.Int64
	started time.Time
}

var _ reposerver.Fleet = (*SQLite)(nil)

// Open opens fleet.db in a Director's folder and makes it if it is not there. What an older release left in the folder
// devices beside it is taken over first.
func Open(ctx context.Context, dir string) (*SQLite, error) {
	s, err := open(ctx, filepath.Join(dir, "fleet.db"))
	if err != nil {
		return nil, advice.Wrap(advice.Failed, fmt.Errorf("fleet store in %s: %w", show.Text(dir), err), "is it a whole store of this program, is there room on the disk, and may this user write to it?")
	}
	if err := s.takeOver(ctx, filepath.Join(dir, "devices")); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func open(ctx context.Context, path string) (*SQLite, error) {
	f, err := input.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	if err := durable.SyncDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	s := &SQLite{path: path, started: time.Now()}
	if s.records, err = lru.New[key, *reposerver.Device](known); err != nil {
		return nil, err
	}
	dsn := "file:" + (&url.URL{Path: path}).EscapedPath() + "?mode=rw&_pragma=busy_timeout(10000)"
	if s.write, err = sql.Open("sqlite", dsn+"&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=cache_size(-32768)&_txlock=immediate"); err != nil {
		return nil, err
	}
	s.write.SetMaxOpenConns(1)
	if s.read, err = sql.Open("sqlite", dsn+"&_pragma=query_only(1)"); err != nil {
		return nil, errors.Join(err, s.write.Close())
	}
	s.read.SetMaxOpenConns(2 * runtime.NumCPU())
	s.read.SetMaxIdleConns(2 * runtime.NumCPU())
	err = s.prepare(ctx)
	if err == nil {
		s.writer, err = startWriter(s)
	}
	if err != nil {
		return nil, errors.Join(err, s.read.Close(), s.write.Close())
	}
	return s, nil
}

// prepare makes the tables in an empty file, in one step, and refuses what it does not know.
func (s *SQLite) prepare(ctx context.Context) error {
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	var version, app, tables int
	for query, to := range map[string]*int{"PRAGMA user_version": &version, "PRAGMA application_id": &app, "SELECT count(*) FROM sqlite_master": &tables} {
		if err := tx.QueryRowContext(ctx, query).Scan(to); err != nil {
			return err
		}
	}
	switch {
	case version == 0 && app == 0 && tables == 0:
		if _, err := tx.ExecContext(ctx, schema+fmt.Sprintf("PRAGMA user_version = %d; PRAGMA application_id = %d;", format, application)); err != nil {
			return err
		}
	case app != application:
		return fmt.Errorf("%s is no fleet store", show.Text(s.path))
	case version > format:
		return fmt.Errorf("it was written by a newer release (format %d, this one knows %d)", version, format)
	}
	if err := objects.Same(ctx, tx, schema); err != nil {
		return err
	}
	return tx.Commit()
}

// Close ends what is under way.
func (s *SQLite) Close() error {
	s.writer.stop()
	return errors.Join(s.read.Close(), s.write.Close())
}

// Device implements reposerver.Fleet.
func (s *SQLite) Device(ctx context.Context, id string) (*reposerver.Device, error) {
	if err := s.look(ctx); err != nil {
		return nil, err
	}
	k := keyOf(id)
	if dev, ok := s.records.Get(k); ok {
		return dev, nil
	}
	s.looking.Lock()
	before := s.seen
	s.looking.Unlock()
	dev, err := s.load(ctx, s.read, k)
	if err != nil {
		return nil, err
	}
	s.keep(k, dev, before)
	return dev, nil
}

// keep puts a record into memory, if there is no newer one: the writer may have been faster. One that was read before
// another process's changes were looked for could be older than those, and is not kept.
func (s *SQLite) keep(k key, dev *reposerver.Device, before int64) {
	s.looking.Lock()
	defer s.looking.Unlock()
	if before != s.seen {
		return
	}
	if has, ok := s.records.Peek(k); ok && has != nil && (dev == nil || has.Revision >= dev.Revision) {
		return
	}
	s.records.Add(k, dev)
}

// look forgets what other processes have changed, at most every LookEvery.
func (s *SQLite) look(ctx context.Context) error {
	now := int64(time.Since(s.started))
	if last := s.looked.Load(); last != 0 && now-last < int64(LookEvery) {
		return nil
	}
	s.looking.Lock()
	defer s.looking.Unlock()
	if last := s.looked.Load(); last != 0 && now-last < int64(LookEvery) {
		return nil
	}
	var revision int64
	if err := s.read.QueryRowContext(ctx, "SELECT revision FROM state").Scan(&revision); err != nil {
		return err
	}
	if revision != s.seen {
		rows, err := s.read.QueryContext(ctx, "SELECT key, revision FROM device WHERE revision > ? AND revision <= ?", s.seen, revision)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var raw []byte
			var at int64
			if err := rows.Scan(&raw, &at); err != nil {
				return err
			}
			k := key(raw)
			if dev, ok := s.records.Peek(k); ok && (dev == nil || dev.Revision < at) {
				s.records.Remove(k)
			}
		}
		if err := rows.Err(); err != nil {
			return err
		}
		s.seen = revision
	}
	s.looked.Store(max(now, 1))
	return nil
}

type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func (s *SQLite) load(ctx context.Context, from querier, k key) (*reposerver.Device, error) {
	var record, targets, snapshot, timestamp []byte
	var revision int64
	err := from.QueryRowContext(ctx, "SELECT revision, record, targets, snapshot, timestamp FROM device WHERE key = ?", k[:]).Scan(&revision, &record, &targets, &snapshot, &timestamp)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	dev, err := reposerver.DecodeDevice(s.path, record)
	if err != nil {
		return nil, err
	}
	dev.Revision, dev.Targets, dev.Snapshot, dev.Timestamp = revision, targets, snapshot, timestamp
	return dev, nil
}

// Each implements reposerver.Fleet.
func (s *SQLite) Each(ctx context.Context, do func(*reposerver.Device) error) error {
	rows, err := s.read.QueryContext(ctx, "SELECT revision, record FROM device WHERE removed = 0")
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var record []byte
		var revision int64
		if err := rows.Scan(&revision, &record); err != nil {
			return err
		}
		dev, err := reposerver.DecodeDevice(s.path, record)
		if err != nil {
			return err
		}
		dev.Revision = revision
		if err := do(dev); err != nil {
			return err
		}
	}
	return rows.Err()
}

// Count implements reposerver.Fleet.
func (s *SQLite) Count(ctx context.Context) (n int, err error) {
	err = s.read.QueryRowContext(ctx, "SELECT devices FROM state").Scan(&n)
	return n, err
}

// Revision implements reposerver.Fleet.
func (s *SQLite) Revision(ctx context.Context) (n int64, err error) {
	err = s.read.QueryRowContext(ctx, "SELECT revision FROM state").Scan(&n)
	return n, err
}

// Told implements reposerver.Fleet.
func (s *SQLite) Told(ctx context.Context, id string) (out []reposerver.Told, err error) {
	k := keyOf(id)
	rows, err := s.read.QueryContext(ctx, "SELECT kind, at, body FROM told WHERE key = ? ORDER BY kind", k[:])
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var t reposerver.Told
		if err := rows.Scan(&t.Kind, &t.At, &t.Body); err != nil {
			return nil, err
		}
		out = append(out, t)
	}
	return out, rows.Err()
}

// Events implements reposerver.Fleet.
func (s *SQLite) Events(ctx context.Context, id string) (out []reposerver.Event, err error) {
	k := keyOf(id)
	rows, err := s.read.QueryContext(ctx, "SELECT id, kind, at, body FROM event WHERE key = ? ORDER BY number", k[:])
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var e reposerver.Event
		if err := rows.Scan(&e.ID, &e.Kind, &e.At, &e.Body); err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return out, rows.Err()
}

// Manifest implements reposerver.Fleet.
func (s *SQLite) Manifest(ctx context.Context, id string) (data []byte, err error) {
	k := keyOf(id)
	err = s.read.QueryRowContext(ctx, "SELECT body FROM manifest WHERE key = ?", k[:]).Scan(&data)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return data, err
}
