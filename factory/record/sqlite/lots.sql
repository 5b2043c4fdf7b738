-- What schema 3 adds: lots that orders open, and what operators do to devices. Rows of lot, permit and scrap change; of device_key those
-- that a swap moves.

-- 1 where the intent took a place of its lot.
ALTER TABLE enrolment ADD COLUMN counted INTEGER NOT NULL DEFAULT 0;
-- The profile that its certificate is made by, empty for the built-in one; what the request asked beyond its name, and what became of that.
ALTER TABLE enrolment ADD COLUMN profile TEXT NOT NULL DEFAULT '';
ALTER TABLE enrolment ADD COLUMN asked BLOB;

-- Devices are looked up by lot, station and time, in the order of their enrolment.
CREATE INDEX enrolment_lot ON enrolment (lot, at);
CREATE INDEX enrolment_station ON enrolment (station, at);
CREATE INDEX enrolment_at ON enrolment (at);

-- How many devices a lot may have and which. revision rises with each change; 0 is a lot without an order. Empty texts and NULL do not
-- restrict; stations and hardware_ids are one a line. listed is how many ids lot_id holds, 0 where no list restricts.
CREATE TABLE lot (
  name         TEXT PRIMARY KEY,
  quota        INTEGER NOT NULL,
  taken        INTEGER NOT NULL,
  state        TEXT NOT NULL,
  revision     INTEGER NOT NULL,
  profile      TEXT NOT NULL,
  environment  TEXT NOT NULL,
  id_pattern   TEXT NOT NULL,
  listed       INTEGER NOT NULL,
  stations     TEXT NOT NULL,
  hardware_ids TEXT NOT NULL,
  starts       INTEGER,
  ends         INTEGER,
  opened_at    INTEGER NOT NULL,
  closed_at    INTEGER,
  order_digest BLOB
) STRICT;

-- The ids of a lot that has a list, in the form in which ids are compared.
CREATE TABLE lot_id (
  lot  TEXT NOT NULL,
  fold TEXT NOT NULL,
  PRIMARY KEY (lot, fold)
) STRICT, WITHOUT ROWID;

-- Every order that was applied, by the SHA-256 of what was signed: none is applied twice. envelope is the order with its signatures.
CREATE TABLE lot_order (
  digest   BLOB PRIMARY KEY,
  lot      TEXT NOT NULL,
  revision INTEGER NOT NULL,
  issued   INTEGER NOT NULL,
  at       INTEGER NOT NULL,
  who      TEXT NOT NULL,
  envelope BLOB NOT NULL
) STRICT;

-- That a device may have a further generation: with this key only, or with any other (NULL). The intent that makes use of it removes it.
CREATE TABLE permit (
  device     INTEGER PRIMARY KEY REFERENCES device(id),
  key_digest BLOB,
  at         INTEGER NOT NULL,
  who        TEXT NOT NULL,
  note       TEXT NOT NULL
) STRICT;

-- Devices that no certificate is issued to any more. freed is 1 where the place in the lot was given back.
CREATE TABLE scrap (
  device INTEGER PRIMARY KEY REFERENCES device(id),
  at     INTEGER NOT NULL,
  who    TEXT NOT NULL,
  freed  INTEGER NOT NULL
) STRICT;

-- Devices that a key was taken from by a swap; device_key says whose it is now.
CREATE TABLE former_key (
  digest BLOB NOT NULL,
  device INTEGER NOT NULL REFERENCES device(id),
  PRIMARY KEY (digest, device)
) STRICT, WITHOUT ROWID;
