-- A registry of format 1, as the first release made it.
CREATE TABLE devices (
  name TEXT PRIMARY KEY, first_seen INTEGER NOT NULL DEFAULT 0, last_seen INTEGER NOT NULL DEFAULT 0,
  deleted INTEGER NOT NULL DEFAULT 0, why TEXT NOT NULL DEFAULT '', old_key INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE TABLE certificates (
  sha256 BLOB PRIMARY KEY, device TEXT NOT NULL, key_sha256 BLOB NOT NULL, serial TEXT NOT NULL, issuer TEXT NOT NULL,
  not_after INTEGER NOT NULL, first_seen INTEGER NOT NULL, last_seen INTEGER NOT NULL, turn INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX certificates_by_device ON certificates (device, turn);
CREATE INDEX devices_deleted ON devices (name) WHERE deleted <> 0;
CREATE TABLE generation (one INTEGER PRIMARY KEY CHECK (one = 1), value INTEGER NOT NULL);
INSERT INTO generation VALUES (1, 3);
INSERT INTO devices (name, first_seen, last_seen) VALUES ('vin-0001', 1790000000, 1790000100);
INSERT INTO devices (name, deleted, why) VALUES ('vin-0002', 1790000200, 'stolen');
INSERT INTO devices (name, first_seen, last_seen) VALUES ('VIN-0003', 1790000000, 1790000100);
INSERT INTO devices (name, first_seen, deleted, why) VALUES ('vin-0003', 1790000300, 1790000400, 'stolen');
INSERT INTO certificates VALUES (x'0101010101010101010101010101010101010101010101010101010101010101', 'vin-0001',
  x'0202020202020202020202020202020202020202020202020202020202020202', '1f', 'CN=Factory', 2000000000, 1790000000, 1790000100, 1);
PRAGMA user_version = 1;
