package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"

	modernc "modernc.org/sqlite"

	"github.com/hanaper/hanaper/factory/record"
)

// fold is record.Fold for the statements of an upgrade.
func fold(_ *modernc.FunctionContext, args []driver.Value) (driver.Value, error) {
	id, ok := args[0].(string)
	if !ok {
		return nil, fmt.Errorf("a device id is of type %T", args[0])
	}
	return record.Fold(id), nil
}

// from1 turns schema 1, of the first release, into the present one. Two devices whose ids differ only by case become two generations of one,
// in the order in which they were enrolled: both certificates stay, and can be revoked. CRLs keep their numbers, which rise across issuers
// as they did; the lists that the old store kept beyond the last few are dropped. Events are made of what it knew of times.
const from1 = `
INSERT INTO issuer (digest, crl_number)
 SELECT issuer, (SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'old_crls')
 FROM (SELECT issuer FROM old_enrollments UNION SELECT issuer FROM old_abandoned UNION SELECT issuer FROM old_crls WHERE issuer IS NOT NULL);

INSERT INTO device (fold) SELECT f FROM (SELECT hanaper_fold(device_id) AS f, min(id) AS first FROM old_enrollments GROUP BY f) ORDER BY first;

INSERT INTO device_key (digest, device)
 SELECT o.spki_digest, d.id FROM old_enrollments o JOIN device d ON d.fold = hanaper_fold(o.device_id) ORDER BY o.spki_digest;

INSERT INTO enrolment (id, device, generation, form, spki, spki_digest, csr_digest, hardware_id, lot, station, at)
 SELECT o.id, d.id, row_number() OVER (PARTITION BY d.id ORDER BY o.id), o.device_id, o.spki, o.spki_digest, o.csr_digest, o.hardware_id, o.lot, o.station, o.intended_at
 FROM old_enrollments o JOIN device d ON d.fold = hanaper_fold(o.device_id) ORDER BY o.id;

INSERT INTO certificate (id, enrolment, issuer, serial, tbs_digest, not_before, not_after, at)
 SELECT o.id, o.id, i.id, o.serial, o.tbs_digest, o.not_before, o.not_after, o.intended_at FROM old_enrollments o JOIN issuer i ON i.digest = o.issuer ORDER BY o.id;
-- Of an abandoned intent the old store kept the serial only.
INSERT INTO certificate (enrolment, issuer, serial, tbs_digest, not_before, not_after, at)
 SELECT o.id, i.id, a.serial, zeroblob(32), 0, 0, a.at FROM old_abandoned a JOIN old_enrollments o ON o.device_id = a.device_id JOIN issuer i ON i.digest = a.issuer
 WHERE NOT EXISTS (SELECT 1 FROM certificate c WHERE c.serial = a.serial AND c.issuer = i.id) ORDER BY a.at, a.serial;

INSERT INTO pending (certificate, tbs_digest)
 SELECT o.id, o.tbs_digest FROM old_enrollments o LEFT JOIN old_certificates c ON c.id = o.id WHERE c.id IS NULL;

INSERT INTO event (sequence, kind, at, who, certificate, issuer, serial, reason, note)
 SELECT row_number() OVER (ORDER BY at, step, certificate), kind, at, who, certificate, issuer, serial, reason, 'known from schema 1' FROM (
  SELECT 2 AS step, CASE WHEN e.generation > 1 THEN 'reissue' ELSE 'issue' END AS kind, c.issued_at AS at, 'station ' || e.station AS who, c.id AS certificate, NULL AS issuer, NULL AS serial, NULL AS reason
   FROM old_certificates c JOIN enrolment e ON e.id = c.id
  UNION ALL SELECT 1, 'abandon', c.at, 'hanaperd', c.id, NULL, NULL, NULL FROM certificate c WHERE c.id NOT IN (SELECT id FROM old_enrollments)
  UNION ALL SELECT 3, 'revoke', r.at, 'operator', c.id, c.issuer, c.serial, r.reason FROM old_revocations r JOIN certificate c ON c.id = r.id);

INSERT INTO result (certificate, der, at, sequence)
 SELECT e.certificate, c.der, e.at, e.sequence FROM event e LEFT JOIN old_certificates c ON c.id = e.certificate WHERE e.kind <> 'revoke' ORDER BY e.certificate;

INSERT INTO revocation (issuer, serial, at, reason, who, sequence)
 SELECT e.issuer, e.serial, e.at, e.reason, e.who, e.sequence FROM event e WHERE e.kind = 'revoke' ORDER BY e.issuer, e.serial;

INSERT INTO crl (issuer, number, der, this_update, next_update, up_to)
 SELECT i.id, c.number, c.der, c.this_update, c.next_update, 0 FROM old_crls c JOIN issuer i ON i.digest = c.issuer
 WHERE c.der IS NOT NULL AND (SELECT count(*) FROM old_crls n WHERE n.issuer = c.issuer AND n.der IS NOT NULL AND n.number > c.number) < 5;

INSERT INTO version (number, at) VALUES (1, 0);
DROP TABLE old_revocations;
DROP TABLE old_certificates;
DROP TABLE old_abandoned;
DROP TABLE old_crls;
DROP TABLE old_enrollments;
`

func upgradeFrom1(ctx context.Context, tx *sql.Tx) error {
	for _, table := range []string{"enrollments", "certificates", "revocations", "abandoned", "crls"} {
		if _, err := tx.ExecContext(ctx, "ALTER TABLE "+table+" RENAME TO old_"+table); err != nil {
			return fmt.Errorf("schema 1: %w", err)
		}
	}
	if _, err := tx.ExecContext(ctx, schema); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, from1); err != nil {
		return fmt.Errorf("schema 1 cannot be brought up to date: %w", err)
	}
	return nil
}

// from2 takes over the lots of schema 2, which no order opened.
const from2 = `
INSERT INTO lot (name, quota, taken, state, revision, profile, environment, id_pattern, listed, stations, hardware_ids, opened_at)
 SELECT name, quota, taken, 'open', 0, '', '', '', 0, '', '', 0 FROM old_lot ORDER BY name;
DROP TABLE old_lot;
`

func upgradeFrom2(ctx context.Context, tx *sql.Tx) error {
	if _, err := tx.ExecContext(ctx, "ALTER TABLE lot RENAME TO old_lot;"+lots+from2); err != nil {
		return fmt.Errorf("schema 2 cannot be brought up to date: %w", err)
	}
	return nil
}
