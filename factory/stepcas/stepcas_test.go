package stepcas

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/smallstep/certificates/cas/apiv1"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/csr"
	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/internal/advice"
)

type holder struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func newKey(t testing.TB) crypto.Signer {
	return must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
}

func newRoot(t testing.TB, kind string) holder {
	key := newKey(t)
	p := must[*ca.Prepared](t)(ca.PrepareRoot(must[*ca.Profile](t)(ca.Builtin(kind)), ca.Template{Subject: pkix.Name{CommonName: kind}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(20, 0, 0)}, key, rand.Reader))
	return holder{must[*x509.Certificate](t)(p.Sign(context.Background(), rand.Reader)), key}
}

func (i holder) issue(t testing.TB, kind string, pub crypto.PublicKey, tmpl ca.Template) *x509.Certificate {
	tmpl.PublicKey, tmpl.NotBefore = pub, time.Now().Add(-time.Minute)
	if tmpl.NotAfter.IsZero() {
		tmpl.NotAfter = time.Now().AddDate(1, 0, 0)
	}
	p := must[*ca.Prepared](t)(must[*ca.Issuer](t)(ca.NewIssuer(i.cert, i.key)).Prepare(must[*ca.Profile](t)(ca.Builtin(kind)), tmpl, rand.Reader))
	return must[*x509.Certificate](t)(p.Sign(context.Background(), rand.Reader))
}

func (i holder) write(t testing.TB, dir, name string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name+".pem"), encode(i.cert), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := factory.WriteKey(filepath.Join(dir, name+".key"), i.key); err != nil {
		t.Fatal(err)
	}
}

func encode(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

// line is a hanaperd that answers as the test says, and the files that a configuration names.
type line struct {
	dir, url          string
	fleet, issuing    holder
	answer            func(*csr.Request) (leaf *x509.Certificate)
	cacerts           func() []byte
	enrolled, revoked int
}

func newLine(t *testing.T) *line {
	l := &line{dir: t.TempDir(), fleet: newRoot(t, "fleet-root")}
	operations := newRoot(t, "operations-root")
	key := newKey(t)
	l.issuing = holder{l.fleet.issue(t, "factory-ca", key.Public(), ca.Template{Subject: pkix.Name{CommonName: "Factory CA"}, NotAfter: time.Now().AddDate(10, 0, 0)}), key}
	caller := func(role, name string) {
		key := newKey(t)
		holder{operations.issue(t, role, key.Public(), ca.Template{Subject: pkix.Name{CommonName: name}, URIs: []*url.URL{ca.RoleURI(role, name)}}), key}.write(t, l.dir, role)
	}
	caller("station", "step-ca")
	caller("operator", "step-ca")
	operations.write(t, l.dir, "operations-root")
	l.fleet.write(t, l.dir, "fleet-root")
	l.issuing.write(t, l.dir, "issuing")
	newRoot(t, "gateway-root").write(t, l.dir, "own")
	l.answer = func(r *csr.Request) *x509.Certificate { return l.certify(t, r.PublicKey(), r.CommonName()) }
	l.cacerts = func() []byte { return encode(l.issuing.cert) }
	serverKey := newKey(t)
	server := operations.issue(t, "server", serverKey.Public(), ca.Template{Subject: pkix.Name{CommonName: "hanaperd"}, IPs: []net.IP{net.IPv4(127, 0, 0, 1)}})
	h := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v1/cacerts":
			_, _ = w.Write(l.cacerts())
		case "/v1/revoke":
			l.revoked++
			var q factory.RevokeRequest
			_ = json.NewDecoder(r.Body).Decode(&q)
			_ = json.NewEncoder(w).Encode(factory.RevokeAnswer{Serial: q.Serial, Reason: q.Reason})
		case "/v1/enroll":
			l.enrolled++
			var q factory.EnrollRequest
			_ = json.NewDecoder(r.Body).Decode(&q)
			request, err := csr.Parse([]byte(q.CSR), csr.DevicePolicy())
			if err != nil {
				w.WriteHeader(http.StatusUnprocessableEntity)
				_, _ = w.Write([]byte(`{"error":"no","code":"policy","hint":"ask otherwise"}`))
				return
			}
			leaf := string(encode(l.answer(request)))
			_ = json.NewEncoder(w).Encode(factory.EnrollAnswer{Certificate: leaf, Chain: leaf + string(encode(l.issuing.cert))})
		}
	}))
	h.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{server.Raw}, PrivateKey: serverKey}}, MinVersion: tls.VersionTLS13}
	h.StartTLS()
	t.Cleanup(h.Close)
	l.url = h.URL
	return l
}

func (l *line) certify(t testing.TB, pub crypto.PublicKey, id string) *x509.Certificate {
	return l.issuing.issue(t, "device", pub, ca.Template{Subject: pkix.Name{CommonName: id}})
}

// options are those of step-ca's configuration, with members changed.
func (l *line) options(t testing.TB, change map[string]any) apiv1.Options {
	t.Helper()
	conf := map[string]any{"root": "operations-root.pem", "fleetRoot": "fleet-root.pem", "certificate": "station.pem", "key": "station.key", "serverCertificate": "own.pem", "serverKey": "own.key"}
	for k, v := range change {
		if conf[k] = v; v == nil {
			delete(conf, k)
		}
	}
	for k, v := range conf {
		if s, ok := v.(string); ok && (strings.HasSuffix(s, ".pem") || strings.HasSuffix(s, ".key")) {
			conf[k] = filepath.Join(l.dir, s)
		}
	}
	return apiv1.Options{Type: Type, CertificateAuthority: l.url, Config: must[[]byte](t)(json.Marshal(conf))}
}

// TestConfig: what is missing, or is of another kind than it should be, is told before anybody is asked.
func TestConfig(t *testing.T) {
	l := newLine(t)
	good, err := New(context.Background(), l.options(t, map[string]any{"operatorCertificate": "operator.pem", "operatorKey": "operator.key"}))
	if err != nil || good.operator == nil {
		t.Fatal(err)
	}
	open := filepath.Join(l.dir, "open.key")
	if err := os.WriteFile(open, must[[]byte](t)(os.ReadFile(filepath.Join(l.dir, "station.key"))), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change map[string]any
		says   string
	}{
		"no root":                       {map[string]any{"root": nil}, "root is missing"},
		"no fleet root":                 {map[string]any{"fleetRoot": nil}, "fleetRoot is missing"},
		"no key":                        {map[string]any{"key": nil}, "key is missing"},
		"no CA of its own":              {map[string]any{"serverKey": nil}, "serverKey is missing"},
		"an unknown member":             {map[string]any{"fleetroot2": "x"}, "fleetroot2"},
		"an operator without key":       {map[string]any{"operatorCertificate": "operator.pem"}, "given together"},
		"a key that others read":        {map[string]any{"key": "open.key"}, "chmod 600"},
		"another's key":                 {map[string]any{"key": "operator.key"}, "station.pem"},
		"its own CA is a station":       {map[string]any{"serverCertificate": "station.pem", "serverKey": "station.key"}, "no CA's"},
		"its own CA is the fleet's":     {map[string]any{"serverCertificate": "issuing.pem", "serverKey": "issuing.key"}, "for devices only"},
		"a store it was not built with": {map[string]any{"key": "awskms:key-id=1"}, "awskms"},
	} {
		_, err := New(context.Background(), l.options(t, c.change))
		if err == nil || !strings.Contains(err.Error(), c.says) && !strings.Contains(advice.Hint(err), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
	if _, err := New(context.Background(), apiv1.Options{IsCreator: true}); err == nil {
		t.Error("it says that it makes CAs")
	}
	if l.enrolled+l.revoked != 0 {
		t.Error("hanaperd was asked")
	}
}

// TestAnswers: what hanaperd answers is held against the request, what the provisioner approved, and the Fleet Root.
func TestAnswers(t *testing.T) {
	l := newLine(t)
	s := must[*Service](t)(New(context.Background(), l.options(t, nil)))
	key := newKey(t)
	request := must[*x509.CertificateRequest](t)(x509.ParseCertificateRequest(must[[]byte](t)(csr.Create(rand.Reader, key, csr.Template{Subject: pkix.Name{CommonName: "Dev-1"}}))))
	ask := func(template *x509.Certificate) error {
		a, err := s.CreateCertificate(&apiv1.CreateCertificateRequest{CSR: request, Template: template, Lifetime: time.Hour})
		if (a == nil) != (err != nil) {
			t.Errorf("%v, %v", a, err)
		}
		return err
	}
	named := &x509.Certificate{Subject: pkix.Name{CommonName: "dev-1"}}
	if err := ask(named); err != nil {
		t.Fatal(err)
	}
	if err := ask(&x509.Certificate{DNSNames: []string{"dev-0", "dev-1"}}); err != nil {
		t.Error(err)
	}
	before := l.enrolled
	for _, other := range []*x509.Certificate{{Subject: pkix.Name{CommonName: "dev-2"}}, {DNSNames: []string{"dev-2"}}, {}} {
		var f *failure
		if err := ask(other); !errors.As(err, &f) || f.StatusCode() != http.StatusForbidden {
			t.Errorf("%v: %v", other.DNSNames, err)
		}
	}
	if l.enrolled != before {
		t.Error("hanaperd was asked for what the provisioner did not approve")
	}
	fleet2 := newRoot(t, "fleet-root")
	stray := holder{fleet2.issue(t, "factory-ca", l.issuing.key.Public(), ca.Template{Subject: pkix.Name{CommonName: "Factory CA"}, NotAfter: time.Now().AddDate(10, 0, 0)}), l.issuing.key}
	issuing := l.issuing
	for name, answer := range map[string]func(*csr.Request) *x509.Certificate{
		"another key": func(r *csr.Request) *x509.Certificate { return l.certify(t, newKey(t).Public(), "dev-1") },
		"another id":  func(r *csr.Request) *x509.Certificate { return l.certify(t, r.PublicKey(), "dev-2") },
		"another fleet": func(r *csr.Request) *x509.Certificate {
			l.issuing = stray
			return l.certify(t, r.PublicKey(), "dev-1")
		},
	} {
		l.answer = answer
		if err := ask(named); err == nil || !strings.Contains(err.Error(), "not taken") {
			t.Errorf("%s: %v", name, err)
		}
		l.issuing = issuing
	}
	if a, err := s.GetCertificateAuthority(nil); err != nil || !a.RootCertificate.Equal(l.fleet.cert) || len(a.IntermediateCertificates) != 1 {
		t.Errorf("%+v, %v", a, err)
	}
	l.cacerts = func() []byte { return encode(stray.cert) }
	if _, err := s.GetCertificateAuthority(nil); err == nil {
		t.Error("CA certificates under another root were taken")
	}
}

// TestRevokeAndRenew: without an operator nothing is revoked, without a request nothing renewed; a refusal of hanaperd keeps its status and hint.
func TestRevokeAndRenew(t *testing.T) {
	l := newLine(t)
	s := must[*Service](t)(New(context.Background(), l.options(t, nil)))
	if _, err := s.RevokeCertificate(&apiv1.RevokeCertificateRequest{SerialNumber: "77"}); err == nil || !strings.Contains(err.Error(), "operator") {
		t.Error(err)
	}
	var not apiv1.NotImplementedError
	if _, err := s.RenewCertificate(&apiv1.RenewCertificateRequest{Template: &x509.Certificate{}}); !errors.As(err, &not) {
		t.Error(err)
	}
	if l.revoked+l.enrolled != 0 {
		t.Error("hanaperd was asked")
	}
	named := must[*x509.CertificateRequest](t)(x509.ParseCertificateRequest(must[[]byte](t)(csr.Create(rand.Reader, newKey(t), csr.Template{Subject: pkix.Name{CommonName: "dev-1"}, DNSNames: []string{"dev-1"}}))))
	_, err := s.CreateCertificate(&apiv1.CreateCertificateRequest{CSR: named, Template: &x509.Certificate{Subject: pkix.Name{CommonName: "dev-1"}}})
	var f *failure
	if !errors.As(err, &f) || f.StatusCode() != http.StatusUnprocessableEntity || !strings.Contains(err.Error(), "ask otherwise") {
		t.Error(err)
	}
	s = must[*Service](t)(New(context.Background(), l.options(t, map[string]any{"operatorCertificate": "operator.pem", "operatorKey": "operator.key"})))
	for _, q := range []*apiv1.RevokeCertificateRequest{{SerialNumber: "4d", ReasonCode: 1}, {SerialNumber: "", ReasonCode: 1}, {SerialNumber: "77", ReasonCode: 6}, {SerialNumber: "77", ReasonCode: 2}} {
		if _, err := s.RevokeCertificate(q); err == nil {
			t.Errorf("%+v", q)
		}
	}
	if l.revoked != 0 {
		t.Error("hanaperd was asked")
	}
	if _, err := s.RevokeCertificate(&apiv1.RevokeCertificateRequest{SerialNumber: "77", ReasonCode: 1}); err != nil || l.revoked != 1 {
		t.Error(err, l.revoked)
	}
}
