package tables

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/hanaper/hanaper/factory/record"
)

// held is the mark that keeps intents out; its value is the reason.
const held = "held"

// Tx is one transaction. Its statements are durable together, or not at all. None may fail for a reason of a caller's: a
// conflict is a row that was not changed.
type Tx interface {
	// Exec changes rows and tells how many.
	Exec(query string, args ...any) (rows int64, err error)
	// Insert puts one row into a table that numbers its rows, and tells the number; 0 where a conflict kept it out.
	Insert(query string, args ...any) (id int64, err error)
	// Row reads one row; None tells whether its Scan failed because there is none.
	Row(query string, args ...any) interface{ Scan(...any) error }
	None(error) bool
	// Event appends a row of event and gives its sequence number. args are kind, at, who, certificate, form, issuer (its number), serial,
	// reason, note.
	Event(args ...any) (sequence int64, err error)
}

func one(tx Tx, query string, args ...any) (record.Record, error) {
	return scan(tx.Row(query, args...), tx.None)
}

// number reads one whole number, 0 where there is no row.
func number(tx Tx, query string, args ...any) (n int64, err error) {
	err = tx.Row(query, args...).Scan(&n)
	if err != nil && tx.None(err) {
		return 0, nil
	}
	return n, err
}

// Issuer gives the number of an issuer, which never changes; it is given one where it has none.
func Issuer(tx Tx, digest [32]byte) (int64, error) {
	const find = `SELECT id FROM issuer WHERE digest = ?`
	id, err := number(tx, find, digest[:])
	if err != nil || id != 0 {
		return id, err
	}
	if id, err = tx.Insert(`INSERT INTO issuer (digest, crl_number) VALUES (?, 0) ON CONFLICT DO NOTHING`, digest[:]); err != nil || id != 0 {
		return id, err
	}
	return number(tx, find, digest[:])
}

func enrol(tx Tx, device int64, counted int, in *record.Intent) (int64, error) {
	return tx.Insert(`INSERT INTO enrolment (device, generation, form, spki, spki_digest, csr_digest, hardware_id, lot, station, evidence, evidence_digest, at, counted, profile, asked)
 VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)`, device, in.Generation, in.DeviceID, in.SPKI, in.SPKIDigest[:], in.CSRDigest[:], in.HardwareID, in.Lot, in.Station,
		orNull(in.Evidence), orNull(in.EvidenceDigest), in.At.Unix(), counted, in.Profile, orNull(in.Asked))
}

// orNull keeps no bytes as NULL, in both databases.
func orNull(b []byte) any {
	if len(b) == 0 {
		return nil
	}
	return b
}

// intend records a certificate that is about to be signed; 0 where its serial is taken.
func intend(tx Tx, enrolment, issuer int64, in *record.Intent) (int64, error) {
	id, err := tx.Insert(`INSERT INTO certificate (enrolment, issuer, serial, tbs_digest, not_before, not_after, at) VALUES (?,?,?,?,?,?,?) ON CONFLICT DO NOTHING`,
		enrolment, issuer, in.Serial, in.TBSDigest[:], in.NotBefore.Unix(), in.NotAfter.Unix(), in.At.Unix())
	if err != nil || id == 0 {
		return 0, err
	}
	_, err = tx.Exec(`INSERT INTO pending (certificate, tbs_digest) VALUES (?, ?)`, id, in.TBSDigest[:])
	return id, err
}

// closePending ends an open intent, if it is still the one with this digest: who deletes its row decides what becomes of it.
func closePending(tx Tx, id int64, tbs [32]byte) (bool, error) {
	rows, err := tx.Exec(`DELETE FROM pending WHERE certificate = ? AND tbs_digest = ?`, id, tbs[:])
	return rows == 1, err
}

// Finish implements record.Store.
func Finish(tx Tx, r record.Result) (record.Done, error) {
	was, err := closePending(tx, r.ID, r.TBSDigest)
	if err != nil {
		return record.Done{}, err
	}
	if was {
		kind := record.Issue
		if r.Generation > 1 {
			kind = record.Reissue
		}
		sequence, err := settle(tx, r, kind)
		return record.Done{Certificate: r.Certificate, At: r.At, Sequence: sequence}, err
	}
	rec, err := one(tx, byID, r.ID)
	switch {
	case err != nil:
		return record.Done{}, err
	case rec.TBSDigest != r.TBSDigest:
		return record.Done{}, errors.New("the result is of another intent than was recorded")
	case rec.State == record.StateAbandoned:
		return record.Done{}, record.ErrAbandoned
	case rec.State == record.StateIntent:
		return record.Done{}, errors.New("the intent is damaged: it is open, and not among those that are pending")
	}
	return record.Done{Certificate: rec.Certificate, At: rec.IssuedAt, Sequence: rec.Sequence}, nil
}

// settle records what became of a certificate's intent, and its event.
func settle(tx Tx, r record.Result, kind record.Kind) (sequence int64, err error) {
	if sequence, err = tx.Event(string(kind), r.At.Unix(), r.Who, r.ID, nil, nil, nil, nil, ""); err != nil {
		return 0, err
	}
	_, err = tx.Exec(`INSERT INTO result (certificate, der, at, sequence) VALUES (?,?,?,?)`, r.ID, orNull(r.Certificate), r.At.Unix(), sequence)
	return sequence, err
}

// Replace implements record.Store; issuer is the number of in.Issuer.
func Replace(tx Tx, issuer, id int64, tbs [32]byte, in record.Intent) (record.Record, error) {
	old, err := one(tx, byID, id)
	if err != nil {
		return old, err
	}
	if record.Fold(old.DeviceID) != record.Fold(in.DeviceID) || old.SPKIDigest != in.SPKIDigest {
		return record.Record{}, errors.New("an intent can only be replaced by one of the same device and key")
	}
	taken, err := number(tx, `SELECT id FROM certificate WHERE serial = ? AND issuer = ?`, in.Serial, issuer)
	if err != nil {
		return record.Record{}, err
	}
	if taken != 0 {
		return record.Record{}, fmt.Errorf("serial %x is taken", in.Serial)
	}
	was, err := closePending(tx, id, tbs)
	if err != nil {
		return record.Record{}, err
	}
	if !was {
		return one(tx, byDevice, record.Fold(in.DeviceID))
	}
	if _, err := settle(tx, record.Result{ID: id, At: in.At, Who: "hanaperd"}, record.Abandon); err != nil {
		return record.Record{}, err
	}
	enrolment, err := number(tx, `SELECT enrolment FROM certificate WHERE id = ?`, id)
	if err != nil {
		return record.Record{}, err
	}
	next, err := intend(tx, enrolment, issuer, &in)
	if err == nil && next == 0 {
		err = fmt.Errorf("serial %x was taken meanwhile", in.Serial)
	}
	if err != nil {
		return record.Record{}, err
	}
	return one(tx, byID, next)
}

// TakeIn implements record.Store; issuer is the number of in.Issuer.
func TakeIn(tx Tx, issuer int64, in record.Intent, certificate []byte, who string) (rec record.Record, isNew bool, err error) {
	rec, err = one(tx, bySerial, in.Serial, in.Issuer[:])
	if err == nil && rec.State == record.StateIssued {
		if !bytes.Equal(rec.Certificate, certificate) {
			return rec, false, fmt.Errorf("serial %x is on record with another certificate", in.Serial)
		}
		return rec, false, nil
	}
	result := record.Result{Certificate: certificate, At: in.At, Who: who}
	switch {
	case err == nil && rec.State == record.StateAbandoned:
		return rec, false, fmt.Errorf("serial %x is on record as abandoned", in.Serial)
	case err == nil:
		// An intent whose result was lost. The certificate that is known to have been handed out decides.
		if _, err := tx.Exec(`DELETE FROM pending WHERE certificate = ?`, rec.ID); err != nil {
			return rec, false, err
		}
		result.ID = rec.ID
	case !errors.Is(err, record.ErrNotFound):
		return rec, false, err
	default:
		if result.ID, err = takeNew(tx, issuer, in); err != nil {
			return rec, false, err
		}
	}
	if _, err := settle(tx, result, record.TakenIn); err != nil {
		return rec, false, err
	}
	rec, err = one(tx, byID, result.ID)
	return rec, true, err
}

// takeNew makes the rows of a certificate that the store lacks altogether, as its device's next generation, or as the
// later one that the certificate itself says it is.
func takeNew(tx Tx, issuer int64, in record.Intent) (int64, error) {
	fold := record.Fold(in.DeviceID)
	device, err := tx.Insert(`INSERT INTO device (fold) VALUES (?) ON CONFLICT DO NOTHING`, fold)
	if err == nil && device == 0 {
		device, err = number(tx, `SELECT id FROM device WHERE fold = ?`, fold)
	}
	if err != nil {
		return 0, err
	}
	last, err := number(tx, `SELECT coalesce(max(generation), 0) FROM enrolment WHERE device = ?`, device)
	if err != nil {
		return 0, err
	}
	in.Generation = max(int(last)+1, in.Generation)
	if _, err := tx.Exec(`INSERT INTO device_key (digest, device) VALUES (?, ?) ON CONFLICT DO NOTHING`, in.SPKIDigest[:], device); err != nil {
		return 0, err
	}
	enrolment, err := enrol(tx, device, 0, &in)
	if err != nil {
		return 0, err
	}
	id, err := tx.Insert(`INSERT INTO certificate (enrolment, issuer, serial, tbs_digest, not_before, not_after, at) VALUES (?,?,?,?,?,?,?)`,
		enrolment, issuer, in.Serial, in.TBSDigest[:], in.NotBefore.Unix(), in.NotAfter.Unix(), in.At.Unix())
	return id, err
}

// Revoke implements record.Store; issuer is the number of v.Issuer.
func Revoke(tx Tx, issuer int64, v record.Revocation) (record.Revocation, bool, error) {
	find := func() (record.Revocation, error) {
		return scanRevocation(tx.Row(revocations+` AND v.serial = ?`, v.Issuer[:], v.Serial), v.Issuer)
	}
	on, err := find()
	if err == nil || !tx.None(err) {
		return on, false, err
	}
	// The row comes first, with no number yet, so that of two who revoke the same serial only one makes an event.
	rows, err := tx.Exec(`INSERT INTO revocation (issuer, serial, at, reason, who, sequence) VALUES (?,?,?,?,?,0) ON CONFLICT DO NOTHING`, issuer, v.Serial, v.At.Unix(), v.Reason, v.Who)
	if err != nil {
		return v, false, err
	}
	if rows == 0 {
		on, err = find()
		return on, false, err
	}
	certificate, err := number(tx, `SELECT id FROM certificate WHERE serial = ? AND issuer = ?`, v.Serial, issuer)
	if err != nil {
		return v, false, err
	}
	var known any
	if certificate != 0 {
		known = certificate
	}
	if v.Sequence, err = tx.Event(string(record.Revoke), v.At.Unix(), v.Who, known, nil, issuer, v.Serial, v.Reason, v.Note); err != nil {
		return v, false, err
	}
	_, err = tx.Exec(`UPDATE revocation SET sequence = ? WHERE issuer = ? AND serial = ?`, v.Sequence, issuer, v.Serial)
	return v, true, err
}

// Append implements record.Store; issuer is the number of e.Issuer, 0 for none.
func Append(tx Tx, issuer int64, e record.Event) (int64, error) {
	var certificate, form, by, serial any
	if e.CertificateID != 0 {
		certificate = e.CertificateID
	}
	if e.DeviceID != "" {
		form = e.DeviceID
	}
	if issuer != 0 {
		by = issuer
	}
	if len(e.Serial) > 0 {
		serial = e.Serial
	}
	return tx.Event(string(e.Kind), e.At.Unix(), e.Who, certificate, form, by, serial, e.Reason, e.Note)
}

// SwapMark implements record.Store.
func SwapMark(tx Tx, name string, old, value []byte) (bool, error) {
	var rows int64
	var err error
	switch {
	case old == nil && value == nil:
		return false, errors.New("a mark is made of nothing")
	case old == nil:
		rows, err = tx.Exec(`INSERT INTO mark (name, value) VALUES (?, ?) ON CONFLICT DO NOTHING`, name, value)
	case value == nil:
		rows, err = tx.Exec(`DELETE FROM mark WHERE name = ? AND value = ?`, name, old)
	default:
		rows, err = tx.Exec(`UPDATE mark SET value = ? WHERE name = ? AND value = ?`, value, name, old)
	}
	return rows == 1, err
}

// Hold implements record.Store.
func Hold(tx Tx, reason string, at time.Time) error {
	rows, err := tx.Exec(`INSERT INTO mark (name, value) VALUES (?, ?) ON CONFLICT DO NOTHING`, held, []byte(reason))
	if err != nil || rows == 0 {
		return err
	}
	_, err = tx.Event(string(record.Held), at.Unix(), "hanaperd", nil, nil, nil, nil, nil, reason)
	return err
}

// Accept implements record.Store.
func Accept(tx Tx, who, note string, at time.Time) error {
	rows, err := tx.Exec(`DELETE FROM mark WHERE name = ?`, held)
	if err != nil || rows == 0 {
		return err
	}
	if err := distrustLots(tx, who, at); err != nil {
		return err
	}
	_, err = tx.Event(string(record.Accepted), at.Unix(), who, nil, nil, nil, nil, nil, note)
	return err
}

// Probe implements record.Store.
func Probe(tx Tx, at time.Time) error {
	_, err := tx.Exec(`INSERT INTO mark (name, value) VALUES ('probe', ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value`, []byte(at.UTC().Format(time.RFC3339Nano)))
	return err
}
