package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/factory/record/recordtest"
)

// slipped are what somebody who had a store or a backup in hand may have put into it, that acts by itself later.
var slipped = map[string]string{
	"a trigger that lifts the hold":           `CREATE TRIGGER t AFTER INSERT ON mark WHEN new.name = 'held' BEGIN DELETE FROM mark WHERE name = 'held'; END`,
	"a trigger that forgets revocations":      `CREATE TRIGGER t AFTER INSERT ON revocation BEGIN DELETE FROM revocation WHERE serial = new.serial; END`,
	"a view in the place of a table":          `ALTER TABLE lot_id RENAME TO was; CREATE VIEW lot_id AS SELECT lot, fold FROM was`,
	"a table more":                            `CREATE TABLE more (a)`,
	"an index more":                           `CREATE INDEX more ON event (kind)`,
	"a serial that may be given twice":        `PRAGMA writable_schema = 1; UPDATE sqlite_master SET sql = replace(sql, 'UNIQUE (serial, issuer)', 'UNIQUE (id, serial)') WHERE name = 'certificate'`,
	"an index less":                           `DROP INDEX revocation_sequence`,
	"a column that says something else":       `ALTER TABLE permit ADD COLUMN more TEXT`,
	"a trigger that has the name of SQLite's": `PRAGMA writable_schema = 1; INSERT INTO sqlite_master (type, name, tbl_name, rootpage, sql) VALUES ('trigger', 'sqlite_stat1', 'mark', 0, 'CREATE TRIGGER sqlite_stat1 AFTER INSERT ON mark BEGIN DELETE FROM mark; END')`,
	"a constraint in a comment":               `PRAGMA writable_schema = 1; UPDATE sqlite_master SET sql = replace(sql, 'BLOB NOT NULL', 'BLOB /* NOT NULL */') WHERE name = 'pending'`,
}

func slip(t *testing.T, path, statements string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(statements); err != nil {
		t.Fatal(err)
	}
}

// TestSlippedIn: a store or a backup whose tables, indexes and triggers are not exactly ours is neither restored nor opened, and nothing is written; it
// would go on acting in the record, and in each of its backups.
func TestSlippedIn(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	state, backup := filepath.Join(dir, "state"), filepath.Join(dir, "monday.db")
	s := opened(t, state)
	fill(t, s, 0, 5)
	if err := s.Backup(ctx, backup); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(backup)
	if err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile(filepath.Join(state, File))
	for name, statements := range slipped {
		bad := filepath.Join(dir, "bad.db")
		if err := os.WriteFile(bad, good, 0o600); err != nil {
			t.Fatal(err)
		}
		slip(t, bad, statements)
		if _, err := Restore(ctx, state, bad, "x"); err == nil || !strings.Contains(err.Error(), "not those of") {
			t.Errorf("%s: restored: %v", name, err)
		}
		if after, _ := os.ReadFile(filepath.Join(state, File)); !bytes.Equal(before, after) {
			t.Fatalf("%s: the store was changed", name)
		}
		if list, _ := filepath.Glob(filepath.Join(state, "*")); len(list) != 2 {
			t.Errorf("%s: left: %v", name, list)
		}
		if _, err := Inspect(ctx, bad); err == nil {
			t.Errorf("%s: taken for a backup", name)
		}
		held, _ := os.ReadFile(bad)
		there := t.TempDir()
		if err := os.WriteFile(filepath.Join(there, File), held, 0o600); err != nil {
			t.Fatal(err)
		}
		if s, err := Open(ctx, there); err == nil {
			s.Close()
			t.Errorf("%s: opened", name)
		}
	}
	// What administrators and later releases do leaves it ours: statistics, and other words in a comment.
	slip(t, backup, `ANALYZE; PRAGMA writable_schema = 1; UPDATE sqlite_master SET sql = replace(sql, 'CREATE TABLE issuer (', 'CREATE TABLE issuer ( -- words
')`)
	if _, err := Restore(ctx, state, backup, "x"); err != nil {
		t.Error(err)
	}
}

// TestSlippedIntoSchema1: what was put into a store of an earlier release does not come along when it is brought up to date.
func TestSlippedIntoSchema1(t *testing.T) {
	ctx := context.Background()
	for _, statements := range []string{
		`CREATE TRIGGER t AFTER INSERT ON enrollments BEGIN DELETE FROM revocations; END`, // goes with its table
		`CREATE TABLE more (a); CREATE TRIGGER t AFTER INSERT ON more BEGIN SELECT 1; END`,
	} {
		from, _ := firstCut(t)
		slip(t, filepath.Join(from, File), statements)
		state := filepath.Join(t.TempDir(), "state")
		_, err := Restore(ctx, state, filepath.Join(from, File), "x")
		if strings.Contains(statements, "more") != (err != nil) {
			t.Errorf("%s: %v", statements, err)
		}
		if err != nil {
			continue
		}
		s := opened(t, state)
		defer s.Close()
		if err := s.Accept(ctx, "olga", "all stations have reported"); err != nil {
			t.Fatal(err)
		}
		recordtest.Issue(t, s, recordtest.Intent("d", "k"), "der")
	}
}
