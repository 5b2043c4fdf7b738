package gateway

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hanaper/hanaper/trust"
)

// testView is a View made by hand, so that a test can put into it what package trust would refuse.
type testView struct {
	anchors, between []*x509.Certificate
	crls             map[trust.ID]trust.CRLInfo
	revoked          map[string]bool
	policy           trust.Policy
	expires          time.Time
	print            [32]byte
}

var prints atomic.Uint64

func newTestView(anchors, between []*x509.Certificate, now time.Time) *testView {
	v := &testView{anchors: anchors, between: between, crls: map[trust.ID]trust.CRLInfo{}, revoked: map[string]bool{},
		policy: trust.DefaultPolicy("test"), expires: now.Add(time.Hour)}
	v.print = sha256.Sum256(big.NewInt(int64(prints.Add(1))).Bytes())
	for _, c := range append(append([]*x509.Certificate{}, anchors...), between...) {
		v.crls[trust.IssuerID(c)] = trust.CRLInfo{Issuer: trust.IssuerID(c), Number: big.NewInt(1),
			ThisUpdate: now.Add(-time.Hour), NextUpdate: now.Add(time.Hour)}
	}
	return v
}

func (v *testView) revoke(issuer *x509.Certificate, serial *big.Int) *testView {
	w := *v
	w.revoked = map[string]bool{}
	for k := range v.revoked {
		w.revoked[k] = true
	}
	id := trust.IssuerID(issuer)
	w.revoked[string(id[:])+serial.String()] = true
	w.print = sha256.Sum256(big.NewInt(int64(prints.Add(1))).Bytes())
	return &w
}

func (v *testView) Environment() string                { return "test" }
func (v *testView) Fingerprint() [32]byte              { return v.print }
func (v *testView) Anchors() []*x509.Certificate       { return v.anchors }
func (v *testView) Intermediates() []*x509.Certificate { return v.between }
func (v *testView) Policy() trust.Policy               { return v.policy }
func (v *testView) Expires() time.Time                 { return v.expires }
func (v *testView) Valid(now time.Time) error {
	if !now.Before(v.expires) {
		return errors.New("timestamp.json has expired")
	}
	return nil
}
func (v *testView) Revoked(issuer *x509.Certificate, serial *big.Int) bool {
	id := trust.IssuerID(issuer)
	return v.revoked[string(id[:])+serial.String()]
}
func (v *testView) CRL(issuer *x509.Certificate) (trust.CRLInfo, bool) {
	i, ok := v.crls[trust.IssuerID(issuer)]
	return i, ok
}

// entity is a certificate and its key.
type entity struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func newKey(t testing.TB) crypto.Signer {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

var serials atomic.Int64

// issue makes a certificate for key under parent; nil for a self-signed one.
func issue(t testing.TB, parent *entity, key crypto.Signer, c x509.Certificate) *entity {
	t.Helper()
	if c.SerialNumber == nil {
		c.SerialNumber = big.NewInt(1_000_000 + serials.Add(1))
	}
	if c.NotBefore.IsZero() {
		c.NotBefore, c.NotAfter = testTime.Add(-24*time.Hour), testTime.Add(24*time.Hour)
	}
	e := &entity{key: key}
	if parent == nil {
		parent = &entity{cert: &c, key: key}
	}
	der, err := x509.CreateCertificate(rand.Reader, &c, parent.cert, key.Public(), parent.key)
	if err != nil {
		t.Fatal(err)
	}
	if e.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return e
}

// testTime is the clock of tests that judge certificates; those that speak TLS need the present.
var testTime = time.Now().Truncate(time.Second)

func caTemplate(name string) x509.Certificate {
	return x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
}

func deviceTemplate(name string) x509.Certificate {
	return x509.Certificate{Subject: pkix.Name{CommonName: name}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
}

// fleet is a root, a factory's CA under it, and the view of both.
type fleet struct {
	root, factory *entity
	view          *testView
}

func newFleet(t testing.TB) *fleet {
	t.Helper()
	f := &fleet{root: issue(t, nil, newKey(t), caTemplate("Fleet Root"))}
	f.factory = issue(t, f.root, newKey(t), caTemplate("Factory"))
	f.view = newTestView([]*x509.Certificate{f.root.cert}, []*x509.Certificate{f.factory.cert}, testTime)
	return f
}

func (f *fleet) device(t testing.TB, name string) *entity {
	t.Helper()
	return issue(t, f.factory, newKey(t), deviceTemplate(name))
}
