-- The factory's record, what schema 2 had of it; lots.sql is the rest. A change of either page raises the number in open.go and needs a step in upgrade.go.
-- Times are Unix seconds. Rows are only ever added, except in pending, mark, crl (the last few of each issuer stay), the
-- numbers of issuer, and what lots.sql says.

-- An issuing CA: the SHA-256 of its subject and key. crl_number is the last number taken for a list, signed or not.
CREATE TABLE issuer (
  id         INTEGER PRIMARY KEY,
  digest     BLOB NOT NULL UNIQUE,
  crl_number INTEGER NOT NULL
) STRICT;

-- A device: its id in the form in which ids are compared, without case.
CREATE TABLE device (
  id   INTEGER PRIMARY KEY,
  fold TEXT NOT NULL UNIQUE
) STRICT;

-- Which device a key belongs to, whatever the generation: a key is never two devices'. Only a swap moves one.
CREATE TABLE device_key (
  digest BLOB PRIMARY KEY,
  device INTEGER NOT NULL REFERENCES device(id)
) STRICT, WITHOUT ROWID;

-- One enrolment of a device: its key, and what was said of it. form is the id as it is certified.
CREATE TABLE enrolment (
  id              INTEGER PRIMARY KEY,
  device          INTEGER NOT NULL REFERENCES device(id),
  generation      INTEGER NOT NULL,
  form            TEXT NOT NULL,
  spki            BLOB NOT NULL,
  spki_digest     BLOB NOT NULL,
  csr_digest      BLOB NOT NULL,
  hardware_id     TEXT NOT NULL,
  lot             TEXT NOT NULL,
  station         TEXT NOT NULL,
  evidence        BLOB,
  evidence_digest BLOB,
  at              INTEGER NOT NULL,
  UNIQUE (device, generation)
) STRICT;

-- What was about to be signed, recorded before the token was asked.
CREATE TABLE certificate (
  id         INTEGER PRIMARY KEY,
  enrolment  INTEGER NOT NULL REFERENCES enrolment(id),
  issuer     INTEGER NOT NULL REFERENCES issuer(id),
  serial     BLOB NOT NULL,
  tbs_digest BLOB NOT NULL,
  not_before INTEGER NOT NULL,
  not_after  INTEGER NOT NULL,
  at         INTEGER NOT NULL,
  UNIQUE (serial, issuer)
) STRICT;
CREATE INDEX certificate_enrolment ON certificate (enrolment);

-- The intents that are open. Who deletes the row decides what becomes of the intent.
CREATE TABLE pending (
  certificate INTEGER PRIMARY KEY REFERENCES certificate(id),
  tbs_digest  BLOB NOT NULL
) STRICT;

-- What became of an intent, recorded before anything was handed out: the certificate, or NULL where it was abandoned.
CREATE TABLE result (
  certificate INTEGER PRIMARY KEY REFERENCES certificate(id),
  der         BLOB,
  at          INTEGER NOT NULL,
  sequence    INTEGER NOT NULL
) STRICT;

-- Revoked serials, known or not.
CREATE TABLE revocation (
  issuer   INTEGER NOT NULL REFERENCES issuer(id),
  serial   BLOB NOT NULL,
  at       INTEGER NOT NULL,
  reason   INTEGER NOT NULL,
  who      TEXT NOT NULL,
  sequence INTEGER NOT NULL,
  PRIMARY KEY (issuer, serial)
) STRICT, WITHOUT ROWID;
CREATE INDEX revocation_sequence ON revocation (issuer, sequence);

CREATE TABLE crl (
  issuer      INTEGER NOT NULL REFERENCES issuer(id),
  number      INTEGER NOT NULL,
  der         BLOB NOT NULL,
  this_update INTEGER NOT NULL,
  next_update INTEGER NOT NULL,
  up_to       INTEGER NOT NULL,
  PRIMARY KEY (issuer, number)
) STRICT;

-- What happened: numbered without a gap, never changed.
CREATE TABLE event (
  sequence    INTEGER PRIMARY KEY,
  kind        TEXT NOT NULL,
  at          INTEGER NOT NULL,
  who         TEXT NOT NULL,
  certificate INTEGER REFERENCES certificate(id),
  form        TEXT,
  issuer      INTEGER REFERENCES issuer(id),
  serial      BLOB,
  reason      INTEGER,
  note        TEXT NOT NULL
) STRICT;

-- What others keep beside the record: how far a log has come, a salt, why the store is held.
CREATE TABLE mark (
  name  TEXT PRIMARY KEY,
  value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- Each schema that this file has had.
CREATE TABLE version (
  number INTEGER PRIMARY KEY,
  at     INTEGER NOT NULL
) STRICT;
