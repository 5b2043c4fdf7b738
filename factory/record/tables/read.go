// Package tables holds what both databases of the record have in common: the questions, and the writes as steps inside a
// transaction that the database's own room opens and commits. Placeholders are question marks; PostgreSQL's room numbers
// them.
//
// Every value goes to the database as a parameter; nothing that a caller sends becomes part of a statement.
package tables

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/hanaper/hanaper/factory/record"
)

const (
	columns = `c.id, e.form, e.generation, e.spki_digest, c.serial, e.spki, e.csr_digest, c.tbs_digest, i.digest, e.station, e.hardware_id, e.lot,
 e.evidence, e.evidence_digest, e.profile, e.asked, c.not_before, c.not_after, c.at, r.certificate, r.der, r.at, r.sequence, v.reason, v.at`
	from = ` FROM certificate c JOIN enrolment e ON e.id = c.enrolment JOIN issuer i ON i.id = c.issuer
 LEFT JOIN result r ON r.certificate = c.id LEFT JOIN revocation v ON v.issuer = c.issuer AND v.serial = c.serial`
	// latest puts a device's newest generation first, and leaves out intents that were closed.
	latest      = ` AND (r.certificate IS NULL OR r.der IS NOT NULL) ORDER BY e.generation DESC, c.id DESC LIMIT 1`
	byDevice    = `SELECT ` + columns + from + ` WHERE e.device = (SELECT id FROM device WHERE fold = ?)` + latest
	generations = `SELECT ` + columns + from + ` WHERE e.device = (SELECT id FROM device WHERE fold = ?) AND (r.certificate IS NULL OR r.der IS NOT NULL)
 ORDER BY e.generation DESC, c.id DESC LIMIT ?`
	byKey    = `SELECT ` + columns + from + ` WHERE e.device = (SELECT device FROM device_key WHERE digest = ?)` + latest
	bySerial = `SELECT ` + columns + from + ` WHERE c.serial = ? AND c.issuer = (SELECT id FROM issuer WHERE digest = ?)`
	byID     = `SELECT ` + columns + from + ` WHERE c.id = ?`
	// open is asked of pending, which has a row only for each open intent.
	open = `SELECT ` + columns + ` FROM pending p JOIN certificate c ON c.id = p.certificate JOIN enrolment e ON e.id = c.enrolment
 JOIN issuer i ON i.id = c.issuer LEFT JOIN result r ON r.certificate = c.id LEFT JOIN revocation v ON v.issuer = c.issuer AND v.serial = c.serial
 WHERE p.certificate > ? ORDER BY p.certificate LIMIT ?`
	revocations = `SELECT v.serial, v.at, v.reason, v.who, v.sequence FROM revocation v WHERE v.issuer = (SELECT id FROM issuer WHERE digest = ?)`
	latestCRL   = `SELECT number, der, this_update, next_update, up_to FROM crl WHERE issuer = (SELECT id FROM issuer WHERE digest = ?) ORDER BY number DESC LIMIT 1`
	events      = `SELECT n.sequence, n.kind, n.at, n.who, n.note, n.reason, n.certificate, n.form, coalesce(n.serial, c.serial), coalesce(j.digest, i.digest), e.form, e.spki_digest,
 CASE WHEN r.sequence <= n.sequence THEN r.der END
 FROM event n LEFT JOIN certificate c ON c.id = n.certificate LEFT JOIN issuer i ON i.id = c.issuer LEFT JOIN issuer j ON j.id = n.issuer
 LEFT JOIN enrolment e ON e.id = c.enrolment LEFT JOIN result r ON r.certificate = c.id
 WHERE n.sequence > ? ORDER BY n.sequence LIMIT ?`
)

// scanner is a row.
type scanner interface{ Scan(...any) error }

// noRows is what a row answers that is not there: each driver has its own.
type noRows func(error) bool

func scan(row scanner, none noRows) (record.Record, error) {
	var r record.Record
	var spki, csr, tbs, issuer []byte
	var from, to, at int64
	var finished, issued, sequence, revoked, reason sql.NullInt64
	err := row.Scan(&r.ID, &r.DeviceID, &r.Generation, &spki, &r.Serial, &r.SPKI, &csr, &tbs, &issuer, &r.Station, &r.HardwareID, &r.Lot,
		&r.Evidence, &r.EvidenceDigest, &r.Profile, &r.Asked, &from, &to, &at, &finished, &r.Certificate, &issued, &sequence, &reason, &revoked)
	if err != nil && none(err) {
		return r, record.ErrNotFound
	}
	if err != nil {
		return r, err
	}
	if copy(r.SPKIDigest[:], spki) != 32 || copy(r.CSRDigest[:], csr) != 32 || copy(r.TBSDigest[:], tbs) != 32 || copy(r.Issuer[:], issuer) != 32 {
		return r, fmt.Errorf("record %d: a digest is cut short", r.ID)
	}
	r.NotBefore, r.NotAfter, r.At = seconds(from), seconds(to), seconds(at)
	switch {
	case !finished.Valid:
		r.State = record.StateIntent
	case r.Certificate == nil:
		r.State = record.StateAbandoned
	default:
		r.State, r.IssuedAt, r.Sequence = record.StateIssued, seconds(issued.Int64), sequence.Int64
	}
	if revoked.Valid {
		r.RevokedAt, r.Reason = seconds(revoked.Int64), int(reason.Int64)
	}
	return r, nil
}

func seconds(s int64) time.Time { return time.Unix(s, 0).UTC() }

// Reader answers the questions of a record.Store.
type Reader struct {
	DB *sql.DB
	// Bind writes a query's placeholders as the driver wants them; nil leaves question marks.
	Bind func(string) string
}

func (r *Reader) bind(q string) string {
	if r.Bind != nil {
		return r.Bind(q)
	}
	return q
}

func noSQLRows(err error) bool { return errors.Is(err, sql.ErrNoRows) }

func (r *Reader) one(ctx context.Context, query string, args ...any) (record.Record, error) {
	return scan(r.DB.QueryRowContext(ctx, r.bind(query), args...), noSQLRows)
}

// value reads one value; where there is no row into stays as it is.
func (r *Reader) value(ctx context.Context, into any, query string, args ...any) error {
	err := r.DB.QueryRowContext(ctx, r.bind(query), args...).Scan(into)
	if noSQLRows(err) {
		return nil
	}
	return err
}

// ByDevice implements record.Store.
func (r *Reader) ByDevice(ctx context.Context, deviceID string) (record.Record, error) {
	return r.one(ctx, byDevice, record.Fold(deviceID))
}

// Generations implements record.Store.
func (r *Reader) Generations(ctx context.Context, deviceID string, limit int) ([]record.Record, error) {
	return all(ctx, r, func(rows *sql.Rows) (record.Record, error) { return scan(rows, noSQLRows) }, generations, record.Fold(deviceID), limit)
}

// ByKey implements record.Store.
func (r *Reader) ByKey(ctx context.Context, spkiDigest [32]byte) (record.Record, error) {
	return r.one(ctx, byKey, spkiDigest[:])
}

// BySerial implements record.Store.
func (r *Reader) BySerial(ctx context.Context, issuer [32]byte, serial []byte) (record.Record, error) {
	return r.one(ctx, bySerial, serial, issuer[:])
}

// OpenIntents implements record.Store.
func (r *Reader) OpenIntents(ctx context.Context, after int64, limit int) ([]record.Record, error) {
	return all(ctx, r, func(rows *sql.Rows) (record.Record, error) { return scan(rows, noSQLRows) }, open, after, limit)
}

func all[T any](ctx context.Context, r *Reader, scan func(*sql.Rows) (T, error), query string, args ...any) ([]T, error) {
	rows, err := r.DB.QueryContext(ctx, r.bind(query), args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []T
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, rows.Err()
}

func scanRevocation(row scanner, issuer [32]byte) (record.Revocation, error) {
	v := record.Revocation{Issuer: issuer}
	var at int64
	err := row.Scan(&v.Serial, &at, &v.Reason, &v.Who, &v.Sequence)
	v.At = seconds(at)
	return v, err
}

// Revoked implements record.Store.
func (r *Reader) Revoked(ctx context.Context, issuer [32]byte, serial []byte) (record.Revocation, error) {
	v, err := scanRevocation(r.DB.QueryRowContext(ctx, r.bind(revocations+` AND v.serial = ?`), issuer[:], serial), issuer)
	if noSQLRows(err) {
		err = record.ErrNotFound
	}
	return v, err
}

// RevokedUpTo implements record.Store.
func (r *Reader) RevokedUpTo(ctx context.Context, issuer [32]byte) (n int64, err error) {
	err = r.value(ctx, &n, `SELECT coalesce(max(sequence), 0) FROM revocation WHERE issuer = (SELECT id FROM issuer WHERE digest = ?)`, issuer[:])
	return n, err
}

// revoked lists the issuer's revocations behind a sequence number, and counts those up to it.
func (r *Reader) revoked(ctx context.Context, issuer [32]byte, after int64) (above []record.Revocation, upTo int64, err error) {
	if after > 0 {
		if err := r.value(ctx, &upTo, `SELECT count(*) FROM revocation WHERE issuer = (SELECT id FROM issuer WHERE digest = ?) AND sequence <= ?`, issuer[:], after); err != nil {
			return nil, 0, err
		}
	}
	above, err = all(ctx, r, func(rows *sql.Rows) (record.Revocation, error) {
		v := record.Revocation{Issuer: issuer}
		var at int64
		err := rows.Scan(&v.Serial, &at, &v.Reason, &v.Sequence)
		v.At = seconds(at)
		return v, err
	}, `SELECT serial, at, reason, sequence FROM revocation WHERE issuer = (SELECT id FROM issuer WHERE digest = ?) AND sequence > ? ORDER BY serial`, issuer[:], after)
	return above, upTo, err
}

// LatestCRL implements record.Store.
func (r *Reader) LatestCRL(ctx context.Context, issuer [32]byte) (record.CRL, error) {
	var c record.CRL
	var this, next int64
	err := r.DB.QueryRowContext(ctx, r.bind(latestCRL), issuer[:]).Scan(&c.Number, &c.DER, &this, &next, &c.UpTo)
	if noSQLRows(err) {
		return c, record.ErrNotFound
	}
	c.ThisUpdate, c.NextUpdate = seconds(this), seconds(next)
	return c, err
}

// LatestCRLNumber implements record.Store.
func (r *Reader) LatestCRLNumber(ctx context.Context, issuer [32]byte) (n int64, err error) {
	err = r.value(ctx, &n, `SELECT coalesce(max(number), 0) FROM crl WHERE issuer = (SELECT id FROM issuer WHERE digest = ?)`, issuer[:])
	return n, err
}

// Issuers implements record.Store.
func (r *Reader) Issuers(ctx context.Context) ([][32]byte, error) {
	return all(ctx, r, func(rows *sql.Rows) (out [32]byte, err error) {
		var b []byte
		err = rows.Scan(&b)
		copy(out[:], b)
		return out, err
	}, `SELECT digest FROM issuer ORDER BY id`)
}

// Events implements record.Store.
func (r *Reader) Events(ctx context.Context, after int64, limit int) ([]record.Event, error) {
	return all(ctx, r, func(rows *sql.Rows) (record.Event, error) {
		var e record.Event
		var at int64
		var form, known sql.NullString
		var reason, certificate sql.NullInt64
		var issuer, spki []byte
		err := rows.Scan(&e.Sequence, &e.Kind, &at, &e.Who, &e.Note, &reason, &certificate, &form, &e.Serial, &issuer, &known, &spki, &e.Certificate)
		e.At, e.Reason, e.CertificateID, e.DeviceID = seconds(at), int(reason.Int64), certificate.Int64, form.String
		if e.DeviceID == "" {
			e.DeviceID = known.String
		}
		copy(e.Issuer[:], issuer)
		copy(e.SPKIDigest[:], spki)
		return e, err
	}, events, after, limit)
}

// Sequence implements record.Store.
func (r *Reader) Sequence(ctx context.Context) (n int64, err error) {
	err = r.value(ctx, &n, `SELECT coalesce(max(sequence), 0) FROM event`)
	return n, err
}

// Mark implements record.Store.
func (r *Reader) Mark(ctx context.Context, name string) (value []byte, err error) {
	err = r.value(ctx, &value, `SELECT value FROM mark WHERE name = ?`, name)
	return value, err
}

// Holding implements record.Store.
func (r *Reader) Holding(ctx context.Context) (string, error) {
	b, err := r.Mark(ctx, held)
	return string(b), err
}

// Names of the tables, in an order in which rows can be put into them.
var Names = []string{"issuer", "device", "device_key", "enrolment", "certificate", "pending", "result", "revocation", "crl", "lot", "lot_id", "lot_order", "permit", "scrap", "former_key", "event", "mark", "version"}

// Counts implements record.Store.
func (r *Reader) Counts(ctx context.Context) (map[string]int64, error) {
	n := map[string]int64{}
	for _, table := range Names {
		var c int64
		if err := r.value(ctx, &c, `SELECT count(*) FROM `+table); err != nil {
			return nil, err
		}
		n[table] = c
	}
	return n, nil
}
