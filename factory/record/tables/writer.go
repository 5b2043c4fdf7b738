package tables

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/hanaper/hanaper/factory/record"
)

// Writer implements the writes of record.Store that are the same steps in every database. A store embeds it beside a Reader.
type Writer struct {
	// Run runs steps in a transaction, together with those of others, and returns when it is durable.
	Run Do
	// Damaged marks an error of the engine that says that the store is damaged.
	Damaged func(error) error

	// issuers are the numbers of issuers, which never change.
	issuers sync.Map
}

// answers are the errors that answer one caller, and are no reason to undo what others wrote in the same transaction.
var answers = []error{record.ErrNotFound, record.ErrKeyKnown, record.ErrQuota, record.ErrHeld, record.ErrAbandoned, record.ErrOvertaken, record.ErrLotKnown, record.ErrLotClosed,
	record.ErrLotChanged, record.ErrLotID, record.ErrOrderOld, record.ErrScrapped, record.ErrOpen, record.ErrReserved, record.ErrChanged}

// isAnswer says that an error is one of them.
func isAnswer(err error) bool {
	return slices.ContainsFunc(answers, func(a error) bool { return errors.Is(err, a) })
}

// Do runs steps durably. An answer among record's errors is given back and does not undo the transaction: what gave it has changed nothing.
func (w *Writer) Do(ctx context.Context, steps func(Tx) error) error {
	var said error
	err := w.Run(ctx, func(tx Tx) error {
		said = nil
		err := steps(tx)
		if isAnswer(err) {
			said = err
			return nil
		}
		return err
	})
	if err != nil {
		return w.Damaged(err)
	}
	return said
}

// Issuer gives the number of an issuer.
func (w *Writer) Issuer(ctx context.Context, digest [32]byte) (int64, error) {
	if id, ok := w.issuers.Load(digest); ok {
		return id.(int64), nil
	}
	id, err := doing(ctx, w, func(tx Tx) (int64, error) { return Issuer(tx, digest) })
	if err == nil {
		w.issuers.Store(digest, id)
	}
	return id, err
}

// doing is Do for steps that give a value.
func doing[T any](ctx context.Context, w *Writer, steps func(Tx) (T, error)) (value T, err error) {
	err = w.Do(ctx, func(tx Tx) (err error) {
		value, err = steps(tx)
		return err
	})
	return value, err
}

// Begin implements record.Store.
func (w *Writer) Begin(ctx context.Context, in record.Intent) (rec record.Record, isNew bool, err error) {
	issuer, err := w.Issuer(ctx, in.Issuer)
	if err != nil {
		return rec, false, err
	}
	rec, err = doing(ctx, w, func(tx Tx) (rec record.Record, err error) {
		rec, isNew, err = Begin(tx, issuer, in)
		return rec, err
	})
	return rec, isNew, err
}

// Finish implements record.Store.
func (w *Writer) Finish(ctx context.Context, r record.Result) (record.Done, error) {
	return doing(ctx, w, func(tx Tx) (record.Done, error) { return Finish(tx, r) })
}

// Replace implements record.Store.
func (w *Writer) Replace(ctx context.Context, id int64, tbs [32]byte, in record.Intent) (rec record.Record, err error) {
	issuer, err := w.Issuer(ctx, in.Issuer)
	if err != nil {
		return rec, err
	}
	return doing(ctx, w, func(tx Tx) (record.Record, error) { return Replace(tx, issuer, id, tbs, in) })
}

// TakeIn implements record.Store.
func (w *Writer) TakeIn(ctx context.Context, in record.Intent, certificate []byte, who string) (rec record.Record, isNew bool, err error) {
	issuer, err := w.Issuer(ctx, in.Issuer)
	if err != nil {
		return rec, false, err
	}
	rec, err = doing(ctx, w, func(tx Tx) (rec record.Record, err error) {
		rec, isNew, err = TakeIn(tx, issuer, in, certificate, who)
		return rec, err
	})
	return rec, isNew, err
}

// OpenLot implements record.Store.
func (w *Writer) OpenLot(ctx context.Context, o record.LotOrder) (on record.Lot, changed bool, err error) {
	on, err = doing(ctx, w, func(tx Tx) (on record.Lot, err error) {
		on, changed, err = OpenLot(tx, o)
		return on, err
	})
	return on, changed, err
}

// CloseLot implements record.Store.
func (w *Writer) CloseLot(ctx context.Context, name, who, note string, at time.Time) (on record.Lot, changed bool, err error) {
	on, err = doing(ctx, w, func(tx Tx) (on record.Lot, err error) {
		on, changed, err = CloseLot(tx, name, who, note, at)
		return on, err
	})
	return on, changed, err
}

// SetLot implements record.Store.
func (w *Writer) SetLot(ctx context.Context, name string, quota int64, who string) error {
	return w.Do(ctx, func(tx Tx) error { return SetLot(tx, name, quota, who, time.Now()) })
}

// Reissue implements record.Store.
func (w *Writer) Reissue(ctx context.Context, a record.Act) (changed bool, err error) {
	return doing(ctx, w, func(tx Tx) (bool, error) { return Reissue(tx, a) })
}

// Scrap implements record.Store.
func (w *Writer) Scrap(ctx context.Context, a record.Act, freeSlot bool) (changed bool, err error) {
	return doing(ctx, w, func(tx Tx) (bool, error) { return Scrap(tx, a, freeSlot) })
}

// Swap implements record.Store.
func (w *Writer) Swap(ctx context.Context, x record.Exchange) error {
	return w.Do(ctx, func(tx Tx) error { return Swap(tx, x) })
}

// Revoke implements record.Store.
func (w *Writer) Revoke(ctx context.Context, v record.Revocation) (on record.Revocation, changed bool, err error) {
	issuer, err := w.Issuer(ctx, v.Issuer)
	if err != nil {
		return on, false, err
	}
	on, err = doing(ctx, w, func(tx Tx) (on record.Revocation, err error) {
		on, changed, err = Revoke(tx, issuer, v)
		return on, err
	})
	return on, changed, err
}

// Append implements record.Store.
func (w *Writer) Append(ctx context.Context, e record.Event) (sequence int64, err error) {
	issuer := int64(0)
	if e.Issuer != ([32]byte{}) {
		if issuer, err = w.Issuer(ctx, e.Issuer); err != nil {
			return 0, err
		}
	}
	return doing(ctx, w, func(tx Tx) (int64, error) { return Append(tx, issuer, e) })
}

// SwapMark implements record.Store.
func (w *Writer) SwapMark(ctx context.Context, name string, old, value []byte) (bool, error) {
	return doing(ctx, w, func(tx Tx) (bool, error) { return SwapMark(tx, name, old, value) })
}

// Hold implements record.Store.
func (w *Writer) Hold(ctx context.Context, reason string) error {
	return w.Do(ctx, func(tx Tx) error { return Hold(tx, reason, time.Now()) })
}

// Accept implements record.Store.
func (w *Writer) Accept(ctx context.Context, who, note string) error {
	return w.Do(ctx, func(tx Tx) error { return Accept(tx, who, note, time.Now()) })
}

// Probe implements record.Store.
func (w *Writer) Probe(ctx context.Context) error {
	return w.Do(ctx, func(tx Tx) error { return Probe(tx, time.Now()) })
}
