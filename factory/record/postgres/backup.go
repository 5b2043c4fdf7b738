package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hanaper/hanaper/factory/record/tables"
	"github.com/hanaper/hanaper/internal/advice"
)

// Each gives the rows of one table after another to what backup makes of them, as the database was at one moment.
func (s *Store) Each(ctx context.Context, backup func(each func(table string, put func([]any) error) error) error) error {
	tx, err := s.DB.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return err
	}
	defer tx.Rollback()
	return backup(func(table string, put func([]any) error) error { return tables.Each(ctx, tx, table, put) })
}

// Restore fills the database, which must hold nothing yet, with what each gives, in one step. It is held then: it takes no intent until an
// operator accepts it.
func (s *Store) Restore(ctx context.Context, reason string, each func(table string, put func([]any) error) error) error {
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "LOCK TABLE event, issuer, device, version IN ACCESS EXCLUSIVE MODE"); err != nil {
			return err
		}
		var rows int64
		if err := tx.QueryRow(ctx, "SELECT (SELECT count(*) FROM event) + (SELECT count(*) FROM device) + (SELECT count(*) FROM issuer)").Scan(&rows); err != nil {
			return err
		}
		if rows > 0 {
			return advice.New(advice.Refused, "restore into an empty database: make one, and name it in store.postgres", "the database holds a record already")
		}
		if _, err := tx.Exec(ctx, "DELETE FROM version; DELETE FROM mark"); err != nil {
			return err
		}
		for _, table := range tables.Names {
			if err := fill(ctx, tx, table, each); err != nil {
				return err
			}
		}
		for _, table := range []string{"issuer", "device", "enrolment", "certificate"} {
			if _, err := tx.Exec(ctx, fmt.Sprintf("SELECT setval(pg_get_serial_sequence('%s', 'id'), (SELECT max(id) FROM %s))", table, table)); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, "UPDATE counter SET last = (SELECT coalesce(max(sequence), 0) FROM event)"); err != nil {
			return err
		}
		return tables.Hold(&transaction{ctx, tx}, reason, time.Now())
	})
}

// fill copies a table's rows, some at a time.
func fill(ctx context.Context, tx pgx.Tx, table string, each func(string, func([]any) error) error) error {
	var some [][]any
	flush := func() error {
		_, err := tx.CopyFrom(ctx, pgx.Identifier{table}, tables.Columns[table], pgx.CopyFromRows(some))
		some = some[:0]
		return err
	}
	err := each(table, func(row []any) error {
		if some = append(some, row); len(some) < 1000 {
			return nil
		}
		return flush()
	})
	if err != nil {
		return err
	}
	return flush()
}
