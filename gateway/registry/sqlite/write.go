package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/hanaper/hanaper/gateway"
	"github.com/hanaper/hanaper/gateway/registry"
)

// statements of the one writing connection, prepared once.
var statements = map[string]string{
	"find":  findOne,
	"certs": certs,
	"add": `INSERT INTO device (environment, fold, name, state, registered, first_seen, last_seen, since, why, notes, key, key_from, generation, rekey, flags)
 VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT DO NOTHING`,
	"change": `UPDATE device SET name = ?, state = ?, registered = ?, first_seen = ?, last_seen = ?, since = ?, why = ?, notes = ?, key = ?, key_from = ?, generation = ?,
 rekey = ?, flags = ? WHERE id = ?`,
	"cert":  `INSERT INTO certificate (device, turn, sha256, key, generation, serial, issuer, not_after, first_seen, last_seen) VALUES (?,?,?,?,?,?,?,?,?,?)`,
	"tally": `INSERT INTO tally (environment, state, n) VALUES (?,?,?) ON CONFLICT DO UPDATE SET n = n + excluded.n`,
	"seen":  `UPDATE device SET last_seen = ? WHERE environment = ? AND fold = ? AND last_seen < ? AND state < 2 RETURNING id`,
	"again": `UPDATE certificate SET last_seen = ?1 WHERE device = ?2 AND sha256 = ?3 AND last_seen < ?1`,
	"enter": `INSERT INTO act (number, at, who, verb, environment, fold, name, why, detail) VALUES (?,?,?,?,?,?,?,?,?)`,
}

// transaction is a registry.Tx.
type transaction struct {
	ctx   context.Context
	store *Store
	tx    *sql.Tx
}

// Do implements registry.Store.
func (s *Store) Do(ctx context.Context, steps func(registry.Tx) error) error {
	return s.in(ctx, func(t *transaction) error { return steps(t) })
}

func (s *Store) in(ctx context.Context, steps func(*transaction) error) error {
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := steps(&transaction{ctx, s, tx}); err != nil {
		return err
	}
	return tx.Commit()
}

func (t *transaction) say(name string) *sql.Stmt { return t.tx.StmtContext(t.ctx, t.store.say[name]) }

// Find implements registry.Tx: there is one writer.
func (t *transaction) Find(keys []registry.Key) (map[registry.Key]*registry.Row, error) {
	return t.store.find(t.ctx, func(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
		name := "find"
		if query == certs {
			name = "certs"
		}
		return t.say(name).QueryContext(ctx, args...)
	}, keys)
}

// environment is the number of an environment, which is made where it has none.
func (t *transaction) environment(name string) (int64, error) {
	t.store.mu.RLock()
	id := t.store.environments[name]
	t.store.mu.RUnlock()
	if id != 0 {
		return id, nil
	}
	// Not kept: the transaction may come to nothing.
	if _, err := t.tx.ExecContext(t.ctx, "INSERT INTO environment (name) VALUES (?) ON CONFLICT DO NOTHING", name); err != nil {
		return 0, err
	}
	return id, t.tx.QueryRowContext(t.ctx, "SELECT id FROM environment WHERE name = ?", name).Scan(&id)
}

func (t *transaction) issuer(name string) (int64, error) {
	t.store.mu.RLock()
	id := t.store.issuers[name]
	t.store.mu.RUnlock()
	if id != 0 {
		return id, nil
	}
	err := t.tx.QueryRowContext(t.ctx, "SELECT id FROM issuer WHERE name = ?", name).Scan(&id)
	if err == nil {
		// It was there before: it stays.
		t.store.mu.Lock()
		if len(t.store.issuers) < maxIssuers {
			t.store.issuers[name] = id
		}
		t.store.mu.Unlock()
		return id, nil
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return 0, err
	}
	result, err := t.tx.ExecContext(t.ctx, "INSERT INTO issuer (name) VALUES (?)", name)
	if err != nil {
		return 0, err
	}
	return result.LastInsertId()
}

// maxIssuers bounds the issuers' numbers in memory.
const maxIssuers = 1000

// nameOrNull is the name of a device where it is not its fold.
func nameOrNull(row *registry.Row) any {
	if row.Name == row.Fold {
		return nil
	}
	return row.Name
}

func yes(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Add implements registry.Tx.
func (t *transaction) Add(rows []*registry.Row) error {
	add := t.say("add")
	for _, row := range rows {
		env, err := t.environment(row.Environment)
		if err != nil {
			return err
		}
		result, err := add.ExecContext(t.ctx, env, row.Fold, nameOrNull(row), row.State, yes(row.Registered), row.FirstSeen, row.LastSeen, row.Since, row.Why, row.Notes, row.KeySum,
			row.KeyFrom, row.Generation, yes(row.Rekey), row.Flags)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil {
			return err
		} else if n == 1 {
			if row.ID, err = result.LastInsertId(); err != nil {
				return err
			}
		}
	}
	return nil
}

// Change implements registry.Tx.
func (t *transaction) Change(rows []*registry.Row) error {
	change := t.say("change")
	for _, row := range rows {
		if _, err := change.ExecContext(t.ctx, nameOrNull(row), row.State, yes(row.Registered), row.FirstSeen, row.LastSeen, row.Since, row.Why, row.Notes, row.KeySum, row.KeyFrom,
			row.Generation, yes(row.Rekey), row.Flags, row.ID); err != nil {
			return err
		}
	}
	return nil
}

// Remove implements registry.Tx.
func (t *transaction) Remove(row *registry.Row, all bool) error {
	if _, err := t.tx.ExecContext(t.ctx, "DELETE FROM certificate WHERE device = ?", row.ID); err != nil || !all {
		return err
	}
	_, err := t.tx.ExecContext(t.ctx, "DELETE FROM device WHERE id = ?", row.ID)
	return err
}

// AddCertificates implements registry.Tx.
func (t *transaction) AddCertificates(list []registry.NewCertificate) error {
	cert := t.say("cert")
	for _, c := range list {
		issuer, err := t.issuer(c.Issuer)
		if err != nil {
			return err
		}
		if _, err := cert.ExecContext(t.ctx, c.Device.ID, c.Turn, c.Sum, c.KeySum, c.Generation, c.Serial, issuer, c.NotAfter, c.FirstSeen, c.LastSeen); err != nil {
			return err
		}
	}
	return nil
}

// Tally implements registry.Tx.
func (t *transaction) Tally(deltas map[registry.Tally]int64) error {
	for one, n := range deltas {
		env, err := t.environment(one.Environment)
		if err != nil {
			return err
		}
		if _, err := t.say("tally").ExecContext(t.ctx, env, one.State, n); err != nil {
			return err
		}
	}
	return nil
}

// Enter implements registry.Tx.
func (t *transaction) Enter(entries []gateway.LogEntry) error {
	var last int64
	if err := t.tx.QueryRowContext(t.ctx, "UPDATE about SET last = last + ? RETURNING last", len(entries)).Scan(&last); err != nil {
		return err
	}
	for i, e := range entries {
		var env, fold, name any
		if e.Environment != "" {
			id, err := t.environment(e.Environment)
			if err != nil {
				return err
			}
			env = id
		}
		if e.Device != "" {
			fold = registry.Fold(e.Device)
			if fold != e.Device {
				name = e.Device
			}
		}
		if _, err := t.say("enter").ExecContext(t.ctx, last-int64(len(entries)-1-i), e.At.Unix(), e.Who, string(e.Verb), env, fold, name, e.Why, e.Detail); err != nil {
			return fmt.Errorf("the log of acts: %w", err)
		}
	}
	return nil
}

// Seen implements registry.Store.
func (s *Store) Seen(ctx context.Context, list []registry.Sighting) error {
	return s.in(ctx, func(t *transaction) error {
		seen, again := t.say("seen"), t.say("again")
		for _, one := range list {
			env, err := s.environment(ctx, one.Environment)
			if err != nil {
				return err
			}
			var id int64
			err = seen.QueryRowContext(ctx, one.At, env, one.Fold, one.At).Scan(&id)
			if errors.Is(err, sql.ErrNoRows) {
				continue
			}
			if err == nil && one.Certificate != ([32]byte{}) {
				_, err = again.ExecContext(ctx, one.At, id, one.Certificate[:])
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// Probe implements registry.Store.
func (s *Store) Probe(ctx context.Context, at time.Time) error {
	return s.in(ctx, func(t *transaction) error {
		_, err := t.tx.ExecContext(ctx, "UPDATE about SET probed = ?", at.Unix())
		return err
	})
}
