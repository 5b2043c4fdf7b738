// Package fleettest makes fleets of software keys for tests: a Fleet Root, a factory's CA, devices, and a trust view that
// can hold what package trust would refuse.
package fleettest

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

// View is a View made by hand, so that a test can put into it what package trust would refuse.
type View struct {
	// Name is the environment's, "test" if empty.
	Name           string
	Roots, Between []*x509.Certificate
	CRLInfos       map[trust.ID]trust.CRLInfo
	RevokedSerials map[string]bool
	GatewayPolicy  trust.Policy
	ExpiresAt      time.Time
	Print          [32]byte
}

var prints atomic.Uint64

func NewView(anchors, between []*x509.Certificate, now time.Time) *View {
	v := &View{Roots: anchors, Between: between, CRLInfos: map[trust.ID]trust.CRLInfo{}, RevokedSerials: map[string]bool{},
		GatewayPolicy: trust.DefaultPolicy("test"), ExpiresAt: now.Add(time.Hour)}
	v.Print = sha256.Sum256(big.NewInt(int64(prints.Add(1))).Bytes())
	for _, c := range append(append([]*x509.Certificate{}, anchors...), between...) {
		v.CRLInfos[trust.IssuerID(c)] = trust.CRLInfo{Issuer: trust.IssuerID(c), Number: big.NewInt(1),
			ThisUpdate: now.Add(-time.Hour), NextUpdate: now.Add(time.Hour)}
	}
	return v
}

func (v *View) Revoke(issuer *x509.Certificate, serial *big.Int) *View {
	w := *v
	w.RevokedSerials = map[string]bool{}
	for k := range v.RevokedSerials {
		w.RevokedSerials[k] = true
	}
	id := trust.IssuerID(issuer)
	w.RevokedSerials[string(id[:])+serial.String()] = true
	w.Print = sha256.Sum256(big.NewInt(int64(prints.Add(1))).Bytes())
	return &w
}

func (v *View) Environment() string {
	if v.Name != "" {
		return v.Name
	}
	return "test"
}
func (v *View) Fingerprint() [32]byte              { return v.Print }
func (v *View) Anchors() []*x509.Certificate       { return v.Roots }
func (v *View) Intermediates() []*x509.Certificate { return v.Between }
func (v *View) Policy() trust.Policy               { return v.GatewayPolicy }
func (v *View) Expires() time.Time                 { return v.ExpiresAt }
func (v *View) Valid(now time.Time) error {
	if !now.Before(v.ExpiresAt) {
		return errors.New("timestamp.json has expired")
	}
	return nil
}
func (v *View) Revoked(issuer *x509.Certificate, serial *big.Int) bool {
	id := trust.IssuerID(issuer)
	return v.RevokedSerials[string(id[:])+serial.String()]
}
func (v *View) CRL(issuer *x509.Certificate) (trust.CRLInfo, bool) {
	i, ok := v.CRLInfos[trust.IssuerID(issuer)]
	return i, ok
}

// Entity is a certificate and its key.
type Entity struct {
	Cert *x509.Certificate
	Key  crypto.Signer
}

func NewKey(t testing.TB) crypto.Signer {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

var serials atomic.Int64

// Issue makes a certificate for key under parent; nil for a self-signed one.
func Issue(t testing.TB, parent *Entity, key crypto.Signer, c x509.Certificate) *Entity {
	t.Helper()
	if c.SerialNumber == nil {
		c.SerialNumber = big.NewInt(1_000_000 + serials.Add(1))
	}
	if c.NotBefore.IsZero() {
		c.NotBefore, c.NotAfter = Time.Add(-24*time.Hour), Time.Add(24*time.Hour)
	}
	e := &Entity{Key: key}
	if parent == nil {
		parent = &Entity{Cert: &c, Key: key}
	}
	der, err := x509.CreateCertificate(rand.Reader, &c, parent.Cert, key.Public(), parent.Key)
	if err != nil {
		t.Fatal(err)
	}
	if e.Cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return e
}

// Time is the clock of tests that judge certificates; those that speak TLS need the present.
var Time = time.Now().Truncate(time.Second)

func CATemplate(name string) x509.Certificate {
	return x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
}

func DeviceTemplate(name string) x509.Certificate {
	return x509.Certificate{Subject: pkix.Name{CommonName: name}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
}

// Fleet is a root, a factory's CA under it, and the view of both.
type Fleet struct {
	Root, Factory *Entity
	View          *View
}

func New(t testing.TB) *Fleet {
	t.Helper()
	f := &Fleet{Root: Issue(t, nil, NewKey(t), CATemplate("Fleet Root"))}
	f.Factory = Issue(t, f.Root, NewKey(t), CATemplate("Factory"))
	f.View = NewView([]*x509.Certificate{f.Root.Cert}, []*x509.Certificate{f.Factory.Cert}, Time)
	return f
}

func (f *Fleet) Device(t testing.TB, name string) *Entity {
	t.Helper()
	return Issue(t, f.Factory, NewKey(t), DeviceTemplate(name))
}
