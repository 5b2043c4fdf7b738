package factory_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/factory/order"
)

// sharing is a service that knows shared credentials, an operator, a gateway and a lot.
type sharing struct {
	*running
	olga, gateway identity
	roots         identity
	// why is what the officers' policy says against it; nil for nothing.
	why   error
	until time.Time
}

func newSharing(t *testing.T, lot string, quantity int64) *sharing {
	t.Helper()
	p := newPlant(t)
	b := &sharing{roots: newRoot(t, "operations-root", "Gateway Server Root"), until: time.Now().AddDate(0, 0, 20)}
	b.running = serve(t, p, orders(p, factory.LotPolicy{}), func(c *factory.ServiceConfig) {
		c.Renewal = &factory.Renewal{Policy: factory.DefaultRenewal(), Overlap: time.Hour}
		c.Shared = &factory.Shared{ServerRoots: []*x509.Certificate{b.roots.cert}, CredentialDays: 30, DeviceDays: 90,
			Allowed: func(ca *x509.Certificate, _ time.Time) (time.Time, error) {
				if !bytes.Equal(ca.Raw, p.issuing.Raw) {
					return time.Time{}, errors.New("another CA")
				}
				return b.until, b.why
			}}
	})
	b.olga, b.gateway = p.operator(t, "olga"), p.gateway(t, "gw-1")
	b.open(b.olga, lot, quantity)
	return b
}

// asked posts what a gateway hands on for a bench.
func (b *sharing) asked(who identity, credential []byte, body string) (int, string, []byte) {
	b.t.Helper()
	r, err := http.NewRequest(http.MethodPost, b.url+factory.SharedDevicesPath, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set(factory.ClientCertHeader, ":"+base64.StdEncoding.EncodeToString(credential)+":")
	roots := x509.NewCertPool()
	roots.AddCert(b.operations.cert)
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{who.tls()}}}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr, Timeout: 20 * time.Second}).Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header.Get("Content-Type"), data
}

// unpacked has OpenSSL open what clients open by it, with an empty password.
type unpacked struct {
	key   *ecdsa.PrivateKey
	leaf  *x509.Certificate
	roots []*x509.Certificate
}

func unpack(t *testing.T, p12 []byte) unpacked {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.p12")
	if err := os.WriteFile(path, p12, 0o600); err != nil {
		t.Fatal(err)
	}
	var u unpacked
	for _, part := range [][]string{{"-nocerts", "-nodes"}, {"-clcerts", "-nokeys"}, {"-cacerts", "-nokeys"}} {
		out, err := exec.Command("openssl", append([]string{"pkcs12", "-in", path, "-passin", "pass:"}, part...)...).Output()
		if err != nil {
			t.Fatalf("openssl pkcs12 %v: %v", part, err)
		}
		for block, rest := pem.Decode(out); block != nil; block, rest = pem.Decode(rest) {
			if block.Type == "PRIVATE KEY" {
				key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
				if err != nil {
					t.Fatal(err)
				}
				u.key = key.(*ecdsa.PrivateKey)
				continue
			}
			cert, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			if part[0] == "-clcerts" {
				u.leaf = cert
			} else {
				u.roots = append(u.roots, cert)
			}
		}
	}
	if u.key == nil || u.leaf == nil || !u.key.PublicKey.Equal(u.leaf.PublicKey) {
		t.Fatal("key and certificate do not belong together")
	}
	// And GnuTLS's tool, which is another reader.
	if out, err := exec.Command("certtool", "--p12-info", "--inder", "--infile", path, "--password", "").CombinedOutput(); err != nil {
		t.Fatalf("certtool: %v\n%s", err, out)
	}
	return u
}

func secretOf(t *testing.T, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	raw, err := key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func usages(c *x509.Certificate) (list []string) {
	for _, u := range c.ExtKeyUsage {
		list = append(list, fmt.Sprint(u))
	}
	for _, oid := range c.UnknownExtKeyUsage {
		list = append(list, oid.String())
	}
	return list
}

// TestSharedCredential: an operator has one made, benches get keys and certificates by it, as many as the lot takes; the keys are nowhere but in the
// answers.
func TestSharedCredential(t *testing.T) {
	ctx, b := context.Background(), newSharing(t, "bench", 3)
	a, err := b.client(b.olga).IssueShared(ctx, factory.SharedRequest{Lot: "bench", Days: 10})
	if err != nil {
		t.Fatal(err)
	}
	shared := unpack(t, a.PKCS12)
	if want := time.Now().AddDate(0, 0, 10); shared.leaf.NotAfter.Sub(want).Abs() > time.Minute {
		t.Errorf("ends %s, not %s", shared.leaf.NotAfter, want)
	}
	if got := usages(shared.leaf); !slices.Equal(got, []string{factory.SharedUsage}) || shared.leaf.Subject.CommonName != a.ID || !strings.Contains(shared.leaf.Subject.String(), "NOT FOR PRODUCTION") {
		t.Errorf("%s for %v", shared.leaf.Subject, got)
	}
	if len(shared.roots) != 1 || !shared.roots[0].Equal(b.roots.cert) {
		t.Errorf("the roots in it: %d", len(shared.roots))
	}
	secrets := [][]byte{secretOf(t, shared.key)}
	for i, ttl := range []string{`"36000"`, `5`} {
		status, kind, p12 := b.asked(b.gateway, shared.leaf.Raw, fmt.Sprintf(`{"deviceId":"bench-%d","ttl":%s}`, i, ttl))
		if status != http.StatusCreated || kind != "application/x-pkcs12" {
			t.Fatalf("%d %s %s", status, kind, p12)
		}
		d := unpack(t, p12)
		until := b.until
		if i == 1 {
			until = time.Now().AddDate(0, 0, 5)
		}
		if d.leaf.NotAfter.Sub(until).Abs() > time.Minute {
			t.Errorf("ttl %s: ends %s, not %s", ttl, d.leaf.NotAfter, until)
		}
		if got := usages(d.leaf); !slices.Equal(got, []string{fmt.Sprint(x509.ExtKeyUsageClientAuth), factory.BenchUsage}) || !strings.Contains(d.leaf.Subject.String(), "NOT FOR PRODUCTION") {
			t.Errorf("%s for %v", d.leaf.Subject, got)
		}
		secrets = append(secrets, secretOf(t, d.key))
	}
	full := b.rows()
	// The credential has one of the three places.
	if status, _, body := b.asked(b.gateway, shared.leaf.Raw, `{"deviceId":"bench-2","ttl":5}`); status != http.StatusConflict || !strings.Contains(string(body), string(factory.CodeLotFull)) {
		t.Errorf("beyond the quota: %d %s", status, body)
	}
	if status, _, body := b.asked(b.gateway, shared.leaf.Raw, `{"deviceId":"BENCH-0","ttl":5}`); status != http.StatusConflict || !strings.Contains(string(body), `"code":"device_already_registered"`) {
		t.Errorf("again: %d %s", status, body)
	}
	if after := b.rows(); after != full {
		t.Errorf("refusals wrote %s, was %s", after, full)
	}
	// Nothing on the disk has a key.
	err = filepath.WalkDir(b.dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		for _, s := range secrets {
			if bytes.Contains(data, s) {
				t.Errorf("%s holds a private key", path)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	h, err := b.client(b.olga).Health(ctx)
	if err != nil || !slices.ContainsFunc(h.Notes, func(n string) bool { return strings.Contains(n, "SHARED CREDENTIALS are in force") }) {
		t.Errorf("health: %v %v", h, err)
	}
	metrics := string(get(t, b.running, "/metrics"))
	for _, line := range []string{`hanaperd_shared_credential_requests_total{result="new"} 2`, `hanaperd_shared_credential_requests_total{result="lot_full"} 1`} {
		if !strings.Contains(metrics, line) {
			t.Errorf("metrics lack %s", line)
		}
	}
	// Its certificate is revoked as any is, and is of no use then.
	if _, err := b.client(b.olga).Revoke(ctx, factory.RevokeRequest{DeviceID: a.ID, Reason: "key_compromise"}); err != nil {
		t.Fatal(err)
	}
	if status, _, body := b.asked(b.gateway, shared.leaf.Raw, `{"deviceId":"bench-3"}`); status != http.StatusConflict || !strings.Contains(string(body), string(factory.CodeRevoked)) {
		t.Errorf("revoked: %d %s", status, body)
	}
}

// TestSharedRefused: no way around the officers' policy, the role, the credential and its end. Nothing is written.
func TestSharedRefused(t *testing.T) {
	ctx, b := context.Background(), newSharing(t, "bench", 9)
	a, err := b.client(b.olga).IssueShared(ctx, factory.SharedRequest{Lot: "bench", Days: 10})
	if err != nil {
		t.Fatal(err)
	}
	shared := unpack(t, a.PKCS12)
	device := b.owner(t, "vin-1")
	before := b.rows()
	body := `{"deviceId":"bench-1","ttl":5}`
	for name, c := range map[string]struct {
		who        identity
		credential []byte
		body       string
		status     int
	}{
		"a device's certificate":       {b.gateway, device.cert.Raw, body, http.StatusUnprocessableEntity},
		"the issuing CA's certificate": {b.gateway, b.issuing.Raw, body, http.StatusUnprocessableEntity},
		"no certificate":               {b.gateway, nil, body, http.StatusUnprocessableEntity},
		"a station":                    {b.station(t, "line-1"), shared.leaf.Raw, body, http.StatusForbidden},
		"an operator":                  {b.olga, shared.leaf.Raw, body, http.StatusForbidden},
		"the id of a credential":       {b.gateway, shared.leaf.Raw, `{"deviceId":"Shared-0123456789abcdef","ttl":5}`, http.StatusUnprocessableEntity},
		"no id":                        {b.gateway, shared.leaf.Raw, `{"ttl":5}`, http.StatusBadRequest},
		"a path for an id":             {b.gateway, shared.leaf.Raw, `{"deviceId":"../x"}`, http.StatusUnprocessableEntity},
		"a subject for an id":          {b.gateway, shared.leaf.Raw, `{"deviceId":"a,O=b/CN=c"}`, http.StatusUnprocessableEntity},
		"a device that is on record":   {b.gateway, shared.leaf.Raw, `{"deviceId":"VIN-1"}`, http.StatusConflict},
		"another word":                 {b.gateway, shared.leaf.Raw, `{"deviceId":"bench-1","csr":"x"}`, http.StatusBadRequest},
		"a ttl of words":               {b.gateway, shared.leaf.Raw, `{"deviceId":"bench-1","ttl":"always"}`, http.StatusBadRequest},
		"a ttl below":                  {b.gateway, shared.leaf.Raw, `{"deviceId":"bench-1","ttl":-1}`, http.StatusBadRequest},
	} {
		if status, _, text := b.asked(c.who, c.credential, c.body); status != c.status {
			t.Errorf("%s: %d %s, not %d", name, status, text, c.status)
		}
	}
	b.why = errors.New("the environment is production")
	if status, _, text := b.asked(b.gateway, shared.leaf.Raw, body); status != http.StatusUnprocessableEntity || !strings.Contains(string(text), "production") {
		t.Errorf("in production: %d %s", status, text)
	}
	if _, err := b.client(b.olga).IssueShared(ctx, factory.SharedRequest{Lot: "bench"}); code(t, err) != factory.CodePolicy {
		t.Errorf("in production: %v", err)
	}
	b.why = nil
	for name, q := range map[string]factory.SharedRequest{"no lot": {}, "a lot that is not": {Lot: "other"}, "too long": {Lot: "bench", Days: 31}, "negative": {Lot: "bench", Days: -1}} {
		if _, err := b.client(b.olga).IssueShared(ctx, q); err == nil {
			t.Errorf("%s: issued", name)
		}
	}
	for who, c := range map[string]identity{"a station": b.station(t, "line-2"), "a gateway": b.gateway} {
		if _, err := b.client(c).IssueShared(ctx, factory.SharedRequest{Lot: "bench"}); code(t, err) != factory.CodeForbidden {
			t.Errorf("%s: %v", who, err)
		}
	}
	// It is no device's certificate, that could be renewed; and no order has a station's devices be credentials.
	b.now.add(9 * day)
	if _, _, err := b.service.Renew(ctx, "gw-1", owner{shared.key, shared.leaf}.asks(t)); code(t, err) != factory.CodeForbidden {
		t.Errorf("renewed: %v", err)
	}
	for _, name := range []string{"shared-credential", "test-bench"} {
		if _, err := b.client(b.olga).OpenLot(ctx, signed(t, newOrder(&b.olga, "l", 9, func(o *order.Order) { o.Profile = name }), b.olga.key)); err == nil {
			t.Errorf("an order for profile %s was taken", name)
		}
	}
	b.now.add(2 * day)
	if status, _, text := b.asked(b.gateway, shared.leaf.Raw, body); status != http.StatusConflict || !strings.Contains(string(text), string(factory.CodeExpired)) {
		t.Errorf("after its end: %d %s", status, text)
	}
	if after := b.rows(); after != before {
		t.Errorf("refusals wrote %s, was %s", after, before)
	}
	// A hanaperd without the section knows nothing of it.
	plain := serve(t, b.plant)
	if _, err := plain.client(b.olga).IssueShared(ctx, factory.SharedRequest{Lot: "bench"}); code(t, err) != factory.CodeNotFound {
		t.Errorf("without the section: %v", err)
	}
}

// TestSharedRenewal: a bench's device is renewed only while the officers' policy allows it, at that moment and of the CA that signs, and never beyond the policy's
// end; a hanaperd that asks no policy does not renew it. Refusals write nothing. Other devices are renewed as ever.
func TestSharedRenewal(t *testing.T) {
	ctx, b := context.Background(), newSharing(t, "bench", 9)
	a, err := b.client(b.olga).IssueShared(ctx, factory.SharedRequest{Lot: "bench", Days: 10})
	if err != nil {
		t.Fatal(err)
	}
	shared := unpack(t, a.PKCS12)
	_, _, p12 := b.asked(b.gateway, shared.leaf.Raw, `{"deviceId":"bench-1","ttl":5}`)
	bench := unpack(t, p12)
	d := owner{bench.key, bench.leaf}
	b.now.add(2 * day)
	before := b.rows()
	refused := func(name string, s *factory.Service, q factory.RenewRequest) {
		t.Helper()
		_, _, err := s.Renew(ctx, "gw-1", q)
		if err == nil || code(t, err) != factory.CodePolicy {
			t.Errorf("%s: %v", name, err)
		}
		if after := b.rows(); after != before {
			t.Errorf("%s wrote %s, was %s", name, after, before)
		}
	}
	b.why = errors.New("the officers' policy does not allow them, or no longer")
	refused("without the leave", b.service, d.asks(t))
	b.why, b.until = nil, bench.leaf.NotAfter
	refused("a leave that ends no later than the certificate", b.service, d.asks(t))
	// The same record, with a hanaperd that asks nobody.
	plain, err := factory.NewService(factory.ServiceConfig{IssuerConfig: factory.IssuerConfig{Issuer: b.issuer, Chain: []*x509.Certificate{b.issuing}}, Roots: []*x509.Certificate{b.fleet.cert}, Store: b.store,
		CRLInterval: -1, Now: b.now.Now, Elapsed: b.now.Elapsed, Log: slog.New(slog.DiscardHandler), Renewal: &factory.Renewal{Policy: factory.DefaultRenewal(), Overlap: time.Hour}})
	if err != nil {
		t.Fatal(err)
	}
	refused("without shared_credentials", plain, d.asks(t))

	b.until = bench.leaf.NotAfter.AddDate(0, 0, 3)
	r := b.renew(t, d.asks(t))
	if !r.cert.NotAfter.Equal(b.until) || !slices.Equal(usages(r.cert), usages(bench.leaf)) {
		t.Errorf("ends %s, not with the leave at %s; for %v", r.cert.NotAfter, b.until, usages(r.cert))
	}
	// The same request again, with the answer on record.
	before = b.rows()
	b.why = errors.New("the officers' policy does not allow them, or no longer")
	refused("again without the leave", b.service, d.asks(t))
	b.why = nil
	if again := b.renew(t, d.asks(t)); !again.cert.Equal(r.cert) {
		t.Error("again: another certificate")
	}
}
