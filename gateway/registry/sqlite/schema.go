package sqlite

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/schema"
)

// format is kept in SQLite's user_version. Format 2 has about; format 3 compares ids without case, and binds each to a key; format 4 has environments,
// states, generations and the log of acts.
const format = 4

// tables are those of the format. Devices and certificates lie in the order in which they came, so that a first contact touches one page of an index
// and no other that is not warm. A device's name is NULL where it is its fold. Times are Unix seconds.
const tables = `
CREATE TABLE environment (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE issuer (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE device (
  id INTEGER PRIMARY KEY, environment INTEGER NOT NULL, fold TEXT NOT NULL, name TEXT, state INTEGER NOT NULL, registered INTEGER NOT NULL,
  first_seen INTEGER NOT NULL, last_seen INTEGER NOT NULL, since INTEGER NOT NULL, why TEXT NOT NULL, notes TEXT NOT NULL,
  key BLOB, key_from INTEGER NOT NULL, generation INTEGER NOT NULL, rekey INTEGER NOT NULL, flags INTEGER NOT NULL);
CREATE UNIQUE INDEX device_named ON device (environment, fold);
CREATE INDEX device_apart ON device (environment, state, fold) WHERE state <> 1;
CREATE INDEX device_flagged ON device (environment, fold) WHERE flags <> 0;
CREATE TABLE certificate (
  device INTEGER NOT NULL, turn INTEGER NOT NULL, sha256 BLOB NOT NULL, key BLOB NOT NULL, generation INTEGER NOT NULL, serial TEXT NOT NULL,
  issuer INTEGER NOT NULL, not_after INTEGER NOT NULL, first_seen INTEGER NOT NULL, last_seen INTEGER NOT NULL, PRIMARY KEY (device, turn)) WITHOUT ROWID;
CREATE TABLE act (
  number INTEGER PRIMARY KEY, at INTEGER NOT NULL, who TEXT NOT NULL, verb TEXT NOT NULL, environment INTEGER, fold TEXT, name TEXT,
  why TEXT NOT NULL, detail TEXT NOT NULL);
CREATE INDEX act_device ON act (fold, number) WHERE fold IS NOT NULL;
CREATE TRIGGER act_stays BEFORE UPDATE ON act BEGIN SELECT raise(ABORT, 'the log of acts is only appended to'); END;
CREATE TRIGGER act_is_kept BEFORE DELETE ON act BEGIN SELECT raise(ABORT, 'the log of acts is only appended to'); END;
CREATE TABLE tally (environment INTEGER NOT NULL, state INTEGER NOT NULL, n INTEGER NOT NULL, PRIMARY KEY (environment, state)) WITHOUT ROWID;
CREATE TABLE about (one INTEGER PRIMARY KEY CHECK (one = 1), id BLOB NOT NULL, last INTEGER NOT NULL DEFAULT 0, probed INTEGER NOT NULL DEFAULT 0);
`

const made = `INSERT INTO about (one, id) VALUES (1, randomblob(16));`

// from2 brings a registry of format 1 or 2 to format 3. Two ids that differ in case alone become one: the barred one, or the first
// that was met. When a device's key became its key is not on record: it was by the time at which it was met with its last certificate.
const from2 = `
DROP INDEX certificates_by_device;
DROP INDEX devices_deleted;
ALTER TABLE devices RENAME TO devices_2;
ALTER TABLE certificates RENAME TO certificates_2;
CREATE INDEX certificates_2_by_device ON certificates_2 (device, turn);
CREATE TABLE devices (
  name TEXT PRIMARY KEY COLLATE NOCASE, first_seen INTEGER NOT NULL DEFAULT 0, last_seen INTEGER NOT NULL DEFAULT 0,
  deleted INTEGER NOT NULL DEFAULT 0, why TEXT NOT NULL DEFAULT '', old_key INTEGER NOT NULL DEFAULT 0, other_key INTEGER NOT NULL DEFAULT 0,
  key BLOB, key_from INTEGER NOT NULL DEFAULT 0, rekey INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE TABLE certificates (
  sha256 BLOB PRIMARY KEY, device TEXT NOT NULL COLLATE NOCASE, key_sha256 BLOB NOT NULL, serial TEXT NOT NULL, issuer TEXT NOT NULL,
  not_after INTEGER NOT NULL, first_seen INTEGER NOT NULL, last_seen INTEGER NOT NULL, turn INTEGER NOT NULL) WITHOUT ROWID;
INSERT OR IGNORE INTO devices (name, first_seen, last_seen, deleted, why, old_key, key, key_from)
  SELECT d.name, d.first_seen, d.last_seen, d.deleted, d.why, d.old_key,
    (SELECT c.key_sha256 FROM certificates_2 c WHERE c.device = d.name ORDER BY c.turn DESC LIMIT 1),
    coalesce((SELECT c.first_seen FROM certificates_2 c WHERE c.device = d.name ORDER BY c.turn DESC LIMIT 1), 0)
  FROM devices_2 d ORDER BY d.deleted = 0, d.first_seen;
INSERT INTO certificates SELECT sha256, device, key_sha256, serial, issuer, not_after, first_seen, last_seen, turn FROM certificates_2;
DROP TABLE devices_2;
DROP TABLE certificates_2;
CREATE TABLE IF NOT EXISTS generation (one INTEGER PRIMARY KEY CHECK (one = 1), value INTEGER NOT NULL);
INSERT OR IGNORE INTO generation VALUES (1, 0);
CREATE TABLE IF NOT EXISTS about (one INTEGER PRIMARY KEY CHECK (one = 1), id BLOB NOT NULL, probed INTEGER NOT NULL DEFAULT 0);
INSERT OR IGNORE INTO about (one, id) VALUES (1, randomblob(16));
`

// from3 brings a registry of format 3 to format 4: all of it was of one environment, and whom an operator had deleted is blocked. The certificates of
// a device are numbered anew, for two spellings of an id may have brought the same numbers.
const from3 = `
ALTER TABLE about RENAME TO about_3;
` + tables + `
INSERT INTO about (one, id) SELECT 1, id FROM about_3;
INSERT INTO environment (id, name) VALUES (1, ENVIRONMENT);
INSERT INTO issuer (name) SELECT DISTINCT issuer FROM certificates;
INSERT INTO device (environment, fold, name, state, registered, first_seen, last_seen, since, why, notes, key, key_from, generation, rekey, flags)
  SELECT 1, lower(name), CASE WHEN lower(name) <> name COLLATE BINARY THEN name END, CASE WHEN deleted <> 0 THEN 2 ELSE 1 END, 0, first_seen, last_seen, deleted, why, '',
    key, key_from, 0, rekey, old_key + 2 * other_key FROM devices ORDER BY first_seen, name;
INSERT INTO certificate (device, turn, sha256, key, generation, serial, issuer, not_after, first_seen, last_seen)
  SELECT d.id, row_number() OVER (PARTITION BY d.id ORDER BY c.turn, c.first_seen), c.sha256, c.key_sha256, 0, c.serial, i.id, c.not_after, c.first_seen, c.last_seen
  FROM certificates c JOIN device d ON d.environment = 1 AND d.fold = lower(c.device) JOIN issuer i ON i.name = c.issuer;
INSERT INTO tally (environment, state, n) SELECT environment, state, count(*) FROM device GROUP BY 1, 2;
INSERT INTO act (number, at, who, verb, environment, fold, name, why, detail)
  SELECT row_number() OVER (ORDER BY since, fold), since, 'taken over', 'block', 1, fold, name, why, 'deleted by an earlier release' FROM device WHERE state = 2;
UPDATE about SET last = (SELECT count(*) FROM act);
DROP TABLE about_3;
DROP TABLE generation;
DROP TABLE devices;
DROP TABLE certificates;
`

// upgrade makes the tables, or brings those of an earlier format up to date, whole or not at all. environment is the one that an earlier format's devices
// belong to, which did not say.
func (s *Store) upgrade(ctx context.Context, from int, environment string) error {
	script := tables + made
	if from > 0 {
		if environment == "" {
			return advice.New(advice.Usage, "`hanaper-gateway devices list --registry FILE --environment NAME` says so, once", "it has format %d of an earlier release, which does not say of which environment its devices are", from)
		}
		script = strings.Replace(from3, "ENVIRONMENT", quote(environment), 1)
		if from < 3 {
			script = from2 + script
		}
	}
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	// Another process may have done it meanwhile.
	var version int
	if err := tx.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil || version == format {
		return err
	}
	if _, err := tx.ExecContext(ctx, script+"PRAGMA user_version = "+strconv.Itoa(format)+";"); err != nil {
		return fmt.Errorf("bringing it up to date: %w", err)
	}
	if err := schema.Same(ctx, tx, tables); err != nil {
		return err
	}
	return tx.Commit()
}

// quote is a text as SQL has it; the script takes no parameters.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
