package factory_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/csr"
	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/factory/record"
)

// renewing is a service whose devices' certificates last 30 days and may be renewed in their last ten.
func renewing(t testing.TB, p *plant, edit ...func(*factory.Renewal, *factory.ServiceConfig)) *running {
	t.Helper()
	return serve(t, p, func(c *factory.ServiceConfig) {
		c.Days, c.Organization = 30, "Example Devices"
		c.Renewal = &factory.Renewal{Policy: factory.DefaultRenewal(), Overlap: 48 * time.Hour}
		c.Renewal.Policy.FromDays, c.Renewal.Policy.Key = 10, factory.RenewAnyKey
		for _, f := range edit {
			f(c.Renewal, c)
		}
	})
}

func (p *plant) gateway(t testing.TB, name string) identity {
	return p.operations.leaf(t, "gateway", ca.Template{Subject: pkix.Name{CommonName: name}, URIs: []*url.URL{ca.RoleURI(ca.RoleGateway, name)}})
}

// owner is a device with its first certificate.
type owner struct {
	key  crypto.Signer
	cert *x509.Certificate
}

func (r *running) owner(t testing.TB, id string) owner {
	t.Helper()
	key := newKey(t)
	a, _, err := r.service.Enroll(context.Background(), "line-1", deviceRequest(t, key, id))
	if err != nil {
		t.Fatal(err)
	}
	return owner{key, leafOf(t, a)}
}

// asks is the request that renews with the same key.
func (d owner) asks(t testing.TB) factory.RenewRequest {
	return factory.RenewRequest{Certificate: d.cert.Raw, CSR: []byte(request(t, d.key, csr.Template{Subject: pkix.Name{CommonName: d.cert.Subject.CommonName}}))}
}

// asksFor is the request for another key, which that of d vouches for.
func (d owner) asksFor(t testing.TB, key crypto.Signer, voucher crypto.Signer) factory.RenewRequest {
	t.Helper()
	spki, err := csr.MarshalKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	old := *d.cert
	old.PublicKey = voucher.Public()
	proof, err := csr.SignRenewal(context.Background(), rand.Reader, voucher, &old, spki)
	if err != nil {
		t.Fatal(err)
	}
	return factory.RenewRequest{Certificate: d.cert.Raw, CSR: []byte(request(t, key, csr.Template{Subject: pkix.Name{CommonName: d.cert.Subject.CommonName}, RenewalProof: proof}))}
}

func (r *running) renew(t testing.TB, q factory.RenewRequest) owner {
	t.Helper()
	a, _, err := r.service.Renew(context.Background(), "gw-1", q)
	if err != nil {
		t.Fatal(err)
	}
	return owner{cert: leafOf(t, a)}
}

func (r *running) revoked(t testing.TB, c *x509.Certificate) (reason int, is bool) {
	t.Helper()
	rec, err := r.store.BySerial(context.Background(), r.issuerID(), c.SerialNumber.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return rec.Reason, !rec.RevokedAt.IsZero()
}

func (r *running) issuerID() [32]byte {
	list, err := r.store.Issuers(context.Background())
	if err != nil || len(list) != 1 {
		r.t.Fatal(list, err)
	}
	return list[0]
}

// TestRenew: the same id, the next generation, with the same key or a new one; the same request again gets the same certificate.
func TestRenew(t *testing.T) {
	ctx := context.Background()
	r := renewing(t, newPlant(t))
	for _, newOne := range []bool{false, true} {
		d := r.owner(t, fmt.Sprintf("dev-%v", newOne))
		r.now.add(21 * day)
		key := d.key
		q := d.asks(t)
		if newOne {
			key = newKey(t)
			q = d.asksFor(t, key, d.key)
		}
		a, isNew, err := r.service.Renew(ctx, "gw-1", q)
		if err != nil || !isNew {
			t.Fatal(isNew, err)
		}
		cert := leafOf(t, a)
		if cert.Subject.String() != d.cert.Subject.String() || cert.SerialNumber.Cmp(d.cert.SerialNumber) == 0 || !cert.NotAfter.After(d.cert.NotAfter) || !ca.SameKey(cert.PublicKey, key.Public()) {
			t.Errorf("%s %s %s", cert.Subject, cert.SerialNumber, cert.NotAfter)
		}
		rec, err := r.store.ByDevice(ctx, a.DeviceID)
		if err != nil || rec.Generation != 2 || rec.Station != "gateway gw-1" || rec.HardwareID != "board-1" || rec.Lot != "lot-1" {
			t.Fatalf("%+v, %v", rec, err)
		}
		events, err := r.store.Events(ctx, rec.Sequence-1, 1)
		if err != nil || events[0].Kind != record.Reissue || events[0].Who != "gateway gw-1" {
			t.Errorf("%+v, %v", events, err)
		}
		before := r.rows()
		for range 2 {
			if newOne { // another request for the same key
				q = d.asksFor(t, key, d.key)
			} else {
				q = d.asks(t)
			}
			again, isNew, err := r.service.Renew(ctx, "gw-1", q)
			if err != nil || isNew || again.Certificate != a.Certificate {
				t.Fatal(isNew, err)
			}
		}
		if _, is := r.revoked(t, d.cert); is || r.rows() != before {
			t.Error("the old certificate ended before its time")
		}
		// At the line, too, the device is answered with what it has now.
		if same, isNew, err := r.service.Enroll(ctx, "line-1", deviceRequest(t, key, a.DeviceID)); err != nil || isNew || same.Certificate != a.Certificate {
			t.Error(isNew, err)
		}
	}
}

// TestRenewRefusals: each is refused with its code before the token is asked, and writes nothing.
func TestRenewRefusals(t *testing.T) {
	ctx := context.Background()
	p := newPlant(t)
	other := newPlant(t)
	subject := func(d owner) csr.Template {
		return csr.Template{Subject: pkix.Name{CommonName: d.cert.Subject.CommonName}}
	}
	bare := func(t *testing.T, d owner, key crypto.Signer, tmpl csr.Template) factory.RenewRequest {
		return factory.RenewRequest{Certificate: d.cert.Raw, CSR: []byte(request(t, key, tmpl))}
	}
	type arranged struct {
		q    factory.RenewRequest
		want factory.Code
	}
	for name, c := range map[string]struct {
		edit func(*factory.Renewal, *factory.ServiceConfig)
		do   func(t *testing.T, r *running, d owner) arranged
	}{
		"no certificate": {nil, func(t *testing.T, r *running, d owner) arranged {
			q := d.asks(t)
			q.Certificate = nil
			return arranged{q, factory.CodeCertificate}
		}},
		"another fleet's": {nil, func(t *testing.T, r *running, d owner) arranged {
			o := renewing(t, other).owner(t, "dev-1")
			return arranged{o.asks(t), factory.CodeCertificate}
		}},
		"not on record": {nil, func(t *testing.T, r *running, d owner) arranged {
			o := renewing(t, p).owner(t, "dev-1")
			return arranged{o.asks(t), factory.CodeCertificate}
		}},
		"a changed certificate": {nil, func(t *testing.T, r *running, d owner) arranged {
			q := d.asks(t)
			q.Certificate = append([]byte{}, q.Certificate...)
			q.Certificate[len(q.Certificate)-1] ^= 1
			return arranged{q, factory.CodeCertificate}
		}},
		"the issuing CA's own": {nil, func(t *testing.T, r *running, d owner) arranged {
			q := d.asks(t)
			q.Certificate = p.issuing.Raw
			return arranged{q, factory.CodeCertificate}
		}},
		"a revoked one": {nil, func(t *testing.T, r *running, d owner) arranged {
			if _, err := r.service.Revoke(ctx, "olga", factory.RevokeRequest{DeviceID: "dev-1", Reason: "key_compromise"}); err != nil {
				t.Fatal(err)
			}
			return arranged{d.asks(t), factory.CodeRevoked}
		}},
		"too early": {nil, func(t *testing.T, r *running, d owner) arranged {
			r.now.add(-2 * day)
			return arranged{d.asks(t), factory.CodeEarly}
		}},
		"expired": {nil, func(t *testing.T, r *running, d owner) arranged {
			r.now.add(10 * day)
			return arranged{d.asks(t), factory.CodeExpired}
		}},
		"after the grace": {func(n *factory.Renewal, _ *factory.ServiceConfig) { n.Policy.GraceDays = 3 }, func(t *testing.T, r *running, d owner) arranged {
			r.now.add(13 * day)
			return arranged{d.asks(t), factory.CodeExpired}
		}},
		"another id": {nil, func(t *testing.T, r *running, d owner) arranged {
			return arranged{bare(t, d, d.key, csr.Template{Subject: pkix.Name{CommonName: "dev-2"}}), factory.CodePolicy}
		}},
		"the id in another case": {nil, func(t *testing.T, r *running, d owner) arranged {
			return arranged{bare(t, d, d.key, csr.Template{Subject: pkix.Name{CommonName: "DEV-1"}}), factory.CodePolicy}
		}},
		"another organization": {nil, func(t *testing.T, r *running, d owner) arranged {
			return arranged{bare(t, d, d.key, csr.Template{Subject: pkix.Name{CommonName: "dev-1", Organization: []string{"Others"}}}), factory.CodePolicy}
		}},
		"a name besides": {nil, func(t *testing.T, r *running, d owner) arranged {
			tmpl := subject(d)
			tmpl.DNSNames = []string{"dev-2"}
			return arranged{bare(t, d, d.key, tmpl), factory.CodePolicy}
		}},
		"asks to be a CA": {nil, func(t *testing.T, r *running, d owner) arranged {
			tmpl := subject(d)
			tmpl.CA = true
			return arranged{bare(t, d, d.key, tmpl), factory.CodePolicy}
		}},
		"no request": {nil, func(t *testing.T, r *running, d owner) arranged {
			return arranged{factory.RenewRequest{Certificate: d.cert.Raw}, factory.CodePolicy}
		}},
		"a new key where the same is wanted": {func(n *factory.Renewal, _ *factory.ServiceConfig) { n.Policy.Key = factory.RenewSameKey }, func(t *testing.T, r *running, d owner) arranged {
			return arranged{d.asksFor(t, newKey(t), d.key), factory.CodeRenewalKey}
		}},
		"the same key where a new one is wanted": {func(n *factory.Renewal, _ *factory.ServiceConfig) { n.Policy.Key = factory.RenewNewKey }, func(t *testing.T, r *running, d owner) arranged {
			return arranged{d.asks(t), factory.CodeRenewalKey}
		}},
		"a new key without a proof": {nil, func(t *testing.T, r *running, d owner) arranged {
			return arranged{bare(t, d, newKey(t), subject(d)), factory.CodeKeyProof}
		}},
		"a proof by another key": {nil, func(t *testing.T, r *running, d owner) arranged {
			return arranged{d.asksFor(t, newKey(t), newKey(t)), factory.CodeKeyProof}
		}},
		"a proof for another key": {nil, func(t *testing.T, r *running, d owner) arranged {
			q := d.asksFor(t, newKey(t), d.key)
			first, err := csr.Parse(q.CSR, mustRenewal(t, d.cert))
			if err != nil {
				t.Fatal(err)
			}
			thief := newKey(t)
			tmpl := subject(d)
			tmpl.RenewalProof = first.RenewalProof()
			return arranged{bare(t, d, thief, tmpl), factory.CodeKeyProof}
		}},
		"a proof for another certificate": {nil, func(t *testing.T, r *running, d owner) arranged {
			o := r.owner(t, "dev-2")
			r.now.add(0)
			key := newKey(t)
			elsewhere := owner{d.key, o.cert}.asksFor(t, key, d.key)
			first, err := csr.Parse(elsewhere.CSR, mustRenewal(t, o.cert))
			if err != nil {
				t.Fatal(err)
			}
			tmpl := subject(d)
			tmpl.RenewalProof = first.RenewalProof()
			return arranged{bare(t, d, key, tmpl), factory.CodeKeyProof}
		}},
		"another device's key": {nil, func(t *testing.T, r *running, d owner) arranged {
			o := r.owner(t, "dev-2")
			return arranged{d.asksFor(t, o.key, d.key), factory.CodeKeyKnown}
		}},
		"a second new key": {nil, func(t *testing.T, r *running, d owner) arranged {
			r.renew(t, d.asksFor(t, newKey(t), d.key))
			return arranged{d.asksFor(t, newKey(t), d.key), factory.CodeNotLatest}
		}},
		"the same key after a new one": {nil, func(t *testing.T, r *running, d owner) arranged {
			r.renew(t, d.asksFor(t, newKey(t), d.key))
			return arranged{d.asks(t), factory.CodeNotLatest}
		}},
		"an earlier key": {func(n *factory.Renewal, _ *factory.ServiceConfig) { n.Policy.FromDays = 365 }, func(t *testing.T, r *running, d owner) arranged {
			key := newKey(t)
			next := r.renew(t, d.asksFor(t, key, d.key))
			r.now.add(2 * day)
			next.key = key
			// Its first request with the latest certificate ends the one before, which is no part of the refusal.
			if _, err := r.service.Seen(ctx, "gw-1", pemOf("CERTIFICATE", next.cert.Raw)); err != nil {
				t.Fatal(err)
			}
			return arranged{next.asksFor(t, d.key, key), factory.CodeRenewalKey}
		}},
		"again too soon": {func(n *factory.Renewal, _ *factory.ServiceConfig) { n.Policy.FromDays = 365 }, func(t *testing.T, r *running, d owner) arranged {
			next := r.renew(t, d.asks(t))
			r.now.add(23 * time.Hour)
			next.key = d.key
			if _, err := r.service.Seen(ctx, "gw-1", pemOf("CERTIFICATE", next.cert.Raw)); err != nil {
				t.Fatal(err)
			}
			return arranged{next.asks(t), factory.CodeEarly}
		}},
		"too often": {func(n *factory.Renewal, _ *factory.ServiceConfig) { n.Policy.FromDays, n.Policy.PerYear = 365, 2 }, func(t *testing.T, r *running, d owner) arranged {
			for range 2 {
				next := r.renew(t, d.asks(t))
				next.key = d.key
				d = next
				r.now.add(25 * time.Hour)
			}
			if _, err := r.service.Seen(ctx, "gw-1", pemOf("CERTIFICATE", d.cert.Raw)); err != nil {
				t.Fatal(err)
			}
			return arranged{d.asks(t), factory.CodeOften}
		}},
		"a held record": {nil, func(t *testing.T, r *running, d owner) arranged {
			if err := r.store.Hold(ctx, "a test"); err != nil {
				t.Fatal(err)
			}
			return arranged{d.asks(t), factory.CodeHeld}
		}},
		"a clock that jumped": {nil, func(t *testing.T, r *running, d owner) arranged {
			r.now.jump(time.Hour)
			return arranged{d.asks(t), factory.CodeClock}
		}},
		"nothing is renewed here": {func(_ *factory.Renewal, c *factory.ServiceConfig) { c.Renewal = nil }, func(t *testing.T, r *running, d owner) arranged {
			return arranged{d.asks(t), factory.CodeNotFound}
		}},
		"a CA that ends": {func(_ *factory.Renewal, c *factory.ServiceConfig) { c.MinimumDays = 30 }, func(t *testing.T, r *running, d owner) arranged {
			r.now.add(0)
			return arranged{d.asks(t), ""}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			var edits []func(*factory.Renewal, *factory.ServiceConfig)
			if c.edit != nil {
				edits = append(edits, c.edit)
			}
			r := renewing(t, p, edits...)
			d := r.owner(t, "dev-1")
			r.now.add(21 * day)
			a := c.do(t, r, d)
			before, events := r.rows(), r.sequence()
			_, _, err := r.service.Renew(ctx, "gw-1", a.q)
			if a.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if err == nil || code(t, err) != a.want {
				t.Fatalf("%v, want %s", err, a.want)
			}
			var f *factory.Fault
			if errors.As(err, &f) && f.Hint == "" {
				t.Errorf("%v has no hint", err)
			}
			if after := r.rows(); after != before || r.sequence() != events {
				t.Errorf("wrote %s, was %s", after, before)
			}
		})
	}
}

func mustRenewal(t testing.TB, old *x509.Certificate) *csr.Policy {
	t.Helper()
	p, err := csr.DevicePolicy().ForRenewal(old)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (r *running) sequence() int64 {
	n, err := r.store.Sequence(context.Background())
	if err != nil {
		r.t.Fatal(err)
	}
	return n
}

// TestTrustedGateway: where the configuration says so, a gateway's word is enough for a new key.
func TestTrustedGateway(t *testing.T) {
	r := renewing(t, newPlant(t), func(n *factory.Renewal, _ *factory.ServiceConfig) { n.Policy.NewKey = factory.NewKeyTrustGateway })
	d := r.owner(t, "dev-1")
	r.now.add(21 * day)
	key := newKey(t)
	got := r.renew(t, factory.RenewRequest{Certificate: d.cert.Raw, CSR: []byte(request(t, key, csr.Template{Subject: pkix.Name{CommonName: "dev-1"}}))})
	if !ca.SameKey(got.cert.PublicKey, key.Public()) {
		t.Error("another key was certified")
	}
}

// TestSeen: the certificate before ends when the next one is seen, and a lie about others changes nothing.
func TestSeen(t *testing.T) {
	ctx := context.Background()
	r := renewing(t, newPlant(t))
	d, o := r.owner(t, "dev-1"), r.owner(t, "dev-2")
	r.now.add(21 * day)
	next := r.renew(t, d.asks(t))
	forged := append([]byte{}, next.cert.Raw...)
	forged[len(forged)-1] ^= 1
	lie := r.fleet.unchecked(t, &x509.Certificate{Subject: pkix.Name{CommonName: "dev-2"}, SerialNumber: o.cert.SerialNumber})
	before := r.sequence()
	a, err := r.service.Seen(ctx, "gw-1", pemOf("CERTIFICATE", d.cert.Raw)+pemOf("CERTIFICATE", o.cert.Raw)+pemOf("CERTIFICATE", forged)+pemOf("CERTIFICATE", lie.cert.Raw))
	if err != nil || a.Certificates != 4 || a.Ended != 0 || r.sequence() != before {
		t.Fatalf("%+v, %v", a, err)
	}
	for n, want := range []int{1, 0} {
		a, err := r.service.Seen(ctx, "gw-1", pemOf("CERTIFICATE", next.cert.Raw))
		if err != nil || a.Ended != want {
			t.Fatalf("%d: %+v, %v", n, a, err)
		}
	}
	if reason, is := r.revoked(t, d.cert); !is || reason != 4 {
		t.Errorf("%d %v", reason, is)
	}
	if _, is := r.revoked(t, next.cert); is {
		t.Error("the new one was revoked")
	}
	if _, is := r.revoked(t, o.cert); is {
		t.Error("another device's was revoked")
	}
	if err := r.service.FreshCRL(ctx); err != nil {
		t.Fatal(err)
	}
	list, err := r.service.LatestCRL(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	crl, err := x509.ParseRevocationList(list.DER)
	if err != nil || len(crl.RevokedCertificateEntries) != 1 || crl.RevokedCertificateEntries[0].ReasonCode != 4 {
		t.Errorf("%+v, %v", crl, err)
	}
	// Who comes with the old one after that is told that it is over.
	if _, _, err := r.service.Renew(ctx, "gw-1", d.asks(t)); code(t, err) != factory.CodeRevoked {
		t.Error(err)
	}
}

// TestCallIsSeen: a renewal that is asked for with the latest certificate shows that the device has it, whatever becomes of the call.
func TestCallIsSeen(t *testing.T) {
	r := renewing(t, newPlant(t))
	d := r.owner(t, "dev-1")
	r.now.add(21 * day)
	next := r.renew(t, d.asks(t))
	next.key = d.key
	if _, _, err := r.service.Renew(context.Background(), "gw-1", next.asks(t)); code(t, err) != factory.CodeEarly {
		t.Fatal(err)
	}
	if reason, is := r.revoked(t, d.cert); !is || reason != 4 {
		t.Errorf("%d %v", reason, is)
	}
}

// TestOverlap: at the set time the certificate before ends, also when hanaperd was down at that time, and no earlier.
func TestOverlap(t *testing.T) {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	p := newPlant(t)
	r := renewing(t, p)
	d := r.owner(t, "dev-1")
	r.now.add(21 * day)
	next := r.renew(t, d.asks(t))
	if err := r.service.EndSuperseded(ctx); err != nil {
		t.Fatal(err)
	}
	r.now.add(47 * time.Hour)
	if err := r.service.EndSuperseded(ctx); err != nil {
		t.Fatal(err)
	}
	if _, is := r.revoked(t, d.cert); is {
		t.Fatal("it ended before its time")
	}
	// Another process on the same store, later.
	offset := r.now.offset
	r.store.Close()
	r = serveAt(t, p, r.dir, func(c *factory.ServiceConfig) {
		c.Days = 30
		c.Renewal = &factory.Renewal{Policy: factory.DefaultRenewal(), Overlap: 48 * time.Hour}
		c.ClockGap = 40 * day
	})
	r.now.add(offset + 2*time.Hour)
	ended := make(chan struct{})
	go func() { defer close(ended); r.service.Run(ctx) }()
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if reason, is := r.revoked(t, d.cert); is {
			if reason != 4 {
				t.Errorf("reason %d", reason)
			}
			break
		}
		if time.Now().After(end) {
			t.Fatal("it did not end")
		}
	}
	stop()
	<-ended
	if _, is := r.revoked(t, next.cert); is {
		t.Error("the new one was revoked")
	}
}

// TestExpiredIsNotListed: a certificate that expired by itself takes no place on a list.
func TestExpiredIsNotListed(t *testing.T) {
	ctx := context.Background()
	r := renewing(t, newPlant(t))
	d := r.owner(t, "dev-1")
	r.now.add(29 * day)
	r.renew(t, d.asks(t))
	r.now.add(3 * day)
	if err := r.service.EndSuperseded(ctx); err != nil {
		t.Fatal(err)
	}
	if _, is := r.revoked(t, d.cert); is {
		t.Error("an expired certificate was revoked")
	}
}

// TestRevokeWhileRenewed: who revokes a device revokes all that it has, and what it is about to get.
func TestRevokeWhileRenewed(t *testing.T) {
	ctx := context.Background()
	p := newPlant(t)
	t.Run("both certificates", func(t *testing.T) {
		r := renewing(t, p)
		d := r.owner(t, "dev-1")
		r.now.add(21 * day)
		next := r.renew(t, d.asks(t))
		if _, err := r.service.Revoke(ctx, "olga", factory.RevokeRequest{DeviceID: "dev-1", Reason: "key_compromise"}); err != nil {
			t.Fatal(err)
		}
		for _, c := range []*x509.Certificate{d.cert, next.cert} {
			if reason, is := r.revoked(t, c); !is || reason != 1 {
				t.Errorf("%d %v", reason, is)
			}
		}
		if _, _, err := r.service.Renew(ctx, "gw-1", d.asks(t)); code(t, err) != factory.CodeRevoked {
			t.Error(err)
		}
	})
	t.Run("a stolen station's devices", func(t *testing.T) {
		r := renewing(t, p)
		d, o := r.owner(t, "dev-1"), r.owner(t, "dev-2")
		r.now.add(21 * day)
		first, other := r.renew(t, d.asks(t)), r.renew(t, o.asks(t))
		if _, err := r.service.Seen(ctx, "gw-1", pemOf("CERTIFICATE", other.cert.Raw)); err != nil {
			t.Fatal(err)
		}
		if _, err := r.service.RevokeDevices(ctx, "operator olga", factory.RevokeDevicesRequest{DeviceQuery: factory.DeviceQuery{Station: "line-1"}, Reason: "key_compromise"}); err != nil {
			t.Fatal(err)
		}
		for i, c := range []*x509.Certificate{d.cert, first.cert, other.cert} {
			if reason, is := r.revoked(t, c); !is || reason != 1 {
				t.Errorf("%d: %d %v", i, reason, is)
			}
		}
	})
	t.Run("an open intent", func(t *testing.T) {
		r := renewing(t, p)
		d := r.owner(t, "dev-1")
		r.now.add(21 * day)
		r.renew(t, d.asks(t))
		done, err := r.store.ByDevice(ctx, "dev-1")
		if err != nil {
			t.Fatal(err)
		}
		first, err := r.store.BySerial(ctx, r.issuerID(), d.cert.SerialNumber.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		// A store in which the renewal is recorded as intended only, as a crash leaves it.
		crashed := renewing(t, p)
		crashed.now.add(21 * day)
		for _, in := range []record.Intent{first.Intent, done.Intent} {
			rec, _, err := crashed.store.Begin(ctx, in)
			if err != nil {
				t.Fatal(err)
			}
			if in.Generation == 1 {
				if _, err := crashed.store.Finish(ctx, record.Result{ID: rec.ID, TBSDigest: rec.TBSDigest, Generation: 1, Certificate: first.Certificate, At: first.IssuedAt, Who: "station line-1"}); err != nil {
					t.Fatal(err)
				}
			}
		}
		if a, err := crashed.service.Revoke(ctx, "olga", factory.RevokeRequest{DeviceID: "dev-1", Reason: "key_compromise"}); err != nil || a.Serial != fmt.Sprintf("%x", first.Serial) {
			t.Fatal(a, err)
		}
		if _, _, err := crashed.service.Renew(ctx, "gw-1", d.asks(t)); code(t, err) != factory.CodeRevoked {
			t.Error(err)
		}
		if _, _, err := crashed.service.Recover(ctx); err == nil {
			t.Error("what was revoked meanwhile was brought to its end as if nothing had been")
		}
		for _, serial := range [][]byte{first.Serial, done.Serial} {
			if rec, err := crashed.store.BySerial(ctx, crashed.issuerID(), serial); err != nil || rec.Reason != 1 || rec.RevokedAt.IsZero() {
				t.Errorf("%+v, %v", rec, err)
			}
		}
		if _, _, err := crashed.service.Enroll(ctx, "line-1", deviceRequest(t, d.key, "dev-1")); code(t, err) != factory.CodeRevoked {
			t.Error(err)
		}
	})
}

// TestRenewAtOnce: sixteen calls for one device, with the same key: one certificate.
func TestRenewAtOnce(t *testing.T) {
	r := renewing(t, newPlant(t))
	d := r.owner(t, "dev-1")
	r.now.add(21 * day)
	var mu sync.Mutex
	got := map[string]bool{}
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			a, _, err := r.service.Renew(context.Background(), "gw-1", d.asks(t))
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			got[a.Serial] = true
			mu.Unlock()
		})
	}
	group.Wait()
	if all, err := r.store.Generations(context.Background(), "dev-1", 10); err != nil || len(all) != 2 || len(got) != 1 {
		t.Errorf("%d generations, %d certificates, %v", len(all), len(got), err)
	}
}

// TestRenewedByAnother: the certificates of another CA on the same record are renewed where the configuration names it.
func TestRenewedByAnother(t *testing.T) {
	ctx := context.Background()
	line := newPlant(t)
	office := newPlant(t)
	l := renewing(t, line)
	d := l.owner(t, "dev-1")
	l.store.Close()
	config := func(issued [][]*x509.Certificate) *running {
		r := serveAt(t, office, l.dir, func(c *factory.ServiceConfig) {
			c.Days, c.ClockGap = 30, 40*day
			c.Renewal = &factory.Renewal{Policy: factory.DefaultRenewal(), Overlap: 48 * time.Hour, IssuedBy: issued}
		})
		r.now.add(21 * day)
		return r
	}
	r := config(nil)
	if _, _, err := r.service.Renew(ctx, "gw-1", d.asks(t)); code(t, err) != factory.CodeCertificate {
		t.Error(err)
	}
	r.store.Close()
	r = config([][]*x509.Certificate{{line.issuing}})
	next := r.renew(t, d.asks(t))
	if err := next.cert.CheckSignatureFrom(office.issuing); err != nil {
		t.Error(err)
	}
	if a, err := r.service.Seen(ctx, "gw-1", pemOf("CERTIFICATE", next.cert.Raw)); err != nil || a.Ended != 1 {
		t.Errorf("%+v, %v", a, err)
	}
}
