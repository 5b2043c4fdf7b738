package station

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
	"errors"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/csr"
	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/softhsm"
)

func TestMain(m *testing.M) { softhsm.Main(m) }

// identity is a certificate with its software key.
type identity struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func must[T any](t testing.TB) func(v T, err error) T {
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

func newRoot(t testing.TB, kind string) identity {
	key := newKey(t)
	p := must[*ca.Prepared](t)(ca.PrepareRoot(must[*ca.Profile](t)(ca.Builtin(kind)), ca.Template{Subject: pkix.Name{CommonName: kind}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(20, 0, 0)}, key, rand.Reader))
	return identity{must[*x509.Certificate](t)(p.Sign(context.Background(), rand.Reader)), key}
}

// issue issues for the key in the template, or for a fresh one.
func (i identity) issue(t testing.TB, kind string, tmpl ca.Template) identity {
	var key crypto.Signer
	if tmpl.PublicKey == nil {
		key = newKey(t)
		tmpl.PublicKey = key.Public()
	}
	tmpl.NotBefore = time.Now().Add(-time.Minute)
	if tmpl.NotAfter.IsZero() {
		tmpl.NotAfter = time.Now().AddDate(1, 0, 0)
	}
	issuer := must[*ca.Issuer](t)(ca.NewIssuer(i.cert, i.key))
	p := must[*ca.Prepared](t)(issuer.Prepare(must[*ca.Profile](t)(ca.Builtin(kind)), tmpl, rand.Reader))
	return identity{must[*x509.Certificate](t)(p.Sign(context.Background(), rand.Reader)), key}
}

func (i identity) write(t testing.TB, dir, name string) {
	put := func(path string, b []byte) {
		if err := os.WriteFile(filepath.Join(dir, path), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(name+".pem", encode([]*x509.Certificate{i.cert}))
	if err := factory.WriteKey(filepath.Join(dir, name+".key"), i.key); err != nil {
		t.Fatal(err)
	}
}

// line is a production line whose factory answers as the test says.
type line struct {
	t      *testing.T
	dir    string
	board  softhsm.Board
	fleet  identity
	ca     identity
	answer func(*csr.Request) factory.EnrollAnswer
	// conf is the configuration; the test may change it before it enrolls.
	conf *Config
}

func newLine(t *testing.T, label string) *line {
	t.Helper()
	l := &line{t: t, dir: t.TempDir(), fleet: newRoot(t, "fleet-root")}
	l.board = must[softhsm.Board](t)(softhsm.ForTest(t).Create(label))
	l.ca = l.fleet.issue(t, "factory-ca", ca.Template{Subject: pkix.Name{CommonName: "Factory CA"}, NotAfter: time.Now().AddDate(10, 0, 0)})
	operations := newRoot(t, "operations-root")
	server := operations.issue(t, "server", ca.Template{Subject: pkix.Name{CommonName: "hanaperd"}, IPs: []net.IP{net.IPv4(127, 0, 0, 1)}})
	operations.issue(t, "station", ca.Template{Subject: pkix.Name{CommonName: "line-1"}, URIs: []*url.URL{ca.StationURI("line-1")}}).write(t, l.dir, "station")
	operations.write(t, l.dir, "operations-root")
	l.fleet.write(t, l.dir, "fleet-root")
	newRoot(t, "gateway-root").write(t, l.dir, "gateway-root")
	l.answer = l.honest

	h := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/enroll" {
			http.NotFound(w, r)
			return
		}
		var q factory.EnrollRequest
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
			t.Error(err)
		}
		request, err := csr.Parse([]byte(q.CSR), csr.DevicePolicy())
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(l.answer(request))
	}))
	h.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{server.cert.Raw}, PrivateKey: server.key}}, MinVersion: tls.VersionTLS13}
	h.StartTLS()
	t.Cleanup(h.Close)

	l.conf = must[*Config](t)(ParseConfig("test", []byte("factory: {url: \""+h.URL+`", ca: operations-root.pem, certificate: station.pem, key: station.key, tries: 1}
fleet_root: fleet-root.pem
device: {id: dev-1, hardware_id: board, token: "`+l.board.URI+`"}
gateway: {url: "https://gateway.example:8443", root: gateway-root.pem}
`), l.dir))
	return l
}

// certificate issues to a device.
func (l *line) certificate(issuer identity, id string, pub crypto.PublicKey) *x509.Certificate {
	return issuer.issue(l.t, "device", ca.Template{Subject: pkix.Name{CommonName: id}, PublicKey: pub}).cert
}

func answerOf(id string, chain ...*x509.Certificate) factory.EnrollAnswer {
	return factory.EnrollAnswer{DeviceID: id, Serial: chain[0].SerialNumber.Text(16), Certificate: string(encode(chain[:1])), Chain: string(encode(chain)), NotAfter: chain[0].NotAfter}
}

func (l *line) honest(q *csr.Request) factory.EnrollAnswer {
	return answerOf("dev-1", l.certificate(l.ca, "dev-1", q.PublicKey()), l.ca.cert)
}

func (l *line) openToken(ctx context.Context, uri hsm.URI) (hsm.Token, error) {
	return pkcs11.Open(ctx, pkcs11.Config{URI: uri, PIN: hsm.PINFromURI(uri, nil), Sessions: 1})
}

func (l *line) enroll(now func() time.Time) (*Result, error) {
	s, err := New(l.conf, With{OpenToken: l.openToken, Now: now})
	if err != nil {
		return nil, err
	}
	return s.Enroll(l.t.Context())
}

// untouched: no certificate is in the token and no import folder is there.
func (l *line) untouched() {
	l.t.Helper()
	uri := must[hsm.URI](l.t)(hsm.ParseURI(l.board.URI))
	token := must[hsm.Token](l.t)(l.openToken(l.t.Context(), uri))
	defer token.Close()
	if c, err := token.Certificate(l.t.Context(), []byte{1}); err == nil {
		l.t.Errorf("the token holds the certificate of %s", c.Subject)
	}
	if _, err := os.Lstat(l.conf.Import); !errors.Is(err, fs.ErrNotExist) {
		l.t.Errorf("the import folder is there: %v", err)
	}
}

// TestHostileAnswers: nothing that hanaperd answers is written to the device unless it is this device's certificate, for
// this key, under the fleet root that the station holds.
func TestHostileAnswers(t *testing.T) {
	l := newLine(t, "station-hostile")
	other := newRoot(t, "fleet-root")
	otherCA := other.issue(t, "factory-ca", ca.Template{Subject: pkix.Name{CommonName: "Factory CA"}, NotAfter: time.Now().AddDate(10, 0, 0)})
	for name, c := range map[string]struct {
		answer func(*csr.Request) factory.EnrollAnswer
		says   string
	}{
		"another device's certificate": {func(q *csr.Request) factory.EnrollAnswer {
			return answerOf("dev-1", l.certificate(l.ca, "dev-2", q.PublicKey()), l.ca.cert)
		}, `for "dev-2"`},
		"another device's answer": {func(q *csr.Request) factory.EnrollAnswer {
			return answerOf("dev-2", l.certificate(l.ca, "dev-1", q.PublicKey()), l.ca.cert)
		}, "dev-1"},
		"another key": {func(*csr.Request) factory.EnrollAnswer {
			return answerOf("dev-1", l.certificate(l.ca, "dev-1", newKey(t).Public()), l.ca.cert)
		}, "key"},
		"another fleet": {func(q *csr.Request) factory.EnrollAnswer {
			return answerOf("dev-1", l.certificate(otherCA, "dev-1", q.PublicKey()), otherCA.cert)
		}, "answer of hanaperd"},
		"another fleet, with its root": {func(q *csr.Request) factory.EnrollAnswer {
			return answerOf("dev-1", l.certificate(otherCA, "dev-1", q.PublicKey()), otherCA.cert, other.cert)
		}, "answer of hanaperd"},
		"no issuing certificate": {func(q *csr.Request) factory.EnrollAnswer {
			return answerOf("dev-1", l.certificate(l.ca, "dev-1", q.PublicKey()))
		}, "answer of hanaperd"},
		"the CA itself": {func(*csr.Request) factory.EnrollAnswer { return answerOf("dev-1", l.ca.cert) }, "dev-1"},
		"two certificates where one belongs": {func(q *csr.Request) factory.EnrollAnswer {
			a := l.honest(q)
			a.Certificate = a.Chain
			return a
		}, "does not begin with"},
		"a chain that begins elsewhere": {func(q *csr.Request) factory.EnrollAnswer {
			a := l.honest(q)
			a.Certificate = l.honest(q).Certificate
			return a
		}, "does not begin with"},
		"nothing": {func(*csr.Request) factory.EnrollAnswer { return factory.EnrollAnswer{} }, "chain"},
		"no PEM": {func(q *csr.Request) factory.EnrollAnswer {
			a := l.honest(q)
			a.Chain = "\x1b[2J"
			return a
		}, "chain"},
	} {
		t.Run(name, func(t *testing.T) {
			l.answer = c.answer
			_, err := l.enroll(nil)
			if err == nil || advice.KindOf(err) != advice.Unverified || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v (kind %v), does not say %q", err, advice.KindOf(err), c.says)
			}
			l.untouched()
		})
	}
	t.Run("at a time when it is not valid", func(t *testing.T) {
		l.answer = l.honest
		_, err := l.enroll(func() time.Time { return time.Now().Add(-30 * time.Minute) })
		if advice.KindOf(err) != advice.Unverified {
			t.Errorf("%v (kind %v)", err, advice.KindOf(err))
		}
		l.untouched()
	})
	// The same line with an honest factory: what was refused above was refused for its own sake.
	l.answer = l.honest
	if r, err := l.enroll(nil); err != nil || r.NewKey || !r.NewCertificate {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestKeyThatWasNotBornSealed: a key that could have been copied, or of another algorithm, gets no certificate.
func TestKeyThatWasNotBornSealed(t *testing.T) {
	for name, c := range map[string]struct {
		spec hsm.GenerateSpec
		says string
	}{
		"extractable": {hsm.GenerateSpec{Label: "device", ID: []byte{2}, Algorithm: hsm.P256, Class: hsm.Backup}, "was not born sealed"},
		"RSA":         {hsm.GenerateSpec{Label: "device", ID: []byte{2}, Algorithm: hsm.RSA2048, Class: hsm.Sealed}, "is RSA-2048, not P-256"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLine(t, "station-"+name)
			l.answer = func(*csr.Request) factory.EnrollAnswer {
				t.Error("the factory was asked for a certificate")
				return factory.EnrollAnswer{}
			}
			token := must[hsm.Token](t)(l.openToken(t.Context(), must[hsm.URI](t)(hsm.ParseURI(l.board.URI))))
			_, err := token.Generate(t.Context(), c.spec)
			token.Close()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := l.enroll(nil); advice.KindOf(err) != advice.Refused || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v (kind %v), does not say %q", err, advice.KindOf(err), c.says)
			}
			l.untouched()
		})
	}
}
