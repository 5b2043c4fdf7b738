package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/hanaper/hanaper/factory"
)

func pathEscape(p string) string { return (&url.URL{Path: p}).EscapedPath() }

const (
	columns = `e.id, e.device_id, e.spki_digest, e.serial, e.spki, e.csr_digest, e.tbs_digest, e.issuer, e.station, e.hardware_id, e.lot,
 e.not_before, e.not_after, e.intended_at, c.der, c.issued_at, r.reason, r.at`
	from   = ` FROM enrollments e LEFT JOIN certificates c ON c.id = e.id LEFT JOIN revocations r ON r.id = e.id`
	insert = `INSERT INTO enrollments (device_id, spki_digest, serial, spki, csr_digest, tbs_digest, issuer, station, hardware_id, lot,
 not_before, not_after, intended_at) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)`
	byDevice = `SELECT ` + columns + from + ` WHERE e.device_id = ?`
	byKey    = `SELECT ` + columns + from + ` WHERE e.spki_digest = ?`
	bySerial = `SELECT ` + columns + from + ` WHERE e.serial = ?`
	byID     = `SELECT ` + columns + from + ` WHERE e.id = ?`
)

func values(in *factory.Intent) []any {
	return []any{in.DeviceID, in.SPKIDigest[:], in.Serial, in.SPKI, in.CSRDigest[:], in.TBSDigest[:], in.Issuer[:], in.Station,
		in.HardwareID, in.Lot, in.NotBefore.Unix(), in.NotAfter.Unix(), in.At.Unix()}
}

type scanner interface{ Scan(...any) error }

func scan(row scanner) (factory.Record, error) {
	var r factory.Record
	var spki, csr, tbs, issuer []byte
	var from, to, at int64
	var issued, revoked, reason sql.NullInt64
	err := row.Scan(&r.ID, &r.DeviceID, &spki, &r.Serial, &r.SPKI, &csr, &tbs, &issuer, &r.Station, &r.HardwareID, &r.Lot,
		&from, &to, &at, &r.Certificate, &issued, &reason, &revoked)
	if errors.Is(err, sql.ErrNoRows) {
		return r, factory.ErrNotFound
	}
	if err != nil {
		return r, err
	}
	if copy(r.SPKIDigest[:], spki) != 32 || copy(r.CSRDigest[:], csr) != 32 || copy(r.TBSDigest[:], tbs) != 32 || copy(r.Issuer[:], issuer) != 32 {
		return r, fmt.Errorf("record %d: a digest is cut short", r.ID)
	}
	r.NotBefore, r.NotAfter, r.At = seconds(from), seconds(to), seconds(at)
	if issued.Valid {
		r.IssuedAt = seconds(issued.Int64)
	}
	if revoked.Valid {
		r.RevokedAt, r.Reason = seconds(revoked.Int64), int(reason.Int64)
	}
	return r, nil
}

func seconds(s int64) time.Time { return time.Unix(s, 0).UTC() }

func (b *batch) one(query string, args ...any) (factory.Record, error) {
	row, err := b.row(query, args...)
	if err != nil {
		return factory.Record{}, err
	}
	return scan(row)
}

// Begin implements factory.Store.
func (s *SQLite) Begin(ctx context.Context, in factory.Intent) (rec factory.Record, isNew bool, err error) {
	var result error
	err = s.writer.do(ctx, func(b *batch) error {
		rec, isNew, result = factory.Record{Intent: in}, false, nil
		rows, id, err := b.change(insert+` ON CONFLICT DO NOTHING`, values(&in)...)
		if err != nil {
			return err
		}
		if rows == 1 {
			rec.ID, isNew = id, true
			return nil
		}
		rec, err = b.one(byDevice, in.DeviceID)
		if !errors.Is(err, factory.ErrNotFound) {
			return err
		}
		rec, err = b.one(byKey, in.SPKIDigest[:])
		if errors.Is(err, factory.ErrNotFound) {
			result = fmt.Errorf("serial %x is taken", in.Serial)
			return nil
		}
		if err == nil {
			rec, result = factory.Record{}, factory.ErrKeyKnown
		}
		return err
	})
	if err == nil {
		err = result
	}
	return rec, isNew, err
}

// Finish implements factory.Store.
func (s *SQLite) Finish(ctx context.Context, id int64, certificate []byte, at time.Time) (out []byte, err error) {
	err = s.writer.do(ctx, func(b *batch) error {
		rows, _, err := b.change(`INSERT INTO certificates (id, der, issued_at) VALUES (?,?,?) ON CONFLICT DO NOTHING`, id, certificate, at.Unix())
		if err != nil {
			return err
		}
		if rows == 1 {
			out = certificate
			return nil
		}
		rec, err := b.one(byID, id)
		out = rec.Certificate
		return err
	})
	return out, err
}

// Replace implements factory.Store.
func (s *SQLite) Replace(ctx context.Context, id int64, in factory.Intent) (rec factory.Record, err error) {
	err = s.writer.do(ctx, func(b *batch) error {
		if rec, err = b.one(byID, id); err != nil || !rec.Open() {
			return err
		}
		if rec.DeviceID != in.DeviceID || rec.SPKIDigest != in.SPKIDigest {
			return errors.New("an intent can only be replaced by one of the same device and key")
		}
		if err := b.exec(`INSERT INTO abandoned (serial, device_id, issuer, at) VALUES (?,?,?,?)`, rec.Serial, rec.DeviceID, rec.Issuer[:], in.At.Unix()); err != nil {
			return err
		}
		err := b.exec(`UPDATE enrollments SET serial=?, csr_digest=?, tbs_digest=?, issuer=?, not_before=?, not_after=?, intended_at=? WHERE id=?`,
			in.Serial, in.CSRDigest[:], in.TBSDigest[:], in.Issuer[:], in.NotBefore.Unix(), in.NotAfter.Unix(), in.At.Unix(), id)
		rec.Intent = in
		return err
	})
	return rec, err
}

// OpenIntents implements factory.Store.
func (s *SQLite) OpenIntents(ctx context.Context, after int64, limit int) ([]factory.Record, error) {
	rows, err := s.read.QueryContext(ctx, `SELECT `+columns+from+` WHERE c.id IS NULL AND e.id > ? ORDER BY e.id LIMIT ?`, after, limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []factory.Record
	for rows.Next() {
		r, err := scan(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, rows.Err()
}

// ByDevice implements factory.Store.
func (s *SQLite) ByDevice(ctx context.Context, deviceID string) (factory.Record, error) {
	return scan(s.read.QueryRowContext(ctx, byDevice, deviceID))
}

// BySerial implements factory.Store.
func (s *SQLite) BySerial(ctx context.Context, serial []byte) (factory.Record, error) {
	return scan(s.read.QueryRowContext(ctx, bySerial, serial))
}

// Revoke implements factory.Store.
func (s *SQLite) Revoke(ctx context.Context, id int64, reason int, at time.Time) (changed bool, err error) {
	var result error
	err = s.writer.do(ctx, func(b *batch) error {
		rec, err := b.one(byID, id)
		if errors.Is(err, factory.ErrNotFound) || err == nil && rec.Open() {
			result = factory.ErrNotFound
			return nil
		}
		if err != nil {
			return err
		}
		rows, _, err := b.change(`INSERT INTO revocations (id, reason, at) VALUES (?,?,?) ON CONFLICT DO NOTHING`, id, reason, at.Unix())
		changed = rows == 1
		return err
	})
	if err == nil {
		err = result
	}
	return changed, err
}

// Revocations implements factory.Store.
func (s *SQLite) Revocations(ctx context.Context, issuer [32]byte) ([]factory.Revocation, error) {
	rows, err := s.read.QueryContext(ctx, `SELECT e.serial, r.at, r.reason FROM revocations r JOIN enrollments e ON e.id = r.id WHERE e.issuer = ? ORDER BY length(e.serial), e.serial`, issuer[:])
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []factory.Revocation
	for rows.Next() {
		var r factory.Revocation
		var at int64
		if err := rows.Scan(&r.Serial, &at, &r.Reason); err != nil {
			return nil, err
		}
		r.At = seconds(at)
		out = append(out, r)
	}
	return out, rows.Err()
}

// NextCRLNumber implements factory.Store.
func (s *SQLite) NextCRLNumber(ctx context.Context, above int64) (n int64, err error) {
	err = s.writer.do(ctx, func(b *batch) error {
		_, n, err = b.change(`INSERT INTO crls (number) SELECT max(?, coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'crls'), 0)) + 1`, above)
		return err
	})
	return n, err
}

// PutCRL implements factory.Store.
func (s *SQLite) PutCRL(ctx context.Context, issuer [32]byte, c factory.CRL) error {
	var result error
	err := s.writer.do(ctx, func(b *batch) error {
		rows, _, err := b.change(`UPDATE crls SET issuer=?, der=?, this_update=?, next_update=? WHERE number=? AND der IS NULL`,
			issuer[:], c.DER, c.ThisUpdate.Unix(), c.NextUpdate.Unix(), c.Number)
		if rows != 1 {
			result = fmt.Errorf("CRL number %d was not taken, or has its list already", c.Number)
		}
		return err
	})
	if err == nil {
		err = result
	}
	return err
}

// LatestCRL implements factory.Store.
func (s *SQLite) LatestCRL(ctx context.Context, issuer [32]byte) (factory.CRL, error) {
	var c factory.CRL
	var this, next int64
	err := s.read.QueryRowContext(ctx, `SELECT number, der, this_update, next_update FROM crls WHERE der IS NOT NULL AND issuer = ? ORDER BY number DESC LIMIT 1`, issuer[:]).
		Scan(&c.Number, &c.DER, &this, &next)
	if errors.Is(err, sql.ErrNoRows) {
		return c, factory.ErrNotFound
	}
	c.ThisUpdate, c.NextUpdate = seconds(this), seconds(next)
	return c, err
}
