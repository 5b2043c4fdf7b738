package sqlite

import (
	"context"
	"errors"
	"fmt"
	"strings"

	driver "modernc.org/sqlite"

	"github.com/hanaper/hanaper/factory/record"
)

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

// NextCRL implements record.Store.
func (s *Store) NextCRL(ctx context.Context, issuer [32]byte, make func(context.Context, record.ListTurn) (*record.CRL, error)) (*record.CRL, error) {
	release, err := s.turn(ctx, fmt.Sprintf("crl %x", issuer))
	if err != nil {
		return nil, err
	}
	defer release()
	return s.Reader.NextCRL(ctx, issuer, s.Do, make)
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
