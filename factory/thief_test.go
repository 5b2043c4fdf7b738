package factory_test

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/attest"
	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/factory/record"
)

// TestSerialOfNoList: a serial number that no list may hold (21 octets in DER: its highest bit is set, and it has 20 octets) is not revoked, for the list
// could never be signed again. (Before: one request of an operator, or of who had stolen his certificate, ended revocation for good.)
func TestSerialOfNoList(t *testing.T) {
	ctx := context.Background()
	d := &desk{}
	r := serve(t, newPlant(t), d.join)
	olga := r.client(r.operator(t, "olga"))
	before := r.rows()
	for _, serial := range []string{strings.Repeat("ff", 20), "80" + strings.Repeat("00", 19), "00" + strings.Repeat("ff", 20)} {
		if _, err := olga.Revoke(ctx, factory.RevokeRequest{Serial: serial, Reason: "keyCompromise", Unknown: true}); code(t, err) != factory.CodeRequest {
			t.Errorf("%s: %v", serial, err)
		}
	}
	if after := r.rows(); after != before {
		t.Errorf("refusals wrote %s, was %s", after, before)
	}
	most := "7f" + strings.Repeat("ff", 19)
	if a, err := olga.Revoke(ctx, factory.RevokeRequest{Serial: most, Reason: "keyCompromise", Unknown: true}); err != nil || a.CRLNumber == 0 {
		t.Errorf("%+v, %v", a, err)
	}
	// A store in which an earlier release has kept one: the others are listed all the same.
	by := issuerOf(t, r)
	if _, _, err := r.store.Revoke(ctx, record.Revocation{Issuer: by, Serial: []byte(strings.Repeat("\xff", 20)), At: r.now.Now(), Reason: 1, Who: "operator olga"}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.service.Enroll(ctx, "line-1", deviceRequest(t, newKey(t), "dev-1")); err != nil {
		t.Fatal(err)
	}
	if a, err := olga.Revoke(ctx, factory.RevokeRequest{DeviceID: "dev-1", Reason: "keyCompromise"}); err != nil || a.CRLNumber == 0 {
		t.Errorf("%+v, %v", a, err)
	}
	if err := r.service.FreshCRL(ctx); err != nil {
		t.Fatal(err)
	}
	if n := len(d.list(t).RevokedCertificateEntries); n != 2 {
		t.Errorf("%d entries", n)
	}
}

// issuerOf is the name of the plant's issuing CA in the store.
func issuerOf(t *testing.T, r *running) [32]byte {
	t.Helper()
	known, err := r.store.Issuers(context.Background())
	if err != nil || len(known) != 1 {
		t.Fatal(known, err)
	}
	return known[0]
}

// TestCreepingClock: a clock that somebody sets by less than clockStep again and again, and so past every look at it, is noticed.
func TestCreepingClock(t *testing.T) {
	for name, step := range map[string]time.Duration{"ahead": 59 * time.Second, "behind": -59 * time.Second} {
		t.Run(name, func(t *testing.T) {
			ctx := context.Background()
			d := &desk{}
			r := serve(t, newPlant(t), d.join)
			r.now.add(30 * day)
			n := 0
			for ; n < 144; n++ { // a day
				if _, _, err := r.service.Enroll(ctx, "line-1", deviceRequest(t, newKey(t), fmt.Sprint("dev-", n))); err != nil {
					if code(t, err) != factory.CodeClock {
						t.Fatal(err)
					}
					break
				}
				r.now.add(10 * time.Minute)
				r.now.jump(step)
			}
			if n > 3 {
				t.Errorf("noticed after %d times, when the clock was off by %s", n, time.Duration(n)*step)
			}
		})
	}
	// What a crystal does is no attack: half a second in ten minutes, for a month.
	ctx := context.Background()
	r := serve(t, newPlant(t))
	for n := range 30 * 24 {
		for range 6 {
			r.now.add(10 * time.Minute)
			r.now.jump(500 * time.Millisecond)
			r.service.Health(ctx)
		}
		if h := r.service.Health(ctx); h.Clock != "ok" {
			t.Fatalf("after %d hours: %s", n, h.Clock)
		}
	}
}

// TestChallengeByBadClock: a challenge dated by a clock that jumped would be taken when its time comes.
func TestChallengeByBadClock(t *testing.T) {
	c, err := attest.NewChallenger(make([]byte, 32), 5*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	roots, err := factory.LoadCertificates(filepath.Join("testdata", "evidence-1-root.pem"))
	if err != nil {
		t.Fatal(err)
	}
	makers, err := attest.NewManufacturers(attest.ManufacturerConfig{Name: "Acme", Kind: attest.TPM, Roots: roots})
	if err != nil {
		t.Fatal(err)
	}
	policy, err := attest.NewPolicy(attest.PolicyConfig{Manufacturers: makers, Default: attest.Rule{Level: attest.Accepted}})
	if err != nil {
		t.Fatal(err)
	}
	r := serve(t, newPlant(t), func(s *factory.ServiceConfig) { s.Attestation = &factory.Attestation{Policy: policy, Challenger: c} })
	r.now.jump(200 * day)
	if _, err := r.service.Challenge(context.Background(), "line-1", factory.ChallengeRequest{DeviceID: "dev-1", Kind: attest.TPM}); code(t, err) != factory.CodeClock {
		t.Errorf("%v", err)
	}
}

// TestOddNames: names that no database takes (a NUL, no UTF-8) are refused as what they are: nothing is wrong with the store.
func TestOddNames(t *testing.T) {
	r := serve(t, newPlant(t))
	olga := r.client(r.operator(t, "olga"))
	ctx := context.Background()
	for _, id := range []string{"a\x00b", "\xff\xfe", strings.Repeat("a", 65), "dev\u212a", "dev\u0000"} {
		if _, err := olga.Device(ctx, id); code(t, err) != factory.CodeNotFound && code(t, err) != factory.CodeRequest {
			t.Errorf("%q: %v", id, err)
		}
		if _, err := olga.Revoke(ctx, factory.RevokeRequest{DeviceID: id, Reason: "keyCompromise"}); code(t, err) != factory.CodeNotFound && code(t, err) != factory.CodeRequest {
			t.Errorf("%q: %v", id, err)
		}
	}
	if err := r.store.Hold(ctx, "it was restored"); err != nil {
		t.Fatal(err)
	}
	before, _ := r.store.Sequence(ctx)
	for _, note := range []string{"a\x00b", "a\nb\x1b[2J"} {
		if _, err := olga.Accept(ctx, note); code(t, err) != factory.CodeRequest {
			t.Errorf("%q: %v", note, err)
		}
		if _, err := olga.AcceptClock(ctx, note); code(t, err) != factory.CodeRequest {
			t.Errorf("%q: %v", note, err)
		}
	}
	if after, _ := r.store.Sequence(ctx); after != before {
		t.Error("a refusal wrote")
	}
}

// TestPublishedListPutBack: an older list, or none, or rubbish in the place of the published one is followed by the latest at the next look, not only when the
// next list is due.
func TestPublishedListPutBack(t *testing.T) {
	ctx := context.Background()
	d := &desk{}
	r := serve(t, newPlant(t), d.join)
	if err := r.service.FreshCRL(ctx); err != nil {
		t.Fatal(err)
	}
	older := d.der
	if _, err := r.service.Revoke(ctx, "olga", factory.RevokeRequest{Serial: "5f3a", Reason: "keyCompromise", Unknown: true}); err != nil {
		t.Fatal(err)
	}
	latest := d.der
	if bytes.Equal(older, latest) {
		t.Fatal("no list was published")
	}
	for name, der := range map[string][]byte{"older": older, "none": nil, "rubbish": []byte("rubbish")} {
		d.der = der
		if err := r.service.FreshCRL(ctx); err != nil {
			t.Error(name, err)
		}
		if !bytes.Equal(d.der, latest) {
			t.Errorf("%s: it stays", name)
		}
	}
}
