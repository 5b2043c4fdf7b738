package issuancelog

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/hanaper/hanaper/factory/logbook"
	"github.com/hanaper/hanaper/factory/record"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/journal"
)

// The names under which the log keeps things in the record's store.
const (
	leadName       = "issuance-log"
	secretMark     = "issuance-log/secret"
	checkpointMark = "issuance-log/checkpoint"
)

// Of is the part of the factory's store that the log follows. The event with the sequence number n becomes entry n-1.
func Of(j record.Journal) Record { return events{j} }

type events struct{ j record.Journal }

// eventOf reads an event of the record as an entry of the log.
func eventOf(e record.Event) (Event, error) {
	kind, ok := logbook.KindNamed(string(e.Kind))
	if !ok {
		return Event{}, fmt.Errorf("event %d is of kind %s, which the issuance log does not know: use a newer release", e.Sequence, show.Text(string(e.Kind)))
	}
	if e.Sequence < 1 || e.Reason < 0 || e.Reason > 255 {
		return Event{}, fmt.Errorf("event %d has a number or a reason out of bounds", e.Sequence)
	}
	out := Event{Index: uint64(e.Sequence - 1), Kind: kind, At: e.At, DeviceID: e.DeviceID, Issuer: e.Issuer, Serial: bytes.TrimLeft(e.Serial, "\x00"), SPKI: e.SPKIDigest,
		Reason: uint8(e.Reason), Who: e.Who, Note: e.Note}
	if e.Certificate != nil {
		out.Certificate = sha256.Sum256(e.Certificate)
	}
	return out, nil
}

// LogEvents implements Record.
func (r events) LogEvents(ctx context.Context, from uint64, limit int) ([]Event, error) {
	list, err := r.j.Events(ctx, int64(from), limit)
	if err != nil {
		return nil, err
	}
	out := make([]Event, len(list))
	for i, e := range list {
		if out[i], err = eventOf(e); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// LogSize implements Record.
func (r events) LogSize(ctx context.Context) (uint64, error) {
	n, err := r.j.Sequence(ctx)
	return uint64(max(n, 0)), err
}

// LogSecret implements Record.
func (r events) LogSecret(ctx context.Context) (secret [32]byte, err error) {
	for range 2 {
		raw, err := r.j.Mark(ctx, secretMark)
		if err != nil {
			return secret, err
		}
		if raw != nil {
			if len(raw) != len(secret) {
				return secret, fmt.Errorf("the log's secret has %d bytes, not %d", len(raw), len(secret))
			}
			return [32]byte(raw), nil
		}
		if _, err := rand.Read(secret[:]); err != nil {
			return secret, err
		}
		// Where another server was faster, its secret is the one.
		if _, err := r.j.SwapMark(ctx, secretMark, nil, secret[:]); err != nil {
			return secret, err
		}
	}
	return secret, errors.New("the log's secret was not kept")
}

// LastCheckpoint implements Record.
func (r events) LastCheckpoint(ctx context.Context) ([]byte, error) {
	return r.j.Mark(ctx, checkpointMark)
}

// PutCheckpoint implements Record.
func (r events) PutCheckpoint(ctx context.Context, size uint64, root [32]byte, note []byte) error {
	for range 10 {
		old, err := r.j.Mark(ctx, checkpointMark)
		if err != nil {
			return err
		}
		if old != nil {
			c, err := bodyOf(old)
			if err != nil {
				return err
			}
			if uint64(c.Size) > size || uint64(c.Size) == size && c.Root != root {
				return fmt.Errorf("%w: it covers %d entries", ErrCheckpointBack, c.Size)
			}
		}
		if done, err := r.j.SwapMark(ctx, checkpointMark, old, note); err != nil || done {
			return err
		}
	}
	return errors.New("another server keeps checkpoints at the same time")
}

// bodyOf reads a checkpoint that was verified before it was kept.
func bodyOf(note []byte) (journal.Checkpoint, error) {
	body, _, ok := bytes.Cut(note, []byte("\n\n"))
	if !ok {
		return journal.Checkpoint{}, errors.New("the checkpoint that the record keeps is damaged")
	}
	return journal.ParseCheckpoint(append(body[:len(body):len(body)], '\n'))
}

// LeadLog implements Record.
func (r events) LeadLog(ctx context.Context) (context.Context, func(), error) {
	return r.j.Lead(ctx, leadName)
}
