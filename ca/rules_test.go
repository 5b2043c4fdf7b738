package ca

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/csr"
	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// leaf and sub are templates of good finished certificates, for forge to spoil.
func leaf(t testing.TB) *x509.Certificate {
	serial, err := NewSerial(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: "dev-1"}, NotBefore: t0, NotAfter: years(5),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
}

func sub(t testing.TB) *x509.Certificate {
	c := leaf(t)
	c.Subject, c.KeyUsage, c.ExtKeyUsage = cn("Example Sub CA"), x509.KeyUsageCertSign|x509.KeyUsageCRLSign, nil
	c.BasicConstraintsValid, c.IsCA, c.MaxPathLen, c.MaxPathLenZero = true, true, 0, true
	return c
}

// forge makes a finished certificate without asking any rule; crypto/x509 is the forger's tool.
func forge(t testing.TB, tpl, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	t.Helper()
	if tpl.SubjectKeyId == nil {
		spki, err := x509.MarshalPKIXPublicKey(pub)
		if err != nil {
			t.Fatal(err)
		}
		tpl.SubjectKeyId, _ = keyID(spki)
	}
	if parent == nil {
		parent = tpl
	}
	der, err := x509.CreateCertificate(rand.Reader, tpl, parent, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// resign replaces octets in a certificate's signed part and signs it anew.
func resign(t testing.TB, c *x509.Certificate, key crypto.Signer, old, with []byte) *x509.Certificate {
	t.Helper()
	if bytes.Count(c.RawTBSCertificate, old) != 1 || len(old) != len(with) {
		t.Fatalf("%x stands %d times", old, bytes.Count(c.RawTBSCertificate, old))
	}
	tbs := bytes.Replace(c.RawTBSCertificate, old, with, 1)
	sig, err := csr.SignMessage(context.Background(), rand.Reader, key, c.SignatureAlgorithm, tbs)
	if err != nil {
		t.Fatal(err)
	}
	der, err := csr.Assemble(tbs, c.SignatureAlgorithm, sig)
	if err != nil {
		t.Fatal(err)
	}
	out, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func v1(t testing.TB, f *family) *x509.Certificate {
	var b cryptobyte.Builder
	spki, _ := x509.MarshalPKIXPublicKey(f.factoryKey.Public())
	serial, _ := NewSerial(rand.Reader)
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1BigInt(serial)
		b.AddBytes(csr.AlgorithmIdentifier(x509.ECDSAWithSHA256))
		b.AddBytes(f.root.RawSubject)
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { addTime(b, t0); addTime(b, years(1)) })
		b.AddBytes(f.factory.RawSubject)
		b.AddBytes(spki)
	})
	tbs := b.BytesOrPanic()
	sig, err := csr.SignMessage(context.Background(), rand.Reader, f.rootKey, x509.ECDSAWithSHA256, tbs)
	if err != nil {
		t.Fatal(err)
	}
	der, _ := csr.Assemble(tbs, x509.ECDSAWithSHA256, sig)
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

type ruleCase struct {
	rule, name string
	run        func(t *testing.T) error
}

// finished is a case of CheckChild: a template, spoilt, issued by f's factory CA (a leaf) or root (a CA).
func finished(rule, name string, spoil func(*x509.Certificate, *family)) ruleCase {
	return ruleCase{rule, name, func(t *testing.T) error {
		f := newFamily(t, "P-256", "P-256")
		c := leaf(t)
		spoil(c, f)
		return CheckChild(forge(t, c, f.factory, mustKey(t, "P-256", "device").Public(), f.factoryKey), f.factory)
	}}
}

func finishedCA(rule, name string, spoil func(*x509.Certificate, *family)) ruleCase {
	return ruleCase{rule, name, func(t *testing.T) error {
		f := newFamily(t, "P-256", "P-256")
		c := sub(t)
		spoil(c, f)
		return CheckChild(forge(t, c, f.root, mustKey(t, "P-256", "sub").Public(), f.rootKey), f.root)
	}}
}

// asked is a case of Prepare by the factory CA with the device profile, or by the root with another.
func asked(rule, name, profile string, spoil func(*ProfileConfig, *Template, *family)) ruleCase {
	return ruleCase{rule, name, func(t *testing.T) error {
		f := newFamily(t, "P-256", "P-256")
		c, err := BuiltinConfig(profile)
		if err != nil {
			t.Fatal(err)
		}
		tpl := deviceTemplate(t)
		issuer := f.facIssuer
		if c.CA || profile != "device" {
			issuer, tpl.Subject = f.rootIssuer, cn("asked")
		}
		spoil(&c, &tpl, f)
		p, err := NewProfile(c)
		if err != nil {
			t.Fatal(err)
		}
		prep, err := issuer.Prepare(p, tpl, rand.Reader)
		if err != nil && prep != nil {
			t.Error("refused, and something prepared all the same")
		}
		return err
	}}
}

// restricted makes a root with more or less than usual and returns it with its key.
func restricted(t testing.TB, change func(*x509.Certificate)) (*x509.Certificate, crypto.Signer) {
	c := sub(t)
	c.Subject, c.MaxPathLen, c.MaxPathLenZero, c.NotAfter = cn("Narrow Root"), 2, false, years(30)
	change(c)
	k := mustKey(t, "P-256", "narrow")
	return forge(t, c, nil, k.Public(), k), k
}

func underRestricted(rule, name string, change, spoil func(*x509.Certificate)) ruleCase {
	return ruleCase{rule, name, func(t *testing.T) error {
		root, key := restricted(t, change)
		c := leaf(t)
		spoil(c)
		return CheckChild(forge(t, c, root, mustKey(t, "P-256", "device").Public(), key), root)
	}}
}

func crlCase(rule, name string, spoil func(*CRLTemplate, *family, *testing.T) *x509.RevocationList) ruleCase {
	return ruleCase{rule, name, func(t *testing.T) error {
		f := newFamily(t, "P-256", "P-256")
		tpl := CRLTemplate{Number: big.NewInt(7), ThisUpdate: years(1), NextUpdate: years(2), Entries: []x509.RevocationListEntry{entry(1), entry(2)}}
		previous := spoil(&tpl, f, t)
		prep, err := f.facIssuer.PrepareCRL(tpl, previous)
		if err != nil && prep != nil {
			t.Error("refused, and something prepared all the same")
		}
		return err
	}}
}

func entry(n int64) x509.RevocationListEntry {
	return x509.RevocationListEntry{SerialNumber: big.NewInt(n), RevocationTime: years(1), ReasonCode: 1}
}

func previousCRL(t testing.TB, f *family, number int64, entries ...x509.RevocationListEntry) *x509.RevocationList {
	prep, err := f.facIssuer.PrepareCRL(CRLTemplate{Number: big.NewInt(number), ThisUpdate: years(1), NextUpdate: years(2), Entries: entries}, nil)
	if err != nil {
		t.Fatal(err)
	}
	crl, err := prep.Sign(context.Background(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return crl
}

// forgeCRL makes a finished CRL without asking any rule.
func forgeCRL(t testing.TB, tpl *x509.RevocationList, issuer *x509.Certificate, key crypto.Signer) *x509.RevocationList {
	der, err := x509.CreateRevocationList(rand.Reader, tpl, issuer, key)
	if err != nil {
		t.Fatal(err)
	}
	crl, err := x509.ParseRevocationList(der)
	if err != nil {
		t.Fatal(err)
	}
	return crl
}

func finishedCRL(rule, name string, spoil func(*x509.RevocationList)) ruleCase {
	return ruleCase{rule, name, func(t *testing.T) error {
		f := newFamily(t, "P-256", "P-256")
		tpl := &x509.RevocationList{Number: big.NewInt(3), ThisUpdate: t0, NextUpdate: years(1)}
		spoil(tpl)
		return CheckCRL(forgeCRL(t, tpl, f.factory, f.factoryKey), f.factory, nil)
	}}
}

func none(*x509.Certificate)              {}
func ext(id ...int) asn1.ObjectIdentifier { return id }
func withEKU(u ...x509.ExtKeyUsage) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.ExtKeyUsage = u }
}

var ruleCases = []ruleCase{
	finished("CA-001", "leaf", func(c *x509.Certificate, f *family) { c.NotAfter = f.factory.NotAfter.Add(time.Second) }),
	finishedCA("CA-001", "ca", func(c *x509.Certificate, f *family) { c.NotAfter = f.root.NotAfter.Add(time.Second) }),
	asked("CA-001", "asked", "device", func(_ *ProfileConfig, tpl *Template, f *family) { tpl.NotAfter = f.factory.NotAfter.Add(time.Second) }),
	asked("CA-001", "asked ca", "factory-ca", func(_ *ProfileConfig, tpl *Template, f *family) { tpl.NotAfter = years(31) }),
	finished("CA-002", "leaf", func(c *x509.Certificate, f *family) { c.NotBefore = t0.Add(-time.Second) }),
	asked("CA-002", "asked ca", "factory-ca", func(_ *ProfileConfig, tpl *Template, f *family) { tpl.NotBefore = t0.Add(-time.Second) }),
	finishedCA("CA-003", "as long as the issuer's", func(c *x509.Certificate, f *family) { c.MaxPathLen, c.MaxPathLenZero = 2, false }),
	finishedCA("CA-003", "without limit", func(c *x509.Certificate, f *family) { c.MaxPathLen, c.MaxPathLenZero = -1, false }),
	asked("CA-003", "asked without limit", "subordinate-ca", func(_ *ProfileConfig, tpl *Template, f *family) {}),
	{"CA-003", "a CA under pathlen 0", func(t *testing.T) error {
		f := newFamily(t, "P-256", "P-256")
		_, err := f.facIssuer.Prepare(mustProfile(t, "factory-ca"), Template{Subject: cn("Below"), PublicKey: mustKey(t, "P-256", "below").Public(), NotBefore: t0, NotAfter: years(2)}, rand.Reader)
		return err
	}},
	{"CA-003", "a chain deeper than the root's limit", func(t *testing.T) error {
		root, key := restricted(t, func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, true })
		mid := forge(t, sub(t), root, mustKey(t, "P-256", "mid").Public(), key)
		return Verify([]*x509.Certificate{forge(t, leaf(t), mid, mustKey(t, "P-256", "device").Public(), mustKey(t, "P-256", "mid")), mid}, []*x509.Certificate{root}, years(1))
	}},
	underRestricted("CA-004", "dns outside permitted", func(c *x509.Certificate) {
		c.PermittedDNSDomains, c.PermittedDNSDomainsCritical = []string{"example.com"}, true
	}, func(c *x509.Certificate) { c.DNSNames = []string{"example.org"} }),
	underRestricted("CA-004", "dns suffix is not below", func(c *x509.Certificate) {
		c.PermittedDNSDomains, c.PermittedDNSDomainsCritical = []string{"example.com"}, true
	}, func(c *x509.Certificate) { c.DNSNames = []string{"badexample.com"} }),
	underRestricted("CA-004", "dns excluded", func(c *x509.Certificate) {
		c.ExcludedDNSDomains, c.PermittedDNSDomainsCritical = []string{"example.com"}, true
	}, func(c *x509.Certificate) { c.DNSNames = []string{"a.EXAMPLE.com"} }),
	underRestricted("CA-004", "ip outside", func(c *x509.Certificate) {
		c.PermittedIPRanges, c.PermittedDNSDomainsCritical = []*net.IPNet{{IP: net.IP{10, 0, 0, 0}, Mask: net.CIDRMask(8, 32)}}, true
	}, func(c *x509.Certificate) { c.IPAddresses = []net.IP{{192, 0, 2, 1}} }),
	underRestricted("CA-004", "email outside", func(c *x509.Certificate) {
		c.PermittedEmailAddresses, c.PermittedDNSDomainsCritical = []string{"example.com"}, true
	}, func(c *x509.Certificate) { c.EmailAddresses = []string{"a@example.org"} }),
	underRestricted("CA-004", "uri without host", func(c *x509.Certificate) {
		c.PermittedURIDomains, c.PermittedDNSDomainsCritical = []string{"example.com"}, true
	}, func(c *x509.Certificate) { c.URIs = []*url.URL{StationURI("x")} }),
	underRestricted("CA-004", "a CA with wider constraints", func(c *x509.Certificate) {
		c.PermittedDNSDomains, c.PermittedDNSDomainsCritical = []string{"a.example.com"}, true
	}, func(c *x509.Certificate) {
		c.PermittedDNSDomains, c.PermittedDNSDomainsCritical = []string{"example.com"}, true
		c.BasicConstraintsValid, c.IsCA, c.MaxPathLenZero, c.KeyUsage, c.ExtKeyUsage = true, true, true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign, nil
	}),
	{"CA-004", "of a CA two above", func(t *testing.T) error {
		root, key := restricted(t, func(c *x509.Certificate) {
			c.PermittedDNSDomains, c.PermittedDNSDomainsCritical = []string{"example.com"}, true
		})
		mid := forge(t, sub(t), root, mustKey(t, "P-256", "mid").Public(), key)
		i := mustIssuer(t, mid, mustKey(t, "P-256", "mid"), root)
		_, err := i.Prepare(mustProfile(t, "server"), Template{Subject: cn("srv"), DNSNames: []string{"example.net"}, PublicKey: mustKey(t, "P-256", "srv").Public(), NotBefore: t0, NotAfter: years(1)}, rand.Reader)
		return err
	}},
	underRestricted("CA-005", "clientAuth under serverAuth", withEKU(x509.ExtKeyUsageServerAuth), none),
	underRestricted("CA-005", "a CA without usages under one with", withEKU(x509.ExtKeyUsageServerAuth), func(c *x509.Certificate) {
		c.BasicConstraintsValid, c.IsCA, c.MaxPathLenZero, c.KeyUsage, c.ExtKeyUsage = true, true, true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign, nil
	}),
	{"CA-005", "a factory CA under ota-connect-root without the waiver", func(t *testing.T) error {
		k := mustKey(t, "P-256", "ota")
		root := mustRoot(t, mustProfile(t, "ota-connect-root"), "OTA Root", k)
		_, err := mustIssuer(t, root, k).Prepare(mustProfile(t, "factory-ca"), Template{Subject: cn("F"), PublicKey: mustKey(t, "P-256", "factory").Public(), NotBefore: t0, NotAfter: years(2)}, rand.Reader)
		return err
	}},
	finishedCA("CA-006", "sub CA with its issuer's name", func(c *x509.Certificate, f *family) { c.Subject = f.root.Subject }),
	finishedCA("CA-006", "in other letters", func(c *x509.Certificate, f *family) {
		c.Subject = pkix.Name{CommonName: "example  FLEET root", Organization: []string{"EXAMPLE"}}
	}),
	asked("CA-006", "asked", "factory-ca", func(_ *ProfileConfig, tpl *Template, f *family) { tpl.Subject = f.root.Subject }),
	{"CA-007", "finished", func(t *testing.T) error {
		f := newFamily(t, "P-256", "P-256")
		return CheckChild(forge(t, sub(t), f.root, f.rootKey.Public(), f.rootKey), f.root)
	}},
	asked("CA-007", "asked", "factory-ca", func(_ *ProfileConfig, tpl *Template, f *family) { tpl.PublicKey = f.rootKey.Public() }),
	{"CA-008", "P-384 with SHA-256", func(t *testing.T) error {
		f := newFamily(t, "P-384", "P-256")
		c := sub(t)
		c.SignatureAlgorithm = x509.ECDSAWithSHA256
		return CheckChild(forge(t, c, f.root, mustKey(t, "P-256", "sub").Public(), f.rootKey), f.root)
	}},
	asked("CA-008", "RSA asked of a P-256 issuer", "device", func(c *ProfileConfig, tpl *Template, f *family) { c.SignatureAlgorithm = "SHA256-RSA" }),
	finished("CA-009", "18 octets", func(c *x509.Certificate, f *family) { c.SerialNumber = new(big.Int).Lsh(big.NewInt(1), 18*8-2) }),
	finished("CA-009", "21 octets", func(c *x509.Certificate, f *family) { c.SerialNumber = new(big.Int).Lsh(big.NewInt(1), 20*8-1) }),
	finished("CA-009", "zero", func(c *x509.Certificate, f *family) { c.SerialNumber = big.NewInt(0) }),
	asked("CA-009", "asked negative", "device", func(_ *ProfileConfig, tpl *Template, f *family) { tpl.Serial = big.NewInt(-1) }),
	asked("CA-009", "asked short", "device", func(_ *ProfileConfig, tpl *Template, f *family) { tpl.Serial = big.NewInt(77) }),
	asked("CA-009", "asked 21 octets", "device", func(_ *ProfileConfig, tpl *Template, f *family) { tpl.Serial = new(big.Int).Lsh(big.NewInt(1), 160) }),
	{"CA-010", "a CA with RSA-2048", func(t *testing.T) error {
		f := newFamily(t, "P-256", "P-256")
		return CheckChild(forge(t, sub(t), f.root, mustKey(t, "RSA-2048", "sub").Public(), f.rootKey), f.root)
	}},
	{"CA-010", "P-224", func(t *testing.T) error {
		f := newFamily(t, "P-256", "P-256")
		return CheckChild(forge(t, leaf(t), f.factory, p224(t).Public(), f.factoryKey), f.factory)
	}},
	{"CA-011", "v1", func(t *testing.T) error { f := newFamily(t, "P-256", "P-256"); return CheckChild(v1(t, f), f.root) }},
	{"CA-011", "nothing", func(t *testing.T) error { return Lint(&x509.Certificate{SerialNumber: big.NewInt(1)}) }},
	finished("CA-012", "not made of the key", func(c *x509.Certificate, f *family) { c.SubjectKeyId = []byte{1, 2, 3} }),
	finished("CA-012", "none", func(c *x509.Certificate, f *family) { c.SubjectKeyId = []byte{} }),
	{"CA-013", "another's", func(t *testing.T) error {
		f := newFamily(t, "P-256", "P-256")
		c := forge(t, leaf(t), f.factory, mustKey(t, "P-256", "device").Public(), f.factoryKey)
		return CheckChild(resign(t, c, f.factoryKey, f.factory.SubjectKeyId, bytes.Repeat([]byte{9}, 20)), f.factory)
	}},
	{"CA-013", "none", func(t *testing.T) error {
		f := newFamily(t, "P-256", "P-256")
		blind := *f.factory
		blind.SubjectKeyId = nil
		return CheckChild(forge(t, leaf(t), &blind, mustKey(t, "P-256", "device").Public(), f.factoryKey), f.factory)
	}},
	finishedCA("CA-014", "not critical", func(c *x509.Certificate, f *family) {
		c.ExtraExtensions = []pkix.Extension{{Id: oidBasic, Value: []byte{0x30, 6, 1, 1, 0xff, 2, 1, 0}}}
	}),
	finishedCA("CA-015", "no cRLSign", func(c *x509.Certificate, f *family) { c.KeyUsage = x509.KeyUsageCertSign }),
	finished("CA-015", "none", func(c *x509.Certificate, f *family) { c.KeyUsage = 0 }),
	finished("CA-015", "a leaf that signs certificates", func(c *x509.Certificate, f *family) { c.KeyUsage |= x509.KeyUsageCertSign }),
	finished("CA-015", "not critical", func(c *x509.Certificate, f *family) {
		c.ExtraExtensions = []pkix.Extension{{Id: oidKeyUsage, Value: []byte{3, 2, 7, 0x80}}}
	}),
	finished("CA-016", "ends when it begins", func(c *x509.Certificate, f *family) { c.NotAfter = c.NotBefore }),
	asked("CA-016", "ends before it begins", "device", func(_ *ProfileConfig, tpl *Template, f *family) { tpl.NotAfter, tpl.NotBefore = t0, years(1) }),
	finished("CA-017", "two CNs", func(c *x509.Certificate, f *family) {
		c.Subject = pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{{Type: ext(2, 5, 4, 3), Value: "a"}, {Type: ext(2, 5, 4, 3), Value: "b"}}}
	}),
	finished("CA-017", "no CN", func(c *x509.Certificate, f *family) { c.Subject = pkix.Name{Organization: []string{"O"}} }),
	finished("CA-017", "slash", func(c *x509.Certificate, f *family) { c.Subject = pkix.Name{CommonName: "x/../../victim"} }),
	finished("CA-017", "NUL", func(c *x509.Certificate, f *family) { c.Subject = pkix.Name{CommonName: "victim\x00.evil"} }),
	finished("CA-017", "multi-valued", func(c *x509.Certificate, f *family) {
		c.Subject = pkix.Name{CommonName: "a", Organization: []string{"x", "y"}}
	}),
	{"CA-018", "a leaf as issuer", func(t *testing.T) error {
		f := newFamily(t, "P-256", "P-256")
		dev := f.device(t)
		return CheckChild(forge(t, leaf(t), dev, mustKey(t, "P-256", "other").Public(), mustKey(t, "P-256", "device")), dev)
	}},
	{"CA-018", "NewIssuer", func(t *testing.T) error {
		f := newFamily(t, "P-256", "P-256")
		_, err := NewIssuer(f.device(t), mustKey(t, "P-256", "device"))
		return err
	}},
	{"CA-019", "NewIssuer with another key", func(t *testing.T) error {
		f := newFamily(t, "P-256", "P-256")
		_, err := NewIssuer(f.root, f.factoryKey)
		return err
	}},
	{"CA-019", "PrepareRoot for another key", func(t *testing.T) error {
		_, err := PrepareRoot(mustProfile(t, "fleet-root"), Template{Subject: cn("R"), PublicKey: mustKey(t, "P-256", "b").Public(), NotBefore: t0, NotAfter: years(1)}, mustKey(t, "P-256", "a"), rand.Reader)
		return err
	}},
	{"CA-019", "CheckKeyMatches", func(t *testing.T) error {
		f := newFamily(t, "P-256", "P-256")
		return CheckKeyMatches(f.root, f.factoryKey.Public())
	}},
	{"CA-020", "a changed octet", func(t *testing.T) error {
		f := newFamily(t, "P-256", "P-256")
		raw := bytes.Replace(f.device(t).Raw, []byte("dev-0001"), []byte("dev-0002"), 1)
		c, err := x509.ParseCertificate(raw)
		if err != nil {
			t.Fatal(err)
		}
		return CheckChild(c, f.factory)
	}},
	{"CA-020", "a specimen is worth nothing", func(t *testing.T) error {
		f := newFamily(t, "P-256", "P-256")
		prep, err := f.facIssuer.Prepare(mustProfile(t, "device"), deviceTemplate(t), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return CheckChild(prep.Specimen(), f.factory)
	}},
	{"CA-021", "another issuer", func(t *testing.T) error {
		f := newFamily(t, "P-256", "P-256")
		return CheckChild(f.device(t), f.root)
	}},
	finished("CA-022", "unknown critical", func(c *x509.Certificate, f *family) {
		c.ExtraExtensions = []pkix.Extension{{Id: ext(1, 2, 3, 4), Critical: true, Value: []byte{5, 0}}}
	}),
	{"CA-022", "explicit false", func(t *testing.T) error {
		f := newFamily(t, "P-256", "P-256")
		c := leaf(t)
		c.ExtraExtensions = []pkix.Extension{{Id: ext(1, 2, 3, 4), Critical: true, Value: []byte{5, 0}}}
		forged := forge(t, c, f.factory, mustKey(t, "P-256", "device").Public(), f.factoryKey)
		return CheckChild(resign(t, forged, f.factoryKey, []byte{6, 3, 0x2a, 3, 4, 1, 1, 0xff}, []byte{6, 3, 0x2a, 3, 4, 1, 1, 0}), f.factory)
	}},
	asked("CA-023", "too long", "device", func(c *ProfileConfig, tpl *Template, f *family) { c.MaxValidityDays = 365 }),
	asked("CA-024", "attribute", "device", func(c *ProfileConfig, tpl *Template, f *family) {
		c.AllowedAttributes = nil
		tpl.Subject.Organization = []string{"O"}
	}),
	asked("CA-024", "missing attribute", "device", func(c *ProfileConfig, tpl *Template, f *family) { c.RequiredAttributes = []string{"O"} }),
	asked("CA-024", "pattern", "device", func(c *ProfileConfig, tpl *Template, f *family) { c.CommonName = "veh-[0-9]+" }),
	asked("CA-024", "a root's child without CN", "factory-ca", func(c *ProfileConfig, tpl *Template, f *family) { tpl.Subject = pkix.Name{Organization: []string{"O"}} }),
	asked("CA-025", "dns in a device", "device", func(c *ProfileConfig, tpl *Template, f *family) { tpl.DNSNames = []string{"example.com"} }),
	asked("CA-025", "server without names", "server", func(c *ProfileConfig, tpl *Template, f *family) {}),
	finished("CA-025", "directoryName", func(c *x509.Certificate, f *family) {
		c.ExtraExtensions = []pkix.Extension{{Id: oidSAN, Value: []byte{0x30, 4, 0xa4, 2, 0x30, 0}}}
	}),
	asked("CA-026", "RSA", "device", func(c *ProfileConfig, tpl *Template, f *family) { c.KeyAlgorithms = []string{"RSA-3072"} }),
	asked("CA-027", "longer path than the profile's", "factory-ca", func(c *ProfileConfig, tpl *Template, f *family) { tpl.PathLen = pathLen(1) }),
	asked("CA-027", "path length in a leaf", "device", func(c *ProfileConfig, tpl *Template, f *family) { tpl.PathLen = pathLen(0) }),
	asked("CA-027", "constraints in a leaf", "device", func(c *ProfileConfig, tpl *Template, f *family) {
		tpl.Constraints = &NameConstraints{PermittedDNS: []string{"example.com"}}
	}),
	{"CA-028", "a self-signed leaf", func(t *testing.T) error {
		k := mustKey(t, "P-256", "device")
		c := forge(t, leaf(t), nil, k.Public(), k)
		return CheckChild(c, c)
	}},
	underRestricted("CA-029", "policy", func(c *x509.Certificate) { c.Policies = []x509.OID{oid(1, 2, 3)} }, func(c *x509.Certificate) { c.Policies = []x509.OID{oid(1, 2, 4)} }),
	finished("CA-030", "none", func(c *x509.Certificate, f *family) { c.ExtKeyUsage = nil }),
	finished("CA-030", "any", func(c *x509.Certificate, f *family) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }),
	asked("CA-031", "station without URI of its role", "station", func(c *ProfileConfig, tpl *Template, f *family) { tpl.URIs = []*url.URL{OperatorURI("x")} }),
	asked("CA-031", "station with two", "station", func(c *ProfileConfig, tpl *Template, f *family) {
		tpl.URIs = []*url.URL{StationURI("x"), StationURI("y")}
	}),
	asked("CA-031", "bad name", "station", func(c *ProfileConfig, tpl *Template, f *family) { tpl.URIs = []*url.URL{StationURI("..x")} }),
	asked("CA-031", "a device with a role", "device", func(c *ProfileConfig, tpl *Template, f *family) {
		c.SANs = []string{"uri"}
		tpl.URIs = []*url.URL{StationURI("x")}
	}),
	{"CA-040", "another's CRL", func(t *testing.T) error {
		f := newFamily(t, "P-256", "P-256")
		return CheckCRL(previousCRL(t, f, 1), f.root, nil)
	}},
	crlCase("CA-040", "a predecessor of another", func(tpl *CRLTemplate, f *family, t *testing.T) *x509.RevocationList {
		return forgeCRL(t, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: t0, NextUpdate: years(1)}, f.root, f.rootKey)
	}),
	crlCase("CA-041", "repeats", func(tpl *CRLTemplate, f *family, t *testing.T) *x509.RevocationList { return previousCRL(t, f, 7) }),
	crlCase("CA-041", "falls", func(tpl *CRLTemplate, f *family, t *testing.T) *x509.RevocationList { return previousCRL(t, f, 8) }),
	crlCase("CA-041", "none", func(tpl *CRLTemplate, f *family, t *testing.T) *x509.RevocationList { tpl.Number = nil; return nil }),
	crlCase("CA-041", "zero", func(tpl *CRLTemplate, f *family, t *testing.T) *x509.RevocationList {
		tpl.Number = big.NewInt(0)
		return nil
	}),
	crlCase("CA-041", "21 octets", func(tpl *CRLTemplate, f *family, t *testing.T) *x509.RevocationList {
		tpl.Number = new(big.Int).Lsh(big.NewInt(1), 160)
		return nil
	}),
	crlCase("CA-042", "next is this", func(tpl *CRLTemplate, f *family, t *testing.T) *x509.RevocationList {
		tpl.NextUpdate = tpl.ThisUpdate
		return nil
	}),
	crlCase("CA-043", "before the previous", func(tpl *CRLTemplate, f *family, t *testing.T) *x509.RevocationList {
		tpl.ThisUpdate, tpl.Entries = t0, nil
		return previousCRL(t, f, 1)
	}),
	crlCase("CA-043", "after the issuer's end", func(tpl *CRLTemplate, f *family, t *testing.T) *x509.RevocationList {
		tpl.ThisUpdate, tpl.NextUpdate = years(21), years(22)
		return nil
	}),
	crlCase("CA-044", "twice", func(tpl *CRLTemplate, f *family, t *testing.T) *x509.RevocationList {
		tpl.Entries = append(tpl.Entries, entry(1))
		return nil
	}),
	crlCase("CA-044", "zero", func(tpl *CRLTemplate, f *family, t *testing.T) *x509.RevocationList {
		tpl.Entries = append(tpl.Entries, entry(0))
		return nil
	}),
	crlCase("CA-044", "removeFromCRL", func(tpl *CRLTemplate, f *family, t *testing.T) *x509.RevocationList {
		tpl.Entries[0].ReasonCode = 8
		return nil
	}),
	crlCase("CA-045", "in the future", func(tpl *CRLTemplate, f *family, t *testing.T) *x509.RevocationList {
		tpl.Entries[0].RevocationTime = tpl.ThisUpdate.Add(time.Second)
		return nil
	}),
	crlCase("CA-045", "never", func(tpl *CRLTemplate, f *family, t *testing.T) *x509.RevocationList {
		tpl.Entries[0].RevocationTime = time.Time{}
		return nil
	}),
	crlCase("CA-046", "not issued here", func(tpl *CRLTemplate, f *family, t *testing.T) *x509.RevocationList {
		tpl.Issued = func(n *big.Int) bool { return n.Int64() == 1 }
		return nil
	}),
	finishedCRL("CA-046", "certificateIssuer", func(c *x509.RevocationList) {
		e := entry(1)
		e.RevocationTime, e.ExtraExtensions = t0, []pkix.Extension{{Id: ext(2, 5, 29, 29), Critical: true, Value: []byte{0x30, 0}}}
		c.RevokedCertificateEntries = []x509.RevocationListEntry{e}
	}),
	crlCase("CA-047", "dropped", func(tpl *CRLTemplate, f *family, t *testing.T) *x509.RevocationList {
		return previousCRL(t, f, 1, entry(3))
	}),
	crlCase("CA-047", "later", func(tpl *CRLTemplate, f *family, t *testing.T) *x509.RevocationList {
		e := entry(1)
		e.RevocationTime = e.RevocationTime.Add(-time.Hour)
		return previousCRL(t, f, 1, e)
	}),
	finishedCRL("CA-048", "a delta", func(c *x509.RevocationList) {
		c.ExtraExtensions = []pkix.Extension{{Id: ext(2, 5, 29, 27), Critical: true, Value: []byte{2, 1, 1}}}
	}),
	{"CA-048", "another key's identifier", func(t *testing.T) error {
		f := newFamily(t, "P-256", "P-256")
		other := *f.factory
		other.SubjectKeyId = []byte{1, 2, 3}
		return CheckCRL(forgeCRL(t, &x509.RevocationList{Number: big.NewInt(3), ThisUpdate: t0, NextUpdate: years(1)}, &other, f.factoryKey), f.factory, nil)
	}},
	{"CA-049", "a specimen is worth nothing", func(t *testing.T) error {
		f := newFamily(t, "P-256", "P-256")
		prep, err := f.facIssuer.PrepareCRL(CRLTemplate{Number: big.NewInt(1), ThisUpdate: t0, NextUpdate: years(1)}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return CheckCRL(prep.Specimen(), f.factory, nil)
	}},
	{"CA-050", "foreign", func(t *testing.T) error {
		f := newFamily(t, "P-256", "P-256")
		other := mustRoot(t, mustProfile(t, "fleet-root"), "Example Fleet Root", mustKey(t, "P-256", "impostor"))
		return Verify([]*x509.Certificate{f.device(t), f.factory}, []*x509.Certificate{other}, years(1))
	}},
	{"CA-050", "no anchors", func(t *testing.T) error {
		f := newFamily(t, "P-256", "P-256")
		return Verify([]*x509.Certificate{f.device(t), f.factory, f.root}, nil, years(1))
	}},
	{"CA-051", "expired", func(t *testing.T) error {
		f := newFamily(t, "P-256", "P-256")
		return Verify([]*x509.Certificate{f.device(t), f.factory}, []*x509.Certificate{f.root}, years(11))
	}},
	{"CA-051", "not yet", func(t *testing.T) error {
		f := newFamily(t, "P-256", "P-256")
		return Verify([]*x509.Certificate{f.device(t), f.factory}, []*x509.Certificate{f.root}, t0.Add(-1))
	}},
	{"CA-052", "empty", func(t *testing.T) error { return Verify(nil, nil, t0) }},
	{"CA-052", "five", func(t *testing.T) error {
		f := newFamily(t, "P-256", "P-256")
		return Verify([]*x509.Certificate{f.device(t), f.factory, f.factory, f.factory, f.root}, []*x509.Certificate{f.root}, years(1))
	}},
}

func oid(n ...uint64) x509.OID { o, _ := x509.OIDFromInts(n); return o }

func p224(t testing.TB) crypto.Signer {
	k, err := ecdsa.GenerateKey(p224Curve(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestRules holds each rule to at least one case, and each case to the rule that it names.
func TestRules(t *testing.T) {
	tested := map[string]bool{}
	for _, c := range ruleCases {
		tested[c.rule] = true
		t.Run(c.rule+" "+c.name, func(t *testing.T) {
			err := c.run(t)
			if !Breaks(err, c.rule) {
				t.Fatalf("does not break %s: %v", c.rule, err)
			}
			var re *RuleError
			if !errors.As(err, &re) || !strings.Contains(err.Error(), c.rule) {
				t.Errorf("the error does not name its rule: %v", err)
			}
		})
	}
	ids := map[string]bool{}
	for _, r := range Rules() {
		if !tested[r.ID] {
			t.Errorf("%s has no test", r.ID)
		}
		if ids[r.ID] || r.Text == "" {
			t.Errorf("%s stands twice or says nothing", r.ID)
		}
		ids[r.ID] = true
	}
}

// TestRulesAllow has cases near the edge that must pass, so that TestRules does not prove a wall.
func TestRulesAllow(t *testing.T) {
	f := newFamily(t, "P-256", "P-256")
	dev := mustKey(t, "P-256", "device").Public()
	ok := func(name string, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	ok("the good leaf", CheckChild(forge(t, leaf(t), f.factory, dev, f.factoryKey), f.factory))
	ok("the good CA", CheckChild(forge(t, sub(t), f.root, dev, f.rootKey), f.root))
	c := leaf(t)
	c.NotAfter, c.NotBefore = f.factory.NotAfter, f.factory.NotBefore
	ok("as long as the issuer", CheckChild(forge(t, c, f.factory, dev, f.factoryKey), f.factory))

	narrow, key := restricted(t, func(c *x509.Certificate) {
		c.PermittedDNSDomains, c.PermittedDNSDomainsCritical = []string{"example.com"}, true
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	})
	c = leaf(t)
	c.DNSNames = []string{"a.Example.com", "example.com"}
	ok("inside constraints", CheckChild(forge(t, c, narrow, dev, key), narrow))

	ota := mustKey(t, "P-256", "ota")
	root := mustRoot(t, mustProfile(t, "ota-connect-root"), "OTA Root", ota)
	waived := func(c *ProfileConfig) { c.OTAConnect = true }
	fac := mustIssue(t, mustIssuer(t, root, ota), mustProfile(t, "factory-ca", waived), Template{Subject: cn("F"), PublicKey: f.factoryKey.Public(), NotBefore: t0, NotAfter: years(20)})
	d := mustIssue(t, mustIssuer(t, fac, f.factoryKey, root), mustProfile(t, "device", waived), deviceTemplate(t))
	ok("ota-connect-root with its waiver", Verify([]*x509.Certificate{d, fac}, []*x509.Certificate{root}, years(1), OTAConnect))
	if err := Verify([]*x509.Certificate{d, fac}, []*x509.Certificate{root}, years(1)); !Breaks(err, "CA-005") {
		t.Error("without the waiver:", err)
	}

	// A CA of a commercial private hierarchy: a short serial, and a key identifier of its own making.
	im := sub(t)
	im.SerialNumber, im.SubjectKeyId = big.NewInt(1<<40), []byte("not made of the key")
	foreign := forge(t, im, f.root, mustKey(t, "P-256", "foreign").Public(), f.rootKey)
	ok("an imported CA", CheckChild(foreign, f.root, Imported))
	for _, id := range []string{"CA-009", "CA-012"} {
		if err := CheckChild(foreign, f.root); !Breaks(err, id) {
			t.Errorf("an imported CA without the waiver: %v", err)
		}
	}
	mustIssuer(t, foreign, mustKey(t, "P-256", "foreign"), f.root)

	previous := previousCRL(t, f, 1, entry(3), entry(1))
	prep, err := f.facIssuer.PrepareCRL(CRLTemplate{Number: big.NewInt(2), ThisUpdate: years(1), NextUpdate: years(2), Entries: []x509.RevocationListEntry{entry(1)}, Released: []*big.Int{big.NewInt(3)}}, previous)
	ok("a released entry", err)
	crl, err := prep.Sign(context.Background(), rand.Reader)
	ok("signing", err)
	ok("a released entry, afterwards", CheckCRL(crl, f.factory, previous, big.NewInt(3)))
	if err := CheckCRL(crl, f.factory, previous); !Breaks(err, "CA-047") {
		t.Error("an unreleased entry, afterwards:", err)
	}

	// A cross-certificate: the existing CA's name and key under another root.
	other := mustKey(t, "P-384", "other root")
	otherRoot := mustRoot(t, mustProfile(t, "fleet-root"), "Other Root", other)
	cross := mustIssue(t, mustIssuer(t, otherRoot, other), mustProfile(t, "cross-certificate"), Template{RawSubject: f.root.RawSubject, PublicKey: f.root.PublicKey, PathLen: pathLen(1), NotBefore: t0, NotAfter: years(5)})
	ok("a chain over the cross-certificate", Verify([]*x509.Certificate{mustIssue(t, f.facIssuer, mustProfile(t, "device"), Template{Subject: pkix.Name{CommonName: "d"}, PublicKey: dev, NotBefore: t0, NotAfter: years(4)}), forge(t, func() *x509.Certificate {
		s := sub(t)
		s.Subject, s.RawSubject, s.NotAfter = f.factory.Subject, f.factory.RawSubject, years(5)
		return s
	}(), cross, f.factoryKey.Public(), f.rootKey), cross}, []*x509.Certificate{otherRoot}, years(1)))
}
