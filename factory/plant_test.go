package factory_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/csr"
	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/factory/record/sqlite"
	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/softhsm"
)

// identity is a certificate with its software key.
type identity struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func (i identity) tls() tls.Certificate {
	return tls.Certificate{Certificate: [][]byte{i.cert.Raw}, PrivateKey: i.key, Leaf: i.cert}
}

// plant is a small PKI: two roots with software keys, and an issuing key in a SoftHSM token of its own.
type plant struct {
	fleet, operations identity
	server            identity
	board             softhsm.Board
	token             hsm.Token
	key               hsm.Key
	issuing           *x509.Certificate
	issuer            *ca.Issuer
}

var boards atomic.Int32

func newPlant(t testing.TB) *plant {
	t.Helper()
	return newPlantOf(t, hsm.P256)
}

// newPlantOf is newPlant with an issuing key of this algorithm.
func newPlantOf(t testing.TB, algorithm hsm.Algorithm) *plant {
	t.Helper()
	p := &plant{fleet: newRoot(t, "fleet-root", "Fleet Root"), operations: newRoot(t, "operations-root", "Operations Root")}
	var err error
	if p.board, err = softhsm.ForTest(t).Create(fmt.Sprintf("factory-%d", boards.Add(1))); err != nil {
		t.Fatal(err)
	}
	uri, err := hsm.ParseURI(p.board.URI)
	if err != nil {
		t.Fatal(err)
	}
	if p.token, err = pkcs11.Open(context.Background(), pkcs11.Config{URI: uri, PIN: hsm.PINFile(p.board.PINFile)}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.token.Close() })
	if p.key, err = p.token.Generate(context.Background(), hsm.GenerateSpec{Label: "factory-ca", Algorithm: algorithm}); err != nil {
		t.Fatal(err)
	}
	p.issuing = p.fleet.issue(t, "factory-ca", ca.Template{Subject: pkix.Name{CommonName: "Factory CA"}, PublicKey: p.key.Public(), NotAfter: inYears(10)})
	if p.issuer, err = ca.NewIssuer(p.issuing, p.key, p.fleet.cert); err != nil {
		t.Fatal(err)
	}
	p.server = p.operations.leaf(t, "server", ca.Template{Subject: pkix.Name{CommonName: "hanaperd"}, IPs: []net.IP{net.IPv4(127, 0, 0, 1)}})
	return p
}

func inYears(n int) time.Time { return time.Now().AddDate(n, 0, 0) }

func newKey(t testing.TB) crypto.Signer {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func profile(t testing.TB, name string) *ca.Profile {
	t.Helper()
	p, err := ca.Builtin(name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func newRoot(t testing.TB, kind, cn string) identity {
	t.Helper()
	key := newKey(t)
	p, err := ca.PrepareRoot(profile(t, kind), ca.Template{Subject: pkix.Name{CommonName: cn}, NotBefore: time.Now().Add(-time.Hour), NotAfter: inYears(20)}, key, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := p.Sign(context.Background(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return identity{cert, key}
}

func (i identity) issue(t testing.TB, kind string, tmpl ca.Template) *x509.Certificate {
	t.Helper()
	issuer, err := ca.NewIssuer(i.cert, i.key)
	if err != nil {
		t.Fatal(err)
	}
	if tmpl.NotBefore.IsZero() {
		tmpl.NotBefore = time.Now().Add(-time.Minute)
	}
	if tmpl.NotAfter.IsZero() {
		tmpl.NotAfter = inYears(1)
	}
	p, err := issuer.Prepare(profile(t, kind), tmpl, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := p.Sign(context.Background(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// leaf issues a certificate with a fresh software key.
func (i identity) leaf(t testing.TB, kind string, tmpl ca.Template) identity {
	t.Helper()
	key := newKey(t)
	tmpl.PublicKey = key.Public()
	return identity{i.issue(t, kind, tmpl), key}
}

func (p *plant) station(t testing.TB, name string) identity {
	return p.operations.leaf(t, "station", ca.Template{Subject: pkix.Name{CommonName: name}, URIs: []*url.URL{ca.StationURI(name)}})
}

func (p *plant) operator(t testing.TB, name string) identity {
	return p.operations.leaf(t, "operator", ca.Template{Subject: pkix.Name{CommonName: name}, URIs: []*url.URL{ca.OperatorURI(name)}})
}

// unchecked signs any template at all with this CA, for certificates that ca refuses to make.
func (i identity) unchecked(t testing.TB, tmpl *x509.Certificate) identity {
	t.Helper()
	key := newKey(t)
	if tmpl.SerialNumber == nil {
		tmpl.SerialNumber = big.NewInt(time.Now().UnixNano())
	}
	if tmpl.NotAfter.IsZero() {
		tmpl.NotBefore, tmpl.NotAfter = time.Now().Add(-time.Minute), inYears(1)
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, i.cert, key.Public(), i.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return identity{cert, key}
}

// running is a service that answers on loopback, in this process.
type running struct {
	*plant
	t       testing.TB
	service *factory.Service
	store   *sqlite.Store
	callers *factory.Callers
	url     string
	dir     string
	// now is the server's clock.
	now *clock
}

type clock struct {
	mu     sync.Mutex
	offset time.Duration
	// set is the part of offset that somebody set the clock by.
	set time.Duration
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.offset)
}

// Elapsed counts, and is not set with the clock.
func (c *clock) Elapsed() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Since(begun) + c.offset - c.set
}

var begun = time.Now()

// add lets time pass.
func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offset += d
}

// jump sets the clock.
func (c *clock) jump(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offset, c.set = c.offset+d, c.set+d
}

func serve(t testing.TB, p *plant, change ...func(*factory.ServiceConfig)) *running {
	t.Helper()
	return serveAt(t, p, t.TempDir(), change...)
}

// copyStore copies a whole file.
func copyStore(from, to string) (string, error) {
	b, err := os.ReadFile(from)
	if err != nil {
		return from, err
	}
	return to, os.WriteFile(to, b, 0o600)
}

// serveAt is serve on the store in a folder.
func serveAt(t testing.TB, p *plant, dir string, change ...func(*factory.ServiceConfig)) *running {
	t.Helper()
	r := &running{plant: p, t: t, dir: dir, now: &clock{}}
	var err error
	if r.store, err = sqlite.Open(context.Background(), r.dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.store.Close() })
	conf := factory.ServiceConfig{IssuerConfig: factory.IssuerConfig{Issuer: p.issuer, Chain: []*x509.Certificate{p.issuing}}, Roots: []*x509.Certificate{p.fleet.cert}, Store: r.store, CRLInterval: -1,
		Now: r.now.Now, Elapsed: r.now.Elapsed, Log: slog.New(slog.DiscardHandler)}
	for _, f := range change {
		f(&conf)
	}
	if r.service, err = factory.NewService(conf); err != nil {
		t.Fatal(err)
	}
	if r.callers, err = factory.NewCallers([]*x509.Certificate{p.operations.cert}, []*x509.Certificate{p.fleet.cert, p.issuing}, r.now.Now); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.url = "https://" + l.Addr().String()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- factory.Serve(ctx, l, factory.NewHandler(r.service, r.callers, 256), r.callers.TLS(p.server.tls()), conf.Log)
	}()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *running) client(who identity) *factory.Client {
	r.t.Helper()
	c, err := factory.NewClient(factory.ClientConfig{URL: r.url, CA: []*x509.Certificate{r.operations.cert}, Identity: who.tls(), Timeout: 20 * time.Second})
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

// rows lists what the store holds, as a count of each table: what a refusal must leave as it was, but for the event that tells of it, and the number that an issuer is given once.
func (r *running) rows() string {
	r.t.Helper()
	n, err := r.store.Counts(context.Background())
	if err != nil {
		r.t.Fatal(err)
	}
	delete(n, "event")
	delete(n, "issuer")
	return fmt.Sprint(n)
}

func request(t testing.TB, key crypto.Signer, tmpl csr.Template) string {
	t.Helper()
	der, err := csr.Create(rand.Reader, key, tmpl)
	if err != nil {
		t.Fatal(err)
	}
	return string(csr.PEM(der))
}

func deviceRequest(t testing.TB, key crypto.Signer, id string) factory.EnrollRequest {
	t.Helper()
	return factory.EnrollRequest{CSR: request(t, key, csr.Template{Subject: pkix.Name{CommonName: id}}), HardwareID: "board-1", Lot: "lot-1"}
}

func writePEM(t testing.TB, path, kind string, ders ...[]byte) string {
	t.Helper()
	var b []byte
	for _, der := range ders {
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})...)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// write puts an identity into two files and returns their paths.
func (i identity) write(t testing.TB, dir, name string) (cert, key string) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(i.key)
	if err != nil {
		t.Fatal(err)
	}
	return writePEM(t, filepath.Join(dir, name+".pem"), "CERTIFICATE", i.cert.Raw), writePEM(t, filepath.Join(dir, name+".key"), "PRIVATE KEY", der)
}
