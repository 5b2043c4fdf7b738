package tables

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
)

// Columns of each table, in the order of Names: what a backup holds.
var Columns = map[string][]string{
	"issuer":      {"id", "digest", "crl_number"},
	"device":      {"id", "fold"},
	"device_key":  {"digest", "device"},
	"enrolment":   {"id", "device", "generation", "form", "spki", "spki_digest", "csr_digest", "hardware_id", "lot", "station", "evidence", "evidence_digest", "at", "counted", "profile", "asked"},
	"certificate": {"id", "enrolment", "issuer", "serial", "tbs_digest", "not_before", "not_after", "at"},
	"pending":     {"certificate", "tbs_digest"},
	"result":      {"certificate", "der", "at", "sequence"},
	"revocation":  {"issuer", "serial", "at", "reason", "who", "sequence"},
	"crl":         {"issuer", "number", "der", "this_update", "next_update", "up_to"},
	"lot": {"name", "quota", "taken", "state", "revision", "profile", "environment", "id_pattern", "listed", "stations", "hardware_ids", "starts", "ends", "opened_at", "closed_at",
		"order_digest"},
	"lot_id":     {"lot", "fold"},
	"lot_order":  {"digest", "lot", "revision", "issued", "at", "who", "envelope"},
	"permit":     {"device", "key_digest", "at", "who", "note"},
	"scrap":      {"device", "at", "who", "freed"},
	"former_key": {"digest", "device"},
	"event":      {"sequence", "kind", "at", "who", "certificate", "form", "issuer", "serial", "reason", "note"},
	"mark":       {"name", "value"},
	"version":    {"number", "at"},
}

// Querier is a database, or a transaction of one.
type Querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// Each calls do with each row of a table, in the order of its key. The values are whole numbers, texts, bytes, or nil.
func Each(ctx context.Context, db Querier, table string, do func([]any) error) error {
	columns := Columns[table]
	rows, err := db.QueryContext(ctx, "SELECT "+strings.Join(columns, ", ")+" FROM "+table+" ORDER BY 1, 2")
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		values, into := make([]any, len(columns)), make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			return err
		}
		if err := do(values); err != nil {
			return fmt.Errorf("table %s: %w", table, err)
		}
	}
	return rows.Err()
}

// Into is the statement that puts a row of a table.
func Into(table string) string {
	columns := Columns[table]
	return "INSERT INTO " + table + " (" + strings.Join(columns, ", ") + ") VALUES (" + strings.Repeat("?, ", len(columns)-1) + "?)"
}
