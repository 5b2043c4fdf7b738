package registry

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/hanaper/hanaper/gateway"
)

// meeting waits for its place in a transaction.
type meeting struct {
	gateway.Meeting
	generation int64
	answer     chan outcome
}

type outcome struct {
	met gateway.Met
	err error
}

// Meet implements gateway.Registry. A device whose last certificate comes again needs no disk; meetings that come together
// share a transaction.
func (r *SQLite) Meet(ctx context.Context, m gateway.Meeting) (gateway.Met, error) {
	if r.Deleted(m.Device) {
		return gateway.Met{}, gateway.ErrDeleted
	}
	generation := r.generation.Load()
	if f, ok := r.recent.Get(m.Device); ok && f.certificate == m.Certificate && f.generation == generation {
		return gateway.Met{}, nil
	}
	one := &meeting{Meeting: m, generation: generation, answer: make(chan outcome, 1)}
	select {
	case r.meetings <- one:
	case <-ctx.Done():
		return gateway.Met{}, ctx.Err()
	case <-r.stop:
		return gateway.Met{}, errClosed
	}
	select {
	case o := <-one.answer:
		return o.met, o.err
	case <-ctx.Done():
		return gateway.Met{}, ctx.Err()
	case <-r.stop:
		return gateway.Met{}, errClosed
	}
}

var errClosed = errors.New("the registry is closed")

// writer owns the write connection's transactions for meetings and last-seen times.
func (r *SQLite) writer() {
	defer r.done.Done()
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for {
		select {
		case <-r.stop:
			for {
				select {
				case m := <-r.meetings:
					m.answer <- outcome{err: errClosed}
				default:
					return
				}
			}
		case m := <-r.meetings:
			r.meetAll(r.gather(m))
		case <-r.wake:
			_ = r.flush()
		case <-tick.C:
			// A full disk shows at the next meeting, which waits for its answer; last-seen times are lost meanwhile.
			_ = r.flush()
		}
	}
}

func (r *SQLite) gather(first *meeting) []*meeting {
	list := []*meeting{first}
	for len(list) < batch {
		select {
		case m := <-r.meetings:
			list = append(list, m)
		default:
			return list
		}
	}
	return list
}

func (r *SQLite) meetAll(list []*meeting) {
	outcomes := make([]outcome, len(list))
	err := r.tx(context.Background(), func(tx *sql.Tx) error {
		for i, m := range list {
			var err error
			outcomes[i].met, err = meetOne(tx, m.Meeting)
			if errors.Is(err, gateway.ErrDeleted) {
				outcomes[i].err = err
			} else if err != nil {
				return err
			}
		}
		return nil
	})
	for i, m := range list {
		if err != nil {
			outcomes[i] = outcome{err: err}
		} else if outcomes[i].err == nil {
			r.recent.Add(m.Device, face{certificate: m.Certificate, generation: m.generation})
		}
		m.answer <- outcomes[i]
	}
}

// meetOne records one meeting. A certificate's turn grows with each change of certificate, so that the key in use last is
// that of the highest turn.
func meetOne(tx *sql.Tx, m gateway.Meeting) (gateway.Met, error) {
	var met gateway.Met
	var deleted int64
	err := tx.QueryRow("SELECT deleted FROM devices WHERE name = ?", m.Device).Scan(&deleted)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		met.New = true
		if _, err := tx.Exec("INSERT INTO devices (name, first_seen, last_seen) VALUES (?1, ?2, ?2)", m.Device, m.At.Unix()); err != nil {
			return met, err
		}
	case err != nil:
		return met, err
	case deleted != 0:
		return met, gateway.ErrDeleted
	}
	// The device's last certificate, and the turn of this one, if they are known.
	var lastTurn sql.NullInt64
	if err := tx.QueryRow("SELECT max(turn) FROM certificates WHERE device = ?", m.Device).Scan(&lastTurn); err != nil {
		return met, err
	}
	var firstOfKey sql.NullInt64
	if err := tx.QueryRow("SELECT min(turn) FROM certificates WHERE device = ? AND key_sha256 = ?", m.Device, m.Key[:]).Scan(&firstOfKey); err != nil {
		return met, err
	}
	var newerKey int
	if firstOfKey.Valid {
		if err := tx.QueryRow("SELECT count(*) FROM certificates WHERE device = ?1 AND key_sha256 <> ?2 AND turn > ?3",
			m.Device, m.Key[:], firstOfKey.Int64).Scan(&newerKey); err != nil {
			return met, err
		}
	}
	_, err = tx.Exec(`INSERT INTO certificates (sha256, device, key_sha256, serial, issuer, not_after, first_seen, last_seen, turn)
		VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7, ?8) ON CONFLICT (sha256) DO UPDATE SET last_seen = max(last_seen, excluded.last_seen)`,
		m.Certificate[:], m.Device, m.Key[:], m.Serial, m.Issuer, m.NotAfter.Unix(), m.At.Unix(), lastTurn.Int64+1)
	if err != nil {
		return met, err
	}
	var turn int64
	if err := tx.QueryRow("SELECT turn FROM certificates WHERE sha256 = ?", m.Certificate[:]).Scan(&turn); err != nil {
		return met, err
	}
	met.Renewed = !met.New && turn == lastTurn.Int64+1
	met.OldKey = newerKey > 0
	var live int
	if err := tx.QueryRow("SELECT count(DISTINCT key_sha256) FROM certificates WHERE device = ? AND not_after > ?", m.Device, m.At.Unix()).Scan(&live); err != nil {
		return met, err
	}
	met.TwoKeys = live > 1
	_, err = tx.Exec("UPDATE devices SET last_seen = max(last_seen, ?2), old_key = max(old_key, ?3) WHERE name = ?1", m.Device, m.At.Unix(), met.OldKey)
	return met, err
}
