package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hanaper/hanaper/gateway"
	"github.com/hanaper/hanaper/gateway/registry"
)

// transaction is a registry.Tx.
type transaction struct {
	ctx   context.Context
	store *Store
	tx    pgx.Tx
	// environments and issuers are the numbers that it knows: those of the store, and those that it made itself.
	environments, issuers map[string]int64
}

// tries is how often a transaction is run that the database ended in the interest of others.
const tries = 5

// Do implements registry.Store.
func (s *Store) Do(ctx context.Context, steps func(registry.Tx) error) error {
	var err error
	for range tries + int(s.pool.Config().MaxConns) {
		t := &transaction{ctx: ctx, store: s}
		err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
			t.tx = tx
			return steps(t)
		})
		if err == nil {
			t.keep()
		}
		if !retryable(err) && !pgconn.SafeToRetry(err) {
			return err
		}
	}
	return err
}

// keep has the store know the numbers that are committed now.
func (t *transaction) keep() {
	if t.environments != nil {
		t.store.keep(t.environments)
	}
	if t.issuers != nil {
		t.store.mu.Lock()
		defer t.store.mu.Unlock()
		if len(t.issuers) <= maxIssuers {
			t.store.issuers = t.issuers
		}
	}
}

// maxIssuers bounds the issuers' numbers in memory.
const maxIssuers = 1000

// Find implements registry.Tx. They are locked in one order, by whomever.
func (t *transaction) Find(keys []registry.Key) (map[registry.Key]*registry.Row, error) {
	return t.store.find(t.ctx, t.tx, keys, " FOR UPDATE OF d")
}

// number gives the numbers of names in a table of names, and makes those that are missing.
func (t *transaction) number(table string, known map[string]int64, names []string) (map[string]int64, error) {
	var missing []string
	for _, n := range names {
		if known[n] == 0 && !slices.Contains(missing, n) {
			missing = append(missing, n)
		}
	}
	if len(missing) == 0 {
		return known, nil
	}
	slices.Sort(missing)
	all := maps.Clone(known)
	if _, err := t.tx.Exec(t.ctx, "INSERT INTO "+table+" (name) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING", missing); err != nil {
		return nil, err
	}
	rows, err := t.tx.Query(t.ctx, "SELECT name, id FROM "+table+" WHERE name = ANY($1)", missing)
	if err != nil {
		return nil, err
	}
	var name string
	var id int64
	_, err = pgx.ForEachRow(rows, []any{&name, &id}, func() error { all[name] = id; return nil })
	return all, err
}

func (t *transaction) environment(names ...string) (map[string]int64, error) {
	if t.environments == nil {
		t.store.mu.RLock()
		t.environments = t.store.environments
		t.store.mu.RUnlock()
	}
	all, err := t.number("environment", t.environments, names)
	if err == nil {
		t.environments = all
	}
	return all, err
}

func (t *transaction) issuer(names []string) (map[string]int64, error) {
	if t.issuers == nil {
		t.store.mu.RLock()
		t.issuers = t.store.issuers
		t.store.mu.RUnlock()
	}
	all, err := t.number("issuer", t.issuers, names)
	if err == nil {
		t.issuers = all
	}
	return all, err
}

// arrays are the columns of devices.
type arrays struct {
	ids, envs, states, registered, first, last, since, keyFrom, generation, rekey, flags []int64
	folds, why, notes                                                                    []string
	names                                                                                []*string
	keys                                                                                 [][]byte
}

func (a *arrays) put(row *registry.Row, env int64) {
	yes := func(b bool) int64 {
		if b {
			return 1
		}
		return 0
	}
	var name *string
	if row.Name != row.Fold {
		name = &row.Name
	}
	a.ids, a.envs, a.states, a.registered = append(a.ids, row.ID), append(a.envs, env), append(a.states, int64(row.State)), append(a.registered, yes(row.Registered))
	a.first, a.last, a.since, a.keyFrom = append(a.first, row.FirstSeen), append(a.last, row.LastSeen), append(a.since, row.Since), append(a.keyFrom, row.KeyFrom)
	a.generation, a.rekey, a.flags = append(a.generation, int64(row.Generation)), append(a.rekey, yes(row.Rekey)), append(a.flags, row.Flags)
	a.folds, a.why, a.notes, a.names, a.keys = append(a.folds, row.Fold), append(a.why, row.Why), append(a.notes, row.Notes), append(a.names, name), append(a.keys, row.KeySum)
}

// Add implements registry.Tx. Devices are stored in one order, by whomever, so that no two wait for each other; one that another transaction is about to
// store is waited for.
func (t *transaction) Add(rows []*registry.Row) error {
	rows = slices.Clone(rows)
	var names []string
	for _, row := range rows {
		names = append(names, row.Environment)
	}
	envs, err := t.environment(names...)
	if err != nil {
		return err
	}
	slices.SortFunc(rows, func(a, b *registry.Row) int {
		return cmp.Or(cmp.Compare(envs[a.Environment], envs[b.Environment]), cmp.Compare(a.Fold, b.Fold))
	})
	var a arrays
	byKey := map[int64]map[string]*registry.Row{}
	for _, row := range rows {
		env := envs[row.Environment]
		a.put(row, env)
		if byKey[env] == nil {
			byKey[env] = map[string]*registry.Row{}
		}
		byKey[env][row.Fold] = row
	}
	got, err := t.tx.Query(t.ctx, `INSERT INTO device (environment, fold, name, state, registered, first_seen, last_seen, since, why, notes, key, key_from, generation, rekey, flags)
 SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::text[], $10::text[], $11::bytea[], $12::bigint[],
 $13::bigint[], $14::bigint[], $15::bigint[]) ON CONFLICT DO NOTHING RETURNING id, environment, fold`, a.envs, a.folds, a.names, a.states, a.registered, a.first, a.last, a.since, a.why, a.notes, a.keys,
		a.keyFrom, a.generation, a.rekey, a.flags)
	if err != nil {
		return err
	}
	var id, env int64
	var fold string
	_, err = pgx.ForEachRow(got, []any{&id, &env, &fold}, func() error { byKey[env][fold].ID = id; return nil })
	return err
}

// Change implements registry.Tx.
func (t *transaction) Change(rows []*registry.Row) error {
	var a arrays
	for _, row := range rows {
		a.put(row, 0)
	}
	_, err := t.tx.Exec(t.ctx, `UPDATE device d SET name = n.name, state = n.state, registered = n.registered, first_seen = n.first_seen, last_seen = n.last_seen, since = n.since, why = n.why,
 notes = n.notes, key = n.key, key_from = n.key_from, generation = n.generation, rekey = n.rekey, flags = n.flags
 FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::text[], $9::text[], $10::bytea[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[])
 n (id, name, state, registered, first_seen, last_seen, since, why, notes, key, key_from, generation, rekey, flags) WHERE d.id = n.id`, a.ids, a.names, a.states, a.registered, a.first, a.last, a.since,
		a.why, a.notes, a.keys, a.keyFrom, a.generation, a.rekey, a.flags)
	return err
}

// Remove implements registry.Tx.
func (t *transaction) Remove(row *registry.Row, all bool) error {
	if _, err := t.tx.Exec(t.ctx, "DELETE FROM certificate WHERE device = $1", row.ID); err != nil || !all {
		return err
	}
	_, err := t.tx.Exec(t.ctx, "DELETE FROM device WHERE id = $1", row.ID)
	return err
}

// AddCertificates implements registry.Tx.
func (t *transaction) AddCertificates(list []registry.NewCertificate) error {
	var names []string
	for _, c := range list {
		names = append(names, c.Issuer)
	}
	numbers, err := t.issuer(names)
	if err != nil {
		return err
	}
	var devices, turns, generations, issuers, ends, first, last []int64
	var sums, keys [][]byte
	var serials []string
	for _, c := range list {
		devices, turns, generations, issuers = append(devices, c.Device.ID), append(turns, c.Turn), append(generations, int64(c.Generation)), append(issuers, numbers[c.Issuer])
		ends, first, last = append(ends, c.NotAfter), append(first, c.FirstSeen), append(last, c.LastSeen)
		sums, keys, serials = append(sums, c.Sum), append(keys, c.KeySum), append(serials, c.Serial)
	}
	_, err = t.tx.Exec(t.ctx, `INSERT INTO certificate (device, turn, sha256, key, generation, serial, issuer, not_after, first_seen, last_seen)
 SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bytea[], $4::bytea[], $5::bigint[], $6::text[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[])`,
		devices, turns, sums, keys, generations, serials, issuers, ends, first, last)
	return err
}

// Tally implements registry.Tx.
func (t *transaction) Tally(deltas map[registry.Tally]int64) error {
	var names []string
	for one := range deltas {
		names = append(names, one.Environment)
	}
	numbers, err := t.environment(names...)
	if err != nil {
		return err
	}
	var envs, states, n []int64
	for _, one := range slices.SortedFunc(maps.Keys(deltas), func(a, b registry.Tally) int {
		return cmp.Or(cmp.Compare(numbers[a.Environment], numbers[b.Environment]), cmp.Compare(a.State, b.State))
	}) {
		if deltas[one] != 0 {
			envs, states, n = append(envs, numbers[one.Environment]), append(states, int64(one.State)), append(n, deltas[one])
		}
	}
	if len(n) == 0 {
		return nil
	}
	_, err = t.tx.Exec(t.ctx, `INSERT INTO tally (shard, environment, state, n) SELECT $1, * FROM unnest($2::bigint[], $3::bigint[], $4::bigint[])
 ON CONFLICT (shard, environment, state) DO UPDATE SET n = tally.n + excluded.n`, t.store.shard, envs, states, n)
	return err
}

// Enter implements registry.Tx. The row of about is locked until the transaction ends: numbers become visible in their order, without a gap.
func (t *transaction) Enter(entries []gateway.LogEntry) error {
	var last int64
	if err := t.tx.QueryRow(t.ctx, "UPDATE about SET last = last + $1 RETURNING last", len(entries)).Scan(&last); err != nil {
		return err
	}
	batch := &pgx.Batch{}
	for i, e := range entries {
		var env *int64
		var fold, name *string
		if e.Environment != "" {
			numbers, err := t.environment(e.Environment)
			if err != nil {
				return err
			}
			n := numbers[e.Environment]
			env = &n
		}
		if e.Device != "" {
			f, n := registry.Fold(e.Device), e.Device
			fold = &f
			if f != n {
				name = &n
			}
		}
		batch.Queue("INSERT INTO act (number, at, who, verb, environment, fold, name, why, detail) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)", last-int64(len(entries)-1-i), e.At.Unix(), e.Who, string(e.Verb),
			env, fold, name, e.Why, e.Detail)
	}
	batch.Queue("SELECT pg_notify($1, '')", channel)
	if err := t.tx.SendBatch(t.ctx, batch).Close(); err != nil {
		return fmt.Errorf("the log of acts: %w", err)
	}
	return nil
}

// Seen implements registry.Store. Rows that others hold are left out: no sighting waits for anybody.
func (s *Store) Seen(ctx context.Context, list []registry.Sighting) error {
	var names []string
	for _, one := range list {
		if !slices.Contains(names, one.Environment) {
			names = append(names, one.Environment)
		}
	}
	numbers, err := s.environmentsOf(ctx, s.pool, names...)
	if err != nil {
		return err
	}
	for part := range slices.Chunk(list, 5000) {
		var envs, at []int64
		var folds []string
		var sums [][]byte
		for _, one := range part {
			if n := numbers[one.Environment]; n != 0 {
				envs, at, folds, sums = append(envs, n), append(at, one.At), append(folds, one.Fold), append(sums, one.Certificate[:])
			}
		}
		if len(envs) == 0 {
			continue
		}
		_, err := s.exec(ctx, `WITH asked AS (SELECT * FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::bytea[]) a (e, f, at, sum)),
 held AS (SELECT d.id, a.at, a.sum FROM device d JOIN asked a ON d.environment = a.e AND d.fold = a.f WHERE d.last_seen < a.at AND d.state < 2 FOR UPDATE OF d SKIP LOCKED),
 seen AS (UPDATE device d SET last_seen = h.at FROM held h WHERE d.id = h.id)
 UPDATE certificate c SET last_seen = h.at FROM held h WHERE c.device = h.id AND c.sha256 = h.sum AND c.last_seen < h.at`, envs, folds, at, sums)
		if err != nil && !retryable(err) {
			return err
		}
	}
	return nil
}

// exec runs one statement that may be run again. A database that was started anew has broken every connection of the pool, and each is found out
// only when it is written to.
func (s *Store) exec(ctx context.Context, sql string, args ...any) (tag pgconn.CommandTag, err error) {
	for range s.pool.Config().MaxConns + 1 {
		if tag, err = s.pool.Exec(ctx, sql, args...); err == nil || !pgconn.SafeToRetry(err) {
			break
		}
	}
	return tag, err
}

// Probe implements registry.Store.
func (s *Store) Probe(ctx context.Context, at time.Time) error {
	tag, err := s.exec(ctx, "UPDATE about SET probed = $1", at.Unix())
	if err == nil && tag.RowsAffected() != 1 {
		err = errors.New("the table about is empty")
	}
	return err
}
