package tables

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hanaper/hanaper/factory/record"
)

const permitFor = `SELECT key_digest, at, who, note FROM permit WHERE device = ?`

func scanPermit(row scanner, none noRows) (record.Permit, error) {
	var p record.Permit
	var at int64
	err := row.Scan(&p.Key, &at, &p.Who, &p.Note)
	if err != nil && none(err) {
		return p, record.ErrNotFound
	}
	p.At = seconds(at)
	return p, err
}

func permitOf(tx Tx, device int64) (record.Permit, error) {
	return scanPermit(tx.Row(permitFor, device), tx.None)
}

// subject is a device that an act is about, as it is under the act's lock.
type subject struct {
	device int64
	form   string
	// rec is the latest record, where it has one.
	rec   record.Record
	known bool
	// permit is what it may do next, where it has one.
	permit    record.Permit
	permitted bool
	scrapped  bool
}

// key is the SHA-256 of the key that the device has, or waits for; nil for none.
func (s *subject) key() []byte {
	switch {
	case s.permitted:
		return s.permit.Key
	case s.known:
		return s.rec.SPKIDigest[:]
	}
	return nil
}

// unheld refuses what would let a device be enrolled while the store is held.
func unheld(tx Tx) error {
	holding, err := number(tx, isHeld)
	if err == nil && holding != 0 {
		err = record.ErrHeld
	}
	return err
}

// look finds and locks a device; device 0 for none.
func look(tx Tx, id string) (s subject, err error) {
	s.form = id
	if s.device, err = lockDevice(tx, record.Fold(id)); err != nil || s.device == 0 {
		return s, err
	}
	s.rec, err = one(tx, byDevice, record.Fold(id))
	if s.known = err == nil; s.known {
		s.form = s.rec.DeviceID
	}
	if err != nil && !errors.Is(err, record.ErrNotFound) {
		return s, err
	}
	s.permit, err = permitOf(tx, s.device)
	s.permitted = err == nil
	if err != nil && !errors.Is(err, record.ErrNotFound) {
		return s, err
	}
	n, err := number(tx, isScrapped, s.device)
	s.scrapped = n != 0
	return s, err
}

// ready refuses a device that is scrapped, or that an enrolment is open of.
func (s *subject) ready() error {
	switch {
	case s.scrapped:
		return record.ErrScrapped
	case s.known && s.rec.Open():
		return record.ErrOpen
	}
	return nil
}

// revokeAll revokes all certificates of a device that are not revoked yet.
func revokeAll(tx Tx, device int64, reason int, who string, at time.Time) error {
	for {
		var serial, digest []byte
		var issuer int64
		err := tx.Row(`SELECT c.serial, c.issuer, i.digest FROM enrolment e JOIN certificate c ON c.enrolment = e.id JOIN issuer i ON i.id = c.issuer JOIN result r ON r.certificate = c.id
 LEFT JOIN revocation v ON v.issuer = c.issuer AND v.serial = c.serial WHERE e.device = ? AND r.der IS NOT NULL AND v.serial IS NULL ORDER BY c.id LIMIT 1`, device).Scan(&serial, &issuer, &digest)
		if err != nil && tx.None(err) {
			return nil
		}
		if err != nil {
			return err
		}
		v := record.Revocation{Serial: serial, At: at, Reason: reason, Who: who}
		copy(v.Issuer[:], digest)
		if _, _, err := Revoke(tx, issuer, v); err != nil {
			return err
		}
	}
}

// permit sets what a device may do next.
func permit(tx Tx, device int64, key []byte, at time.Time, who, note string) error {
	_, err := tx.Exec(`INSERT INTO permit (device, key_digest, at, who, note) VALUES (?,?,?,?,?)
 ON CONFLICT (device) DO UPDATE SET key_digest = excluded.key_digest, at = excluded.at, who = excluded.who, note = excluded.note`, device, orNull(key), at.Unix(), who, note)
	return err
}

// happened appends the event of an act.
func (s *subject) happened(tx Tx, kind record.Kind, at time.Time, who, note string) error {
	var certificate any
	if s.known {
		certificate = s.rec.ID
	}
	_, err := tx.Event(string(kind), at.Unix(), who, certificate, s.form, nil, nil, nil, note)
	return err
}

// Reissue implements record.Store.
func Reissue(tx Tx, a record.Act) (bool, error) {
	if err := unheld(tx); err != nil {
		return false, err
	}
	s, err := look(tx, a.DeviceID)
	switch {
	case err != nil:
		return false, err
	case s.device == 0 || !s.known && !s.permitted && !s.scrapped:
		return false, record.ErrNotFound
	}
	if err := s.ready(); err != nil {
		return false, err
	}
	if s.permitted && s.permit.Key == nil {
		return false, nil
	}
	if err := revokeAll(tx, s.device, record.ReasonSuperseded, a.Who, a.At); err != nil {
		return false, err
	}
	if err := permit(tx, s.device, nil, a.At, a.Who, a.Note); err != nil {
		return false, err
	}
	return true, s.happened(tx, record.Permits, a.At, a.Who, noted("a further generation with another key", a.Note))
}

// Scrap implements record.Store.
func Scrap(tx Tx, a record.Act, freeSlot bool) (bool, error) {
	s, err := look(tx, a.DeviceID)
	if err != nil {
		return false, err
	}
	if s.device == 0 {
		return false, record.ErrNotFound
	}
	var said []string
	if !s.scrapped {
		if _, err := tx.Exec(`INSERT INTO scrap (device, at, who, freed) VALUES (?,?,?,0)`, s.device, a.At.Unix(), a.Who); err != nil {
			return false, err
		}
		if _, err := tx.Exec(`DELETE FROM permit WHERE device = ?`, s.device); err != nil {
			return false, err
		}
		if s.known && s.rec.Open() {
			// What may have been signed was handed to nobody: it is not recorded.
			was, err := closePending(tx, s.rec.ID, s.rec.TBSDigest)
			if err == nil && was {
				_, err = settle(tx, record.Result{ID: s.rec.ID, At: a.At, Who: a.Who}, record.Abandon)
			}
			if err != nil {
				return false, err
			}
		}
		if err := revokeAll(tx, s.device, record.ReasonCessation, a.Who, a.At); err != nil {
			return false, err
		}
		said = append(said, "scrapped")
	}
	if freeSlot {
		freed, err := free(tx, s.device)
		if err != nil {
			return false, err
		}
		if freed != "" {
			said = append(said, fmt.Sprintf("its place in lot %q is given back", freed))
		}
	}
	if said == nil {
		return false, nil
	}
	return true, s.happened(tx, record.Scrap, a.At, a.Who, noted(strings.Join(said, "; "), a.Note))
}

// free gives a scrapped device's place back, once; the lot's name, or empty where there was none to give.
func free(tx Tx, device int64) (string, error) {
	var lot string
	err := tx.Row(`SELECT lot FROM enrolment WHERE device = ? AND counted = 1 AND (SELECT freed FROM scrap WHERE device = ?) = 0 LIMIT 1`, device, device).Scan(&lot)
	if err != nil {
		if tx.None(err) {
			err = nil
		}
		return "", err
	}
	rows, err := tx.Exec(`UPDATE scrap SET freed = 1 WHERE device = ? AND freed = 0`, device)
	if err != nil || rows == 0 {
		return "", err
	}
	_, err = tx.Exec(`UPDATE lot SET taken = taken - 1 WHERE name = ? AND taken > 0`, lot)
	return lot, err
}

// Swap implements record.Store.
func Swap(tx Tx, x record.Exchange) error {
	ids := [2]string{x.A, x.B}
	if record.Fold(x.A) == record.Fold(x.B) {
		return errors.New("a swap is of two devices")
	}
	if err := unheld(tx); err != nil {
		return err
	}
	// The locks are taken in one order, whoever is called A.
	first := 0
	if record.Fold(x.B) < record.Fold(x.A) {
		first = 1
	}
	var two [2]subject
	for _, i := range []int{first, 1 - first} {
		var err error
		if two[i], err = look(tx, ids[i]); err != nil {
			return err
		}
		if err := two[i].ready(); err != nil {
			return err
		}
	}
	keys := [2][]byte{two[0].key(), two[1].key()}
	if keys[0] == nil && keys[1] == nil {
		return record.ErrNotFound
	}
	if (x.KeyA != nil || x.KeyB != nil) && !(bytes.Equal(keys[0], x.KeyA) && bytes.Equal(keys[1], x.KeyB)) {
		return record.ErrChanged
	}
	// One of them at most has no device yet. That is made before anything is changed.
	for i := range two {
		if two[i].device == 0 {
			var err error
			if two[i].device, err = tx.Insert(`INSERT INTO device (fold) VALUES (?) ON CONFLICT DO NOTHING`, record.Fold(two[i].form)); err != nil {
				return err
			}
			if two[i].device == 0 {
				return record.ErrOpen // somebody enrols it at this moment
			}
		}
	}
	for i := range two {
		s, other, next := &two[i], &two[1-i], keys[1-i]
		if err := revokeAll(tx, s.device, record.ReasonSuperseded, x.Who, x.At); err != nil {
			return err
		}
		if err := permit(tx, s.device, next, x.At, x.Who, x.Note); err != nil {
			return err
		}
		what := fmt.Sprintf("it and %q have exchanged keys; it waits for key %x", other.form, next)
		if next == nil {
			what = fmt.Sprintf("its key is now that of %q; it may be enrolled with another", other.form)
		}
		if err := s.happened(tx, record.Swap, x.At, x.Who, noted(what, x.Note)); err != nil {
			return err
		}
	}
	for i, key := range keys {
		if key == nil {
			continue
		}
		if _, err := tx.Exec(`UPDATE device_key SET device = ? WHERE digest = ?`, two[1-i].device, key); err != nil {
			return err
		}
		if _, err := tx.Exec(`INSERT INTO former_key (digest, device) VALUES (?, ?) ON CONFLICT DO NOTHING`, key, two[i].device); err != nil {
			return err
		}
	}
	return nil
}
