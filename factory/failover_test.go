package factory_test

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"testing"
	"time"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/factory/record"
)

// reserve is a second issuing CA under the plant's Fleet Root, with a key of its own; away is its plug.
func (p *plant) reserve(t *testing.T, cn string, key *awayKey) factory.IssuerConfig {
	t.Helper()
	cert := p.fleet.issue(t, "factory-ca", ca.Template{Subject: pkix.Name{CommonName: cn}, PublicKey: key.Public(), NotAfter: inYears(10)})
	issuer, err := ca.NewIssuer(cert, key, p.fleet.cert)
	if err != nil {
		t.Fatal(err)
	}
	return factory.IssuerConfig{Issuer: issuer, Chain: []*x509.Certificate{cert}}
}

// TestFailover: while the first token is away a copy of its key signs, then another issuing CA; what was begun at the one is abandoned and
// begun anew at the other, and each certificate comes with its own chain. Everything that each issued can be revoked, on its own list.
func TestFailover(t *testing.T) {
	ctx, p := context.Background(), newPlant(t)
	first, clone, second := &awayKey{Signer: p.key}, &awayKey{Signer: p.key}, &awayKey{Signer: newKey(t)}
	issuer := func(key *awayKey) *ca.Issuer {
		i, err := ca.NewIssuer(p.issuing, key, p.fleet.cert)
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
	p.issuer = issuer(first)
	var lists [2]desk
	r := serve(t, p, func(c *factory.ServiceConfig) {
		c.Clones = []*ca.Issuer{issuer(clone)}
		other := p.reserve(t, "Reserve CA", second)
		lists[0].join(c)
		sc := factory.ServiceConfig{}
		lists[1].join(&sc)
		other.PublishCRL, other.PublishedCRL = sc.PublishCRL, sc.PublishedCRL
		c.Others = []factory.IssuerConfig{other}
	})
	n := 0
	enroll := func(by string) *factory.EnrollAnswer {
		t.Helper()
		n++
		q := deviceRequest(t, newKey(t), fmt.Sprint("dev-", n))
		a, _, err := r.service.Enroll(ctx, "line-1", q)
		if err != nil {
			t.Fatal(err)
		}
		chain, err := factory.ParseCertificates([]byte(a.Chain))
		if err != nil || chain[0].Issuer.CommonName != by || ca.Verify(chain, []*x509.Certificate{p.fleet.cert}, time.Now()) != nil {
			t.Errorf("issued by %s, want %s (%v)", chain[0].Issuer.CommonName, by, err)
		}
		again, isNew, err := r.service.Enroll(ctx, "line-1", q)
		if err != nil || isNew || *again != *a {
			t.Errorf("asked again: %+v, %v, %v", again, isNew, err)
		}
		return a
	}
	a := enroll("Factory CA")
	first.away.Store(true)
	b := enroll("Factory CA") // by the copy
	clone.away.Store(true)
	c := enroll("Reserve CA")
	rec, err := r.store.ByDevice(ctx, "dev-3")
	if err != nil || rec.State != record.StateIssued {
		t.Fatal(err)
	}
	events, err := r.store.Events(ctx, 0, 10)
	if err != nil || len(events) != 4 || events[2].Kind != record.Abandon || events[3].Kind != record.Issue {
		t.Errorf("%+v, %v", events, err)
	}
	if h := r.service.Health(ctx); h.Status != "ok" {
		t.Errorf("while another CA signs: %+v", h)
	}
	second.away.Store(true)
	q := deviceRequest(t, newKey(t), "dev-none")
	if _, _, err := r.service.Enroll(ctx, "line-1", q); code(t, err) != factory.CodeUnavailable {
		t.Error(err)
	}
	first.away.Store(false)
	second.away.Store(false)
	if _, _, err := r.service.Enroll(ctx, "line-1", q); err != nil {
		t.Errorf("after all came back: %v", err)
	}
	for i, one := range []*factory.EnrollAnswer{a, b, c} {
		if _, err := r.service.Revoke(ctx, "olga", factory.RevokeRequest{Serial: one.Serial, Reason: "superseded"}); err != nil {
			t.Fatal(err)
		}
		if got := len(lists[i/2].list(t).RevokedCertificateEntries); got != i%2+1 {
			t.Errorf("%d: the list has %d entries", i, got)
		}
	}
	// Both lists are renewed, whoever signs certificates.
	r.now.add(25 * time.Hour)
	before := []int64{lists[0].list(t).Number.Int64(), lists[1].list(t).Number.Int64()}
	if err := r.service.FreshCRL(ctx); err != nil {
		t.Fatal(err)
	}
	for i := range lists {
		if got := lists[i].list(t).Number.Int64(); got != before[i]+1 {
			t.Errorf("list %d of issuer %d after %d", got, i, before[i])
		}
	}
	// A serial that nobody knows is put on both.
	if _, err := r.service.Revoke(ctx, "olga", revokeUnknown("0abcdef1")); err != nil {
		t.Fatal(err)
	}
	if len(lists[0].list(t).RevokedCertificateEntries) != 3 || len(lists[1].list(t).RevokedCertificateEntries) != 2 {
		t.Error("an unknown serial is not on every list")
	}
	if _, err := r.service.Revoke(ctx, "olga", factory.RevokeRequest{Serial: "0abcdef2", Reason: "superseded"}); code(t, err) != factory.CodeNotFound {
		t.Errorf("without saying that it may be unknown: %v", err)
	}
}

// TestListsAreNotSignedWithoutEnd: however many revocations come, lists are signed once in an interval, and the last one has them all.
func TestListsAreNotSignedWithoutEnd(t *testing.T) {
	ctx, d := context.Background(), &desk{}
	r := serve(t, newPlant(t), d.join, func(c *factory.ServiceConfig) { c.CRLInterval = 300 * time.Millisecond })
	run, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() { defer close(ended); r.service.Run(run) }()
	defer func() { stop(); <-ended }()
	const many = 300
	begin := time.Now()
	for i := range many {
		if _, err := r.service.Revoke(ctx, "olga", revokeUnknown(fmt.Sprintf("%x", 1000+i))); err != nil {
			t.Fatal(err)
		}
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if c, err := r.service.LatestCRL(ctx, ""); err == nil {
			if list, err := x509.ParseRevocationList(c.DER); err == nil && len(list.RevokedCertificateEntries) == many {
				// One at the start, one for each interval, and one behind the last revocation.
				if most := int64(time.Since(begin)/(300*time.Millisecond)) + 3; c.Number > most {
					t.Errorf("%d lists in %v", c.Number, time.Since(begin))
				}
				return
			}
		}
		if time.Now().After(end) {
			t.Fatal("the last revocations are on no list")
		}
	}
}
