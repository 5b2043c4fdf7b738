package ca

import (
	"context"
	"crypto/rand"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"
)

// TestConfirm: a finished certificate is confirmed against what it was made of, and against nothing that differs from
// it in one fact.
func TestConfirm(t *testing.T) {
	rootKey, err := SpecimenKey("P-384", "confirm root")
	if err != nil {
		t.Fatal(err)
	}
	leafKey, err := SpecimenKey("P-256", "confirm leaf")
	if err != nil {
		t.Fatal(err)
	}
	otherKey, err := SpecimenKey("P-256", "confirm other")
	if err != nil {
		t.Fatal(err)
	}
	rootProfile, err := Builtin("gateway-root")
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	serial := func(seed byte) []byte { return append([]byte{0x40, seed}, make([]byte, 18)...) }
	rootTemplate := Template{NotBefore: begin, NotAfter: begin.AddDate(10, 0, 0), PublicKey: rootKey.Public()}
	rootTemplate.Subject.CommonName = "Root"
	rootTemplate.Serial = bigBytes(serial(1))
	prepared, err := PrepareRoot(rootProfile, rootTemplate, rootKey, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	root, err := prepared.Sign(context.Background(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if err := (Edition{}).ConfirmRoot(rootProfile, rootTemplate, rootKey.Public(), root); err != nil {
		t.Fatal(err)
	}
	issuer, err := NewIssuer(root, rootKey)
	if err != nil {
		t.Fatal(err)
	}
	config := ProfileConfig{Name: "own", KeyUsage: []string{"digitalSignature"}, ExtKeyUsage: []string{"serverAuth"}, MaxValidityDays: 400,
		SANs: []string{"dns", "ip", "uri"}, KeyAlgorithms: []string{"P-256"}, AllowedAttributes: []string{"O"}, Policies: []string{"1.2.3.4", "1.2.3.5"},
		CPS: map[string]string{"1.2.3.4": "http://example.com/cps"}, CRLURLs: []string{"http://example.com/crl"}, OCSPURLs: []string{"http://example.com/ocsp"},
		IssuerURLs: []string{"http://example.com/ca"}}
	template := func() Template {
		u, _ := url.Parse("https://example.com/x")
		x := Template{NotBefore: begin, NotAfter: begin.AddDate(1, 0, 0), PublicKey: leafKey.Public(), Serial: bigBytes(serial(2)),
			DNSNames: []string{"a.example.com"}, IPs: []net.IP{net.IPv4(192, 0, 2, 1)}, URIs: []*url.URL{u}}
		x.Subject.CommonName, x.Subject.Organization = "a.example.com", []string{"Example"}
		return x
	}
	p, err := NewProfile(config)
	if err != nil {
		t.Fatal(err)
	}
	pre, err := issuer.Prepare(p, template(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := pre.Sign(context.Background(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if err := issuer.Confirm(p, template(), cert); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*ProfileConfig, *Template){
		"serial number":                    func(_ *ProfileConfig, x *Template) { x.Serial = bigBytes(serial(3)) },
		"subject is":                       func(_ *ProfileConfig, x *Template) { x.Subject.CommonName = "b.example.com" },
		"subject is not":                   func(_ *ProfileConfig, x *Template) { x.Subject.Organization = nil },
		"validity":                         func(_ *ProfileConfig, x *Template) { x.NotBefore = x.NotBefore.Add(time.Second) },
		"validity is":                      func(_ *ProfileConfig, x *Template) { x.NotAfter = x.NotAfter.Add(time.Second) },
		"public key":                       func(_ *ProfileConfig, x *Template) { x.PublicKey = otherKey.Public() },
		"key usage":                        func(c *ProfileConfig, _ *Template) { c.KeyUsage = []string{"keyAgreement"} },
		"extended key usage":               func(c *ProfileConfig, _ *Template) { c.ExtKeyUsage = []string{"clientAuth"} },
		"extended key usage is":            func(c *ProfileConfig, _ *Template) { c.ExtKeyUsageCritical = true },
		"subject alternative names":        func(_ *ProfileConfig, x *Template) { x.DNSNames = []string{"b.example.com"} },
		"subject alternative names is":     func(_ *ProfileConfig, x *Template) { x.IPs = nil },
		"subject alternative names is not": func(_ *ProfileConfig, x *Template) { x.URIs = nil },
		"policies":                         func(c *ProfileConfig, _ *Template) { c.Policies = []string{"1.2.3.4"} },
		"policies is":                      func(c *ProfileConfig, _ *Template) { c.CPS = nil },
		"policies is not":                  func(c *ProfileConfig, _ *Template) { c.CPS = map[string]string{"1.2.3.5": "http://example.com/cps"} },
		"CRL addresses":                    func(c *ProfileConfig, _ *Template) { c.CRLURLs = nil },
		"OCSP or issuer addresses":         func(c *ProfileConfig, _ *Template) { c.OCSPURLs = nil },
		"OCSP or issuer addresses is":      func(c *ProfileConfig, _ *Template) { c.IssuerURLs = []string{"http://example.com/other"} },
	} {
		other, x := config, template()
		change(&other, &x)
		q, err := NewProfile(other)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := issuer.Confirm(q, x, cert); err == nil || !strings.Contains(err.Error(), "its "+name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	forged := *cert
	forged.Signature = append([]byte{}, cert.Signature...)
	forged.Signature[len(forged.Signature)-1] ^= 1
	if err := issuer.Confirm(p, template(), &forged); !Breaks(err, "CA-020") {
		t.Errorf("a signature that does not verify: %v", err)
	}
	// An extension that is known to nobody was compared by nobody.
	strange := *cert
	strange.Extensions = append(strange.Extensions[:len(strange.Extensions):len(strange.Extensions)], extension("1.2.3.4.5", []byte{5, 0}))
	if err := issuer.Confirm(p, template(), &strange); err == nil || !strings.Contains(err.Error(), "list of extensions") {
		t.Errorf("an unknown extension: %v", err)
	}
	if err := issuer.Confirm(p, template(), nil); err == nil {
		t.Error("no certificate: confirmed")
	}
}

func bigBytes(b []byte) *big.Int { return new(big.Int).SetBytes(b) }

func extension(oid string, value []byte) pkix.Extension {
	id, err := parseOID(oid)
	if err != nil {
		panic(err)
	}
	return pkix.Extension{Id: asn1.ObjectIdentifier(id), Value: value}
}
