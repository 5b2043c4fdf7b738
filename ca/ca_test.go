package ca

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"
)

// t0 is yesterday, for certtool judges by its own clock.
var t0 = time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -1)

func years(n int) time.Time { return t0.AddDate(n, 0, 0) }

func mustKey(t testing.TB, alg, name string) crypto.Signer {
	t.Helper()
	k, err := SpecimenKey(alg, name)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func mustProfile(t testing.TB, name string, change ...func(*ProfileConfig)) *Profile {
	t.Helper()
	c, err := BuiltinConfig(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range change {
		f(&c)
	}
	p, err := NewProfile(c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func cn(name string) pkix.Name { return pkix.Name{CommonName: name, Organization: []string{"Example"}} }

// family is a hierarchy: a root, a factory CA, and issuers for both.
type family struct {
	root, factory         *x509.Certificate
	rootKey, factoryKey   crypto.Signer
	rootIssuer, facIssuer *Issuer
}

func mustRoot(t testing.TB, p *Profile, subject string, key crypto.Signer) *x509.Certificate {
	t.Helper()
	prep, err := PrepareRoot(p, Template{Subject: cn(subject), NotBefore: t0, NotAfter: years(30)}, key, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := prep.Sign(context.Background(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func mustIssue(t testing.TB, i *Issuer, p *Profile, tpl Template) *x509.Certificate {
	t.Helper()
	prep, err := i.Prepare(p, tpl, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := prep.Sign(context.Background(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func mustIssuer(t testing.TB, c *x509.Certificate, k crypto.Signer, ancestors ...*x509.Certificate) *Issuer {
	t.Helper()
	i, err := NewIssuer(c, k, ancestors...)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func newFamily(t testing.TB, rootAlg, caAlg string) *family {
	t.Helper()
	f := &family{rootKey: mustKey(t, rootAlg, "root"), factoryKey: mustKey(t, caAlg, "factory")}
	f.root = mustRoot(t, mustProfile(t, "fleet-root"), "Example Fleet Root", f.rootKey)
	f.rootIssuer = mustIssuer(t, f.root, f.rootKey)
	f.factory = mustIssue(t, f.rootIssuer, mustProfile(t, "factory-ca"), Template{Subject: cn("Example Factory CA"), PublicKey: f.factoryKey.Public(), NotBefore: t0, NotAfter: years(20)})
	f.facIssuer = mustIssuer(t, f.factory, f.factoryKey, f.root)
	return f
}

func (f *family) device(t testing.TB) *x509.Certificate {
	return mustIssue(t, f.facIssuer, mustProfile(t, "device"), deviceTemplate(t))
}

func deviceTemplate(t testing.TB) Template {
	return Template{Subject: pkix.Name{CommonName: "dev-0001"}, PublicKey: mustKey(t, "P-256", "device").Public(), NotBefore: t0, NotAfter: years(10)}
}

func TestHierarchyOfEveryAlgorithm(t *testing.T) {
	for _, alg := range []string{"P-256", "P-384", "P-521", "Ed25519", "RSA-3072"} {
		t.Run(alg, func(t *testing.T) {
			f := newFamily(t, alg, alg)
			dev := f.device(t)
			if err := Verify([]*x509.Certificate{dev, f.factory}, []*x509.Certificate{f.root}, years(1)); err != nil {
				t.Error(err)
			}
			for _, c := range []*x509.Certificate{f.root, f.factory, dev} {
				if err := Lint(c); err != nil {
					t.Error(err)
				}
			}
			if err := CheckChild(f.root, f.root); err != nil {
				t.Error(err)
			}
			if err := CheckChild(dev, f.factory); err != nil {
				t.Error(err)
			}
			roots, inter := x509.NewCertPool(), x509.NewCertPool()
			roots.AddCert(f.root)
			inter.AddCert(f.factory)
			if _, err := dev.Verify(x509.VerifyOptions{Roots: roots, Intermediates: inter, CurrentTime: years(1), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
				t.Error("crypto/x509:", err)
			}
			crl, err := f.rootIssuer.PrepareCRL(CRLTemplate{Number: big.NewInt(1), ThisUpdate: t0, NextUpdate: years(1), Entries: []x509.RevocationListEntry{{SerialNumber: f.factory.SerialNumber, RevocationTime: t0, ReasonCode: 1}}}, nil)
			if err != nil {
				t.Fatal(err)
			}
			list, err := crl.Sign(context.Background(), rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			if err := CheckCRL(list, f.root, nil); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestBuiltinProfiles(t *testing.T) {
	names := Builtins()
	if len(names) != 14 {
		t.Errorf("%d profiles", len(names))
	}
	for _, n := range names {
		p, err := Builtin(n)
		if err != nil {
			t.Fatal(err)
		}
		if p.Name() != n {
			t.Errorf("%s is called %s", n, p.Name())
		}
		if warned := p.Warning() != ""; warned != (n == "ota-connect-root") {
			t.Errorf("%s: warning %q", n, p.Warning())
		}
	}
	if _, err := Builtin("nobody"); err == nil {
		t.Error("an unknown profile was found")
	}
}

func TestSignRedeemsOnce(t *testing.T) {
	f := newFamily(t, "P-256", "P-256")
	prep, err := f.facIssuer.Prepare(mustProfile(t, "device"), deviceTemplate(t), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	results := make(chan error)
	for range 16 {
		go func() { _, err := prep.Sign(context.Background(), rand.Reader); results <- err }()
	}
	won := 0
	for range 16 {
		if err := <-results; err == nil {
			won++
		}
	}
	if won != 1 {
		t.Errorf("signed %d times", won)
	}
}

// TestNewSerial: 158 of the 160 bits are the reader's.
func TestNewSerial(t *testing.T) {
	for given, want := range map[byte]string{0x00: "40" + strings.Repeat("00", 19), 0xff: "7f" + strings.Repeat("ff", 19), 0xa5: "65" + strings.Repeat("a5", 19)} {
		n, err := NewSerial(bytes.NewReader(bytes.Repeat([]byte{given}, 20)))
		if err != nil || fmt.Sprintf("%x", n) != want {
			t.Errorf("%x of %x, want %s: %v", n, given, want, err)
		}
	}
	if n, err := NewSerial(bytes.NewReader(make([]byte, 19))); err == nil {
		t.Errorf("%x of 19 bytes", n)
	}
}

// swapped is a key in whose place another has come since the certificate was prepared.
type swapped struct {
	crypto.Signer
	now crypto.Signer
}

func (s *swapped) Public() crypto.PublicKey {
	if s.now != nil {
		return s.now.Public()
	}
	return s.Signer.Public()
}

func (s *swapped) Sign(r io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	if s.now != nil {
		return s.now.Sign(r, digest, o)
	}
	return s.Signer.Sign(r, digest, o)
}

// TestKeyChangedSincePrepared: a certificate and a CRL are signed with the key that they were prepared for, or not at all.
func TestKeyChangedSincePrepared(t *testing.T) {
	f := newFamily(t, "P-256", "P-256")
	key := &swapped{Signer: f.factoryKey}
	issuer := mustIssuer(t, f.factory, key)
	prepared, err := issuer.Prepare(mustProfile(t, "device"), deviceTemplate(t), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	list, err := issuer.PrepareCRL(CRLTemplate{Number: big.NewInt(1), ThisUpdate: t0, NextUpdate: t0.AddDate(0, 1, 0)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	key.now = mustKey(t, "P-256", "another")
	if c, err := prepared.Sign(context.Background(), rand.Reader); err == nil || c != nil {
		t.Errorf("certificate: %v", err)
	}
	if c, err := list.Sign(context.Background(), rand.Reader); err == nil || c != nil {
		t.Errorf("CRL: %v", err)
	}
}

func TestRoleOf(t *testing.T) {
	f := newFamily(t, "P-256", "P-256")
	st := mustIssue(t, f.rootIssuer, mustProfile(t, "station"), Template{Subject: cn("line-1"), PublicKey: mustKey(t, "P-256", "station").Public(),
		NotBefore: t0, NotAfter: years(2), URIs: []*url.URL{StationURI("line-1")}})
	if role, name, err := RoleOf(st); role != RoleStation || name != "line-1" || err != nil {
		t.Error(role, name, err)
	}
	if _, _, err := RoleOf(f.device(t)); err == nil {
		t.Error("a device has a role")
	}
	for _, s := range []string{"urn:hanaper:station:", "urn:hanaper:root:x", "urn:hanaper:station:a:b", "urn:hanaper:station:../x", "urn:other:station:x", "URN:hanaper:station:x"} {
		u, _ := url.Parse(s)
		if _, _, err := RoleOf(&x509.Certificate{URIs: []*url.URL{u}}); err == nil && s != "URN:hanaper:station:x" {
			t.Errorf("%s has a role", s)
		}
	}
	if _, _, err := RoleOf(&x509.Certificate{URIs: []*url.URL{StationURI("a"), OperatorURI("a")}}); err == nil {
		t.Error("two roles are one")
	}
}
