// Package store keeps the factory's records in SQLite.
//
// It trusts its file. An attacker who can write to it can make devices be forgotten, refused or shown as revoked; he
// can make no certificate, and what was handed out can be checked against the issuing certificate. The file holds
// device ids, which are personal data: its folder is 0700.
package store

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
)

//go:embed schema.sql
var schema string

// version is the schema's, in PRAGMA user_version.
const version = 1

// application marks the file as ours, in PRAGMA application_id ("HNPR").
const application = 0x484e5052

// SQLite is a factory.Store in one file, used by one process, which a lock beside it enforces: two would each sign lists
// that lack what the other had just revoked.
type SQLite struct {
	lock   io.Closer
	read   *sql.DB
	write  *sql.DB
	writer *writer
}

var _ factory.Store = (*SQLite)(nil)

// OpenSQLite opens factory.db in the folder dir, made if it is not there.
func OpenSQLite(ctx context.Context, dir string) (*SQLite, error) {
	if err := durable.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	lock, err := durable.Lock(filepath.Join(dir, "factory.lock"))
	if err != nil && !errors.Is(err, durable.ErrLocked) {
		return nil, advice.Wrap(advice.Failed, fmt.Errorf("store: %w", err), "may this user write to the state folder?")
	}
	if err != nil {
		return nil, advice.Wrap(advice.Failed, fmt.Errorf("store: %w", err), "another hanaperd runs on the same state folder: stop it, or name another folder")
	}
	s, err := openFile(ctx, dir)
	if err != nil {
		lock.Close()
		return nil, err
	}
	s.lock = lock
	return s, nil
}

// ReadSQLite opens the store in dir to be read only, also while a hanaperd uses it; every write to it fails.
func ReadSQLite(ctx context.Context, dir string) (*SQLite, error) {
	path := filepath.Join(dir, "factory.db")
	if _, err := os.Stat(path); err != nil {
		return nil, advice.Wrap(advice.Usage, fmt.Errorf("store: %w", err), "name hanaperd's state folder")
	}
	db, err := reader(path)
	if err != nil {
		return nil, err
	}
	return &SQLite{read: db}, nil
}

func reader(path string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", dsn(path, "&_pragma=query_only(1)"))
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(2 * runtime.NumCPU())
	db.SetMaxIdleConns(2 * runtime.NumCPU())
	return db, nil
}

func openFile(ctx context.Context, dir string) (*SQLite, error) {
	path := filepath.Join(dir, "factory.db")
	f, err := input.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	if err := durable.SyncDir(dir); err != nil {
		return nil, err
	}
	s, err := open(ctx, path)
	if err != nil {
		return nil, advice.Wrap(advice.Failed, fmt.Errorf("store %s: %w", show.Text(path), err), "is it a whole store of this program, and may this user write to it? restore it from a copy")
	}
	return s, nil
}

// dsn names the file with what each connection is set to: WAL with a sync at each commit, and an exclusive writer.
func dsn(path string, more string) string {
	return "file:" + (pathEscape(path)) + "?mode=rw&_pragma=busy_timeout(5000)&_pragma=foreign_keys(1)" + more
}

func open(ctx context.Context, path string) (*SQLite, error) {
	w, err := sql.Open("sqlite", dsn(path, "&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=wal_autocheckpoint(4000)&_pragma=cache_size(-65536)&_txlock=immediate"))
	if err != nil {
		return nil, err
	}
	w.SetMaxOpenConns(1)
	s := &SQLite{write: w}
	if err := s.migrate(ctx); err != nil {
		w.Close()
		return nil, err
	}
	if s.read, err = reader(path); err != nil {
		w.Close()
		return nil, err
	}
	if s.writer, err = startWriter(ctx, w, path); err != nil {
		s.read.Close()
		w.Close()
		return nil, err
	}
	return s, nil
}

func (s *SQLite) migrate(ctx context.Context) error {
	var mode string
	var sync, app, have int
	for q, into := range map[string]any{"journal_mode": &mode, "synchronous": &sync, "application_id": &app, "user_version": &have} {
		if err := s.write.QueryRowContext(ctx, "PRAGMA "+q).Scan(into); err != nil {
			return err
		}
	}
	if mode != "wal" || sync != 2 {
		return fmt.Errorf("journal mode is %s with synchronous %d, not wal with 2", mode, sync)
	}
	switch {
	case have == version && app == application:
		return nil
	case have != 0 || app != 0:
		return fmt.Errorf("holds schema %d of application %#x; this program knows schema %d", have, app, version)
	}
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, schema+fmt.Sprintf("PRAGMA user_version=%d; PRAGMA application_id=%d;", version, application)); err != nil {
		return err
	}
	return tx.Commit()
}

// Close waits for the writes at work and closes the file.
func (s *SQLite) Close() error {
	if s.writer == nil {
		return s.read.Close()
	}
	s.writer.stop()
	s.read.Close()
	err := s.write.Close()
	s.lock.Close()
	return err
}

// Counts tells how many rows each table holds.
func (s *SQLite) Counts(ctx context.Context) (map[string]int64, error) {
	n := map[string]int64{}
	for _, table := range []string{"enrollments", "certificates", "revocations", "abandoned", "crls"} {
		var c int64
		if err := s.read.QueryRowContext(ctx, "SELECT count(*) FROM "+table).Scan(&c); err != nil {
			return nil, err
		}
		n[table] = c
	}
	return n, nil
}
