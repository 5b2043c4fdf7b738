package factory

import (
	"context"
	"time"

	"github.com/hanaper/hanaper/factory/record"
)

// timed is a store whose writes of an enrolment are timed.
type timed struct {
	record.Store
	took *histogram
}

// timedKeeper is timed for a store with a clock of its own.
type timedKeeper struct {
	timed
	Timekeeper
}

func timedStore(s record.Store, took *histogram) record.Store {
	if k, is := s.(Timekeeper); is {
		return timedKeeper{timed{s, took}, k}
	}
	return timed{s, took}
}

// Begin implements record.Store.
func (s timed) Begin(ctx context.Context, in record.Intent) (record.Record, bool, error) {
	defer s.since(time.Now())
	return s.Store.Begin(ctx, in)
}

// Finish implements record.Store.
func (s timed) Finish(ctx context.Context, r record.Result) (record.Done, error) {
	defer s.since(time.Now())
	return s.Store.Finish(ctx, r)
}

// Revoke implements record.Store.
func (s timed) Revoke(ctx context.Context, r record.Revocation) (record.Revocation, bool, error) {
	defer s.since(time.Now())
	return s.Store.Revoke(ctx, r)
}

func (s timed) since(began time.Time) { s.took.observe(time.Since(began)) }
