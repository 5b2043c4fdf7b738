-- What schema 3 adds, as in SQLite: lots that orders open, and what operators do to devices. Rows of lot, permit and scrap change; of device_key those
-- that a swap moves.

-- 1 where the intent took a place of its lot.
ALTER TABLE enrolment ADD COLUMN counted BIGINT NOT NULL DEFAULT 0;
-- The profile that its certificate is made by, empty for the built-in one; what the request asked beyond its name, and what became of that.
ALTER TABLE enrolment ADD COLUMN profile TEXT NOT NULL DEFAULT '';
ALTER TABLE enrolment ADD COLUMN asked BYTEA;

-- Devices are looked up by lot, station and time, in the order of their enrolment.
CREATE INDEX enrolment_lot ON enrolment (lot, at, id);
CREATE INDEX enrolment_station ON enrolment (station, at, id);
CREATE INDEX enrolment_at ON enrolment (at, id);

-- How many devices a lot may have and which. revision rises with each change; 0 is a lot without an order. Empty texts and NULL do not
-- restrict; stations and hardware_ids are one a line. listed is how many ids lot_id holds, 0 where no list restricts.
CREATE TABLE lot (
  name         TEXT PRIMARY KEY,
  quota        BIGINT NOT NULL,
  taken        BIGINT NOT NULL,
  state        TEXT NOT NULL,
  revision     BIGINT NOT NULL,
  profile      TEXT NOT NULL,
  environment  TEXT NOT NULL,
  id_pattern   TEXT NOT NULL,
  listed       BIGINT NOT NULL,
  stations     TEXT NOT NULL,
  hardware_ids TEXT NOT NULL,
  starts       BIGINT,
  ends         BIGINT,
  opened_at    BIGINT NOT NULL,
  closed_at    BIGINT,
  order_digest BYTEA
);

-- The ids of a lot that has a list, in the form in which ids are compared.
CREATE TABLE lot_id (
  lot  TEXT NOT NULL,
  fold TEXT NOT NULL,
  PRIMARY KEY (lot, fold)
);

-- Every order that was applied, by the SHA-256 of what was signed: none is applied twice. envelope is the order with its signatures.
CREATE TABLE lot_order (
  digest   BYTEA PRIMARY KEY,
  lot      TEXT NOT NULL,
  revision BIGINT NOT NULL,
  issued   BIGINT NOT NULL,
  at       BIGINT NOT NULL,
  who      TEXT NOT NULL,
  envelope BYTEA NOT NULL
);

-- That a device may have a further generation: with this key only, or with any other (NULL). The intent that makes use of it removes it.
CREATE TABLE permit (
  device     BIGINT PRIMARY KEY,
  key_digest BYTEA,
  at         BIGINT NOT NULL,
  who        TEXT NOT NULL,
  note       TEXT NOT NULL
);

-- Devices that no certificate is issued to any more. freed is 1 where the place in the lot was given back.
CREATE TABLE scrap (
  device BIGINT PRIMARY KEY,
  at     BIGINT NOT NULL,
  who    TEXT NOT NULL,
  freed  BIGINT NOT NULL
);

-- Devices that a key was taken from by a swap; device_key says whose it is now.
CREATE TABLE former_key (
  digest BYTEA NOT NULL,
  device BIGINT NOT NULL,
  PRIMARY KEY (digest, device)
);
