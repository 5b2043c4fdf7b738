package factory_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/factory/record"
)

// openssl runs the judge and fails the test unless it agrees.
func openssl(t testing.TB, args ...string) string {
	t.Helper()
	out, err := exec.Command("openssl", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("openssl %v: %v: %s", args, err, out)
	}
	return string(out)
}

func leafOf(t testing.TB, a *factory.EnrollAnswer) *x509.Certificate {
	t.Helper()
	certs, err := factory.ParseCertificates([]byte(a.Certificate))
	if err != nil || len(certs) != 1 {
		t.Fatal(certs, err)
	}
	return certs[0]
}

func code(t testing.TB, err error) factory.Code {
	t.Helper()
	var f *factory.Fault
	if !errors.As(err, &f) {
		t.Fatalf("%v carries no code", err)
	}
	return f.Code
}

func TestEnroll(t *testing.T) {
	r := serve(t, newPlant(t))
	ctx := context.Background()
	c := r.client(r.station(t, "line-1"))
	key := newKey(t)
	a, isNew, err := c.Enroll(ctx, deviceRequest(t, key, "dev-1"))
	if err != nil || !isNew {
		t.Fatal(isNew, err)
	}
	leaf := leafOf(t, a)
	if leaf.Subject.CommonName != "dev-1" || a.DeviceID != "dev-1" || fmt.Sprintf("%x", leaf.SerialNumber) != trimZero(a.Serial) {
		t.Fatalf("%+v", a)
	}
	if err := ca.CheckKeyMatches(leaf, key.Public()); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	root := writePEM(t, filepath.Join(dir, "root.pem"), "CERTIFICATE", r.fleet.cert.Raw)
	mid := writePEM(t, filepath.Join(dir, "mid.pem"), "CERTIFICATE", r.issuing.Raw)
	dev := writePEM(t, filepath.Join(dir, "dev.pem"), "CERTIFICATE", leaf.Raw)
	openssl(t, "verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", root, "-untrusted", mid, dev)

	// The same device asks again, with another request for the same key: same certificate.
	again, isNew, err := c.Enroll(ctx, deviceRequest(t, key, "dev-1"))
	if err != nil || isNew || *again != *a {
		t.Fatalf("%+v, %v, %v", again, isNew, err)
	}
	before := r.rows()
	if _, _, err := c.Enroll(ctx, deviceRequest(t, newKey(t), "dev-1")); code(t, err) != factory.CodeOtherKey {
		t.Fatal(err)
	}
	if _, _, err := c.Enroll(ctx, deviceRequest(t, key, "dev-2")); code(t, err) != factory.CodeKeyKnown {
		t.Fatal(err)
	}
	if after := r.rows(); after != before {
		t.Errorf("refusals wrote to the store: %s, was %s", after, before)
	}
	// What was tried with another key is on record, with who tried it.
	events, err := r.store.Events(ctx, 0, 10)
	if err != nil || len(events) != 2 || events[0].Kind != record.Issue || events[1].Kind != record.OtherKey || events[1].Who != "station line-1" || events[1].DeviceID != "dev-1" {
		t.Errorf("%+v, %v", events, err)
	}
	d, err := c.Device(ctx, "dev-1")
	if err != nil || d.Status != "issued" || d.Serial != a.Serial || d.Station != "line-1" || d.Certificate != a.Certificate {
		t.Fatalf("%+v, %v", d, err)
	}
	if _, err := c.Device(ctx, "dev-9"); code(t, err) != factory.CodeNotFound {
		t.Fatal(err)
	}
}

func trimZero(s string) string { return string(bytes.TrimLeft([]byte(s), "0")) }

// TestSameDeviceAtOnce: sixteen callers, four keys, one device id: one key wins, and its callers get one certificate.
func TestSameDeviceAtOnce(t *testing.T) {
	r := serve(t, newPlant(t))
	c := r.client(r.station(t, "line-1"))
	var mu sync.Mutex
	got := map[string]int{}
	var group sync.WaitGroup
	for range 4 {
		q := deviceRequest(t, newKey(t), "dev-1")
		for range 4 {
			group.Go(func() {
				a, _, err := c.Enroll(context.Background(), q)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					if code(t, err) != factory.CodeOtherKey {
						t.Error(err)
					}
					return
				}
				got[a.Certificate]++
			})
		}
	}
	group.Wait()
	if len(got) != 1 {
		t.Fatalf("%d different certificates for one device", len(got))
	}
	for _, n := range got {
		if n != 4 {
			t.Errorf("%d callers got the certificate, not the four with the winning key", n)
		}
	}
}

func TestRevoke(t *testing.T) {
	r := serve(t, newPlant(t))
	ctx := context.Background()
	station, operator := r.client(r.station(t, "line-1")), r.client(r.operator(t, "olga"))
	if err := r.service.FreshCRL(ctx); err != nil {
		t.Fatal(err)
	}
	var answers []*factory.EnrollAnswer
	var requests []factory.EnrollRequest
	for i := range 3 {
		q := deviceRequest(t, newKey(t), fmt.Sprintf("dev-%d", i))
		a, _, err := station.Enroll(ctx, q)
		if err != nil {
			t.Fatal(err)
		}
		answers, requests = append(answers, a), append(requests, q)
	}
	if _, err := station.Revoke(ctx, factory.RevokeRequest{DeviceID: "dev-0", Reason: "key_compromise"}); code(t, err) != factory.CodeForbidden {
		t.Fatal(err)
	}
	if _, _, err := operator.Enroll(ctx, requests[0]); code(t, err) != factory.CodeForbidden {
		t.Fatal(err)
	}
	first, err := operator.Revoke(ctx, factory.RevokeRequest{DeviceID: "dev-0", Reason: "key_compromise"})
	if err != nil || first.CRLNumber != 2 || first.Reason != "key_compromise" {
		t.Fatalf("%+v, %v", first, err)
	}
	second, err := operator.Revoke(ctx, factory.RevokeRequest{Serial: answers[1].Serial, Reason: "superseded"})
	if err != nil || second.CRLNumber <= first.CRLNumber || second.DeviceID != "dev-1" {
		t.Fatalf("%+v, %v", second, err)
	}
	same, err := operator.Revoke(ctx, factory.RevokeRequest{DeviceID: "dev-0", Reason: "superseded"})
	if err != nil || same.Reason != "key_compromise" || same.CRLNumber != second.CRLNumber {
		t.Fatalf("revoking again: %+v, %v", same, err)
	}
	if _, _, err := station.Enroll(ctx, requests[0]); code(t, err) != factory.CodeRevoked {
		t.Fatal(err)
	}
	if _, _, err := station.Enroll(ctx, deviceRequest(t, newKey(t), "dev-0")); code(t, err) != factory.CodeOtherKey {
		t.Fatal(err)
	}
	if _, err := operator.Revoke(ctx, factory.RevokeRequest{DeviceID: "nobody", Reason: "superseded"}); code(t, err) != factory.CodeNotFound {
		t.Fatal(err)
	}

	der, err := operator.CRL(ctx)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	list := filepath.Join(dir, "crl.der")
	if err := os.WriteFile(list, der, 0o600); err != nil {
		t.Fatal(err)
	}
	mid := writePEM(t, filepath.Join(dir, "mid.pem"), "CERTIFICATE", r.issuing.Raw)
	if out := openssl(t, "crl", "-inform", "DER", "-in", list, "-CAfile", mid, "-noout"); !bytes.Contains([]byte(out), []byte("verify OK")) {
		t.Fatalf("openssl crl: %s", out)
	}
	root := writePEM(t, filepath.Join(dir, "root.pem"), "CERTIFICATE", r.fleet.cert.Raw)
	listPEM := writePEM(t, filepath.Join(dir, "crl.pem"), "X509 CRL", der)
	for i, a := range answers {
		dev := writePEM(t, filepath.Join(dir, "dev.pem"), "CERTIFICATE", leafOf(t, a).Raw)
		out, err := exec.Command("openssl", "verify", "-crl_check", "-CAfile", root, "-untrusted", mid, "-CRLfile", listPEM, dev).CombinedOutput()
		if revoked := bytes.Contains(out, []byte("certificate revoked")); revoked != (i < 2) || (err == nil) != (i == 2) {
			t.Errorf("dev-%d: %v: %s", i, err, out)
		}
	}
}

// TestCRLStaysFresh: a list is signed again when it is old enough, never with a lower number, also after a restart.
func TestCRLStaysFresh(t *testing.T) {
	var published [][]byte
	r := serve(t, newPlant(t), func(c *factory.ServiceConfig) {
		c.PublishCRL = func(der []byte) error { published = append(published, der); return nil }
	})
	ctx := context.Background()
	var numbers []int64
	for _, wait := range []time.Duration{0, time.Hour, 24 * time.Hour, 0, 8 * 24 * time.Hour} {
		r.now.add(wait)
		if err := r.service.FreshCRL(ctx); err != nil {
			t.Fatal(err)
		}
		c, err := r.service.LatestCRL(ctx, "")
		if err != nil {
			t.Fatal(err)
		}
		numbers = append(numbers, c.Number)
	}
	if fmt.Sprint(numbers) != "[1 1 2 2 3]" || len(published) != 3 {
		t.Errorf("numbers %v, %d lists published", numbers, len(published))
	}
}

// TestOpenIntent: what a crash between intent and result leaves is finished with the same serial, by a retry or at start.
func TestOpenIntent(t *testing.T) {
	r := serve(t, newPlant(t))
	ctx := context.Background()
	c := r.client(r.station(t, "line-1"))
	q := deviceRequest(t, newKey(t), "dev-1")
	if _, _, err := c.Enroll(ctx, q); err != nil {
		t.Fatal(err)
	}
	for _, way := range []string{"retry", "restart"} {
		rec, err := r.store.ByDevice(ctx, "dev-1")
		if err != nil {
			t.Fatal(err)
		}
		other := serve(t, r.plant)
		if _, _, err := other.store.Begin(ctx, rec.Intent); err != nil {
			t.Fatal(err)
		}
		other.now.add(time.Hour)
		if way == "restart" {
			if done, left, err := other.service.Recover(ctx); done != 1 || left != 0 || err != nil {
				t.Fatal(done, left, err)
			}
		} else if _, _, err := other.client(other.station(t, "line-2")).Enroll(ctx, q); err != nil {
			t.Fatal(err)
		}
		got, err := other.store.ByDevice(ctx, "dev-1")
		if err != nil || got.Open() || !bytes.Equal(got.Serial, rec.Serial) {
			t.Fatalf("%s: %+v, %v", way, got, err)
		}
		cert, err := x509.ParseCertificate(got.Certificate)
		if err != nil {
			t.Fatal(err)
		}
		first, err := x509.ParseCertificate(rec.Certificate)
		if err != nil || !bytes.Equal(cert.RawTBSCertificate, first.RawTBSCertificate) {
			t.Errorf("%s: other bytes were signed than were recorded (%v)", way, err)
		}
	}
	// Another issuing certificate since: the intent is closed, its serial is kept as abandoned, and a new one made.
	rec, _ := r.store.ByDevice(ctx, "dev-1")
	moved := serve(t, newPlant(t))
	if _, _, err := moved.store.Begin(ctx, rec.Intent); err != nil {
		t.Fatal(err)
	}
	a, _, err := moved.client(moved.station(t, "line-1")).Enroll(ctx, q)
	if err != nil {
		t.Fatal(err)
	}
	if a.Serial == fmt.Sprintf("%x", rec.Serial) {
		t.Error("another issuer used the abandoned serial")
	}
	if n, _ := moved.store.Counts(ctx); n["enrolment"] != 1 || n["certificate"] != 2 {
		t.Errorf("%v", n)
	}
	if old, err := moved.store.BySerial(ctx, rec.Issuer, rec.Serial); err != nil || old.State != record.StateAbandoned {
		t.Errorf("%+v, %v", old, err)
	}
}

// TestValidity: a device's certificate never lies outside its issuer's.
func TestValidity(t *testing.T) {
	r := serve(t, newPlant(t), func(c *factory.ServiceConfig) { c.Days = 36500 })
	a, _, err := r.client(r.station(t, "line-1")).Enroll(context.Background(), deviceRequest(t, newKey(t), "dev-1"))
	if err != nil {
		t.Fatal(err)
	}
	leaf := leafOf(t, a)
	if leaf.NotAfter.After(r.issuing.NotAfter) || leaf.NotBefore.Before(r.issuing.NotBefore) {
		t.Errorf("%s to %s", leaf.NotBefore, leaf.NotAfter)
	}
}

func pemOf(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}
