package sqlite

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"database/sql"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/factory/record"
	"github.com/hanaper/hanaper/factory/record/recordtest"
)

// firstCut puts the store of the first release into a folder, as that release left it at a clean stop: all of it in the write-ahead log.
func firstCut(t *testing.T) (dir string, issuer *x509.Certificate) {
	t.Helper()
	dir = t.TempDir()
	for from, to := range map[string]string{"schema-1.db": File, "schema-1.db-wal": File + "-wal"} {
		b, err := os.ReadFile(filepath.Join("testdata", from))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, to), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile("testdata/schema-1-issuer.pem")
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(b)
	if issuer, err = x509.ParseCertificate(block.Bytes); err != nil {
		t.Fatal(err)
	}
	return dir, issuer
}

// TestUpgrade: a store that the first release wrote keeps every device, certificate, revocation, open intent, abandoned serial and number.
func TestUpgrade(t *testing.T) {
	ctx := context.Background()
	dir, cert := firstCut(t)
	issuer := sha256.Sum256(slices.Concat(cert.RawSubject, cert.RawSubjectPublicKeyInfo))
	if _, err := Read(ctx, dir); err == nil || !strings.Contains(err.Error(), "older release") {
		t.Fatalf("read as it is: %v", err)
	}
	for range 2 { // the second time nothing is left to do
		s := opened(t, dir)
		n, err := s.Counts(ctx)
		if err != nil || fmt.Sprint(n) != "map[certificate:11 crl:3 device:9 device_key:10 enrolment:10 event:12 former_key:0 issuer:1 lot:0 lot_id:0 lot_order:0 mark:0 pending:2 permit:0 result:9 revocation:3 scrap:0 version:2]" {
			t.Errorf("%v, %v", n, err)
		}
		for i := range 6 {
			id := fmt.Sprintf("VIN-%d", i+1)
			r, err := s.ByDevice(ctx, strings.ToLower(id))
			if err != nil || r.DeviceID != id || r.State != record.StateIssued || r.Station != "line-1" || r.HardwareID != "board-1" || r.Lot != "lot-1" || r.Issuer != issuer {
				t.Fatalf("%s: %+v, %v", id, r, err)
			}
			leaf, err := x509.ParseCertificate(r.Certificate)
			if err != nil || leaf.CheckSignatureFrom(cert) != nil || !bytes.Equal(leaf.SerialNumber.Bytes(), r.Serial) || leaf.Subject.CommonName != id ||
				sha256.Sum256(leaf.RawTBSCertificate) != r.TBSDigest || sha256.Sum256(leaf.RawSubjectPublicKeyInfo) != r.SPKIDigest || !bytes.Equal(leaf.RawSubjectPublicKeyInfo, r.SPKI) ||
				!leaf.NotAfter.Equal(r.NotAfter) || !leaf.NotBefore.Equal(r.NotBefore) {
				t.Errorf("%s: the certificate is not what the record says: %v", id, err)
			}
			revoked := map[string]int{"VIN-2": 1, "VIN-3": 1, "VIN-4": 4}
			if r.RevokedAt.IsZero() == (revoked[id] != 0) || r.Reason != revoked[id] {
				t.Errorf("%s: revoked at %v with %d", id, r.RevokedAt, r.Reason)
			}
			if on, err := s.Revoked(ctx, issuer, r.Serial); (err == nil) != (revoked[id] != 0) || on.Reason != revoked[id] {
				t.Errorf("%s: %+v, %v", id, on, err)
			}
		}
		// Two devices that differed by case are one now: both certificates can be found, the later one is the device's.
		twin, err := s.ByDevice(ctx, "TWIN-A")
		if err != nil || twin.DeviceID != "Twin-A" || twin.Generation != 2 {
			t.Errorf("%+v, %v", twin, err)
		}
		open, err := s.OpenIntents(ctx, 0, 10)
		if err != nil || len(open) != 2 || open[0].DeviceID != "open-1" || open[0].Serial[0] != 0x22 || open[1].DeviceID != "open-2" {
			t.Errorf("%+v, %v", open, err)
		}
		gone, err := s.BySerial(ctx, issuer, append([]byte{0x11}, open[0].Serial[1:]...))
		if err != nil || gone.State != record.StateAbandoned || gone.DeviceID != "open-1" {
			t.Errorf("the abandoned serial: %+v, %v", gone, err)
		}
		events, err := s.Events(ctx, 0, 100)
		if err != nil || len(events) != 12 {
			t.Fatal(len(events), err)
		}
		kinds := map[record.Kind]int{}
		for i, e := range events {
			kinds[e.Kind]++
			if e.Sequence != int64(i)+1 || i > 0 && e.At.Before(events[i-1].At) {
				t.Errorf("event %d: %+v", i, e)
			}
		}
		if fmt.Sprint(kinds) != "map[abandon:1 issue:7 reissue:1 revoke:3]" {
			t.Errorf("%v", kinds)
		}
		last, err := s.LatestCRL(ctx, issuer)
		if err != nil {
			t.Fatal(err)
		}
		list, err := x509.ParseRevocationList(last.DER)
		if err != nil || list.Number.Int64() != last.Number || len(list.RevokedCertificateEntries) != 3 || list.CheckSignatureFrom(cert) != nil {
			t.Errorf("the latest list: %v", err)
		}
		if err := s.Check(ctx); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	s := opened(t, dir)
	defer s.Close()
	// A number that the first release took and lost is not used again.
	last, _ := s.LatestCRLNumber(ctx, issuer)
	if _, err := s.NextCRL(ctx, issuer, func(ctx context.Context, turn record.ListTurn) (*record.CRL, error) {
		n, err := turn.Number(ctx, 0)
		if revoked := recordtest.Revoked(t, turn); err != nil || n != last+1 || revoked != 3 {
			t.Errorf("number %d after %d, %d revoked, %v", n, last, revoked, err)
		}
		return nil, err
	}); err != nil {
		t.Error(err)
	}
	if r := recordtest.Issue(t, s, recordtest.Intent("new", "knew"), "der"); r.Sequence != 13 {
		t.Errorf("the first certificate after the upgrade has the number %d", r.Sequence)
	}
}

// TestUpgrade2: a store of schema 2 keeps all that it holds, and orders can open lots in it.
func TestUpgrade2(t *testing.T) {
	dir := t.TempDir()
	b, err := os.ReadFile("testdata/schema-2.db")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, File), b, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time nothing is left to do
		s := opened(t, dir)
		recordtest.CheckSchema2(t, s)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	s := opened(t, dir)
	defer s.Close()
	recordtest.UseSchema2(t, s)
}

// TestUpgradeSame: a store that was brought up to date has the tables, columns and indexes of a new one.
func TestUpgradeSame(t *testing.T) {
	shape := func(dir string) string {
		s := opened(t, dir)
		defer s.Close()
		rows, err := s.DB.Query(`SELECT type || ' ' || name || ' ' || coalesce(sql, '') FROM sqlite_master WHERE name <> 'sqlite_sequence' ORDER BY 1`)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		var out []string
		for rows.Next() {
			var one string
			if err := rows.Scan(&one); err != nil {
				t.Fatal(err)
			}
			out = append(out, one)
		}
		return strings.Join(out, "\n")
	}
	fresh := shape(t.TempDir())
	one, _ := firstCut(t)
	two := t.TempDir()
	b, err := os.ReadFile("testdata/schema-2.db")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(two, File), b, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, dir := range map[string]string{"schema 1": one, "schema 2": two} {
		if got := shape(dir); got != fresh {
			t.Errorf("%s became\n%s\nand a new store is\n%s", name, got, fresh)
		}
	}
}

// TestUpgradeCutShort: an upgrade that fails leaves the store of the first release as it was.
func TestUpgradeCutShort(t *testing.T) {
	ctx := context.Background()
	dir, _ := firstCut(t)
	path := filepath.Join(dir, File)
	change := func(statement string) {
		t.Helper()
		db, err := sql.Open("sqlite", dsn(path, ""))
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if _, err := db.ExecContext(ctx, statement); err != nil {
			t.Fatal(err)
		}
	}
	change("CREATE TABLE certificate (x INTEGER)") // in the way of the new one
	if s, err := Open(ctx, dir); err == nil {
		s.Close()
		t.Fatal("upgraded over a table in the way")
	}
	change("DROP TABLE certificate")
	s := opened(t, dir)
	defer s.Close()
	if n, err := s.Counts(ctx); err != nil || n["enrolment"] != 10 {
		t.Errorf("%v, %v", n, err)
	}
}

// TestNewerStore: what a newer release wrote is refused with words, and left alone.
func TestNewerStore(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	if err := opened(t, dir).Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, File)
	db, err := sql.Open("sqlite", dsn(path, ""))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %d; CREATE TABLE tomorrow (x)", Version+1)); err != nil {
		t.Fatal(err)
	}
	db.Close()
	before, _ := os.ReadFile(path)
	for name, open := range map[string]func() (*Store, error){"open": func() (*Store, error) { return Open(ctx, dir) }, "read": func() (*Store, error) { return Read(ctx, dir) }} {
		if s, err := open(); err == nil || !strings.Contains(err.Error(), "newer release") {
			t.Errorf("%s: %v, %v", name, s, err)
		}
	}
	if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
		t.Error("the file was changed")
	}
}
