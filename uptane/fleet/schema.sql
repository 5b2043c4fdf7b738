-- The devices of a Director. A change of this page raises format in sqlite.go.
CREATE TABLE device (
  key BLOB PRIMARY KEY,          -- SHA-256 of the identity: of a removed device nothing else stays
  revision INTEGER NOT NULL,     -- of the whole store, when the record was written
  removed INTEGER NOT NULL,
  record BLOB NOT NULL,          -- JSON, docs/spec/reposerver.md
  targets BLOB, snapshot BLOB, timestamp BLOB);
CREATE INDEX device_revision ON device (revision);
CREATE TABLE manifest (key BLOB PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE told (key BLOB NOT NULL, kind TEXT NOT NULL, at TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (key, kind));
CREATE TABLE event (
  number INTEGER PRIMARY KEY AUTOINCREMENT, key BLOB NOT NULL, id TEXT NOT NULL, kind TEXT NOT NULL, at TEXT NOT NULL,
  body BLOB NOT NULL, UNIQUE (key, id));
CREATE INDEX event_device ON event (key, number);
CREATE TABLE state (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  revision INTEGER NOT NULL,
  devices INTEGER NOT NULL,      -- that are not removed
  moved TEXT NOT NULL);          -- when the files of an older release were taken over
INSERT INTO state VALUES (1, 0, 0, '');
