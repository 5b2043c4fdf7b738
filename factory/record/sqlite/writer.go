package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"

	"github.com/hanaper/hanaper/factory/record/tables"
	batching "github.com/hanaper/hanaper/internal/batch"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/show"
)

var errReadOnly = errors.New("the store is open to be read only")

// op is one write, run inside a transaction that it may share with others. It must not fail for reasons of its own
// (conflicts are results, not errors), for a failure undoes the whole transaction and every op in it.
type op func(tx tables.Tx) error

// writer is the one connection that writes: many callers wait for one fsync.
type writer struct {
	queue *batching.Queue[op]
	conn  *sql.Conn
	stmts map[string]*sql.Stmt
	// path is the store's file, and opened what it was at the start.
	path   string
	opened os.FileInfo
	// stuck says that a rollback failed, so that a transaction may still be open.
	stuck bool
}

func startWriter(ctx context.Context, db *sql.DB, path string) (*writer, error) {
	opened, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	w := &writer{conn: conn, stmts: map[string]*sql.Stmt{}, path: path, opened: opened}
	w.queue = batching.New(w.commit)
	return w, nil
}

// do runs an op and waits until it is durable.
func (w *writer) do(ctx context.Context, run op) error {
	return w.queue.Do(ctx, run)
}

func (w *writer) stop() {
	w.queue.Stop()
	for _, s := range w.stmts {
		s.Close()
	}
	w.conn.Close()
}

// commit runs all ops in one transaction. Their results count only if it returns nil.
func (w *writer) commit(todo []op) (err error) {
	b := &transaction{ctx: context.Background(), w: w}
	if w.stuck {
		// Where the engine rolled back by itself there is nothing to undo, and this fails.
		_, _ = b.Exec("ROLLBACK")
		w.stuck = false
	}
	if _, err := b.Exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			if _, back := b.Exec("ROLLBACK"); back != nil {
				w.stuck = true
				if durable.Full(err) { // the engine rolled back by itself
					return
				}
				err = fmt.Errorf("%w (and the rollback: %w)", err, back)
			}
		}
	}()
	for _, run := range todo {
		if err := run(b); err != nil {
			return err
		}
	}
	if err := w.inPlace(); err != nil {
		return err
	}
	_, err = b.Exec("COMMIT")
	return err
}

// inPlace refuses to go on in a file that has no name any more: all that is written to it would be gone at the next start.
func (w *writer) inPlace() error {
	now, err := os.Stat(w.path)
	if err == nil && !os.SameFile(now, w.opened) {
		err = fmt.Errorf("%s is another file", show.Text(w.path))
	}
	if err != nil {
		return fmt.Errorf("the store was moved or removed while in use: %w", err)
	}
	return nil
}

// transaction is the one at work, seen by an op.
type transaction struct {
	ctx context.Context
	w   *writer
}

func (b *transaction) prepare(query string) (*sql.Stmt, error) {
	if s := b.w.stmts[query]; s != nil {
		return s, nil
	}
	s, err := b.w.conn.PrepareContext(b.ctx, query)
	if err == nil {
		b.w.stmts[query] = s
	}
	return s, err
}

func (b *transaction) Exec(query string, args ...any) (int64, error) {
	s, err := b.prepare(query)
	if err != nil {
		return 0, err
	}
	r, err := s.ExecContext(b.ctx, args...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

func (b *transaction) Insert(query string, args ...any) (int64, error) {
	s, err := b.prepare(query)
	if err != nil {
		return 0, err
	}
	r, err := s.ExecContext(b.ctx, args...)
	if err != nil {
		return 0, err
	}
	if rows, err := r.RowsAffected(); err != nil || rows == 0 {
		return 0, err
	}
	return r.LastInsertId()
}

// failed is a row whose question could not be asked.
type failed struct{ err error }

func (f failed) Scan(...any) error { return f.err }

func (b *transaction) Row(query string, args ...any) interface{ Scan(...any) error } {
	s, err := b.prepare(query)
	if err != nil {
		return failed{err}
	}
	return s.QueryRowContext(b.ctx, args...)
}

func (b *transaction) None(err error) bool { return errors.Is(err, sql.ErrNoRows) }

// Event relies on how SQLite numbers rows: one more than the highest, and none is ever removed.
func (b *transaction) Event(args ...any) (int64, error) {
	return b.Insert(`INSERT INTO event (kind, at, who, certificate, form, issuer, serial, reason, note) VALUES (?,?,?,?,?,?,?,?,?)`, args...)
}
