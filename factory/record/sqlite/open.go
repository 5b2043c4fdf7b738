// Package sqlite keeps the factory's record in one SQLite file, for one hanaperd.
//
// It trusts its file. An attacker who can write to it can make devices be forgotten, refused or shown as revoked; he
// can make no certificate, and what was handed out can be checked against the issuing certificate. The file holds
// device ids, which are personal data: its folder is 0700.
package sqlite

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	driver "modernc.org/sqlite" // and the driver "sqlite"

	"github.com/hanaper/hanaper/factory/record"
	"github.com/hanaper/hanaper/factory/record/tables"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/input"
	objects "github.com/hanaper/hanaper/internal/schema"
	"github.com/hanaper/hanaper/internal/show"
)

//go:embed schema.sql
var schema2 string

// lots is what schema 3 adds to schema 2.
//
//go:embed lots.sql
var lots string

var schema = schema2 + lots

const (
	// Version is the schema's, in PRAGMA user_version and in the table version.
	Version = 3
	// application marks the file as ours, in PRAGMA application_id ("HNPR").
	application = 0x484e5052
	// File is the name of the store in its folder.
	File = "factory.db"
)

// Store is a record.Store in one file, used by one process, which a lock beside it enforces.
type Store struct {
	tables.Reader
	tables.Writer
	path   string
	lock   io.Closer
	write  *sql.DB
	writer *writer
	// turns has a token for each issuer whose list is being made, leads one for each name that somebody leads under: the lock of the
	// file keeps other processes out.
	mu    sync.Mutex
	turns map[string]chan struct{}
	ended context.Context
	end   context.CancelFunc
}

var _ record.Store = (*Store)(nil)

func init() {
	driver.MustRegisterDeterministicScalarFunction("hanaper_fold", 1, fold)
}

// Open opens factory.db in the folder dir, made if it is not there.
func Open(ctx context.Context, dir string) (*Store, error) {
	if err := durable.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	lock, err := Lock(dir)
	if err != nil {
		return nil, err
	}
	s, err := openFile(ctx, dir)
	if err != nil {
		lock.Close()
		return nil, err
	}
	s.lock = lock
	return s, nil
}

// Lock keeps every other process away from the store in dir.
func Lock(dir string) (io.Closer, error) {
	lock, err := durable.Lock(filepath.Join(dir, "factory.lock"))
	if err != nil && !errors.Is(err, durable.ErrLocked) {
		return nil, advice.Wrap(advice.Failed, fmt.Errorf("store: %w", err), "may this user write to the state folder?")
	}
	if err != nil {
		return nil, advice.Wrap(advice.Failed, fmt.Errorf("store: %w", err), "another hanaperd runs on the same state folder: stop it, or name another folder")
	}
	return lock, nil
}

// Read opens the store in dir to be read only, also while a hanaperd uses it; every write to it fails.
func Read(ctx context.Context, dir string) (*Store, error) {
	path := filepath.Join(dir, File)
	if _, err := os.Stat(path); err != nil {
		return nil, advice.Wrap(advice.Usage, fmt.Errorf("store: %w", err), "name hanaperd's state folder")
	}
	return ReadFile(ctx, path)
}

// ReadFile opens a store or a backup, whatever its name, to be read only.
func ReadFile(ctx context.Context, path string) (*Store, error) {
	db, err := reader(path)
	if err != nil {
		return nil, err
	}
	app, have, err := versionOf(ctx, db)
	if err == nil {
		err = known(app, have)
	}
	if err == nil && have != Version {
		err = errOlder
	}
	if err != nil {
		db.Close()
		return nil, advice.New(advice.Failed, "start hanaperd once on it: it brings a store of an earlier release up to date", "store %s: %w", show.Text(path), err)
	}
	if err := objects.Same(ctx, db, schema); err != nil {
		db.Close()
		return nil, advice.New(advice.Unverified, "use another backup, and find out who had it in hand", "store %s: %w", show.Text(path), err)
	}
	s := &Store{Reader: tables.Reader{DB: db}, path: path}
	s.Run = func(context.Context, func(tables.Tx) error) error { return errReadOnly }
	s.Damaged = damaged
	return s, nil
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

func openFile(ctx context.Context, dir string) (*Store, error) {
	path := filepath.Join(dir, File)
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
		hint := "is it a whole store of this program, and may this user write to it? `hanaperd restore` puts a backup in its place"
		if errors.Is(err, errNewer) {
			hint = "use the release that wrote it, or a newer one"
		}
		return nil, advice.Wrap(advice.Failed, fmt.Errorf("store %s: %w", show.Text(path), err), hint)
	}
	return s, nil
}

// dsn names the file and what each connection is set to.
func dsn(path string, more string) string {
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?mode=rw&_pragma=busy_timeout(5000)&_pragma=cell_size_check(1)" + more
}

// writing sets the one connection that writes: WAL with a sync at each commit. The log is put into the file every 64 MB: keys and serials are
// random, so that in a large store each enrolment changes pages of its own, and a page that is changed again meanwhile is written once.
const writing = "&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=wal_autocheckpoint(16000)&_pragma=cache_size(-65536)&_txlock=immediate"

func open(ctx context.Context, path string) (*Store, error) {
	w, err := sql.Open("sqlite", dsn(path, writing))
	if err != nil {
		return nil, err
	}
	w.SetMaxOpenConns(1)
	s := &Store{path: path, write: w, turns: map[string]chan struct{}{}}
	s.ended, s.end = context.WithCancel(context.Background())
	if err := s.migrate(ctx); err != nil {
		w.Close()
		return nil, err
	}
	if s.DB, err = reader(path); err != nil {
		w.Close()
		return nil, err
	}
	if s.writer, err = startWriter(ctx, w, path); err != nil {
		s.DB.Close()
		w.Close()
		return nil, err
	}
	s.Run = func(ctx context.Context, steps func(tables.Tx) error) error { return s.writer.do(ctx, steps) }
	s.Damaged = damaged
	return s, nil
}

var (
	errNewer = errors.New("it was written by a newer release")
	errOlder = errors.New("it was written by an older release")
)

func versionOf(ctx context.Context, db *sql.DB) (app, have int, err error) {
	if err = db.QueryRowContext(ctx, "PRAGMA application_id").Scan(&app); err == nil {
		err = db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&have)
	}
	return app, have, err
}

// known refuses a file that is not ours, or that a newer release wrote.
func known(app, have int) error {
	switch {
	case app != application:
		return fmt.Errorf("it is no store of hanaperd (application %#x)", app)
	case have > Version:
		return fmt.Errorf("%w (schema %d; this one knows schema %d)", errNewer, have, Version)
	case have < 1:
		return fmt.Errorf("it has no schema")
	}
	return nil
}

// migrate makes the tables in an empty file, and brings a store of an earlier release up to date: in one step, or not at all.
func (s *Store) migrate(ctx context.Context) error {
	var mode string
	var sync, there int
	for q, into := range map[string]any{"PRAGMA journal_mode": &mode, "PRAGMA synchronous": &sync, "SELECT count(*) FROM sqlite_master": &there} {
		if err := s.write.QueryRowContext(ctx, q).Scan(into); err != nil {
			return err
		}
	}
	if mode != "wal" || sync != 2 {
		return fmt.Errorf("journal mode is %s with synchronous %d, not wal with 2", mode, sync)
	}
	app, have, err := versionOf(ctx, s.write)
	if err != nil {
		return err
	}
	empty := app == 0 && have == 0 && there == 0
	if !empty {
		if err := known(app, have); err != nil {
			return err
		}
		if have == Version {
			return objects.Same(ctx, s.write, schema)
		}
	}
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	switch have {
	case 1:
		err = upgradeFrom1(ctx, tx)
	case 2:
		err = upgradeFrom2(ctx, tx)
	default:
		_, err = tx.ExecContext(ctx, schema)
	}
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, fmt.Sprintf("INSERT INTO version (number, at) VALUES (%d, %d); PRAGMA user_version=%d; PRAGMA application_id=%d;",
		Version, time.Now().Unix(), Version, application)); err != nil {
		return err
	}
	if err := objects.Same(ctx, tx, schema); err != nil {
		return err
	}
	return tx.Commit()
}

// Close waits for the writes at work, puts all of the write-ahead log into the file, so that the file alone is the whole store, and
// closes it.
func (s *Store) Close() error {
	if s.writer == nil {
		return s.DB.Close()
	}
	s.end()
	s.writer.stop()
	err := s.DB.Close()
	var busy, frames, moved int
	if bad := s.write.QueryRow("PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &frames, &moved); bad == nil && busy != 0 {
		err = errors.Join(err, errors.New("the store is being read by another program; its write-ahead log stays beside it"))
	} else {
		err = errors.Join(err, bad)
	}
	err = errors.Join(err, s.write.Close(), s.lock.Close())
	return err
}
