-- The two steps that each enrolment takes, as functions, so that a call costs one message. They do what tables.Begin and tables.Finish do in
-- SQLite, for the first generation and for the case that nothing is in the way; the suite holds both to the same. Made anew at each start.

-- 0: recorded; 1: the device id has a record; 2: the key is another device's; 3: the lot is full; 4: the store is held; 5: the serial is taken;
-- 6: the lot was changed; 7: it is closed; 8: the id is not on its list.
-- What was done is undone by hand where a later step refuses: the transaction is shared with others.
CREATE OR REPLACE FUNCTION hanaper_begin(
  p_fold TEXT, p_form TEXT, p_spki BYTEA, p_spki_digest BYTEA, p_csr_digest BYTEA, p_hardware_id TEXT, p_lot TEXT, p_station TEXT,
  p_evidence BYTEA, p_evidence_digest BYTEA, p_issuer BIGINT, p_serial BYTEA, p_tbs_digest BYTEA, p_not_before BIGINT, p_not_after BIGINT, p_at BIGINT, p_lot_revision BIGINT, p_profile TEXT, p_asked BYTEA,
  OUT outcome BIGINT, OUT certificate_id BIGINT) LANGUAGE plpgsql AS $$
DECLARE
  v_device BIGINT;
  v_enrolment BIGINT;
  v_lot BOOLEAN := false;
  v_revision BIGINT;
  v_state TEXT;
  v_full BOOLEAN;
BEGIN
  certificate_id := 0;
  INSERT INTO device (fold) SELECT p_fold WHERE NOT EXISTS (SELECT 1 FROM mark WHERE name = 'held') ON CONFLICT DO NOTHING RETURNING id INTO v_device;
  IF v_device IS NULL THEN
    outcome := CASE WHEN EXISTS (SELECT 1 FROM device WHERE fold = p_fold) THEN 1 ELSE 4 END;
    RETURN;
  END IF;
  INSERT INTO device_key (digest, device) VALUES (p_spki_digest, v_device) ON CONFLICT DO NOTHING;
  IF NOT FOUND THEN
    DELETE FROM device WHERE id = v_device;
    outcome := 2;
    RETURN;
  END IF;
  IF p_lot <> '' THEN
    UPDATE lot SET taken = taken + 1 WHERE name = p_lot AND revision = p_lot_revision AND state = 'open' AND taken < quota
      AND (listed = 0 OR EXISTS (SELECT 1 FROM lot_id WHERE lot = p_lot AND fold = p_fold));
    v_lot := FOUND;
    IF NOT v_lot THEN
      SELECT revision, state, taken >= quota INTO v_revision, v_state, v_full FROM lot WHERE name = p_lot;
      outcome := CASE WHEN coalesce(v_revision, 0) <> p_lot_revision THEN 6 WHEN v_revision IS NULL THEN 0 WHEN v_state <> 'open' THEN 7 WHEN v_full THEN 3 ELSE 8 END;
      IF outcome <> 0 THEN
        DELETE FROM device_key WHERE digest = p_spki_digest;
        DELETE FROM device WHERE id = v_device;
        RETURN;
      END IF;
    END IF;
  END IF;
  INSERT INTO enrolment (device, generation, form, spki, spki_digest, csr_digest, hardware_id, lot, station, evidence, evidence_digest, at, counted, profile, asked)
    VALUES (v_device, 1, p_form, p_spki, p_spki_digest, p_csr_digest, p_hardware_id, p_lot, p_station, p_evidence, p_evidence_digest, p_at, v_lot::int, p_profile, p_asked) RETURNING id INTO v_enrolment;
  INSERT INTO certificate (enrolment, issuer, serial, tbs_digest, not_before, not_after, at)
    VALUES (v_enrolment, p_issuer, p_serial, p_tbs_digest, p_not_before, p_not_after, p_at) ON CONFLICT DO NOTHING RETURNING id INTO certificate_id;
  IF certificate_id IS NULL THEN
    DELETE FROM enrolment WHERE id = v_enrolment;
    IF v_lot THEN
      UPDATE lot SET taken = taken - 1 WHERE name = p_lot;
    END IF;
    DELETE FROM device_key WHERE digest = p_spki_digest;
    DELETE FROM device WHERE id = v_device;
    outcome := 5;
    certificate_id := 0;
    RETURN;
  END IF;
  INSERT INTO pending (certificate, tbs_digest) VALUES (certificate_id, p_tbs_digest);
  outcome := 0;
END $$;

-- The number of the event; 0 where the intent is not open, or not the one with this digest: then nothing was changed.
CREATE OR REPLACE FUNCTION hanaper_finish(p_certificate BIGINT, p_tbs_digest BYTEA, p_kind TEXT, p_der BYTEA, p_at BIGINT, p_who TEXT, OUT v_sequence BIGINT)
LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM pending WHERE certificate = p_certificate AND tbs_digest = p_tbs_digest;
  IF NOT FOUND THEN
    v_sequence := 0;
    RETURN;
  END IF;
  UPDATE counter SET last = last + 1 RETURNING last INTO v_sequence;
  INSERT INTO event (sequence, kind, at, who, certificate, note) VALUES (v_sequence, p_kind, p_at, p_who, p_certificate, '');
  INSERT INTO result (certificate, der, at, sequence) VALUES (p_certificate, p_der, p_at, v_sequence);
END $$;
