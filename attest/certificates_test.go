package attest_test

import (
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"testing"
	"time"

	"github.com/hanaper/hanaper/attest"
	"github.com/hanaper/hanaper/attest/attesttest"
)

func hexOf(b []byte) string { return hex.EncodeToString(b) }

var ekUsage = []asn1.ObjectIdentifier{{2, 23, 133, 8, 1}}

// ekTemplate is a certificate as a manufacturer makes it for an endorsement key.
func ekTemplate(t *testing.T) *x509.Certificate {
	return &x509.Certificate{SerialNumber: attesttest.Serial(t), Subject: pkix.Name{CommonName: "chip"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().AddDate(10, 0, 0), KeyUsage: x509.KeyUsageKeyEncipherment, UnknownExtKeyUsage: ekUsage, BasicConstraintsValid: true}
}

// tpmSAN is a subjectAltName with a directory name that holds the given attributes of the TCG.
func tpmSAN(t *testing.T, critical bool, attributes ...pkix.AttributeTypeAndValue) pkix.Extension {
	t.Helper()
	rdns := pkix.RDNSequence{}
	for _, a := range attributes {
		rdns = append(rdns, pkix.RelativeDistinguishedNameSET{a})
	}
	name, err := asn1.Marshal(rdns)
	if err != nil {
		t.Fatal(err)
	}
	general, err := asn1.Marshal([]asn1.RawValue{{Class: 2, Tag: 4, IsCompound: true, Bytes: name}})
	if err != nil {
		t.Fatal(err)
	}
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Critical: critical, Value: general}
}

func tcg(n int, value string) pkix.AttributeTypeAndValue {
	return pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{2, 23, 133, 2, n}, Value: value}
}

// refuseCertificates: certificates over the chip's real endorsement key, each with one fault.
func refuseCertificates(t *testing.T, maker, other *attesttest.Maker, d *device) {
	pinned := attesttest.Pin(t, attest.TPM, maker)
	ek := d.EKCertificate(t).PublicKey.(*rsa.PublicKey)
	with := func(change func(*x509.Certificate), parent *x509.Certificate, key *rsa.PrivateKey, rest ...*x509.Certificate) attest.TPMEvidence {
		c := ekTemplate(t)
		if change != nil {
			change(c)
		}
		e := d.evidence
		e.EKChain = [][]byte{attesttest.Sign(t, c, ek, parent, key).Raw}
		for _, r := range rest {
			e.EKChain = append(e.EKChain, r.Raw)
		}
		return e
	}
	ours := func(change func(*x509.Certificate)) attest.TPMEvidence {
		return with(change, maker.Intermediate, maker.Key, maker.Intermediate)
	}
	if _, err := pinned.VerifyTPM(ptr(ours(nil)), d.want); err != nil {
		t.Fatalf("the template itself: %v", err)
	}
	leafKey := attesttest.NewMaker(t, "leaf").Key
	leaf := attesttest.Sign(t, ekTemplate(t), leafKey.Public(), maker.Intermediate, maker.Key)
	critical := func(attributes ...pkix.AttributeTypeAndValue) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.ExtraExtensions = []pkix.Extension{tpmSAN(t, true, attributes...)} }
	}
	if v, err := pinned.VerifyTPM(ptr(ours(critical(tcg(1, "id:494E5443"), tcg(2, "m"), tcg(3, "id:1")))), d.want); err != nil || v.Fact("tpm manufacturer") != "id:494E5443" {
		t.Errorf("a critical subjectAltName of a tpm: %v, %v", v, err)
	}

	for _, c := range []struct {
		name   string
		e      attest.TPMEvidence
		reason error
		text   string
	}{
		{"chain cut short", with(nil, maker.Intermediate, maker.Key), attest.ErrManufacturer, "the chain is cut short"},
		{"the root's name with another key", with(nil, &x509.Certificate{Subject: maker.Root.Subject, RawSubject: maker.Root.RawSubject, PublicKey: other.Key.Public()}, other.Key), attest.ErrManufacturer, "key did not sign it"},
		{"another manufacturer with our intermediate beside it", with(nil, other.Intermediate, other.Key, maker.Intermediate), attest.ErrManufacturer, "neither sent nor pinned"},
		{"signed by a certificate that is no CA", with(nil, leaf, leafKey, leaf, maker.Intermediate), attest.ErrManufacturer, ""},
		{"the pinned root as the chip", chainOf(d, maker.Root), attest.ErrCertificate, "is a CA's"},
		{"a CA", ours(func(c *x509.Certificate) { c.IsCA, c.KeyUsage = true, c.KeyUsage|x509.KeyUsageCertSign }), attest.ErrCertificate, "is a CA's"},
		{"expired", ours(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), attest.ErrExpired, "is valid from"},
		{"not yet valid", ours(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }), attest.ErrExpired, "is valid from"},
		{"a server's certificate of the same CA", ours(func(c *x509.Certificate) {
			c.UnknownExtKeyUsage, c.ExtKeyUsage = nil, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		}), attest.ErrCertificate, "not that of endorsement keys"},
		{"nothing says endorsement", ours(func(c *x509.Certificate) { c.UnknownExtKeyUsage = nil }), attest.ErrCertificate, "neither"},
		{"only a common name says TPM", ours(func(c *x509.Certificate) {
			c.UnknownExtKeyUsage, c.DNSNames, c.Subject = nil, []string{"id:494E5443"}, pkix.Name{CommonName: "TPM EK", ExtraNames: []pkix.AttributeTypeAndValue{tcg(1, "id:494E5443")}}
		}), attest.ErrCertificate, "neither"},
		{"its key may sign", ours(func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageDigitalSignature }), attest.ErrCertificate, "allows its key to sign"},
		{"its key may not encipher", ours(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDataEncipherment }), attest.ErrCertificate, "keyEncipherment"},
		{"a critical extension that nobody knows", ours(func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
		}), attest.ErrCertificate, "1.2.3"},
		{"a critical subjectAltName that names no TPM", ours(critical(tcg(9, "x"))), attest.ErrCertificate, "2.5.29.17"},
		{"two manufacturers in one name", ours(critical(tcg(1, "a"), tcg(1, "b"))), attest.ErrMalformed, "subjectAltName"},
		{"another key", chainOf(d, attesttest.Sign(t, ekTemplate(t), maker.Key.Public(), maker.Intermediate, maker.Key), maker.Intermediate), attest.ErrEK, "another key"},
	} {
		t.Run(c.name, func(t *testing.T) { refused(t, pinned, c.e, d.want, c.reason, c.text) })
	}
	late := d.want
	late.At = d.EKCertificate(t).NotAfter.Add(time.Second)
	refused(t, pinned, d.evidence, late, attest.ErrExpired, "is valid from")
}

func ptr[T any](v T) *T { return &v }

func chainOf(d *device, chain ...*x509.Certificate) attest.TPMEvidence {
	e := d.evidence
	e.EKChain = nil
	for _, c := range chain {
		e.EKChain = append(e.EKChain, c.Raw)
	}
	return e
}

// TestManufacturers: what cannot be pinned.
func TestManufacturers(t *testing.T) {
	maker := attesttest.NewMaker(t, "Acme")
	leaf := attesttest.Sign(t, ekTemplate(t), maker.Key.Public(), maker.Intermediate, maker.Key)
	for name, c := range map[string][]attest.ManufacturerConfig{
		"no name":  {{Kind: attest.TPM, Roots: []*x509.Certificate{maker.Root}}},
		"no kind":  {{Name: "a", Roots: []*x509.Certificate{maker.Root}}},
		"no root":  {{Name: "a", Kind: attest.TPM}},
		"a leaf":   {{Name: "a", Kind: attest.TPM, Roots: []*x509.Certificate{leaf}}},
		"twice":    {maker.Config(attest.TPM), maker.Config(attest.TPM)},
		"too many": {{Name: "a", Kind: attest.TPM, Roots: make([]*x509.Certificate, 1000)}},
	} {
		if m, err := attest.NewManufacturers(c...); err == nil || m != nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := attest.NewManufacturers(maker.Config(attest.TPM), maker.Config(attest.PIV)); err != nil {
		t.Errorf("one root for two kinds: %v", err)
	}
}
