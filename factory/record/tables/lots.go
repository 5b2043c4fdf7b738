package tables

import (
	"bytes"
	"database/sql"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/hanaper/hanaper/factory/record"
)

// ordersAfter is the mark that keeps out orders which may have been applied before the store was put back from a copy: in Unix seconds.
const ordersAfter = "orders-after"

const lotColumns = `name, quota, taken, state, revision, profile, environment, id_pattern, listed, stations, hardware_ids, starts, ends, opened_at, closed_at, order_digest`

const lotNamed = `SELECT ` + lotColumns + ` FROM lot WHERE name = ?`

func scanLot(row scanner, none noRows) (record.Lot, error) {
	var l record.Lot
	var stations, hardware string
	var opened int64
	var from, until, closed sql.NullInt64
	var order []byte
	err := row.Scan(&l.Name, &l.Quota, &l.Taken, &l.State, &l.Revision, &l.Profile, &l.Environment, &l.IDPattern, &l.Listed, &stations, &hardware, &from, &until, &opened, &closed, &order)
	if err != nil && none(err) {
		return record.Lot{}, record.ErrNotFound
	}
	if err != nil {
		return l, err
	}
	l.Stations, l.HardwareIDs = words(stations), words(hardware)
	l.From, l.Until, l.OpenedAt, l.ClosedAt = orZero(from), orZero(until), seconds(opened), orZero(closed)
	copy(l.Order[:], order)
	return l, nil
}

// words are stored one a line.
func words(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}

func orZero(s sql.NullInt64) time.Time {
	if !s.Valid {
		return time.Time{}
	}
	return seconds(s.Int64)
}

func unixOrNull(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.Unix()
}

// OpenLot implements record.Store.
func OpenLot(tx Tx, o record.LotOrder) (on record.Lot, changed bool, err error) {
	if err := unheld(tx); err != nil {
		return on, false, err
	}
	// The row comes first, so that of two who bring the same order only one applies it.
	rows, err := tx.Exec(`INSERT INTO lot_order (digest, lot, revision, issued, at, who, envelope) VALUES (?,?,0,?,?,?,?) ON CONFLICT DO NOTHING`,
		o.Order[:], o.Name, o.Issued.Unix(), o.At.Unix(), o.Who, o.Envelope)
	if err != nil {
		return on, false, err
	}
	if rows == 0 {
		on, err = scanLot(tx.Row(lotNamed, o.Name), tx.None)
		return on, false, err
	}
	undo := undoing{tx: tx}
	undo.add(`DELETE FROM lot_order WHERE digest = ?`, o.Order[:])
	refuse := func(why error) (record.Lot, bool, error) {
		_, _, err := undo.refuse(why)
		return record.Lot{}, false, err
	}
	var after []byte
	if err := tx.Row(`SELECT value FROM mark WHERE name = '` + ordersAfter + `'`).Scan(&after); err != nil && !tx.None(err) {
		return on, false, err
	}
	if n, _ := strconv.ParseInt(string(after), 10, 64); o.Issued.Unix() < n {
		return refuse(record.ErrOrderOld)
	}
	if err = putLot(tx, &o); isAnswer(err) {
		return refuse(err)
	}
	if err != nil {
		return on, false, err
	}
	if _, err := tx.Exec(`DELETE FROM lot_id WHERE lot = ?`, o.Name); err != nil {
		return on, false, err
	}
	for _, id := range o.IDs {
		if _, err := tx.Exec(`INSERT INTO lot_id (lot, fold) VALUES (?, ?) ON CONFLICT DO NOTHING`, o.Name, record.Fold(id)); err != nil {
			return on, false, err
		}
	}
	if on, err = scanLot(tx.Row(lotNamed, o.Name), tx.None); err != nil {
		return on, false, err
	}
	if _, err := tx.Exec(`UPDATE lot_order SET revision = ? WHERE digest = ?`, on.Revision, o.Order[:]); err != nil {
		return on, false, err
	}
	note := fmt.Sprintf("lot %q opened by order %x: %d devices", o.Name, o.Order, o.Quota)
	if o.Replaces != ([32]byte{}) {
		note = fmt.Sprintf("lot %q changed by order %x in place of %x: %d devices", o.Name, o.Order, o.Replaces, o.Quota)
	}
	_, err = tx.Event(string(record.LotWas), o.At.Unix(), o.Who, nil, nil, nil, nil, nil, note)
	return on, true, err
}

// putLot makes the row of a lot, or makes it the one that replaces the order in force.
func putLot(tx Tx, o *record.LotOrder) error {
	said := []any{o.Quota, o.Profile, o.Environment, o.IDPattern, len(o.IDs), strings.Join(o.Stations, "\n"), strings.Join(o.HardwareIDs, "\n"), unixOrNull(o.From), unixOrNull(o.Until), o.Order[:]}
	if o.Replaces == ([32]byte{}) {
		rows, err := tx.Exec(`INSERT INTO lot (quota, profile, environment, id_pattern, listed, stations, hardware_ids, starts, ends, order_digest, name, taken, state, revision, opened_at)
 VALUES (?,?,?,?,?,?,?,?,?,?,?,0,'open',1,?) ON CONFLICT DO NOTHING`, append(said, o.Name, o.At.Unix())...)
		if err == nil && rows == 0 {
			err = record.ErrLotKnown
		}
		return err
	}
	rows, err := tx.Exec(`UPDATE lot SET quota = ?, profile = ?, environment = ?, id_pattern = ?, listed = ?, stations = ?, hardware_ids = ?, starts = ?, ends = ?, order_digest = ?, revision = revision + 1
 WHERE name = ? AND order_digest = ? AND state = 'open' AND taken <= ?`, append(said, o.Name, o.Replaces[:], o.Quota)...)
	if err != nil || rows == 1 {
		return err
	}
	on, err := scanLot(tx.Row(lotNamed, o.Name), tx.None)
	switch {
	case err != nil:
		return err
	case !bytes.Equal(on.Order[:], o.Replaces[:]):
		return record.ErrLotKnown
	case on.State != record.LotOpen:
		return record.ErrLotClosed
	}
	return record.ErrQuota
}

// CloseLot implements record.Store.
func CloseLot(tx Tx, name, who, note string, at time.Time) (on record.Lot, changed bool, err error) {
	rows, err := tx.Exec(`UPDATE lot SET state = 'closed', closed_at = ?, revision = revision + 1 WHERE name = ? AND state = 'open'`, at.Unix(), name)
	if err != nil {
		return on, false, err
	}
	if on, err = scanLot(tx.Row(lotNamed, name), tx.None); err != nil || rows == 0 {
		return on, false, err
	}
	_, err = tx.Event(string(record.LotWas), at.Unix(), who, nil, nil, nil, nil, nil, noted(fmt.Sprintf("lot %q closed with %d of %d devices", name, on.Taken, on.Quota), note))
	return on, true, err
}

// noted joins what we say and what an operator noted.
func noted(ours, note string) string {
	if note == "" {
		return ours
	}
	return ours + ": " + note
}

// SetLot implements record.Store.
func SetLot(tx Tx, name string, quota int64, who string, at time.Time) error {
	rows, err := tx.Exec(`INSERT INTO lot (name, quota, taken, state, revision, profile, environment, id_pattern, listed, stations, hardware_ids, opened_at)
 VALUES (?, ?, 0, 'open', 0, '', '', '', 0, '', '', ?) ON CONFLICT (name) DO UPDATE SET quota = excluded.quota WHERE lot.order_digest IS NULL`, name, quota, at.Unix())
	if err == nil && rows == 0 {
		err = record.ErrLotKnown
	}
	if err != nil {
		return err
	}
	_, err = tx.Event(string(record.LotWas), at.Unix(), who, nil, nil, nil, nil, nil, fmt.Sprintf("lot %q holds %d devices", name, quota))
	return err
}

// distrustLots is part of an acceptance: what lots took while the record was lost is not known, and neither which orders were applied. Lots that
// orders opened are closed, and only orders of later are taken.
func distrustLots(tx Tx, who string, at time.Time) error {
	for {
		var name string
		err := tx.Row(`SELECT name FROM lot WHERE state = 'open' AND order_digest IS NOT NULL ORDER BY name LIMIT 1`).Scan(&name)
		if err != nil && tx.None(err) {
			break
		}
		if err == nil {
			_, _, err = CloseLot(tx, name, who, "the record was put back, and what the lot took is not known", at)
		}
		if err != nil {
			return err
		}
	}
	_, err := tx.Exec(`INSERT INTO mark (name, value) VALUES ('`+ordersAfter+`', ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value`, []byte(strconv.FormatInt(at.Unix(), 10)))
	return err
}
