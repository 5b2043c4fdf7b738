package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hanaper/hanaper/gateway"
	"github.com/hanaper/hanaper/gateway/registry"
)

const columns = `d.id, d.environment, d.fold, coalesce(d.name, d.fold), d.state, d.registered, d.first_seen, d.last_seen, d.since, d.why, d.notes, d.key, d.key_from, d.generation, d.rekey, d.flags`

// asker asks: the pool, or the transaction.
type asker interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

func scanRow(rows pgx.Row) (row *registry.Row, environment int64, err error) {
	row = &registry.Row{}
	var registered, rekey int64
	err = rows.Scan(&row.ID, &environment, &row.Fold, &row.Name, &row.State, &registered, &row.FirstSeen, &row.LastSeen, &row.Since, &row.Why, &row.Notes, &row.KeySum, &row.KeyFrom,
		&row.Generation, &rekey, &row.Flags)
	row.Registered, row.Rekey = registered != 0, rekey != 0
	return row, environment, err
}

// environmentsOf reads the environments' numbers anew where one of these is not known.
func (s *Store) environmentsOf(ctx context.Context, ask asker, names ...string) (map[string]int64, error) {
	s.mu.RLock()
	known := s.environments
	s.mu.RUnlock()
	if !slices.ContainsFunc(names, func(n string) bool { return known[n] == 0 }) && len(names) > 0 {
		return known, nil
	}
	rows, err := ask.Query(ctx, "SELECT name, id FROM environment")
	if err != nil {
		return nil, err
	}
	fresh := map[string]int64{}
	var name string
	var id int64
	if _, err := pgx.ForEachRow(rows, []any{&name, &id}, func() error { fresh[name] = id; return nil }); err != nil {
		return nil, err
	}
	return fresh, nil
}

// keep keeps the environments' numbers, which are committed: they never change.
func (s *Store) keep(environments map[string]int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.environments = environments
}

// find gives devices with their certificates; lock is what keeps others from changing them.
func (s *Store) find(ctx context.Context, ask asker, keys []registry.Key, lock string) (map[registry.Key]*registry.Row, error) {
	var names []string
	for _, k := range keys {
		if !slices.Contains(names, k.Environment) {
			names = append(names, k.Environment)
		}
	}
	numbers, err := s.environmentsOf(ctx, ask, names...)
	if err != nil {
		return nil, err
	}
	nameOf := map[int64]string{}
	var envs []int64
	var folds []string
	for _, k := range keys {
		if id := numbers[k.Environment]; id != 0 {
			nameOf[id] = k.Environment
			envs, folds = append(envs, id), append(folds, k.Fold)
		}
	}
	found, byID := map[registry.Key]*registry.Row{}, map[int64]*registry.Row{}
	if len(envs) == 0 {
		return found, nil
	}
	rows, err := ask.Query(ctx, `SELECT `+columns+` FROM device d JOIN unnest($1::bigint[], $2::text[]) k (e, f) ON d.environment = k.e AND d.fold = k.f ORDER BY d.environment, d.fold`+lock, envs, folds)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	ids := []int64{}
	for rows.Next() {
		row, env, err := scanRow(rows)
		if err != nil {
			return nil, err
		}
		row.Environment = nameOf[env]
		found[row.Key], byID[row.ID] = row, row
		ids = append(ids, row.ID)
	}
	if err := rows.Err(); err != nil || len(ids) == 0 {
		return found, err
	}
	return found, certificates(ctx, ask, ids, byID)
}

func certificates(ctx context.Context, ask asker, ids []int64, byID map[int64]*registry.Row) error {
	rows, err := ask.Query(ctx, `SELECT c.device, c.turn, c.sha256, c.key, c.generation, c.serial, i.name, c.not_after, c.first_seen, c.last_seen FROM certificate c
 JOIN issuer i ON i.id = c.issuer WHERE c.device = ANY($1) ORDER BY c.device, c.turn`, ids)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var c registry.Certificate
		var device int64
		if err := rows.Scan(&device, &c.Turn, &c.Sum, &c.KeySum, &c.Generation, &c.Serial, &c.Issuer, &c.NotAfter, &c.FirstSeen, &c.LastSeen); err != nil {
			return err
		}
		byID[device].Certificates = append(byID[device].Certificates, c)
	}
	return rows.Err()
}

// Look implements registry.Store.
func (s *Store) Look(ctx context.Context, keys []registry.Key) (map[registry.Key]*registry.Row, error) {
	return s.find(ctx, s.pool, keys, "")
}

// Last implements registry.Store.
func (s *Store) Last(ctx context.Context) (number int64, err error) {
	var restored int64
	if err := s.pool.QueryRow(ctx, "SELECT last, restored FROM about").Scan(&number, &restored); err != nil {
		return 0, err
	}
	if restored != s.restored {
		lost := errors.New("the registry was put back from a backup: start the gateway anew")
		s.lost.Store(&lost)
		return 0, lost
	}
	return number, nil
}

// Barred implements registry.Store.
func (s *Store) Barred(ctx context.Context, each func(registry.Key, registry.State)) (number int64, err error) {
	err = pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, "SELECT last FROM about").Scan(&number); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, "SELECT e.name, d.fold, d.state FROM device d JOIN environment e ON e.id = d.environment WHERE d.state <> 1 AND d.state >= 2")
		if err != nil {
			return err
		}
		var k registry.Key
		var state registry.State
		_, err = pgx.ForEachRow(rows, []any{&k.Environment, &k.Fold, &state}, func() error { each(k, state); return nil })
		return err
	})
	return number, err
}

// conditions are those of a WHERE, with their values.
type conditions struct {
	text []string
	args []any
}

// add adds a condition, in which each ? is the next value.
func (c *conditions) add(text string, values ...any) {
	for _, v := range values {
		c.args = append(c.args, v)
		text = strings.Replace(text, "?", "$"+strconv.Itoa(len(c.args)), 1)
	}
	c.text = append(c.text, text)
}

func (c *conditions) value(v any) string {
	c.args = append(c.args, v)
	return "$" + strconv.Itoa(len(c.args))
}

// Devices implements registry.Store: one environment after another, each by the index that fits.
func (s *Store) Devices(ctx context.Context, f gateway.Filter) (list []*registry.Row, err error) {
	numbers, err := s.environmentsOf(ctx, s.pool)
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(numbers)) {
		if f.Environment != "" && name != f.Environment || name < f.AfterEnvironment || len(list) >= f.Limit {
			continue
		}
		if list, err = s.devicesOf(ctx, name, numbers[name], f, list); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func (s *Store) devicesOf(ctx context.Context, environment string, number int64, f gateway.Filter, list []*registry.Row) ([]*registry.Row, error) {
	var where conditions
	where.add("d.environment = ?", number)
	if f.AfterEnvironment == environment {
		where.add("d.fold > ?", registry.Fold(f.After))
	}
	if f.State != "" {
		n := registry.StateOf(f.State)
		where.add("d.state = ?", int(n))
		if n != registry.Active {
			where.add("d.state <> 1")
		}
	}
	if f.Flag != "" {
		where.add("d.flags <> 0")
		if bit := registry.Flags[f.Flag]; bit != 0 {
			where.add("d.flags & ? <> 0", bit)
		}
	}
	if f.Prefix != "" {
		p := registry.Fold(f.Prefix)
		where.add("d.fold >= ? AND d.fold < ?", p, p+"\x7f")
	}
	limit := where.value(f.Limit - len(list))
	rows, err := s.pool.Query(ctx, "SELECT "+columns+" FROM device d WHERE "+strings.Join(where.text, " AND ")+" ORDER BY d.fold LIMIT "+limit, where.args...)
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
	var where conditions
	order := " ORDER BY a.number"
	if f.Newest {
		where.add("(?::bigint = 0 OR a.number < ?)", f.After, f.After)
		order = " ORDER BY a.number DESC"
	} else {
		where.add("a.number > ?", f.After)
	}
	if f.Environment != "" {
		where.add("e.name = ?", f.Environment)
	}
	if f.Device != "" {
		where.add("a.fold = ?", registry.Fold(f.Device))
	}
	limit := where.value(f.Limit)
	rows, err := s.pool.Query(ctx, "SELECT a.number, a.at, a.who, a.verb, coalesce(e.name, ''), coalesce(a.name, a.fold, ''), a.why, a.detail FROM act a LEFT JOIN environment e ON e.id = a.environment WHERE "+
		strings.Join(where.text, " AND ")+order+" LIMIT "+limit, where.args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (e gateway.LogEntry, err error) {
		var at int64
		err = row.Scan(&e.Number, &at, &e.Who, &e.Verb, &e.Environment, &e.Device, &e.Why, &e.Detail)
		e.At = time.Unix(at, 0).UTC()
		return e, err
	})
}

// Tallies implements registry.Store.
func (s *Store) Tallies(ctx context.Context) (map[registry.Tally]int64, error) {
	rows, err := s.pool.Query(ctx, "SELECT e.name, t.state, sum(t.n)::bigint FROM tally t JOIN environment e ON e.id = t.environment GROUP BY 1, 2")
	if err != nil {
		return nil, err
	}
	found := map[registry.Tally]int64{}
	var t registry.Tally
	var n int64
	_, err = pgx.ForEachRow(rows, []any{&t.Environment, &t.State, &n}, func() error { found[t] = n; return nil })
	return found, err
}

// Flagged implements registry.Store.
func (s *Store) Flagged(ctx context.Context) (map[string]map[int64]int64, error) {
	rows, err := s.pool.Query(ctx, "SELECT e.name, d.flags, count(*) FROM device d JOIN environment e ON e.id = d.environment WHERE d.flags <> 0 GROUP BY 1, 2")
	if err != nil {
		return nil, err
	}
	found := map[string]map[int64]int64{}
	var name string
	var flags, n int64
	_, err = pgx.ForEachRow(rows, []any{&name, &flags, &n}, func() error {
		if found[name] == nil {
			found[name] = map[int64]int64{}
		}
		for _, bit := range registry.Flags {
			if flags&bit != 0 {
				found[name][bit] += n
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("flags: %w", err)
	}
	return found, nil
}
