package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hanaper/hanaper/factory/record"
)

// Begin implements record.Store.
func (s *Store) Begin(ctx context.Context, in record.Intent) (rec record.Record, isNew bool, err error) {
	if in.Generation = max(in.Generation, 1); in.Generation > 1 {
		return s.Writer.Begin(ctx, in)
	}
	issuer, err := s.Issuer(ctx, in.Issuer)
	if err != nil {
		return rec, false, err
	}
	c := &call{query: callBegin, order: in.Lot, args: []any{record.Fold(in.DeviceID), in.DeviceID, in.SPKI, in.SPKIDigest[:], in.CSRDigest[:], in.HardwareID, in.Lot, in.Station,
		orNull(in.Evidence), orNull(in.EvidenceDigest), issuer, in.Serial, in.TBSDigest[:], in.NotBefore.Unix(), in.NotAfter.Unix(), in.At.Unix(), in.LotRevision,
		in.Profile, orNull(in.Asked)}}
	if err := s.intents.Do(ctx, c); err != nil {
		return rec, false, damaged(err)
	}
	switch c.a {
	case 0:
		return record.Record{Intent: in, ID: c.b}, true, nil
	case 1:
		if rec, err = s.ByDevice(ctx, in.DeviceID); errors.Is(err, record.ErrNotFound) {
			// A device without a record waits for a key, or was scrapped.
			return s.Writer.Begin(ctx, in)
		}
		return rec, false, err
	case 2:
		return rec, false, record.ErrKeyKnown
	case 3:
		return rec, false, record.ErrQuota
	case 4:
		return rec, false, record.ErrHeld
	case 6:
		return rec, false, record.ErrLotChanged
	case 7:
		return rec, false, record.ErrLotClosed
	case 8:
		return rec, false, record.ErrLotID
	}
	return rec, false, fmt.Errorf("serial %x is taken", in.Serial)
}

// orNull keeps no bytes as NULL.
func orNull(b []byte) any {
	if len(b) == 0 {
		return nil
	}
	return b
}

// Finish implements record.Store.
func (s *Store) Finish(ctx context.Context, r record.Result) (done record.Done, err error) {
	kind := record.Issue
	if r.Generation > 1 {
		kind = record.Reissue
	}
	c := &call{query: callFinish, args: []any{r.ID, r.TBSDigest[:], string(kind), r.Certificate, r.At.Unix(), r.Who}}
	if err := s.results.Do(ctx, c); err != nil {
		return done, damaged(err)
	}
	if c.a != 0 {
		return record.Done{Certificate: r.Certificate, At: r.At, Sequence: c.a}, nil
	}
	// It was not open, or another: what is on record says which.
	return s.Writer.Finish(ctx, r)
}

// NextCRL implements record.Store.
func (s *Store) NextCRL(ctx context.Context, issuer [32]byte, make func(context.Context, record.ListTurn) (*record.CRL, error)) (*record.CRL, error) {
	name := fmt.Sprintf("crl %x", issuer)
	// Of this process only one at a time waits for the others, or goes on past them.
	leave, err := s.turn(ctx, name)
	if err != nil {
		return nil, err
	}
	defer leave()
	waiting, cancel := context.WithTimeout(ctx, listPatience)
	l, err := s.acquire(waiting, name)
	cancel()
	switch {
	case err == nil:
		defer l.release()
	case ctx.Err() != nil, s.ended.Err() != nil, !errors.Is(err, context.DeadlineExceeded):
		return nil, err
	}
	return s.Reader.NextCRL(ctx, issuer, s.Do, make)
}

// listPatience is how long the server that makes a list is waited for. One that was stopped, or frozen with its container, keeps its connections
// and with them its lock, and revocation must not end with it: it is passed by, and the number decides (tables.NextCRL). Shorter than the
// time of one request, longer than a token's deadline.
const listPatience = 12 * time.Second

// turn waits for the only token of a name in this process.
func (s *Store) turn(ctx context.Context, name string) (leave func(), err error) {
	token, _ := s.turns.LoadOrStore(name, make(chan struct{}, 1))
	select {
	case token.(chan struct{}) <- struct{}{}:
		return func() { <-token.(chan struct{}) }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-s.ended.Done():
		return nil, errors.New("the store is closed")
	}
}

// Lead implements record.Store. Who leads loses that with the connection that holds the lock, which is asked every second.
func (s *Store) Lead(ctx context.Context, name string) (context.Context, func(), error) {
	l, err := s.acquire(ctx, "lead "+name)
	if err != nil {
		return nil, nil, err
	}
	leading, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.ended, cancel)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		defer cancel()
		for leading.Err() == nil {
			select {
			case <-leading.Done():
			case <-time.After(time.Second):
				ask, done := context.WithTimeout(leading, 5*time.Second)
				err := l.conn.Ping(ask)
				done()
				if err != nil {
					return
				}
			}
		}
	}()
	return leading, func() {
		stop()
		cancel()
		<-watched
		l.release()
	}, nil
}

// Now is the database server's clock.
func (s *Store) Now(ctx context.Context) (now time.Time, err error) {
	return now, s.pool.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&now)
}
