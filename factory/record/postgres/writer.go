package postgres

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hanaper/hanaper/factory/record/tables"
)

// op is one write, run inside a transaction that it may share with others. It must not fail for reasons of its own
// (conflicts are results, not errors), for a failure undoes the whole transaction and every op in it.
type op func(tx tables.Tx) error

// commitTime bounds one transaction: a server that does not answer keeps nobody longer.
const commitTime = 25 * time.Second

// call is one call of a function of ours. Its conflicts are results, too.
type call struct {
	query string
	args  []any
	// order is what rows the call holds that calls of others want too: those of one message take them in one order, in all servers.
	order string
	// a and b are its answer.
	a, b int64
}

const (
	callBegin  = `SELECT outcome, certificate_id FROM hanaper_begin($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16,$17,$18,$19)`
	callFinish = `SELECT hanaper_finish($1,$2,$3,$4,$5,$6), 0::bigint`
)

// calls makes all calls in one message, which is one transaction.
func (s *Store) calls(todo []*call) error {
	ctx, cancel := s.commitContext()
	defer cancel()
	todo = slices.Clone(todo)
	slices.SortStableFunc(todo, func(a, b *call) int { return strings.Compare(a.order, b.order) })
	batch := &pgx.Batch{}
	for _, c := range todo {
		batch.Queue(c.query, c.args...).QueryRow(func(row pgx.Row) error { return row.Scan(&c.a, &c.b) })
	}
	return s.pool.SendBatch(ctx, batch).Close()
}

func (s *Store) commitContext() (context.Context, context.CancelFunc) {
	if s.ended.Err() != nil {
		return context.WithTimeout(context.Background(), commitTime) // what was queued before Close
	}
	return context.WithTimeout(s.ended, commitTime)
}

// commit runs all ops in one transaction. Their results count only if it returns nil.
func (s *Store) commit(todo []op) error {
	ctx, cancel := s.commitContext()
	defer cancel()
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		t := &transaction{ctx, tx}
		for _, run := range todo {
			if err := run(t); err != nil {
				return err
			}
		}
		return nil
	})
}

// transaction is the one at work, seen by an op.
type transaction struct {
	ctx context.Context
	tx  pgx.Tx
}

func (t *transaction) Exec(query string, args ...any) (int64, error) {
	tag, err := t.tx.Exec(t.ctx, bind(query), args...)
	return tag.RowsAffected(), err
}

func (t *transaction) Insert(query string, args ...any) (id int64, err error) {
	err = t.tx.QueryRow(t.ctx, bind(query)+" RETURNING id", args...).Scan(&id)
	if t.None(err) {
		return 0, nil
	}
	return id, err
}

func (t *transaction) Row(query string, args ...any) interface{ Scan(...any) error } {
	return t.tx.QueryRow(t.ctx, bind(query), args...)
}

func (t *transaction) None(err error) bool { return errors.Is(err, pgx.ErrNoRows) }

func (t *transaction) Event(args ...any) (sequence int64, err error) {
	err = t.tx.QueryRow(t.ctx, `WITH n AS (UPDATE counter SET last = last + 1 RETURNING last)
 INSERT INTO event (sequence, kind, at, who, certificate, form, issuer, serial, reason, note)
 SELECT last, $1::text, $2::bigint, $3::text, $4::bigint, $5::text, $6::bigint, $7::bytea, $8::bigint, $9::text FROM n RETURNING sequence`, args...).Scan(&sequence)
	return sequence, err
}

var bound sync.Map

// bind writes question marks as $1, $2 and so on; no statement of ours has one in a text.
func bind(query string) string {
	if q, ok := bound.Load(query); ok {
		return q.(string)
	}
	var b strings.Builder
	n := 0
	for _, part := range strings.SplitAfter(query, "?") {
		if rest, ok := strings.CutSuffix(part, "?"); ok {
			n++
			b.WriteString(rest + "$" + strconv.Itoa(n))
		} else {
			b.WriteString(part)
		}
	}
	bound.Store(query, b.String())
	return b.String()
}
