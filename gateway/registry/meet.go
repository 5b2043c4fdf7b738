package registry

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
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
	if f, ok := r.recent.Get(fold(m.Device)); ok && f == m.Certificate {
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
			r.probe()
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
			outcomes[i].met, err = r.meetOne(tx, m.Meeting)
			if errors.Is(err, gateway.ErrDeleted) || errors.Is(err, gateway.ErrOldKey) || errors.Is(err, gateway.ErrOtherKey) {
				outcomes[i].err = err
			} else if err != nil {
				return err
			}
		}
		return nil
	})
	r.noteWrite(err)
	for i, m := range list {
		if err != nil {
			outcomes[i] = outcome{err: err}
		} else if outcomes[i].err == nil {
			r.remember(m)
		}
		m.answer <- outcomes[i]
	}
}

// remember keeps a device's certificate in memory, unless tombstones have come or gone since it was asked for.
func (r *SQLite) remember(m *meeting) {
	r.faces.Lock()
	defer r.faces.Unlock()
	if r.generation.Load() == m.generation {
		r.recent.Add(fold(m.Device), m.Certificate)
	}
}

// sentences are the statements of a meeting, prepared once for the one write connection.
type sentences struct {
	newDevice, state, newCertificate, turns, mark, flag *sql.Stmt
}

func (r *SQLite) prepareSentences() error {
	for _, s := range []struct {
		stmt **sql.Stmt
		text string
	}{
		{&r.say.newDevice, "INSERT INTO devices (name, first_seen, last_seen, key, key_from) VALUES (?1, ?2, ?2, ?3, ?4) ON CONFLICT DO NOTHING"},
		{&r.say.state, "SELECT deleted, coalesce(key, x''), key_from, rekey, old_key, other_key FROM devices WHERE name = ?"},
		{&r.say.newCertificate, `INSERT INTO certificates (sha256, device, key_sha256, serial, issuer, not_after, first_seen, last_seen, turn)
			VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7, ?8) ON CONFLICT (sha256) DO UPDATE SET last_seen = max(last_seen, excluded.last_seen)`},
		{&r.say.turns, "SELECT sha256, key_sha256, turn, not_after FROM certificates WHERE device = ? ORDER BY turn"},
		{&r.say.mark, "UPDATE devices SET last_seen = max(last_seen, ?2), key = ?3, key_from = max(key_from, ?4), rekey = ?5 WHERE name = ?1"},
		{&r.say.flag, "UPDATE devices SET old_key = max(old_key, ?2), other_key = max(other_key, ?3) WHERE name = ?1"},
	} {
		var err error
		if *s.stmt, err = r.write.Prepare(s.text); err != nil {
			return err
		}
	}
	return nil
}

// known is a device as it was before a meeting.
type known struct {
	deleted, keyFrom, rekey, oldKey, otherKey int64
	key                                       []byte
}

// meetOne records one meeting.
func (r *SQLite) meetOne(tx *sql.Tx, m gateway.Meeting) (gateway.Met, error) {
	insert := func(turn int64) error {
		_, err := tx.Stmt(r.say.newCertificate).Exec(m.Certificate[:], m.Device, m.Key[:], m.Serial, m.Issuer, m.NotAfter.Unix(), m.At.Unix(), turn)
		return err
	}
	result, err := tx.Stmt(r.say.newDevice).Exec(m.Device, m.At.Unix(), m.Key[:], m.NotBefore.Unix())
	if err != nil {
		return gateway.Met{}, err
	}
	if n, err := result.RowsAffected(); err != nil {
		return gateway.Met{}, err
	} else if n == 1 {
		return gateway.Met{New: true}, insert(1)
	}
	var k known
	if err := tx.Stmt(r.say.state).QueryRow(m.Device).Scan(&k.deleted, &k.key, &k.keyFrom, &k.rekey, &k.oldKey, &k.otherKey); err != nil {
		return gateway.Met{}, err
	}
	if k.deleted != 0 {
		return gateway.Met{}, gateway.ErrDeleted
	}
	met, metBefore, next, err := r.compare(tx, m)
	if err != nil {
		return met, err
	}
	rekey := k.rekey
	if !bytes.Equal(k.key, m.Key[:]) {
		switch {
		case k.rekey != 0:
			// The operator has allowed this one, and no other after it.
			rekey = 0
		case metBefore:
			return gateway.Met{}, r.flag(tx, m.Device, 1, 0, k.oldKey != 0, gateway.ErrOldKey)
		case m.NotBefore.Unix() <= k.keyFrom:
			return gateway.Met{}, r.flag(tx, m.Device, 0, 1, k.otherKey != 0, gateway.ErrOtherKey)
		}
		met.Rekeyed = true
	}
	if err := insert(next); err != nil {
		return met, err
	}
	_, err = tx.Stmt(r.say.mark).Exec(m.Device, m.At.Unix(), m.Key[:], m.NotBefore.Unix(), rekey)
	return met, err
}

// flag marks the device for operators, once: whoever comes again and again costs no further write.
func (r *SQLite) flag(tx *sql.Tx, device string, oldKey, otherKey int, flagged bool, answer error) error {
	if flagged {
		return answer
	}
	if _, err := tx.Stmt(r.say.flag).Exec(device, oldKey, otherKey); err != nil {
		return err
	}
	return answer
}

// compare holds m against the certificates that the device has used; next is the turn of one more.
func (r *SQLite) compare(tx *sql.Tx, m gateway.Meeting) (met gateway.Met, metBefore bool, next int64, err error) {
	rows, err := tx.Stmt(r.say.turns).Query(m.Device)
	if err != nil {
		return met, false, 0, err
	}
	defer rows.Close()
	met.Renewed, next = true, 1
	for rows.Next() {
		var sum, key []byte
		var turn, notAfter int64
		if err := rows.Scan(&sum, &key, &turn, &notAfter); err != nil {
			return met, false, 0, err
		}
		if len(sum) != 32 || len(key) != 32 {
			return met, false, 0, fmt.Errorf("a certificate of %q is damaged", m.Device)
		}
		next = max(next, turn+1)
		met.Renewed = met.Renewed && [32]byte(sum) != m.Certificate
		metBefore = metBefore || [32]byte(key) == m.Key
	}
	return met, metBefore, next, rows.Err()
}
