package sqlite

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	driver "modernc.org/sqlite"

	"github.com/hanaper/hanaper/factory/record"
	"github.com/hanaper/hanaper/factory/record/tables"
)

// issuer gives the number of an issuer.
func (s *Store) issuer(ctx context.Context, digest [32]byte) (int64, error) {
	if id, ok := s.issuers.Load(digest); ok {
		return id.(int64), nil
	}
	var id int64
	err := s.writer.do(ctx, func(tx tables.Tx) (err error) {
		id, err = tables.Issuer(tx, digest)
		return err
	})
	if err == nil {
		s.issuers.Store(digest, id)
	}
	return id, err
}

// refused says of an error that it is an answer to one caller, and no reason to undo what others wrote in the same transaction.
func refused(err error) bool {
	for _, answer := range []error{record.ErrNotFound, record.ErrKeyKnown, record.ErrQuota, record.ErrHeld, record.ErrAbandoned, record.ErrOvertaken} {
		if errors.Is(err, answer) {
			return true
		}
	}
	return false
}

// do runs steps durably. An answer among record's errors is given back and does not undo the transaction: what gave it has changed nothing.
func (s *Store) do(ctx context.Context, steps func(tables.Tx) error) error {
	var answer error
	err := s.writer.do(ctx, func(tx tables.Tx) error {
		answer = nil
		err := steps(tx)
		if refused(err) {
			answer, err = err, nil
		}
		return err
	})
	if err != nil {
		return damaged(err)
	}
	return answer
}

// damaged marks an error of the engine that says so of the file.
func damaged(err error) error {
	var e *driver.Error
	if errors.As(err, &e) {
		switch e.Code() & 0xff { // the primary code: SQLITE_CORRUPT, SQLITE_NOTADB
		case 11, 26:
			return fmt.Errorf("%w: %w", record.ErrDamaged, err)
		}
	}
	return err
}

// Begin implements record.Store.
func (s *Store) Begin(ctx context.Context, in record.Intent) (rec record.Record, isNew bool, err error) {
	issuer, err := s.issuer(ctx, in.Issuer)
	if err != nil {
		return rec, false, err
	}
	err = s.do(ctx, func(tx tables.Tx) (err error) {
		rec, isNew, err = tables.Begin(tx, issuer, in)
		return err
	})
	return rec, isNew, err
}

// Finish implements record.Store.
func (s *Store) Finish(ctx context.Context, r record.Result) (done record.Done, err error) {
	err = s.do(ctx, func(tx tables.Tx) (err error) {
		done, err = tables.Finish(tx, r)
		return err
	})
	return done, err
}

// Replace implements record.Store.
func (s *Store) Replace(ctx context.Context, id int64, tbs [32]byte, in record.Intent) (rec record.Record, err error) {
	issuer, err := s.issuer(ctx, in.Issuer)
	if err != nil {
		return rec, err
	}
	err = s.do(ctx, func(tx tables.Tx) (err error) {
		rec, err = tables.Replace(tx, issuer, id, tbs, in)
		return err
	})
	return rec, err
}

// TakeIn implements record.Store.
func (s *Store) TakeIn(ctx context.Context, in record.Intent, certificate []byte, who string) (rec record.Record, isNew bool, err error) {
	issuer, err := s.issuer(ctx, in.Issuer)
	if err != nil {
		return rec, false, err
	}
	err = s.do(ctx, func(tx tables.Tx) (err error) {
		rec, isNew, err = tables.TakeIn(tx, issuer, in, certificate, who)
		return err
	})
	return rec, isNew, err
}

// SetLot implements record.Store.
func (s *Store) SetLot(ctx context.Context, name string, quota int64, who string) error {
	return s.do(ctx, func(tx tables.Tx) error { return tables.SetLot(tx, name, quota, who, time.Now()) })
}

// Revoke implements record.Store.
func (s *Store) Revoke(ctx context.Context, v record.Revocation) (on record.Revocation, changed bool, err error) {
	issuer, err := s.issuer(ctx, v.Issuer)
	if err != nil {
		return on, false, err
	}
	err = s.do(ctx, func(tx tables.Tx) (err error) {
		on, changed, err = tables.Revoke(tx, issuer, v)
		return err
	})
	return on, changed, err
}

// NextCRL implements record.Store.
func (s *Store) NextCRL(ctx context.Context, issuer [32]byte, make func(context.Context, record.ListTurn) (*record.CRL, error)) (*record.CRL, error) {
	release, err := s.turn(ctx, fmt.Sprintf("crl %x", issuer))
	if err != nil {
		return nil, err
	}
	defer release()
	return s.Reader.NextCRL(ctx, issuer, s.do, make)
}

// turn waits for the only token of a name.
func (s *Store) turn(ctx context.Context, name string) (release func(), err error) {
	s.mu.Lock()
	token := s.turns[name]
	if token == nil {
		token = make(chan struct{}, 1)
		s.turns[name] = token
	}
	s.mu.Unlock()
	select {
	case token <- struct{}{}:
		return func() { <-token }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-s.ended.Done():
		return nil, errors.New("the store is closed")
	}
}

// Append implements record.Store.
func (s *Store) Append(ctx context.Context, e record.Event) (sequence int64, err error) {
	issuer := int64(0)
	if e.Issuer != ([32]byte{}) {
		if issuer, err = s.issuer(ctx, e.Issuer); err != nil {
			return 0, err
		}
	}
	err = s.do(ctx, func(tx tables.Tx) (err error) {
		sequence, err = tables.Append(tx, issuer, e)
		return err
	})
	return sequence, err
}

// SwapMark implements record.Store.
func (s *Store) SwapMark(ctx context.Context, name string, old, value []byte) (swapped bool, err error) {
	err = s.do(ctx, func(tx tables.Tx) (err error) {
		swapped, err = tables.SwapMark(tx, name, old, value)
		return err
	})
	return swapped, err
}

// Lead implements record.Store. Nobody else has the file, so that it is lost only with the store.
func (s *Store) Lead(ctx context.Context, name string) (context.Context, func(), error) {
	free, err := s.turn(ctx, "lead "+name)
	if err != nil {
		return nil, nil, err
	}
	leading, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.ended, cancel)
	return leading, func() { stop(); cancel(); free() }, nil
}

// Hold implements record.Store.
func (s *Store) Hold(ctx context.Context, reason string) error {
	return s.do(ctx, func(tx tables.Tx) error { return tables.Hold(tx, reason, time.Now()) })
}

// Accept implements record.Store.
func (s *Store) Accept(ctx context.Context, who, note string) error {
	return s.do(ctx, func(tx tables.Tx) error { return tables.Accept(tx, who, note, time.Now()) })
}

// Probe implements record.Store.
func (s *Store) Probe(ctx context.Context) error {
	return s.do(ctx, func(tx tables.Tx) error { return tables.Probe(tx, time.Now()) })
}

// Check implements record.Store: every page, and every index against its table.
func (s *Store) Check(ctx context.Context) error {
	var found string
	if err := s.DB.QueryRowContext(ctx, "PRAGMA integrity_check(1)").Scan(&found); err != nil {
		return damaged(err)
	}
	if found != "ok" {
		return fmt.Errorf("%w: %s", record.ErrDamaged, strings.Join(strings.Fields(found), " "))
	}
	return nil
}
