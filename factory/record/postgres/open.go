// Package postgres keeps the factory's record in a PostgreSQL database, which several hanaperd may share.
//
// It trusts the database, its administrators and the way to it: a socket or loopback of this machine, or TLS with the server's
// certificate checked. An attacker who can write to the database can make devices be forgotten, refused or shown as revoked; he can
// make no certificate. It holds device ids, which are personal data.
package postgres

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/hanaper/hanaper/factory/record"
	"github.com/hanaper/hanaper/factory/record/tables"
	"github.com/hanaper/hanaper/internal/advice"
	batching "github.com/hanaper/hanaper/internal/batch"
	"github.com/hanaper/hanaper/internal/pgpool"
)

//go:embed schema.sql
var schema2 string

// lots is what schema 3 adds to schema 2.
//
//go:embed lots.sql
var lots string

// from2 brings schema 2 up to date. The function that a server of the release before calls is dropped, so that such a server, which knows nothing of
// orders, enrols nobody any more.
const from2 = `ALTER TABLE lot RENAME TO old_lot;
ALTER INDEX lot_pkey RENAME TO old_lot_pkey;
DROP FUNCTION hanaper_begin(text, text, bytea, bytea, bytea, text, text, text, bytea, bytea, bigint, bytea, bytea, bigint, bigint, bigint);
`

const from2Lots = `
INSERT INTO lot (name, quota, taken, state, revision, profile, environment, id_pattern, listed, stations, hardware_ids, opened_at)
 SELECT name, quota, taken, 'open', 0, '', '', '', 0, '', '', 0 FROM old_lot ORDER BY name;
DROP TABLE old_lot;
`

//go:embed functions.sql
var functions string

// Version is the schema's, in the table version; it is SQLite's too.
const Version = 3

// Config says where the database is.
type Config struct {
	// Database is a connection string of libpq, keywords or URL, without a password.
	Database string
	// Password is that of the database's user; empty for none.
	Password string
	// Connections bounds the connections of this process; 0 means 16.
	Connections int
}

// Store is a record.Store in a database.
type Store struct {
	tables.Reader
	tables.Writer
	pool *pgxpool.Pool
	// intents and results are committed apart: results are numbered, and so wait for those of other servers. steps is for all the rest.
	intents, results *batching.Queue[*call]
	steps            *batching.Queue[op]
	// turns has a token for each issuer whose list this process makes.
	turns sync.Map
	ended context.Context
	end   context.CancelFunc
}

var _ record.Store = (*Store)(nil)

// Open connects, and makes the tables where there are none.
func Open(ctx context.Context, c Config) (*Store, error) {
	conf, err := pgpool.Parse(pgpool.Config{Section: "store", Database: c.Database, Password: c.Password, Connections: c.Connections, Application: "hanaperd"})
	if err != nil {
		return nil, err
	}
	pool, err := pgxpool.NewWithConfig(ctx, conf)
	if err != nil {
		return nil, err
	}
	s := &Store{pool: pool}
	s.DB, s.Bind = stdlib.OpenDBFromPool(pool), bind
	s.ended, s.end = context.WithCancel(context.Background())
	if err := s.migrate(ctx); err != nil {
		s.DB.Close()
		pool.Close()
		hint := "is the server running, and may this user make tables in the database?"
		if errors.Is(err, errNewer) {
			hint = "use the release that wrote it, or a newer one"
		}
		return nil, advice.Wrap(advice.Failed, fmt.Errorf("database %q on %s: %w", conf.ConnConfig.Database, conf.ConnConfig.Host, err), hint)
	}
	s.intents, s.results, s.steps = batching.New(s.calls), batching.New(s.calls), batching.New(s.commit)
	s.Run = func(ctx context.Context, steps func(tables.Tx) error) error { return s.steps.Do(ctx, steps) }
	s.Damaged = damaged
	return s, nil
}

var errNewer = errors.New("it was written by a newer release")

// lockMigration is the advisory lock under which the schema is looked at and made: "hnpr", and a number of its own.
const lockMigration = 0x686e7072_00000001

func (s *Store) migrate(ctx context.Context) error {
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", int64(lockMigration)); err != nil {
			return err
		}
		var made bool
		if err := tx.QueryRow(ctx, "SELECT to_regclass('version') IS NOT NULL").Scan(&made); err != nil {
			return err
		}
		if made {
			var have int
			if err := tx.QueryRow(ctx, "SELECT coalesce(max(number), 0) FROM version").Scan(&have); err != nil {
				return err
			}
			switch {
			case have > Version:
				return fmt.Errorf("%w (schema %d; this one knows schema %d)", errNewer, have, Version)
			case have == 2:
				_, err := tx.Exec(ctx, from2+lots+from2Lots+functions+thisVersion())
				return err
			case have != Version:
				return fmt.Errorf("it has schema %d, which no release has made in PostgreSQL", have)
			}
			_, err := tx.Exec(ctx, functions)
			return err
		}
		var others int
		if err := tx.QueryRow(ctx, "SELECT count(*) FROM pg_tables WHERE schemaname = current_schema()").Scan(&others); err != nil {
			return err
		}
		if others > 0 {
			return fmt.Errorf("it holds %d tables that are not ours: give hanaperd a database of its own", others)
		}
		_, err := tx.Exec(ctx, schema2+lots+functions+thisVersion())
		return err
	})
}

// thisVersion notes in the database that it has the present schema.
func thisVersion() string {
	return fmt.Sprintf("INSERT INTO version (number, at) VALUES (%d, %d);", Version, time.Now().Unix())
}

// Close waits for the writes at work and disconnects.
func (s *Store) Close() error {
	s.end()
	s.intents.Stop()
	s.results.Stop()
	s.steps.Stop()
	err := s.DB.Close()
	s.pool.Close()
	return err
}
