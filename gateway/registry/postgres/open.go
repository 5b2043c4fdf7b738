// Package postgres keeps a registry of devices in a PostgreSQL database that several gateways share: what one of them learns, or an operator does at one,
// is told to the others by NOTIFY, and they look besides.
//
// It trusts the database, its administrators and the way to it (internal/pgpool); see gateway/registry for what somebody who can write there can do. While
// the database does not answer no device that is new is admitted, and after Config.Blind nobody.
package postgres

import (
	"context"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hanaper/hanaper/gateway/registry"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/pgpool"
)

//go:embed schema.sql
var schema string

// Version is the schema's, in the table about.
const Version = 1

// channel is where acts are told.
const channel = "hanaper_registry"

// lockMigration is the advisory lock under which the schema is looked at and made: "hnpr", and a number of its own.
const lockMigration = 0x686e7072_00000002

// shards is among how many rows the counting of one state is spread.
const shards = 16

// Config says where the database is.
type Config struct {
	// Database is a connection string of libpq without a password, Password that of its user, Connections the most of this process (0: 16).
	Database, Password string
	Connections        int
	registry.Config
}

// Registry is a registry in a database.
type Registry struct {
	*registry.Registry
	store *Store
}

// Open connects, and makes the tables where there are none.
func Open(ctx context.Context, c Config) (*Registry, error) {
	s, err := open(ctx, c)
	if err != nil {
		return nil, err
	}
	r, err := registry.New(s, c.Config)
	if err != nil {
		return nil, err
	}
	return &Registry{r, s}, nil
}

// ID is the registry's own name, made with its tables.
func (r *Registry) ID() string { return r.store.id }

// Last is the number of the last act in it.
func (r *Registry) Last(ctx context.Context) (int64, error) { return r.store.Last(ctx) }

// Store is a registry.Store in a database.
type Store struct {
	pool  *pgxpool.Pool
	id    string
	shard int
	wakes chan struct{}
	// restored is when the registry was put back from a backup, as it was when this was opened; lost says that it was put back since.
	restored int64
	lost     atomic.Pointer[error]
	stop     context.CancelFunc
	done     sync.WaitGroup

	mu           sync.RWMutex
	environments map[string]int64
	issuers      map[string]int64
}

var _ registry.Store = (*Store)(nil)

func open(ctx context.Context, c Config) (*Store, error) {
	conf, err := pgpool.Parse(pgpool.Config{Section: "registry", Database: c.Database, Password: c.Password, Connections: c.Connections, Application: "hanaper-gateway"})
	if err != nil {
		return nil, err
	}
	pool, err := pgxpool.NewWithConfig(ctx, conf)
	if err != nil {
		return nil, err
	}
	s := &Store{pool: pool, shard: rand.IntN(shards), wakes: make(chan struct{}, 1), environments: map[string]int64{}, issuers: map[string]int64{}}
	if err := s.prepare(ctx); err != nil {
		pool.Close()
		hint := "is the server running, and may this user make tables in the database?"
		if errors.Is(err, errNewer) {
			hint = "use the release that wrote it, or a newer one"
		}
		return nil, advice.Wrap(advice.Failed, fmt.Errorf("registry: database %q on %s: %w", conf.ConnConfig.Database, conf.ConnConfig.Host, err), hint)
	}
	listening, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.done.Go(func() { s.listen(listening) })
	return s, nil
}

var errNewer = errors.New("it was written by a newer release")

func (s *Store) prepare(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", int64(lockMigration)); err != nil {
			return err
		}
		var made bool
		if err := tx.QueryRow(ctx, "SELECT to_regclass('about') IS NOT NULL AND to_regclass('act') IS NOT NULL").Scan(&made); err != nil {
			return err
		}
		if !made {
			var others int
			if err := tx.QueryRow(ctx, "SELECT count(*) FROM pg_tables WHERE schemaname = current_schema()").Scan(&others); err != nil {
				return err
			}
			if others > 0 {
				return fmt.Errorf("it holds %d tables that are not ours: give the registry a database of its own", others)
			}
			if _, err := tx.Exec(ctx, schema); err != nil {
				return err
			}
		}
		var id []byte
		var have int
		if err := tx.QueryRow(ctx, "SELECT version, id, restored FROM about").Scan(&have, &id, &s.restored); err != nil {
			return err
		}
		switch {
		case have > Version:
			return fmt.Errorf("%w (version %d; this one knows version %d)", errNewer, have, Version)
		case have != Version:
			return fmt.Errorf("it has version %d, which no release has made", have)
		}
		s.id = hex.EncodeToString(id)
		return nil
	})
}

// listen wakes the registry whenever an act is told, until ctx ends. A connection that breaks is made anew; what is told meanwhile the registry finds when
// it looks.
func (s *Store) listen(ctx context.Context) {
	for ctx.Err() == nil {
		_ = s.hear(ctx)
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

func (s *Store) hear(ctx context.Context) error {
	pooled, err := s.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	// It is of no use to others any more.
	conn := pooled.Hijack()
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, "LISTEN "+channel); err != nil {
		return err
	}
	for {
		s.wake()
		if _, err := conn.WaitForNotification(ctx); err != nil {
			return err
		}
	}
}

func (s *Store) wake() {
	select {
	case s.wakes <- struct{}{}:
	default:
	}
}

// Wakes implements registry.Store.
func (s *Store) Wakes() <-chan struct{} { return s.wakes }

// Lost implements registry.Store.
func (s *Store) Lost() error {
	if lost := s.lost.Load(); lost != nil {
		return *lost
	}
	return nil
}

// Writers implements registry.Store: while one transaction waits for the disk, others are made ready.
func (s *Store) Writers() int { return 4 }

// Close implements registry.Store.
func (s *Store) Close() error {
	s.stop()
	s.done.Wait()
	s.pool.Close()
	return nil
}

// retryable says that the database ended a transaction in the interest of another one.
func retryable(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && (e.Code == "40001" || e.Code == "40P01")
}
