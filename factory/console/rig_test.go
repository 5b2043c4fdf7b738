package console_test

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
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/csr"
	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/factory/console"
	"github.com/hanaper/hanaper/factory/order"
	"github.com/hanaper/hanaper/factory/record/sqlite"
)

// identity is a certificate with its key.
type identity struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func (i identity) tls() tls.Certificate {
	return tls.Certificate{Certificate: [][]byte{i.cert.Raw}, PrivateKey: i.key, Leaf: i.cert}
}

// rig is a factory with a console, on loopback in this process. Its keys are in software: what a token does is not looked at here.
type rig struct {
	t                 testing.TB
	fleet, operations identity
	service           *factory.Service
	store             *sqlite.Store
	address           string
	offset            time.Duration
}

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
	p, err := ca.PrepareRoot(profile(t, kind), ca.Template{Subject: pkix.Name{CommonName: cn}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(20, 0, 0)}, key, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := p.Sign(t.Context(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return identity{cert, key}
}

// issue makes a certificate for a fresh key.
func (i identity) issue(t testing.TB, kind string, tmpl ca.Template) identity {
	t.Helper()
	key := newKey(t)
	issuer, err := ca.NewIssuer(i.cert, i.key)
	if err != nil {
		t.Fatal(err)
	}
	tmpl.PublicKey, tmpl.NotBefore = key.Public(), time.Now().Add(-time.Minute)
	if tmpl.NotAfter.IsZero() {
		tmpl.NotAfter = time.Now().AddDate(1, 0, 0)
	}
	p, err := issuer.Prepare(profile(t, kind), tmpl, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := p.Sign(t.Context(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return identity{cert, key}
}

// person is a caller with a role: station, operator, publisher or viewer.
func (r *rig) person(role, name string) identity {
	r.t.Helper()
	uri, err := url.Parse("urn:hanaper:" + role + ":" + name)
	if err != nil {
		r.t.Fatal(err)
	}
	return r.operations.issue(r.t, role, ca.Template{Subject: pkix.Name{CommonName: name}, URIs: []*url.URL{uri}})
}

// origins are the names under which the browser reaches the console; each presents another certificate.
var origins = []string{"operator.example", "viewer.example", "station.example", "nobody.example"}

func newRig(t testing.TB) *rig {
	t.Helper()
	r := &rig{t: t, fleet: newRoot(t, "fleet-root", "Fleet Root"), operations: newRoot(t, "operations-root", "Operations Root")}
	issuing := r.fleet.issue(t, "factory-ca", ca.Template{Subject: pkix.Name{CommonName: "Plant 7 Factory CA"}, NotAfter: time.Now().AddDate(15, 0, 0)})
	issuer, err := ca.NewIssuer(issuing.cert, issuing.key, r.fleet.cert)
	if err != nil {
		t.Fatal(err)
	}
	if r.store, err = sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "state")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.store.Close() })
	now := func() time.Time { return time.Now().Add(r.offset) }
	callers, err := factory.NewCallers([]*x509.Certificate{r.operations.cert}, []*x509.Certificate{r.fleet.cert, issuing.cert}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if r.service, err = factory.NewService(factory.ServiceConfig{IssuerConfig: factory.IssuerConfig{Issuer: issuer, Chain: []*x509.Certificate{issuing.cert}}, Store: r.store, CRLInterval: -1,
		Lots: factory.LotPolicy{Verify: factory.OperatorOrders(callers)}}); err != nil {
		t.Fatal(err)
	}
	if err := r.service.FreshCRL(t.Context()); err != nil {
		t.Fatal(err)
	}
	k, err := console.New(console.Config{Service: r.service, Callers: callers, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.address = l.Addr().String()
	server := r.operations.issue(t, "server", ca.Template{Subject: pkix.Name{CommonName: "hanaperd"}, IPs: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: origins})
	mux := http.NewServeMux()
	mux.Handle(console.Prefix, k)
	mux.Handle("/", factory.NewHandler(r.service, callers, 64))
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	conf := callers.TLS(server.tls())
	// A browser that is asked for a certificate of a CA that it has none of presents none; what becomes of that is the server's own doing.
	others := conf.Clone()
	others.ClientCAs = x509.NewCertPool()
	others.ClientCAs.AddCert(newRoot(t, "operations-root", "Root of nobody").cert)
	conf.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		if h.ServerName == "nobody.example" {
			return others, nil
		}
		return nil, nil
	}
	go func() { done <- factory.Serve(ctx, l, mux, conf, slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return r
}

// enroll enrols a device, or asks for what is refused.
func (r *rig) enroll(station, id string, key crypto.Signer, lot string) error {
	r.t.Helper()
	der, err := csr.Create(rand.Reader, key, csr.Template{Subject: pkix.Name{CommonName: id}})
	if err != nil {
		r.t.Fatal(err)
	}
	_, _, err = r.service.Enroll(r.t.Context(), station, factory.EnrollRequest{CSR: string(csr.PEM(der)), HardwareID: "imx8-board", Lot: lot})
	return err
}

// rows are how much the store holds, events included: what a refusal must not change.
func (r *rig) rows() string {
	r.t.Helper()
	n, err := r.store.Counts(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return fmt.Sprint(n)
}

// visitor is somebody with a certificate, without a browser.
type visitor struct {
	*rig
	client *http.Client
}

func (r *rig) visitor(who identity) visitor {
	pool := x509.NewCertPool()
	pool.AddCert(r.operations.cert)
	return visitor{r, &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{who.tls()}}}}}
}

// ask sends a request, and gives status, header and body.
func (v visitor) ask(method, path string, form url.Values, header ...string) (int, http.Header, string) {
	v.t.Helper()
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	q, err := http.NewRequest(method, "https://"+v.address+path, body)
	if err != nil {
		v.t.Fatal(err)
	}
	if form != nil {
		q.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i+1 < len(header); i += 2 {
		q.Header.Set(header[i], header[i+1])
	}
	a, err := v.client.Do(q)
	if err != nil {
		v.t.Fatal(err)
	}
	defer a.Body.Close()
	text, err := io.ReadAll(a.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	return a.StatusCode, a.Header, string(text)
}

func pemOf(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func templateOf(cn string) ca.Template { return ca.Template{Subject: pkix.Name{CommonName: cn}} }

// order is a signed order for a lot.
func (r *rig) order(who identity, lot string, quantity int64, change func(*order.Order)) []byte {
	r.t.Helper()
	o := &order.Order{Format: order.Format, Lot: lot, Quantity: quantity, Issued: time.Now().UTC().Truncate(time.Second), Certificate: string(pemOf("CERTIFICATE", who.cert.Raw))}
	if change != nil {
		change(o)
	}
	data, err := o.Encode()
	if err == nil {
		data, err = order.Sign(data, who.key)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return data
}
