-- One row a device: what was about to be signed, recorded before the token was asked. Rows are never changed or
-- removed, except that an open intent may be closed for a new one (see abandoned).
CREATE TABLE enrollments (
  id          INTEGER PRIMARY KEY,
  device_id   TEXT NOT NULL UNIQUE,
  spki_digest BLOB NOT NULL UNIQUE,
  serial      BLOB NOT NULL UNIQUE,
  spki        BLOB NOT NULL,
  csr_digest  BLOB NOT NULL,
  tbs_digest  BLOB NOT NULL,
  issuer      BLOB NOT NULL,
  station     TEXT NOT NULL,
  hardware_id TEXT NOT NULL,
  lot         TEXT NOT NULL,
  not_before  INTEGER NOT NULL,
  not_after   INTEGER NOT NULL,
  intended_at INTEGER NOT NULL
) STRICT;

-- What was signed, recorded before it was handed out. No row: the intent is open.
CREATE TABLE certificates (
  id        INTEGER PRIMARY KEY REFERENCES enrollments(id),
  der       BLOB NOT NULL,
  issued_at INTEGER NOT NULL
) STRICT;

CREATE TABLE revocations (
  id     INTEGER PRIMARY KEY REFERENCES certificates(id),
  reason INTEGER NOT NULL,
  at     INTEGER NOT NULL
) STRICT;

-- Serials of intents that were closed without a certificate being handed out.
CREATE TABLE abandoned (
  serial    BLOB PRIMARY KEY,
  device_id TEXT NOT NULL,
  issuer    BLOB NOT NULL,
  at        INTEGER NOT NULL
) STRICT;

-- Each number is taken before its list is signed; a number without list was lost to a crash and is not used again.
CREATE TABLE crls (
  number      INTEGER PRIMARY KEY AUTOINCREMENT,
  issuer      BLOB,
  der         BLOB,
  this_update INTEGER,
  next_update INTEGER
) STRICT;
