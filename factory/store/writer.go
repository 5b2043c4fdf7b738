package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/hanaper/hanaper/internal/show"
)

// maxBatch bounds the writes of one transaction.
const maxBatch = 256

var (
	errClosed   = errors.New("the store is closed")
	errReadOnly = errors.New("the store is open to be read only")
)

// op is one write, run inside a transaction that it may share with others. It must not fail for reasons of its own
// (conflicts are results, not errors), for a failure undoes the whole transaction and every op in it.
type op struct {
	run  func(tx *batch) error
	done chan error
}

// writer is the one connection that writes. Whatever waits while a transaction is being synced goes into the next
// one together: sixteen callers wait for one fsync, not for sixteen.
type writer struct {
	ops   chan *op
	quit  chan struct{}
	once  sync.Once
	ended chan struct{}
	conn  *sql.Conn
	stmts map[string]*sql.Stmt
	// path is the store's file, and opened what it was at the start.
	path   string
	opened os.FileInfo
	// stuck says that a rollback failed, so that a transaction may still be open.
	stuck bool
}

// batch is the transaction at work, seen by an op.
type batch struct {
	ctx context.Context
	w   *writer
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
	w := &writer{ops: make(chan *op, maxBatch), quit: make(chan struct{}), ended: make(chan struct{}), conn: conn, stmts: map[string]*sql.Stmt{}, path: path, opened: opened}
	go w.loop()
	return w, nil
}

// do runs an op and waits until it is durable. A context that ends leaves an op that was queued to run to its end.
func (w *writer) do(ctx context.Context, run func(*batch) error) error {
	if w == nil {
		return errReadOnly
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	o := &op{run: run, done: make(chan error, 1)}
	select {
	case w.ops <- o:
	case <-ctx.Done():
		return ctx.Err()
	case <-w.quit:
		return errClosed
	}
	select {
	case err := <-o.done:
		return err
	case <-w.ended:
		select {
		case err := <-o.done:
			return err
		default:
			return errClosed
		}
	}
}

func (w *writer) stop() {
	w.once.Do(func() { close(w.quit) })
	<-w.ended
}

func (w *writer) loop() {
	defer close(w.ended)
	defer w.conn.Close()
	todo := make([]*op, 0, maxBatch)
	for {
		todo = todo[:0]
		select {
		case o := <-w.ops:
			todo = append(todo, o)
		case <-w.quit:
			return
		}
	more:
		for len(todo) < maxBatch {
			select {
			case o := <-w.ops:
				todo = append(todo, o)
			default:
				break more
			}
		}
		err := w.commit(todo)
		for i, o := range todo {
			if err != nil && len(todo) > 1 {
				// One op's failure is not its neighbours': each gets a transaction of its own.
				o.done <- w.commit(todo[i : i+1])
				continue
			}
			o.done <- err
		}
	}
}

// commit runs all ops in one transaction. Their results count only if it returns nil.
func (w *writer) commit(todo []*op) (err error) {
	b := &batch{ctx: context.Background(), w: w}
	if w.stuck {
		// Where the engine rolled back by itself there is nothing to undo, and this fails.
		_ = b.exec("ROLLBACK")
		w.stuck = false
	}
	if err := b.exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			if back := b.exec("ROLLBACK"); back != nil {
				w.stuck = true
				err = fmt.Errorf("%w (and the rollback: %w)", err, back)
			}
		}
	}()
	for _, o := range todo {
		if err := o.run(b); err != nil {
			return err
		}
	}
	if err := w.inPlace(); err != nil {
		return err
	}
	return b.exec("COMMIT")
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

func (b *batch) prepare(query string) (*sql.Stmt, error) {
	if s := b.w.stmts[query]; s != nil {
		return s, nil
	}
	s, err := b.w.conn.PrepareContext(b.ctx, query)
	if err == nil {
		b.w.stmts[query] = s
	}
	return s, err
}

func (b *batch) exec(query string, args ...any) error {
	s, err := b.prepare(query)
	if err != nil {
		return err
	}
	_, err = s.ExecContext(b.ctx, args...)
	return err
}

// change runs an INSERT or UPDATE and tells how many rows it changed, and the last row id.
func (b *batch) change(query string, args ...any) (rows, id int64, err error) {
	s, err := b.prepare(query)
	if err != nil {
		return 0, 0, err
	}
	r, err := s.ExecContext(b.ctx, args...)
	if err != nil {
		return 0, 0, err
	}
	if rows, err = r.RowsAffected(); err != nil {
		return 0, 0, err
	}
	id, err = r.LastInsertId()
	return rows, id, err
}

func (b *batch) row(query string, args ...any) (*sql.Row, error) {
	s, err := b.prepare(query)
	if err != nil {
		return nil, err
	}
	return s.QueryRowContext(b.ctx, args...), nil
}
