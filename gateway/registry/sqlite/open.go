// Package sqlite keeps a registry of devices in one file, for one gateway and the tools beside it.
//
// It trusts its file; see gateway/registry for what somebody who can write it can do. The file is made with mode 0600, and one that others may read or
// write is refused: device ids are personal data, and blocks are not for everybody to lift.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"sync"
	"sync/atomic"

	_ "modernc.org/sqlite" // the driver, without cgo

	"github.com/hanaper/hanaper/gateway/registry"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/schema"
	"github.com/hanaper/hanaper/internal/show"
)

// Config is how a registry's file is opened.
type Config struct {
	Path string
	// Environment is that of the devices of a file of an earlier release, which does not say.
	Environment string
	registry.Config
}

// Registry is a registry in a file.
type Registry struct {
	*registry.Registry
	store *Store
}

// Open opens the registry in a file, and makes it if it is not there. Other processes may use the file at the same time.
func Open(c Config) (*Registry, error) {
	s, err := openStore(c.Path, c.Environment)
	if err != nil {
		return nil, err
	}
	r, err := registry.New(s, c.Config)
	if err != nil {
		return nil, failed(c.Path, err)
	}
	return &Registry{r, s}, nil
}

// ID is the registry's own name, made with its file: a file that was put in its place has another.
func (r *Registry) ID() string { return r.store.id }

// Last is the number of the last act in it.
func (r *Registry) Last(ctx context.Context) (int64, error) { return r.store.Last(ctx) }

// Store is a registry.Store in a file.
type Store struct {
	path        string
	id          string
	write, read *sql.DB
	say         map[string]*sql.Stmt
	// files are those that were opened, by path; lost is why they are not there any more.
	files map[string]os.FileInfo

	mu           sync.RWMutex
	environments map[string]int64
	issuers      map[string]int64
	closed       atomic.Bool
}

var _ registry.Store = (*Store)(nil)

func failed(path string, err error) error {
	hint := advice.Hint(err)
	if hint == "" && durable.Full(err) {
		hint = "nothing was changed: make room on its disk, and do it again"
	}
	if hint == "" {
		hint = "is it a registry of hanaper-gateway, and is there room on the disk?"
	}
	return advice.Wrap(advice.KindOf(err), fmt.Errorf("registry %s: %w", show.Text(path), err), hint)
}

func dsn(path string) string {
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=cache_size(-32768)&_txlock=immediate"
}

func openStore(path, environment string) (*Store, error) {
	if err := durable.Own(path); err != nil {
		return nil, err
	}
	if err := touch(path); err != nil {
		return nil, err
	}
	s := &Store{path: path, environments: map[string]int64{}, issuers: map[string]int64{}, files: map[string]os.FileInfo{}, say: map[string]*sql.Stmt{}}
	var err error
	if s.write, err = sql.Open("sqlite", dsn(path)); err != nil {
		return nil, err
	}
	s.write.SetMaxOpenConns(1)
	if s.read, err = sql.Open("sqlite", dsn(path)); err != nil {
		return nil, errors.Join(err, s.write.Close())
	}
	s.read.SetMaxOpenConns(2)
	if err := s.prepare(environment); err != nil {
		return nil, failed(path, errors.Join(err, s.Close()))
	}
	return s, nil
}

// touch makes the file if it is not there, and refuses one that others may read or write.
func touch(path string) error {
	f, err := input.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return advice.Wrap(advice.Usage, fmt.Errorf("registry: %w", err), "registry.path names a file in a folder that exists and that the gateway may write")
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return advice.New(advice.Usage, "chmod 600 "+path, "registry %s may be read or written by others (mode %04o)", show.Text(path), mode)
	}
	return nil
}

func (s *Store) prepare(environment string) error {
	ctx := context.Background()
	var version int
	if err := s.write.QueryRow("PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	if version > format {
		return fmt.Errorf("it was written by a newer release (format %d, this one knows %d)", version, format)
	}
	if version < format {
		if err := s.upgrade(ctx, version, environment); err != nil {
			return err
		}
	}
	if err := schema.Same(ctx, s.write, tables); err != nil {
		return err
	}
	if err := s.write.QueryRow("SELECT lower(hex(id)) FROM about").Scan(&s.id); err != nil {
		return err
	}
	if err := s.readNames(ctx); err != nil {
		return err
	}
	for name, text := range statements {
		var err error
		if s.say[name], err = s.write.Prepare(text); err != nil {
			return err
		}
	}
	// The log of changes is as much a part of the registry as the file: what other processes write to another one is not seen.
	for _, name := range []string{s.path, s.path + "-wal"} {
		var err error
		if s.files[name], err = os.Stat(name); err != nil {
			return err
		}
	}
	return nil
}

// readNames reads the environments' numbers.
func (s *Store) readNames(ctx context.Context) error {
	rows, err := s.read.QueryContext(ctx, "SELECT id, name FROM environment")
	if err != nil {
		return err
	}
	defer rows.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	for rows.Next() {
		var id int64
		var name string
		if err := rows.Scan(&id, &name); err != nil {
			return err
		}
		s.environments[name] = id
	}
	return rows.Err()
}

// environment is the number of an environment, 0 for one that has none.
func (s *Store) environment(ctx context.Context, name string) (int64, error) {
	s.mu.RLock()
	id := s.environments[name]
	s.mu.RUnlock()
	if id != 0 {
		return id, nil
	}
	// Another process may have made it.
	if err := s.readNames(ctx); err != nil {
		return 0, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.environments[name], nil
}

// Lost implements registry.Store: in any other file than the one at path, an operator's acts would go unseen.
func (s *Store) Lost() error {
	for name, opened := range s.files {
		if now, err := os.Stat(name); err != nil {
			return fmt.Errorf("the registry's file is gone: %w", err)
		} else if !os.SameFile(now, opened) {
			return fmt.Errorf("another file was put in the place of the registry's %s: start the gateway anew", show.Text(name))
		}
	}
	return nil
}

// Wakes implements registry.Store: a file says nothing by itself.
func (s *Store) Wakes() <-chan struct{} { return nil }

// Writers implements registry.Store.
func (s *Store) Writers() int { return 1 }

// Close implements registry.Store.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	return errors.Join(s.read.Close(), s.write.Close())
}
