package ca

import (
	"crypto/x509"
	"math/big"
	"testing"
)

// FuzzLint holds whatever crypto/x509 can read to the rules: no certificate or CRL makes them panic.
func FuzzLint(f *testing.F) {
	e := newEverything(f, "P-256")
	f.Add(e.root.Raw)
	f.Add(e.factory.Raw)
	f.Add(e.crl.Raw)
	f.Add(e.ca["subordinate-ca"].Raw)
	for _, c := range e.leaves {
		f.Add(c.Raw)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, err := x509.ParseCertificate(data); err == nil {
			for _, issuer := range []*x509.Certificate{e.root, e.factory, c} {
				_ = CheckChild(c, issuer, OTAConnect)
				_ = CheckChild(e.leaves["device"], c)
			}
			_ = Verify([]*x509.Certificate{c, e.factory}, []*x509.Certificate{e.root}, t0)
			_ = Verify([]*x509.Certificate{e.leaves["device"], c}, []*x509.Certificate{c}, t0)
			_, _, _ = RoleOf(c)
		}
		if crl, err := x509.ParseRevocationList(data); err == nil {
			_ = LintCRL(crl)
			_ = CheckCRL(crl, e.factory, e.crl)
			_ = CheckCRL(e.crl, e.factory, crl, big.NewInt(5))
		}
	})
}

// TestNothing gives the checks nothing to read.
func TestNothing(t *testing.T) {
	c := newFamily(t, "P-256", "P-256").root
	for name, err := range map[string]error{
		"Lint":       Lint(nil),
		"no child":   CheckChild(nil, c),
		"no issuer":  CheckChild(c, nil),
		"LintCRL":    LintCRL(nil),
		"CheckCRL":   CheckCRL(nil, c, nil),
		"hole":       Verify([]*x509.Certificate{c, nil}, []*x509.Certificate{c}, t0),
		"no anchors": Verify([]*x509.Certificate{c}, []*x509.Certificate{nil}, t0),
	} {
		if len(Violations(err)) == 0 {
			t.Errorf("%s passes", name)
		}
	}
	if _, err := NewIssuer(nil, nil); err == nil {
		t.Error("an issuer of nothing")
	}
	if _, err := PrepareRoot(nil, Template{}, nil, nil); err == nil {
		t.Error("a root of nothing")
	}
	if _, err := mustIssuer(t, c, mustKey(t, "P-256", "root")).Prepare(nil, Template{}, nil); err == nil {
		t.Error("a certificate of no profile")
	}
	if _, err := mustIssuer(t, c, mustKey(t, "P-256", "root")).Prepare(mustProfile(t, "device"), Template{}, nopReader{}); err == nil {
		t.Error("a certificate of an empty template")
	}
	if SameKey(nil, nil) || SameKey(c.PublicKey, nil) {
		t.Error("no keys are the same")
	}
}
