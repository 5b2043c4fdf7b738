package sqlite

import (
	"context"
	"database/sql"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hanaper/hanaper/gateway"
	"github.com/hanaper/hanaper/gateway/registry"
)

const (
	columns = `d.id, d.environment, d.fold, coalesce(d.name, d.fold), d.state, d.registered, d.first_seen, d.last_seen, d.since, d.why, d.notes, d.key, d.key_from, d.generation, d.rekey, d.flags`
	findOne = `SELECT ` + columns + ` FROM device d WHERE d.environment = ? AND d.fold = ?`
	certs   = `SELECT c.turn, c.sha256, c.key, c.generation, c.serial, i.name, c.not_after, c.first_seen, c.last_seen FROM certificate c JOIN issuer i ON i.id = c.issuer
 WHERE c.device = ? ORDER BY c.turn`
)

type scanner interface{ Scan(...any) error }

func scanRow(s scanner) (row *registry.Row, environment int64, err error) {
	row = &registry.Row{}
	var registered, rekey int64
	err = s.Scan(&row.ID, &environment, &row.Fold, &row.Name, &row.State, &registered, &row.FirstSeen, &row.LastSeen, &row.Since, &row.Why, &row.Notes, &row.KeySum, &row.KeyFrom,
		&row.Generation, &rekey, &row.Flags)
	row.Registered, row.Rekey = registered != 0, rekey != 0
	return row, environment, err
}

// asker asks: the reading connections, or the transaction.
type asker func(ctx context.Context, query string, args ...any) (*sql.Rows, error)

// find gives devices with their certificates.
func (s *Store) find(ctx context.Context, ask asker, keys []registry.Key) (map[registry.Key]*registry.Row, error) {
	found := map[registry.Key]*registry.Row{}
	for _, k := range keys {
		env, err := s.environment(ctx, k.Environment)
		if err != nil {
			return nil, err
		}
		if env == 0 {
			continue
		}
		row, err := one(ctx, ask, env, k)
		if err != nil {
			return nil, err
		}
		if row != nil {
			found[k] = row
		}
	}
	return found, nil
}

func one(ctx context.Context, ask asker, env int64, k registry.Key) (*registry.Row, error) {
	rows, err := ask(ctx, findOne, env, k.Fold)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	if !rows.Next() {
		return nil, rows.Err()
	}
	row, _, err := scanRow(rows)
	if err != nil {
		return nil, err
	}
	row.Environment = k.Environment
	if err := rows.Close(); err != nil {
		return nil, err
	}
	list, err := ask(ctx, certs, row.ID)
	if err != nil {
		return nil, err
	}
	defer list.Close()
	for list.Next() {
		var c registry.Certificate
		if err := list.Scan(&c.Turn, &c.Sum, &c.KeySum, &c.Generation, &c.Serial, &c.Issuer, &c.NotAfter, &c.FirstSeen, &c.LastSeen); err != nil {
			return nil, err
		}
		row.Certificates = append(row.Certificates, c)
	}
	return row, list.Err()
}

// Look implements registry.Store. All keys are asked on one connection, in one read transaction.
func (s *Store) Look(ctx context.Context, keys []registry.Key) (map[registry.Key]*registry.Row, error) {
	conn, err := s.read.Conn(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return s.find(ctx, conn.QueryContext, keys)
}

// Last implements registry.Store.
func (s *Store) Last(ctx context.Context) (number int64, err error) {
	return number, s.read.QueryRowContext(ctx, "SELECT last FROM about").Scan(&number)
}

// Barred implements registry.Store.
func (s *Store) Barred(ctx context.Context, each func(registry.Key, registry.State)) (number int64, err error) {
	tx, err := s.read.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return 0, err
	}
	defer tx.Rollback()
	if err := tx.QueryRowContext(ctx, "SELECT last FROM about").Scan(&number); err != nil {
		return 0, err
	}
	rows, err := tx.QueryContext(ctx, "SELECT e.name, d.fold, d.state FROM device d JOIN environment e ON e.id = d.environment WHERE d.state <> 1 AND d.state >= 2")
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for rows.Next() {
		var k registry.Key
		var state registry.State
		if err := rows.Scan(&k.Environment, &k.Fold, &state); err != nil {
			return 0, err
		}
		each(k, state)
	}
	return number, rows.Err()
}

// Devices implements registry.Store: one environment after another. States other than active, and flags, are found by an index of their own; a prefix is a
// range of the index of ids.
func (s *Store) Devices(ctx context.Context, f gateway.Filter) (list []*registry.Row, err error) {
	if err := s.readNames(ctx); err != nil {
		return nil, err
	}
	s.mu.RLock()
	names := slices.Sorted(maps.Keys(s.environments))
	s.mu.RUnlock()
	for _, name := range names {
		if f.Environment != "" && name != f.Environment || name < f.AfterEnvironment || len(list) >= f.Limit {
			continue
		}
		if list, err = s.devicesOf(ctx, name, f, list); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func (s *Store) devicesOf(ctx context.Context, environment string, f gateway.Filter, list []*registry.Row) ([]*registry.Row, error) {
	env, err := s.environment(ctx, environment)
	if err != nil {
		return nil, err
	}
	where, args := []string{"d.environment = ?"}, []any{env}
	add := func(text string, values ...any) { where, args = append(where, text), append(args, values...) }
	if f.AfterEnvironment == environment {
		add("d.fold > ?", registry.Fold(f.After))
	}
	if f.State != "" {
		n := registry.StateOf(f.State)
		add("d.state = ?", n)
		if n != registry.Active {
			add("d.state <> 1")
		}
	}
	if f.Flag != "" {
		add("d.flags <> 0")
		if bit := registry.Flags[f.Flag]; bit != 0 {
			add("d.flags & ? <> 0", bit)
		}
	}
	if f.Prefix != "" {
		p := registry.Fold(f.Prefix)
		add("d.fold >= ? AND d.fold < ?", p, p+"\x7f")
	}
	rows, err := s.read.QueryContext(ctx, "SELECT "+columns+" FROM device d WHERE "+strings.Join(where, " AND ")+" ORDER BY d.fold LIMIT ?", append(args, f.Limit-len(list))...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		row, _, err := scanRow(rows)
		if err != nil {
			return nil, err
		}
		row.Environment = environment
		list = append(list, row)
	}
	return list, rows.Err()
}

// Log implements registry.Store.
func (s *Store) Log(ctx context.Context, f gateway.LogFilter) ([]gateway.LogEntry, error) {
	where, args, order := []string{"a.number > ?"}, []any{f.After}, " ORDER BY a.number"
	if f.Newest {
		where, args, order = []string{"(? = 0 OR a.number < ?)"}, []any{f.After, f.After}, " ORDER BY a.number DESC"
	}
	if f.Environment != "" {
		where, args = append(where, "e.name = ?"), append(args, f.Environment)
	}
	if f.Device != "" {
		where, args = append(where, "a.fold = ?"), append(args, registry.Fold(f.Device))
	}
	rows, err := s.read.QueryContext(ctx, "SELECT a.number, a.at, a.who, a.verb, coalesce(e.name, ''), coalesce(a.name, a.fold, ''), a.why, a.detail FROM act a LEFT JOIN environment e ON e.id = a.environment WHERE "+
		strings.Join(where, " AND ")+order+" LIMIT ?", append(args, f.Limit)...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []gateway.LogEntry
	for rows.Next() {
		var e gateway.LogEntry
		var at int64
		if err := rows.Scan(&e.Number, &at, &e.Who, &e.Verb, &e.Environment, &e.Device, &e.Why, &e.Detail); err != nil {
			return nil, err
		}
		e.At = time.Unix(at, 0).UTC()
		list = append(list, e)
	}
	return list, rows.Err()
}

// Tallies implements registry.Store.
func (s *Store) Tallies(ctx context.Context) (map[registry.Tally]int64, error) {
	rows, err := s.read.QueryContext(ctx, "SELECT e.name, t.state, t.n FROM tally t JOIN environment e ON e.id = t.environment")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	found := map[registry.Tally]int64{}
	for rows.Next() {
		var t registry.Tally
		var n int64
		if err := rows.Scan(&t.Environment, &t.State, &n); err != nil {
			return nil, err
		}
		found[t] = n
	}
	return found, rows.Err()
}

// Flagged implements registry.Store.
func (s *Store) Flagged(ctx context.Context) (map[string]map[int64]int64, error) {
	rows, err := s.read.QueryContext(ctx, "SELECT e.name, d.flags, count(*) FROM device d JOIN environment e ON e.id = d.environment WHERE d.flags <> 0 GROUP BY 1, 2")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	found := map[string]map[int64]int64{}
	for rows.Next() {
		var name string
		var flags, n int64
		if err := rows.Scan(&name, &flags, &n); err != nil {
			return nil, err
		}
		if found[name] == nil {
			found[name] = map[int64]int64{}
		}
		for _, bit := range registry.Flags {
			if flags&bit != 0 {
				found[name][bit] += n
			}
		}
	}
	return found, rows.Err()
}
