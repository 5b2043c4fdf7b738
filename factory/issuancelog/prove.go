package issuancelog

import (
	"context"
	"encoding/hex"
	"fmt"

	"github.com/hanaper/hanaper/factory/logbook"
	"github.com/hanaper/hanaper/journal"
)

// Compare gives a check of entries against the record, for logbook.AuditConfig: entries are asked for in order, from 0.
func Compare(ctx context.Context, r Record) (func(index uint64, leaf logbook.Leaf) error, error) {
	secret, err := r.LogSecret(ctx)
	if err != nil {
		return nil, fmt.Errorf("the record: %w", err)
	}
	l := &Log{c: Config{Record: r}}
	var ahead []Event
	return func(index uint64, leaf logbook.Leaf) error {
		if len(ahead) == 0 {
			if ahead, err = l.events(ctx, index, batchSize); err != nil {
				return err
			}
			if len(ahead) == 0 {
				return fmt.Errorf("%w: it ends before entry %d", ErrRecordBehind, index)
			}
		}
		e := ahead[0]
		ahead = ahead[1:]
		if e.Kind != logbook.Lost && e.Leaf(secret) != leaf {
			return fmt.Errorf("%w: entry %d is not what the record says", ErrFolder, index)
		}
		return nil
	}, nil
}

// ProveConfig says what is proven, from which log.
type ProveConfig struct {
	Files  logbook.Files
	Policy *logbook.Policy
	Record Record
	// Same says whether a device id is the one that is asked about.
	Same func(id string) bool
}

// Prove opens every entry about a device that the log's checkpoint covers. It reads the whole record.
func Prove(ctx context.Context, c ProveConfig) ([]logbook.Opening, error) {
	note, err := c.Files.Read(ctx, logbook.CheckpointPath, journal.MaxCheckpoint)
	if err != nil {
		return nil, fmt.Errorf("the log's checkpoint: %w", err)
	}
	cp, err := c.Policy.Verify(note)
	if err != nil {
		return nil, fmt.Errorf("the log's checkpoint: %w", err)
	}
	secret, err := c.Record.LogSecret(ctx)
	if err != nil {
		return nil, fmt.Errorf("the record: %w", err)
	}
	l := &Log{c: Config{Record: c.Record}}
	var out []logbook.Opening
	for at := uint64(0); at < uint64(cp.Size); {
		events, err := l.events(ctx, at, batchSize)
		if err != nil {
			return nil, err
		}
		if len(events) == 0 {
			return nil, ErrRecordBehind
		}
		for _, e := range events {
			if e.Index >= uint64(cp.Size) || e.DeviceID == "" || !c.Same(e.DeviceID) {
				continue
			}
			o, err := open(ctx, c, e, secret, cp)
			if err != nil {
				return nil, err
			}
			out = append(out, o)
		}
		at += uint64(len(events))
	}
	return out, nil
}

func open(ctx context.Context, c ProveConfig, e Event, secret [32]byte, cp logbook.Checkpoint) (logbook.Opening, error) {
	hashes, err := logbook.Inclusion(ctx, c.Files, int64(e.Index), cp.Size)
	if err != nil {
		return logbook.Opening{}, err
	}
	salt := Salt(secret, e.Index)
	o := logbook.Opening{Details: string(e.Details(secret).Text()), DeviceID: e.DeviceID, Salt: hex.EncodeToString(salt[:]),
		Proof: string(logbook.Proof{Index: int64(e.Index), Hashes: hashes, Checkpoint: cp.Note}.Text())}
	if e.Certificate != [32]byte{} {
		o.Certificate = hex.EncodeToString(e.Certificate[:])
	}
	// What is handed out holds: a folder that was changed gives no proof.
	if _, _, err := o.Check(c.Policy); err != nil {
		return logbook.Opening{}, fmt.Errorf("%w: entry %d cannot be proven: %w", ErrFolder, e.Index, err)
	}
	return o, nil
}
