package factory_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/csr"
	"github.com/hanaper/hanaper/factory"
)

// raw sends one request as it stands and gives status and body.
func (r *running) raw(who identity, method, path, contentType string, body []byte) (int, http.Header, string, error) {
	pool := x509.NewCertPool()
	pool.AddCert(r.operations.cert)
	t := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{who.tls()}}}
	defer t.CloseIdleConnections()
	req, err := http.NewRequest(method, r.url+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, "", err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := (&http.Client{Transport: t, Timeout: 10 * time.Second}).Do(req)
	if err != nil {
		return 0, nil, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header, string(b), err
}

func body(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestRefusals: every kind of bad input gets its status and code, and writes nothing.
func TestRefusals(t *testing.T) {
	r := serve(t, newPlant(t))
	station, operator := r.station(t, "line-1"), r.operator(t, "olga")
	key := newKey(t)
	good := deviceRequest(t, key, "dev-1")
	withCSR := func(tmpl csr.Template) []byte {
		if tmpl.Subject.CommonName == "" && len(tmpl.Subject.Names) == 0 {
			tmpl.Subject.CommonName = "dev-1"
		}
		// Go's own encoder, for csr.Create refuses to ask for most of this.
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: tmpl.Subject, DNSNames: tmpl.DNSNames,
			IPAddresses: tmpl.IPs, URIs: tmpl.URIs, EmailAddresses: tmpl.EmailAddresses}, key)
		if err != nil {
			t.Fatal(err)
		}
		return body(t, factory.EnrollRequest{CSR: pemOf("CERTIFICATE REQUEST", der)})
	}
	foreign, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "dev-1"},
		ExtraExtensions: []pkix.Extension{{Id: []int{2, 5, 29, 17}, Value: []byte{0x30, 0x05, 0x88, 0x03, 0x2a, 0x03, 0x04}}}}, key)
	if err != nil {
		t.Fatal(err)
	}
	asCA, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "dev-1"},
		ExtraExtensions: []pkix.Extension{{Id: []int{2, 5, 29, 19}, Critical: true, Value: []byte{0x30, 0x03, 0x01, 0x01, 0xff}}}}, key)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(good.CSR))
	block.Bytes[len(block.Bytes)-1] ^= 1
	broken := body(t, factory.EnrollRequest{CSR: string(pem.EncodeToMemory(block))})
	ip := net.IPv4(10, 0, 0, 1)
	uri := ca.StationURI("line-9")
	const js = "application/json"
	for _, c := range []struct {
		name         string
		who          identity
		method, path string
		kind         string
		body         []byte
		status       int
		code         factory.Code
	}{
		{"broken signature", station, "POST", "/v1/enroll", js, broken, 422, factory.CodePolicy},
		{"DNS name", station, "POST", "/v1/enroll", js, withCSR(csr.Template{DNSNames: []string{"a.example"}}), 422, factory.CodePolicy},
		{"IP address", station, "POST", "/v1/enroll", js, withCSR(csr.Template{IPs: []net.IP{ip}}), 422, factory.CodePolicy},
		{"station's URI", station, "POST", "/v1/enroll", js, withCSR(csr.Template{URIs: []*url.URL{uri}}), 422, factory.CodePolicy},
		{"mail address", station, "POST", "/v1/enroll", js, withCSR(csr.Template{EmailAddresses: []string{"a@b.example"}}), 422, factory.CodePolicy},
		{"registered id", station, "POST", "/v1/enroll", js, body(t, factory.EnrollRequest{CSR: pemOf("CERTIFICATE REQUEST", foreign)}), 422, factory.CodePolicy},
		{"wants to be a CA", station, "POST", "/v1/enroll", js, body(t, factory.EnrollRequest{CSR: pemOf("CERTIFICATE REQUEST", asCA)}), 422, factory.CodePolicy},
		{"path as id", station, "POST", "/v1/enroll", js, withCSR(csr.Template{Subject: pkix.Name{CommonName: "x/../../victim"}}), 422, factory.CodePolicy},
		{"id with newline", station, "POST", "/v1/enroll", js, withCSR(csr.Template{Subject: pkix.Name{CommonName: "dev-1\n"}}), 422, factory.CodePolicy},
		{"id too long", station, "POST", "/v1/enroll", js, withCSR(csr.Template{Subject: pkix.Name{CommonName: strings.Repeat("x", 64) + "y"}}), 422, factory.CodePolicy},
		{"no PEM", station, "POST", "/v1/enroll", js, body(t, factory.EnrollRequest{CSR: "hello"}), 422, factory.CodePolicy},
		{"certificate as request", station, "POST", "/v1/enroll", js, body(t, factory.EnrollRequest{CSR: pemOf("CERTIFICATE", r.issuing.Raw)}), 422, factory.CodePolicy},
		{"hardware id with a quote", station, "POST", "/v1/enroll", js, body(t, factory.EnrollRequest{CSR: good.CSR, HardwareID: `a"b`}), 422, factory.CodePolicy},
		{"lot too long", station, "POST", "/v1/enroll", js, body(t, factory.EnrollRequest{CSR: good.CSR, Lot: strings.Repeat("l", 65)}), 422, factory.CodePolicy},
		{"no body", station, "POST", "/v1/enroll", js, nil, 400, factory.CodeRequest},
		{"no csr", station, "POST", "/v1/enroll", js, []byte(`{}`), 400, factory.CodeRequest},
		{"unknown key", station, "POST", "/v1/enroll", js, []byte(`{"csr":"x","days":9999}`), 400, factory.CodeRequest},
		{"key twice", station, "POST", "/v1/enroll", js, []byte(`{"csr":"x","csr":"y"}`), 400, factory.CodeRequest},
		{"key twice, by case", station, "POST", "/v1/enroll", js, []byte(`{"csr":"x","CSR":"y"}`), 400, factory.CodeRequest},
		{"trailing data", station, "POST", "/v1/enroll", js, []byte(`{"csr":"x"} {}`), 400, factory.CodeRequest},
		{"a list", station, "POST", "/v1/enroll", js, []byte(`[]`), 400, factory.CodeRequest},
		{"too large", station, "POST", "/v1/enroll", js, bytes.Repeat([]byte{' '}, 33<<10), 413, factory.CodeTooLarge},
		{"a form", station, "POST", "/v1/enroll", "application/x-www-form-urlencoded", body(t, good), 415, factory.CodeContent},
		{"no type", station, "POST", "/v1/enroll", "", body(t, good), 415, factory.CodeContent},
		{"GET", station, "GET", "/v1/enroll", "", nil, 405, factory.CodeMethod},
		{"an operator enrols", operator, "POST", "/v1/enroll", js, body(t, good), 403, factory.CodeForbidden},
		{"a station revokes", station, "POST", "/v1/revoke", js, []byte(`{"device_id":"dev-1","reason":"superseded"}`), 403, factory.CodeForbidden},
		{"revoke: unknown reason", operator, "POST", "/v1/revoke", js, []byte(`{"device_id":"dev-1","reason":"hold"}`), 400, factory.CodeRequest},
		{"revoke: both names", operator, "POST", "/v1/revoke", js, []byte(`{"device_id":"dev-1","serial":"01","reason":"superseded"}`), 400, factory.CodeRequest},
		{"revoke: no serial", operator, "POST", "/v1/revoke", js, []byte(`{"serial":"xyz","reason":"superseded"}`), 400, factory.CodeRequest},
		{"revoke: nobody", operator, "POST", "/v1/revoke", js, []byte(`{"device_id":"nobody","reason":"superseded"}`), 404, factory.CodeNotFound},
		{"no such path", station, "GET", "/v2/enroll", "", nil, 404, factory.CodeNotFound},
		{"no such device", station, "GET", "/v1/devices/nobody", "", nil, 404, factory.CodeNotFound},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := r.rows()
			status, _, got, err := r.raw(c.who, c.method, c.path, c.kind, c.body)
			if err != nil {
				t.Fatal(err)
			}
			var no struct {
				Error, Hint string
				Code        factory.Code
			}
			if err := json.Unmarshal([]byte(got), &no); err != nil || status != c.status || no.Code != c.code || no.Error == "" {
				t.Errorf("%d %s (%v), want %d %s", status, got, err, c.status, c.code)
			}
			if after := r.rows(); after != before {
				t.Errorf("something was written: %s, was %s", after, before)
			}
		})
	}
}

// TestStrangers: who may not speak at all is turned away in the handshake, and writes nothing.
func TestStrangers(t *testing.T) {
	r := serve(t, newPlant(t))
	digital := x509.KeyUsageDigitalSignature
	client := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	factoryCA := identity{r.issuing, r.key}
	device := factoryCA.leaf(t, "device", ca.Template{Subject: pkix.Name{CommonName: "dev-7"}})
	revoked := r.station(t, "stolen")
	deviceAsStation := factoryCA.unchecked(t, &x509.Certificate{Subject: pkix.Name{CommonName: "line-1"}, KeyUsage: digital, ExtKeyUsage: client, URIs: []*url.URL{ca.StationURI("line-1")}})
	q := deviceRequest(t, newKey(t), "dev-1")
	for _, c := range []struct {
		name string
		who  identity
	}{
		{"a device's certificate", device},
		{"a device's certificate with a station's URI, under the Fleet Root", deviceAsStation},
		{"no role", r.operations.unchecked(t, &x509.Certificate{Subject: pkix.Name{CommonName: "dev-7"}, KeyUsage: digital, ExtKeyUsage: client})},
		{"two roles", r.operations.unchecked(t, &x509.Certificate{Subject: pkix.Name{CommonName: "x"}, KeyUsage: digital, ExtKeyUsage: client, URIs: []*url.URL{ca.StationURI("x"), ca.OperatorURI("x")}})},
		{"unknown role", r.operations.unchecked(t, &x509.Certificate{Subject: pkix.Name{CommonName: "x"}, KeyUsage: digital, ExtKeyUsage: client, URIs: []*url.URL{{Scheme: "urn", Opaque: "hanaper:root:x"}}})},
		{"expired", r.operations.unchecked(t, &x509.Certificate{Subject: pkix.Name{CommonName: "x"}, KeyUsage: digital, ExtKeyUsage: client, URIs: []*url.URL{ca.StationURI("x")}, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour)})},
		{"not yet valid", r.operations.unchecked(t, &x509.Certificate{Subject: pkix.Name{CommonName: "x"}, KeyUsage: digital, ExtKeyUsage: client, URIs: []*url.URL{ca.StationURI("x")}, NotBefore: time.Now().Add(time.Hour), NotAfter: time.Now().Add(2 * time.Hour)})},
		{"without clientAuth", r.operations.unchecked(t, &x509.Certificate{Subject: pkix.Name{CommonName: "x"}, KeyUsage: digital, URIs: []*url.URL{ca.StationURI("x")}})},
		{"a server's", r.server},
		{"a CA's", r.operations},
		{"another root's", newRoot(t, "operations-root", "Operations Root").leaf(t, "station", ca.Template{Subject: pkix.Name{CommonName: "x"}, URIs: []*url.URL{ca.StationURI("x")}})},
		{"stolen certificate without its key", identity{r.station(t, "line-2").cert, newKey(t)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := r.rows()
			status, _, got, err := r.raw(c.who, "POST", "/v1/enroll", "application/json", body(t, q))
			if err == nil {
				t.Errorf("%d %s", status, got)
			}
			if after := r.rows(); after != before {
				t.Errorf("something was written: %s, was %s", after, before)
			}
		})
	}

	// A station whose certificate ends, or is revoked, while its connection is open.
	good := r.client(r.station(t, "line-1"))
	stolen := r.client(revoked)
	ctx := context.Background()
	for _, cl := range []*factory.Client{good, stolen} {
		if _, err := cl.Device(ctx, "x"); code(t, err) != factory.CodeNotFound {
			t.Fatal(err)
		}
	}
	list := crlOf(t, r.operations, 1, revoked.cert.SerialNumber)
	if err := r.callers.UseCRL(list); err != nil {
		t.Fatal(err)
	}
	if _, _, err := stolen.Enroll(ctx, q); code(t, err) != factory.CodeForbidden {
		t.Errorf("revoked, on an open connection: %v", err)
	}
	if _, _, err := r.client(revoked).Enroll(ctx, q); err == nil {
		t.Error("revoked, on a new connection")
	}
	if err := r.callers.UseCRL(crlOf(t, r.operations, 2)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := stolen.Enroll(ctx, q); code(t, err) != factory.CodeForbidden {
		t.Errorf("a later list let a revoked station back in: %v", err)
	}
	if err := r.callers.UseCRL(crlOf(t, r.operations, 1)); err == nil {
		t.Error("an older list was taken")
	}
	if err := r.callers.UseCRL(crlOf(t, r.fleet, 3)); err == nil {
		t.Error("a list of the Fleet Root was taken")
	}
	if _, _, err := good.Enroll(ctx, q); err != nil {
		t.Error(err)
	}
	r.now.add(2 * 366 * 24 * time.Hour)
	if _, _, err := good.Enroll(ctx, q); code(t, err) != factory.CodeForbidden {
		t.Errorf("expired, on an open connection: %v", err)
	}
}

func crlOf(t testing.TB, i identity, number int64, serials ...*big.Int) *x509.RevocationList {
	t.Helper()
	tmpl := &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: inYears(5)}
	for _, s := range serials {
		tmpl.RevokedCertificateEntries = append(tmpl.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: s, RevocationTime: time.Now()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, tmpl, i.cert, i.key)
	if err != nil {
		t.Fatal(err)
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestRootsApart: the Fleet Root, or the issuing certificate, is never the root of callers.
func TestRootsApart(t *testing.T) {
	fleet, other := newRoot(t, "fleet-root", "Fleet Root"), newRoot(t, "operations-root", "Operations Root")
	fleetAgain := identity{fleet.cert, fleet.key}
	if _, err := factory.NewCallers([]*x509.Certificate{other.cert, fleetAgain.cert}, []*x509.Certificate{fleet.cert}, time.Now); err == nil {
		t.Error("the Fleet Root was taken as the Operations Root")
	}
	if _, err := factory.NewCallers(nil, []*x509.Certificate{fleet.cert}, time.Now); err == nil {
		t.Error("no Operations Root at all")
	}
	if _, err := factory.NewCallers([]*x509.Certificate{other.cert}, []*x509.Certificate{fleet.cert}, time.Now); err != nil {
		t.Error(err)
	}
}

// TestNoResumption: no session is resumed, so each connection is checked in full.
func TestNoResumption(t *testing.T) {
	r := serve(t, newPlant(t))
	pool := x509.NewCertPool()
	pool.AddCert(r.operations.cert)
	conf := &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{r.station(t, "line-1").tls()}, ClientSessionCache: tls.NewLRUClientSessionCache(4)}
	for range 3 {
		c := &http.Client{Transport: &http.Transport{TLSClientConfig: conf, DisableKeepAlives: true}}
		resp, err := c.Get(r.url + "/healthz")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.TLS.DidResume {
			t.Error("a session was resumed")
		}
	}
}

// TestTokenAway: while the token is gone callers are told to wait; when it is back the same request gets the one
// certificate that its intent promised.
func TestTokenAway(t *testing.T) {
	p := newPlant(t)
	flaky := &awayKey{Signer: p.key}
	var err error
	if p.issuer, err = ca.NewIssuer(p.issuing, flaky, p.fleet.cert); err != nil {
		t.Fatal(err)
	}
	r := serve(t, p)
	station, q := r.station(t, "line-1"), deviceRequest(t, newKey(t), "dev-1")
	flaky.away.Store(true)
	status, header, got, err := r.raw(station, "POST", "/v1/enroll", "application/json", body(t, q))
	if err != nil || status != 503 || header.Get("Retry-After") == "" || !strings.Contains(got, `"hint"`) || strings.Contains(got, "unplugged") {
		t.Fatal(status, header, got, err)
	}
	if h := r.service.Health(context.Background()); h.Status == "ok" {
		t.Error(h)
	}
	rec, err := r.store.ByDevice(context.Background(), "dev-1")
	if err != nil || !rec.Open() {
		t.Fatal(rec, err)
	}
	flaky.away.Store(false)
	a, isNew, err := r.client(station).Enroll(context.Background(), q)
	if err != nil || isNew || trimZero(a.Serial) != trimZero(hexOf(rec.Serial)) {
		t.Fatalf("%+v, %v, %v; intent %x", a, isNew, err, rec.Serial)
	}
	if h := r.service.Health(context.Background()); h.Status != "ok" {
		t.Error(h)
	}
}

// TestClientTries: the client tries again when told to wait, and gives up after its tries.
func TestClientTries(t *testing.T) {
	p := newPlant(t)
	c, err := factory.NewClient(factory.ClientConfig{URL: "https://127.0.0.1:1", CA: []*x509.Certificate{p.operations.cert}, Identity: p.station(t, "x").tls(),
		Tries: 3, Wait: time.Millisecond, Note: func(error, time.Duration) {}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Health(context.Background()); err == nil || !strings.Contains(err.Error(), "cannot be reached") {
		t.Error(err)
	}
	for _, bad := range []string{"", "http://x", "https://", "https://x/path", "https://u:p@x", "https://x?q", "::"} {
		if _, err := factory.NewClient(factory.ClientConfig{URL: bad, CA: []*x509.Certificate{p.operations.cert}}); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

// TestExamples: the examples in docs are the ones that the programs print, and they parse.
func TestExamples(t *testing.T) {
	b, err := os.ReadFile("../docs/examples/hanaperd.yaml")
	if err != nil || !bytes.Equal(b, factory.Example) {
		t.Errorf("docs/examples/hanaperd.yaml is not factory/hanaperd.yaml (%v)", err)
	}
	c, err := factory.LoadConfig("../docs/examples/hanaperd.yaml")
	if err != nil {
		t.Fatal(err)
	}
	d := factory.DefaultConfig()
	if c.Devices != d.Devices || c.CRL != d.CRL || c.Limits != d.Limits || c.Listen != d.Listen {
		t.Errorf("the example's values are not the defaults: %+v", c)
	}
}
