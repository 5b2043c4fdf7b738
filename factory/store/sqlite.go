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
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
)

//go:embed schema.sql
var schema string

// version is the schema's, in PRAGMA user_version.
const version = 1

// application marks the file as ours, in PRAGMA application_id ("HNPR").
const application = 0x484e5052

// SQLite is a factory.Store in one file, used by one process.
type SQLite struct {
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
	path := filepath.Join(dir, "factory.db")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
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
		return nil, advice.Wrap(advice.Failed, fmt.Errorf("store %s: %w", path, err), "is another hanaperd running on the same state folder?")
	}
	return s, nil
}

// dsn names the file with what each connection is set to: WAL with a sync at each commit, and an exclusive writer.
func dsn(path string, more string) string {
	return "file:" + (pathEscape(path)) + "?_pragma=busy_timeout(5000)&_pragma=foreign_keys(1)" + more
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
	if s.read, err = sql.Open("sqlite", dsn(path, "&_pragma=query_only(1)")); err != nil {
		w.Close()
		return nil, err
	}
	s.read.SetMaxOpenConns(2 * runtime.NumCPU())
	s.read.SetMaxIdleConns(2 * runtime.NumCPU())
	if s.writer, err = startWriter(ctx, w); err != nil {
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
	s.writer.stop()
	s.read.Close()
	return s.write.Close()
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
