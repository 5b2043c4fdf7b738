package tables

import (
	"context"
	"database/sql"
	"math"
	"strings"

	"github.com/hanaper/hanaper/factory/record"
)

// Lot implements record.Store.
func (r *Reader) Lot(ctx context.Context, name string) (record.Lot, error) {
	return scanLot(r.DB.QueryRowContext(ctx, r.bind(lotNamed), name), noSQLRows)
}

// Lots implements record.Store.
func (r *Reader) Lots(ctx context.Context, state record.LotState, after string, limit int) ([]record.Lot, error) {
	return all(ctx, r, func(rows *sql.Rows) (record.Lot, error) { return scanLot(rows, noSQLRows) },
		`SELECT `+lotColumns+` FROM lot WHERE name > ? AND state LIKE ? ORDER BY name LIMIT ?`, after, orAny(string(state)), limit)
}

// orAny is the pattern of LIKE for a word without wildcards, or for any where it is empty.
func orAny(word string) string {
	if word == "" {
		return "%"
	}
	return word
}

// LotOrder implements record.Store.
func (r *Reader) LotOrder(ctx context.Context, digest [32]byte) (envelope []byte, err error) {
	err = r.DB.QueryRowContext(ctx, r.bind(`SELECT envelope FROM lot_order WHERE digest = ?`), digest[:]).Scan(&envelope)
	if noSQLRows(err) {
		err = record.ErrNotFound
	}
	return envelope, err
}

// Permit implements record.Store.
func (r *Reader) Permit(ctx context.Context, deviceID string) (record.Permit, error) {
	return scanPermit(r.DB.QueryRowContext(ctx, r.bind(`SELECT p.key_digest, p.at, p.who, p.note FROM permit p JOIN device d ON d.id = p.device WHERE d.fold = ?`), record.Fold(deviceID)), noSQLRows)
}

// Scrapped implements record.Store.
func (r *Reader) Scrapped(ctx context.Context, deviceID string) (bool, error) {
	n := 0
	err := r.value(ctx, &n, `SELECT 1 FROM scrap s JOIN device d ON d.id = s.device WHERE d.fold = ?`, record.Fold(deviceID))
	return n != 0, err
}

// listed are the columns of a list of devices: all but the evidence, which may be large.
var listed = strings.Replace(columns, "e.evidence, e.evidence_digest", "NULL, e.evidence_digest", 1)

// Devices implements record.Store.
func (r *Reader) Devices(ctx context.Context, f record.DeviceFilter) ([]record.Listed, error) {
	where, args := []string{"(r.certificate IS NULL OR r.der IS NOT NULL)"}, []any{}
	also := func(condition string, values ...any) {
		where, args = append(where, condition), append(args, values...)
	}
	if f.Key != nil {
		also(`e.device IN (SELECT device FROM device_key WHERE digest = ? UNION SELECT device FROM former_key WHERE digest = ?) AND e.spki_digest = ?`, f.Key[:], f.Key[:], f.Key[:])
	}
	if f.Lot != "" {
		also(`e.lot = ?`, f.Lot)
	}
	if f.Station != "" {
		also(`e.station = ?`, f.Station)
	}
	// One range of the index, whatever is given.
	begin, until := f.After.At, int64(math.MaxInt64)
	if !f.From.IsZero() {
		begin = max(begin, f.From.Unix())
	}
	if !f.Until.IsZero() {
		until = f.Until.Unix()
	}
	also(`e.at >= ? AND e.at < ? AND (e.at > ? OR e.id > ?)`, begin, until, f.After.At, f.After.ID)
	query := `SELECT ` + listed + `, e.at, e.id, x.device FROM enrolment e JOIN certificate c ON c.enrolment = e.id JOIN issuer i ON i.id = c.issuer LEFT JOIN result r ON r.certificate = c.id
 LEFT JOIN revocation v ON v.issuer = c.issuer AND v.serial = c.serial LEFT JOIN scrap x ON x.device = e.device WHERE ` + strings.Join(where, " AND ") + ` ORDER BY e.at, e.id LIMIT ?`
	return all(ctx, r, func(rows *sql.Rows) (record.Listed, error) {
		var l record.Listed
		var scrapped sql.NullInt64
		rec, err := scan(more{rows, []any{&l.Place.At, &l.Place.ID, &scrapped}}, noSQLRows)
		l.Record, l.Scrapped = rec, scrapped.Valid
		return l, err
	}, query, append(args, f.Limit)...)
}

// more is a row with columns behind those that scan knows.
type more struct {
	scanner
	into []any
}

func (m more) Scan(into ...any) error { return m.scanner.Scan(append(into, m.into...)...) }
