package factory_test

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/factory/record"
)

// desk is a place where lists are published, as crl.file is.
type desk struct {
	mu   sync.Mutex // two servers, or a server and its own look at what is there
	der  []byte
	full bool
}

func (d *desk) join(c *factory.ServiceConfig) {
	c.PublishCRL = func(der []byte) error {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.full {
			return errors.New("no space left")
		}
		d.der = der
		return nil
	}
	c.PublishedCRL = func() ([]byte, error) {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.der, nil
	}
}

func (d *desk) list(t *testing.T) *x509.RevocationList {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	list, err := x509.ParseRevocationList(d.der)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestStorePutBack: with a store from before, or an empty one, CRL numbers still rise and no revocation is forgotten.
func TestStorePutBack(t *testing.T) {
	ctx, p, d := context.Background(), newPlant(t), &desk{}
	r := serve(t, p, d.join)
	station := r.client(r.station(t, "line-1"))
	for _, id := range []string{"dev-1", "dev-2", "dev-3"} {
		if _, _, err := station.Enroll(ctx, deviceRequest(t, newKey(t), id)); err != nil {
			t.Fatal(err)
		}
		if _, err := r.service.Revoke(ctx, "olga", factory.RevokeRequest{DeviceID: id, Reason: "key_compromise"}); err != nil {
			t.Fatal(err)
		}
	}
	before := d.list(t)
	empty := serve(t, p, d.join)
	if err := empty.service.FreshCRL(ctx); err != nil {
		t.Fatal(err)
	}
	if _, _, err := empty.client(empty.station(t, "line-1")).Enroll(ctx, deviceRequest(t, newKey(t), "dev-4")); err != nil {
		t.Fatal(err)
	}
	a, err := empty.service.Revoke(ctx, "olga", factory.RevokeRequest{DeviceID: "dev-4", Reason: "superseded"})
	if err != nil {
		t.Fatal(err)
	}
	after := d.list(t)
	if after.Number.Cmp(before.Number) <= 0 || after.Number.Int64() != a.CRLNumber || len(after.RevokedCertificateEntries) != 4 {
		t.Errorf("list %v with %d entries after list %v with %d", after.Number, len(after.RevokedCertificateEntries), before.Number, len(before.RevokedCertificateEntries))
	}
	if err := empty.service.FreshCRL(ctx); err != nil || d.list(t).Number.Cmp(after.Number) != 0 {
		t.Errorf("signed again without need: %v, %v", d.list(t).Number, err)
	}
}

// TestHealthOfStore: a store that takes no writes is not well, though it can be read.
func TestHealthOfStore(t *testing.T) {
	ctx := context.Background()
	r := serve(t, newPlant(t))
	station := r.client(r.station(t, "line-1"))
	file := filepath.Join(r.dir, "factory.db")
	if err := os.Rename(file, file+".away"); err != nil {
		t.Fatal(err)
	}
	q := deviceRequest(t, newKey(t), "dev-1")
	if _, _, err := station.Enroll(ctx, q); code(t, err) != factory.CodeUnavailable {
		t.Error(err)
	}
	if h := r.service.Health(ctx); h.Status != "degraded" {
		t.Errorf("%+v", h)
	}
	if err := os.Rename(file+".away", file); err != nil {
		t.Fatal(err)
	}
	if _, _, err := station.Enroll(ctx, q); err != nil {
		t.Error(err)
	}
	if h := r.service.Health(ctx); h.Status != "ok" {
		t.Errorf("%+v", h)
	}
}

// TestPublishedLate: a list that could not be written is written when there is room again.
func TestPublishedLate(t *testing.T) {
	ctx, d := context.Background(), &desk{full: true}
	r := serve(t, newPlant(t), d.join)
	if err := r.service.FreshCRL(ctx); err != nil || d.der != nil {
		t.Fatal(err)
	}
	d.full = false
	if err := r.service.FreshCRL(ctx); err != nil || d.der == nil || d.list(t).Number.Int64() != 1 {
		t.Error(err)
	}
}

// TestClockGoesBack: a revocation reaches the list also when the clock is behind the last one.
func TestClockGoesBack(t *testing.T) {
	ctx := context.Background()
	r := serve(t, newPlant(t))
	if _, _, err := r.client(r.station(t, "line-1")).Enroll(ctx, deviceRequest(t, newKey(t), "dev-1")); err != nil {
		t.Fatal(err)
	}
	r.now.add(2 * time.Hour)
	if err := r.service.FreshCRL(ctx); err != nil {
		t.Fatal(err)
	}
	r.now.add(-2 * time.Hour)
	a, err := r.service.Revoke(ctx, "olga", factory.RevokeRequest{DeviceID: "dev-1", Reason: "key_compromise"})
	if err != nil || a.CRLNumber != 2 {
		t.Errorf("%+v, %v", a, err)
	}
	// Nor does a revocation that is on record for a later time, and on no list yet, keep the next from being listed.
	for _, id := range []string{"dev-2", "dev-3"} {
		if _, _, err := r.client(r.station(t, "line-1")).Enroll(ctx, deviceRequest(t, newKey(t), id)); err != nil {
			t.Fatal(err)
		}
	}
	rec, err := r.store.ByDevice(ctx, "dev-2")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.store.Revoke(ctx, record.Revocation{Issuer: rec.Issuer, Serial: rec.Serial, Reason: 1, At: r.now.Now().Add(4 * time.Hour).UTC().Truncate(time.Second), Who: "x"}); err != nil {
		t.Fatal(err)
	}
	if a, err = r.service.Revoke(ctx, "olga", factory.RevokeRequest{DeviceID: "dev-3", Reason: "key_compromise"}); err != nil || a.CRLNumber != 3 {
		t.Errorf("%+v, %v", a, err)
	}
}

// TestForeignListPublished: where another CA's list lies in the published one's place, numbers and revocations do not go on from it.
func TestForeignListPublished(t *testing.T) {
	ctx, other := context.Background(), newPlant(t)
	now := time.Now().UTC().Truncate(time.Second)
	prepared, err := other.issuer.PrepareCRL(ca.CRLTemplate{Number: big.NewInt(1000), ThisUpdate: now, NextUpdate: now.Add(time.Hour),
		Entries: []x509.RevocationListEntry{{SerialNumber: big.NewInt(77), RevocationTime: now, ReasonCode: 1}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := prepared.Sign(context.Background(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	d := &desk{der: foreign.Raw}
	r := serve(t, newPlant(t), d.join)
	if err := r.service.FreshCRL(ctx); err != nil {
		t.Fatal(err)
	}
	if list := d.list(t); list.Number.Int64() != 1 || len(list.RevokedCertificateEntries) != 0 {
		t.Errorf("list %v with %d entries", list.Number, len(list.RevokedCertificateEntries))
	}
}

// TestRenewedIssuer: a renewed certificate of the same key goes on where the old one was; what another key issued is
// neither handed out with a chain that does not fit nor said to be on a list that it is not on.
func TestRenewedIssuer(t *testing.T) {
	ctx, p := context.Background(), newPlant(t)
	r := serve(t, p)
	q := deviceRequest(t, newKey(t), "dev-1")
	first, _, err := r.client(r.station(t, "line-1")).Enroll(ctx, q)
	if err != nil {
		t.Fatal(err)
	}
	renewed := p.fleet.issue(t, "factory-ca", ca.Template{Subject: pkix.Name{CommonName: "Factory CA"}, PublicKey: p.key.Public(),
		NotBefore: p.issuing.NotBefore, NotAfter: inYears(12)}) // a certificate that is older than its issuer's does not verify
	same, err := ca.NewIssuer(renewed, p.key, p.fleet.cert)
	if err != nil {
		t.Fatal(err)
	}
	service := func(issuer *ca.Issuer) *factory.Service {
		s, err := factory.NewService(factory.ServiceConfig{IssuerConfig: factory.IssuerConfig{Issuer: issuer, Chain: []*x509.Certificate{issuer.Certificate()}}, Store: r.store, CRLInterval: -1, Rand: rand.Reader})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	again, isNew, err := service(same).Enroll(ctx, "line-1", q)
	if err != nil || isNew || again.Certificate != first.Certificate {
		t.Fatalf("after renewal: %v, %v", isNew, err)
	}
	chain, err := factory.ParseCertificates([]byte(again.Chain))
	if err != nil || ca.Verify(chain, []*x509.Certificate{p.fleet.cert}, time.Now()) != nil {
		t.Errorf("the chain after renewal does not verify: %v", err)
	}
	other := service(newPlant(t).issuer)
	before := r.rows()
	if _, _, err := other.Enroll(ctx, "line-1", q); code(t, err) != factory.CodeOtherIssuer {
		t.Error(err)
	}
	if _, err := other.Revoke(ctx, "olga", factory.RevokeRequest{DeviceID: "dev-1", Reason: "key_compromise"}); code(t, err) != factory.CodeOtherIssuer {
		t.Error(err)
	}
	if after := r.rows(); after != before {
		t.Errorf("refusals wrote: %s, %s", before, after)
	}
	a, err := service(same).Revoke(ctx, "olga", factory.RevokeRequest{DeviceID: "dev-1", Reason: "key_compromise"})
	if err != nil || a.CRLNumber == 0 {
		t.Errorf("%+v, %v", a, err)
	}
}
