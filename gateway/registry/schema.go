package registry

import (
	"context"
	"fmt"
	"strings"
)

// format is kept in SQLite's user_version. Format 2 has about; format 3 compares ids without case, and binds each to a key.
const format = 3

// tables are those of the format. A device's key is the one by which it is admitted; key_from is the latest notBefore of a certificate by which
// it was met with that key, rekey says that an operator allows another one. Times are Unix seconds.
const tables = `
CREATE TABLE devices (
  name TEXT PRIMARY KEY COLLATE NOCASE, first_seen INTEGER NOT NULL DEFAULT 0, last_seen INTEGER NOT NULL DEFAULT 0,
  deleted INTEGER NOT NULL DEFAULT 0, why TEXT NOT NULL DEFAULT '', old_key INTEGER NOT NULL DEFAULT 0, other_key INTEGER NOT NULL DEFAULT 0,
  key BLOB, key_from INTEGER NOT NULL DEFAULT 0, rekey INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE TABLE certificates (
  sha256 BLOB PRIMARY KEY, device TEXT NOT NULL COLLATE NOCASE, key_sha256 BLOB NOT NULL, serial TEXT NOT NULL, issuer TEXT NOT NULL,
  not_after INTEGER NOT NULL, first_seen INTEGER NOT NULL, last_seen INTEGER NOT NULL, turn INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX certificates_by_device ON certificates (device, turn);
CREATE INDEX devices_deleted ON devices (name) WHERE deleted <> 0;
`

const others = `
CREATE TABLE IF NOT EXISTS generation (one INTEGER PRIMARY KEY CHECK (one = 1), value INTEGER NOT NULL);
INSERT OR IGNORE INTO generation VALUES (1, 0);
CREATE TABLE IF NOT EXISTS about (one INTEGER PRIMARY KEY CHECK (one = 1), id BLOB NOT NULL, probed INTEGER NOT NULL DEFAULT 0);
INSERT OR IGNORE INTO about (one, id) VALUES (1, randomblob(16));
`

// aside and takeOver bring a registry of format 1 or 2 to this one. Two ids that differ in case alone become one: the barred one, or the first
// that was met. When a device's key became its key is not on record: it was by the time at which it was met with its last certificate.
const aside = `
DROP INDEX certificates_by_device;
DROP INDEX devices_deleted;
ALTER TABLE devices RENAME TO devices_2;
ALTER TABLE certificates RENAME TO certificates_2;
CREATE INDEX certificates_2_by_device ON certificates_2 (device, turn);
`

const takeOver = `
INSERT OR IGNORE INTO devices (name, first_seen, last_seen, deleted, why, old_key, key, key_from)
  SELECT d.name, d.first_seen, d.last_seen, d.deleted, d.why, d.old_key,
    (SELECT c.key_sha256 FROM certificates_2 c WHERE c.device = d.name ORDER BY c.turn DESC LIMIT 1),
    coalesce((SELECT c.first_seen FROM certificates_2 c WHERE c.device = d.name ORDER BY c.turn DESC LIMIT 1), 0)
  FROM devices_2 d ORDER BY d.deleted = 0, d.first_seen;
INSERT INTO certificates SELECT sha256, device, key_sha256, serial, issuer, not_after, first_seen, last_seen, turn FROM certificates_2;
DROP TABLE devices_2;
DROP TABLE certificates_2;
`

// upgrade makes the tables, or brings those of an earlier format up to date, whole or not at all.
func (r *SQLite) upgrade(from int) error {
	script := tables + others
	if from > 0 {
		script = aside + tables + takeOver + others
	}
	tx, err := r.write.BeginTx(context.Background(), nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	// Another process may have done it meanwhile.
	var version int
	if err := tx.QueryRow("PRAGMA user_version").Scan(&version); err != nil || version == format {
		return err
	}
	if _, err := tx.Exec(script + fmt.Sprintf("PRAGMA user_version = %d;", format)); err != nil {
		return fmt.Errorf("bringing it up to date: %w", err)
	}
	return tx.Commit()
}

// fold is the form in which ids are compared: they are ASCII.
func fold(name string) string { return strings.ToLower(name) }
