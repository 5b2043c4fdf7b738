package tables

import (
	"errors"
	"fmt"

	"github.com/hanaper/hanaper/factory/record"
)

const (
	isHeld      = `SELECT 1 FROM mark WHERE name = '` + held + `'`
	deviceNamed = `SELECT id FROM device WHERE fold = ?`
	isScrapped  = `SELECT 1 FROM scrap WHERE device = ?`
)

// Begin implements record.Store; issuer is the number of in.Issuer.
func Begin(tx Tx, issuer int64, in record.Intent) (rec record.Record, isNew bool, err error) {
	in.Generation = max(in.Generation, 1)
	fold := record.Fold(in.DeviceID)
	device, err := tx.Insert(`INSERT INTO device (fold) SELECT CAST(? AS TEXT) WHERE NOT EXISTS (`+isHeld+`) ON CONFLICT DO NOTHING`, fold)
	if err != nil {
		return rec, false, err
	}
	// What was done is undone by hand where a later step refuses: the transaction is shared with others.
	undo := undoing{tx: tx}
	permitted := false
	switch isNew = device != 0; {
	case isNew && in.Generation != 1:
		_, err := tx.Exec(`DELETE FROM device WHERE id = ?`, device)
		return rec, false, errors.Join(err, record.ErrNotFound)
	case isNew:
		undo.add(`DELETE FROM device WHERE id = ?`, device)
	default:
		if rec, device, permitted, err = further(tx, &in, fold); err != nil || device == 0 {
			return rec, false, err
		}
	}
	rows, err := tx.Exec(`INSERT INTO device_key (digest, device) VALUES (?, ?) ON CONFLICT DO NOTHING`, in.SPKIDigest[:], device)
	if err != nil {
		return rec, false, err
	}
	if rows == 0 {
		owner, err := number(tx, `SELECT device FROM device_key WHERE digest = ?`, in.SPKIDigest[:])
		if err != nil {
			return rec, false, err
		}
		if owner != device {
			return undo.refuse(record.ErrKeyKnown)
		}
	} else {
		undo.add(`DELETE FROM device_key WHERE digest = ?`, in.SPKIDigest[:])
	}
	counted := 0
	if in.Generation == 1 && in.Lot != "" {
		took, err := take(tx, &in, fold)
		if isAnswer(err) {
			return undo.refuse(err)
		}
		if err != nil {
			return rec, false, err
		}
		if took {
			counted = 1
			undo.add(`UPDATE lot SET taken = taken - 1 WHERE name = ?`, in.Lot)
		}
	}
	enrolment, err := enrol(tx, device, counted, &in)
	if err != nil {
		return rec, false, err
	}
	undo.add(`DELETE FROM enrolment WHERE id = ?`, enrolment)
	id, err := intend(tx, enrolment, issuer, &in)
	if err != nil {
		return rec, false, err
	}
	if id == 0 {
		return undo.refuse(fmt.Errorf("serial %x is taken", in.Serial))
	}
	if permitted {
		if _, err := tx.Exec(`DELETE FROM permit WHERE device = ?`, device); err != nil {
			return rec, false, err
		}
	}
	return record.Record{Intent: in, ID: id}, true, nil
}

// further decides whether a device that is there may have the intent: device is 0 where rec, the latest on record, answers it.
func further(tx Tx, in *record.Intent, fold string) (rec record.Record, device int64, permitted bool, err error) {
	rec, err = one(tx, byDevice, fold)
	if err == nil && in.Generation != rec.Generation+1 {
		return rec, 0, false, nil
	}
	if err != nil && !errors.Is(err, record.ErrNotFound) {
		return rec, 0, false, err
	}
	if err := unheld(tx); err != nil {
		return record.Record{}, 0, false, err
	}
	if device, err = lockDevice(tx, fold); err == nil && device == 0 {
		err = record.ErrNotFound
	}
	if err != nil {
		return rec, 0, false, err
	}
	// Nobody changes the device from here on: what was read before may be stale.
	rec, err = one(tx, byDevice, fold)
	known := err == nil
	if err != nil && !errors.Is(err, record.ErrNotFound) {
		return rec, 0, false, err
	}
	if known && in.Generation != rec.Generation+1 {
		return rec, 0, false, nil
	}
	scrapped, err := number(tx, isScrapped, device)
	if err == nil && scrapped != 0 {
		err = record.ErrScrapped
	}
	if err != nil {
		return rec, 0, false, err
	}
	p, err := permitOf(tx, device)
	none := errors.Is(err, record.ErrNotFound)
	if err != nil && !none {
		return rec, 0, false, err
	}
	fits := !none && (p.Key == nil && (!known || rec.SPKIDigest != in.SPKIDigest) || string(p.Key) == string(in.SPKIDigest[:]))
	switch {
	case !known && in.Generation != 1:
		return rec, 0, false, record.ErrNotFound
	case !known && !fits:
		// A swap made the device, for a key.
		return rec, 0, false, record.ErrReserved
	case known && in.Permitted != fits, known && !fits && (!none || !rec.RevokedAt.IsZero()):
		return rec, 0, false, nil
	}
	return rec, device, fits, nil
}

// lockDevice finds a device and keeps others from changing what hangs on it until the transaction ends; 0 for none.
func lockDevice(tx Tx, fold string) (int64, error) {
	device, err := number(tx, deviceNamed, fold)
	if err != nil || device == 0 {
		return 0, err
	}
	_, err = tx.Exec(`UPDATE device SET fold = fold WHERE id = ?`, device)
	return device, err
}

// undoing takes back what a step did in a transaction that it shares.
type undoing struct {
	tx   Tx
	todo []func() error
}

func (u *undoing) add(query string, args ...any) {
	u.todo = append(u.todo, func() error { _, err := u.tx.Exec(query, args...); return err })
}

// refuse takes all of it back, the last first, and gives why.
func (u *undoing) refuse(why error) (record.Record, bool, error) {
	for i := len(u.todo) - 1; i >= 0; i-- {
		if err := u.todo[i](); err != nil {
			return record.Record{}, false, fmt.Errorf("%w: %w", errUndone, err)
		}
	}
	return record.Record{}, false, why
}

// errUndone marks a failure that leaves a transaction in no state to go on with.
var errUndone = errors.New("what was refused could not be undone")

// take counts a new device into the lot that its intent names; false where the name has no lot. Whether it may is decided by the row.
func take(tx Tx, in *record.Intent, fold string) (bool, error) {
	rows, err := tx.Exec(`UPDATE lot SET taken = taken + 1 WHERE name = ? AND revision = ? AND state = 'open' AND taken < quota
 AND (listed = 0 OR EXISTS (SELECT 1 FROM lot_id WHERE lot = ? AND fold = ?))`, in.Lot, in.LotRevision, in.Lot, fold)
	if err != nil || rows == 1 {
		return rows == 1, err
	}
	var revision, full int64
	var state string
	err = tx.Row(`SELECT revision, state, CASE WHEN taken >= quota THEN 1 ELSE 0 END FROM lot WHERE name = ?`, in.Lot).Scan(&revision, &state, &full)
	switch {
	case err != nil && tx.None(err) && in.LotRevision == 0:
		return false, nil
	case err != nil && tx.None(err):
		return false, record.ErrLotChanged
	case err != nil:
		return false, err
	case revision != in.LotRevision:
		return false, record.ErrLotChanged
	case state != string(record.LotOpen):
		return false, record.ErrLotClosed
	case full != 0:
		return false, record.ErrQuota
	}
	return false, record.ErrLotID
}
