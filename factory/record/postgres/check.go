package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hanaper/hanaper/factory/record"
	"github.com/hanaper/hanaper/factory/record/tables"
)

// Check implements record.Store: every value of every table is read, and every index from its one end to the other, and an index must have as many
// entries as its table has rows. The server compares the checksum of each page that it reads from the disk, if it keeps any
// (initdb --data-checksums): without them a changed value may go unnoticed. It takes one connection, and one core of the server.
func (s *Store) Check(ctx context.Context) error {
	for _, table := range tables.Names {
		if err := damaged(s.checkTable(ctx, table)); err != nil {
			return err
		}
	}
	return nil
}

// checkTable reads a table and its indexes as they are at one moment.
func (s *Store) checkTable(ctx context.Context, table string) error {
	return pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		// The whole row is hashed, so that also what lies outside of it is read.
		if _, err := tx.Exec(ctx, `SET LOCAL max_parallel_workers_per_gather = 0; SET LOCAL enable_indexscan = off; SET LOCAL enable_indexonlyscan = off; SET LOCAL enable_bitmapscan = off`); err != nil {
			return err
		}
		var rows int64
		if err := tx.QueryRow(ctx, `SELECT count(hash_record_extended(t, 0)) FROM `+table+` t`).Scan(&rows); err != nil {
			return fmt.Errorf("table %s: %w", table, err)
		}
		indexes, err := indexesOf(ctx, tx, table)
		if err != nil {
			return err
		}
		// In the order of an index, and without a sort, it can only be read by that index.
		if _, err := tx.Exec(ctx, `SET LOCAL enable_indexscan = on; SET LOCAL enable_indexonlyscan = on; SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off`); err != nil {
			return err
		}
		for _, i := range indexes {
			var entries int64
			if err := tx.QueryRow(ctx, `SELECT count(*) FROM (SELECT 1 FROM `+table+` ORDER BY `+i.columns+` OFFSET 0) o`).Scan(&entries); err != nil {
				return fmt.Errorf("index %s of table %s: %w", i.name, table, err)
			}
			if entries != rows {
				return fmt.Errorf("%w: table %s has %d rows, and its index %s %d entries", record.ErrDamaged, table, rows, i.name, entries)
			}
		}
		return nil
	})
}

type index struct{ name, columns string }

// indexesOf lists the indexes of one of our tables. Names come from our own schema.
func indexesOf(ctx context.Context, tx pgx.Tx, table string) ([]index, error) {
	rows, err := tx.Query(ctx, `SELECT i.indexrelid::regclass::text, string_agg(quote_ident(a.attname), ', ' ORDER BY k.n)
 FROM pg_index i CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY k(attnum, n) JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
 WHERE i.indrelid = $1::regclass AND i.indpred IS NULL GROUP BY 1 ORDER BY 1`, table)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(r pgx.CollectableRow) (i index, err error) { return i, r.Scan(&i.name, &i.columns) })
}

// damaged marks an error of the server that says so of its files: SQLSTATE class XX (data_corrupted, index_corrupted, internal_error).
func damaged(err error) error {
	var e *pgconn.PgError
	if errors.As(err, &e) && strings.HasPrefix(e.Code, "XX") {
		return fmt.Errorf("%w: %w", record.ErrDamaged, err)
	}
	return err
}
