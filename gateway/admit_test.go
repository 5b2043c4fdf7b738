package gateway

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/trust"
)

func TestAdmit(t *testing.T) {
	f := newFleet(t)
	d := f.device(t, "device-1")
	got := Admit(f.view, []*x509.Certificate{d.cert}, testTime)
	if !got.Admitted() || got.Device != "device-1" || len(got.Path) != 3 {
		t.Fatalf("%+v", got)
	}
	if !got.Until.Equal(f.view.crls[trust.IssuerID(f.root.cert)].NextUpdate) {
		t.Errorf("valid until %s, want the next CRL at the latest", got.Until)
	}
	// Under the root itself, and whatever the device sends beside its leaf.
	direct := issue(t, f.root, newKey(t), deviceTemplate("device-2"))
	if got := Admit(f.view, []*x509.Certificate{direct.cert, d.cert}, testTime); !got.Admitted() || len(got.Path) != 2 {
		t.Errorf("%+v", got)
	}
	if got := Admit(nil, []*x509.Certificate{d.cert}, testTime); got.Reason != NoTrust {
		t.Errorf("no view: %+v", got)
	}
	if got := Admit(f.view, nil, testTime); got.Reason != NoCertificate {
		t.Errorf("no certificate: %+v", got)
	}
}

// TestLeafRefusals: one thing wrong with a leaf at a time.
func TestLeafRefusals(t *testing.T) {
	f := newFleet(t)
	rsaKey := func(bits int) crypto.Signer {
		k, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	p224, _ := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	cns := func(names ...string) []byte {
		var rdn pkix.RDNSequence
		for _, n := range names {
			rdn = append(rdn, pkix.RelativeDistinguishedNameSET{{Type: oidCommonName, Value: n}})
		}
		der, err := asn1.Marshal(rdn)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	many := make([]string, maxNames+1)
	for i := range many {
		many[i] = fmt.Sprintf("h%d.example", i)
	}
	for _, c := range []struct {
		name string
		key  crypto.Signer
		edit func(*x509.Certificate)
		want Reason
	}{
		{"two CNs", nil, func(c *x509.Certificate) { c.RawSubject = cns("a", "b") }, AmbiguousName},
		{"the same CN twice", nil, func(c *x509.Certificate) { c.RawSubject = cns("a", "a") }, AmbiguousName},
		{"no CN", nil, func(c *x509.Certificate) { c.Subject = pkix.Name{Organization: []string{"CN=victim"}} }, NoName},
		{"empty subject", nil, func(c *x509.Certificate) { c.Subject = pkix.Name{} }, NoName},
		{"empty CN", nil, func(c *x509.Certificate) { c.RawSubject = cns("") }, BadName},
		{"long CN", nil, func(c *x509.Certificate) { c.RawSubject = cns(strings.Repeat("x", 65)) }, BadName},
		{"slash", nil, func(c *x509.Certificate) { c.Subject.CommonName = "x/../../victim" }, BadName},
		{"dots", nil, func(c *x509.Certificate) { c.Subject.CommonName = "x..y" }, BadName},
		{"one dot", nil, func(c *x509.Certificate) { c.Subject.CommonName = "." }, BadName},
		{"backslash", nil, func(c *x509.Certificate) { c.Subject.CommonName = `..\x` }, BadName},
		{"percent", nil, func(c *x509.Certificate) { c.Subject.CommonName = "a%2fb" }, BadName},
		{"NUL", nil, func(c *x509.Certificate) { c.RawSubject = cns("a\x00b") }, BadName},
		{"newline", nil, func(c *x509.Certificate) { c.RawSubject = cns("a\r\nb: c") }, BadName},
		{"space", nil, func(c *x509.Certificate) { c.Subject.CommonName = "a b" }, BadName},
		{"not ASCII", nil, func(c *x509.Certificate) { c.Subject.CommonName = "gerät" }, BadName},
		{"no digitalSignature", nil, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }, BadKeyUsage},
		{"no key usage", nil, func(c *x509.Certificate) { c.KeyUsage = 0 }, BadKeyUsage},
		{"certSign", nil, func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign }, BadKeyUsage},
		{"no EKU", nil, func(c *x509.Certificate) { c.ExtKeyUsage = nil }, BadExtKeyUsage},
		{"server EKU", nil, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }, BadExtKeyUsage},
		{"any EKU", nil, func(c *x509.Certificate) { c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageAny) }, BadExtKeyUsage},
		{"CA", nil, func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }, IsCA},
		{"serial of 21 octets", nil, func(c *x509.Certificate) { c.SerialNumber = new(big.Int).Lsh(big.NewInt(1), 159) }, BadSerial},
		{"17 names", nil, func(c *x509.Certificate) { c.DNSNames = many }, TooManyNames},
		{"unknown critical extension", nil, func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
		}, BadExtension},
		{"name constraints", nil, func(c *x509.Certificate) { c.PermittedDNSDomains, c.PermittedDNSDomainsCritical = []string{"x"}, true }, BadExtension},
		{"RSA-1024", rsaKey(1024), nil, BadKey},
		{"P-224", p224, nil, BadKey},
		{"expired", nil, func(c *x509.Certificate) { c.NotAfter = testTime.Add(-time.Second) }, Expired},
		{"not yet valid", nil, func(c *x509.Certificate) { c.NotBefore = testTime.Add(time.Second) }, NotYetValid},
		{"large", nil, func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Value: make([]byte, maxLeafSize)}}
		}, BadCertificate},
	} {
		t.Run(c.name, func(t *testing.T) {
			tmpl := deviceTemplate("device")
			tmpl.NotBefore, tmpl.NotAfter = testTime.Add(-time.Hour), testTime.Add(time.Hour)
			if c.edit != nil {
				c.edit(&tmpl)
			}
			key := c.key
			if key == nil {
				key = newKey(t)
			}
			leaf := issue(t, f.factory, key, tmpl)
			if got := Admit(f.view, []*x509.Certificate{leaf.cert}, testTime); got.Reason != c.want {
				t.Errorf("%s (%s), want %s", string(got.Reason), got.Detail, string(c.want))
			}
		})
	}
}

func TestKeyTypes(t *testing.T) {
	f := newFleet(t)
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	r, _ := rsa.GenerateKey(rand.Reader, 2048)
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	p521, _ := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	for name, k := range map[string]crypto.Signer{"Ed25519": ed, "RSA": r, "P-384": p384, "P-521": p521} {
		leaf := issue(t, f.factory, k, deviceTemplate("d"))
		if got := Admit(f.view, []*x509.Certificate{leaf.cert}, testTime); !got.Admitted() {
			t.Errorf("%s: %s", name, got.Words())
		}
		strict := *f.view
		strict.policy.KeyTypes = []string{"P-256"}
		if got := Admit(&strict, []*x509.Certificate{leaf.cert}, testTime); got.Reason != BadKey {
			t.Errorf("%s under a policy of P-256 only: %s", name, got.Words())
		}
	}
}

func TestTrustRefusals(t *testing.T) {
	f, other := newFleet(t), newFleet(t)
	d := f.device(t, "device-1")
	chain := []*x509.Certificate{d.cert}
	edit := func(change func(v *testView)) View {
		v := *f.view
		v.crls = map[trust.ID]trust.CRLInfo{}
		for id, info := range f.view.crls {
			v.crls[id] = info
		}
		change(&v)
		return &v
	}
	stale := trust.CRLInfo{Number: big.NewInt(1), ThisUpdate: testTime.Add(-time.Hour), NextUpdate: testTime}
	early := trust.CRLInfo{Number: big.NewInt(1), ThisUpdate: testTime.Add(time.Second), NextUpdate: testTime.Add(time.Hour)}
	bare := trust.CRLInfo{ThisUpdate: testTime, NextUpdate: testTime.Add(time.Hour)}
	for _, c := range []struct {
		name  string
		view  View
		chain []*x509.Certificate
		want  Reason
	}{
		{"foreign", f.view, []*x509.Certificate{other.device(t, "device-1").cert}, UnknownIssuer},
		{"foreign with its own chain", f.view, []*x509.Certificate{other.device(t, "d").cert, other.factory.cert, other.root.cert}, UnknownIssuer},
		{"intermediate not in the view", edit(func(v *testView) { v.between = nil }), chain, UnknownIssuer},
		{"root not in the view", edit(func(v *testView) { v.anchors = other.view.anchors }), chain, UnknownIssuer},
		{"revoked", f.view.revoke(f.factory.cert, d.cert.SerialNumber), chain, Revoked},
		{"issuer revoked", f.view.revoke(f.root.cert, f.factory.cert.SerialNumber), chain, IssuerRevoked},
		{"serial revoked by another CA", f.view.revoke(f.root.cert, d.cert.SerialNumber), chain, Admitted},
		{"no CRL of the issuer", edit(func(v *testView) { delete(v.crls, trust.IssuerID(f.factory.cert)) }), chain, NoCRL},
		{"no CRL of the root", edit(func(v *testView) { delete(v.crls, trust.IssuerID(f.root.cert)) }), chain, NoCRL},
		{"stale CRL", edit(func(v *testView) { v.crls[trust.IssuerID(f.factory.cert)] = stale }), chain, StaleCRL},
		{"stale CRL of the root", edit(func(v *testView) { v.crls[trust.IssuerID(f.root.cert)] = stale }), chain, StaleCRL},
		{"CRL of the future", edit(func(v *testView) { v.crls[trust.IssuerID(f.root.cert)] = early }), chain, StaleCRL},
		{"CRL without number", edit(func(v *testView) { v.crls[trust.IssuerID(f.root.cert)] = bare }), chain, StaleCRL},
		{"expired view", edit(func(v *testView) { v.expires = testTime }), chain, TrustExpired},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Admit(c.view, c.chain, testTime); got.Reason != c.want {
				t.Errorf("%s (%s), want %s", string(got.Reason), got.Detail, string(c.want))
			}
		})
	}
	noCRL := edit(func(v *testView) { v.crls = nil })
	if got := newJudge(noCRL, Rules{CRLByPolicy: true}).admit(chain, testTime); !got.Admitted() {
		t.Errorf("by a policy that asks for no CRL: %s", got.Words())
	}
	strict := edit(func(v *testView) { v.crls, v.policy.RequireCRL = nil, true })
	if got := newJudge(strict, Rules{CRLByPolicy: true}).admit(chain, testTime); got.Reason != NoCRL {
		t.Errorf("by a policy that asks for CRLs: %s", got.Words())
	}
}

// TestSignature: a leaf that names the factory as issuer, with its key id, signed by another key.
func TestSignature(t *testing.T) {
	f := newFleet(t)
	posing := &entity{cert: f.factory.cert, key: newKey(t)}
	der := f.device(t, "device-1").cert.Raw
	bent := bytes.Clone(der)
	bent[len(bent)-1] ^= 1
	leaf, err := x509.ParseCertificate(bent)
	if err != nil {
		t.Fatal(err)
	}
	if got := Admit(f.view, []*x509.Certificate{leaf}, testTime); got.Reason != BadSignature {
		t.Errorf("bent signature: %s", got.Words())
	}
	// x509.CreateCertificate refuses a key that is not the parent's, so the parent poses with the foreign key.
	parent := *posing.cert
	parent.PublicKey = posing.key.Public()
	forged := issue(t, &entity{cert: &parent, key: posing.key}, newKey(t), deviceTemplate("victim"))
	if got := Admit(f.view, []*x509.Certificate{forged.cert}, testTime); got.Reason != BadSignature {
		t.Errorf("forged: %s", got.Words())
	}
}

// TestAuthorityRefusals: one thing wrong with the factory's CA at a time.
func TestAuthorityRefusals(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(*x509.Certificate)
		want Reason
	}{
		{"sound", func(c *x509.Certificate) {}, Admitted},
		{"no keyCertSign", func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign }, BadIssuer},
		{"no CA", func(c *x509.Certificate) { c.IsCA = false }, BadIssuer},
		{"server EKU", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }, BadIssuer},
		{"client EKU", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }, Admitted},
		{"expired", func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = testTime.Add(-time.Hour), testTime.Add(-time.Second)
		}, IssuerExpired},
		{"name constraints not critical", func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"example"} }, BadIssuer},
		{"names permitted", func(c *x509.Certificate) {
			c.PermittedDNSDomains, c.PermittedDNSDomainsCritical = []string{"example"}, true
		}, Admitted},
		{"names not permitted", func(c *x509.Certificate) {
			c.PermittedDNSDomains, c.PermittedDNSDomainsCritical = []string{"elsewhere"}, true
		}, NameConstrained},
		{"pathlen 0", func(c *x509.Certificate) { c.MaxPathLenZero = true }, Admitted},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFleet(t)
			tmpl := caTemplate("Factory")
			tmpl.SubjectKeyId = []byte{1, 2, 3}
			c.edit(&tmpl)
			ca := issue(t, f.root, newKey(t), tmpl)
			leafTmpl := deviceTemplate("device")
			leafTmpl.DNSNames, leafTmpl.IPAddresses = []string{"device.example"}, []net.IP{net.IPv4(10, 0, 0, 1)}
			leafTmpl.URIs = []*url.URL{{Scheme: "urn", Opaque: "device"}}
			leafTmpl.IPAddresses, leafTmpl.URIs = nil, nil
			signer := *ca
			parent := *ca.cert
			parent.IsCA, parent.KeyUsage = true, x509.KeyUsageCertSign
			signer.cert = &parent
			leaf := issue(t, &signer, newKey(t), leafTmpl)
			v := newTestView([]*x509.Certificate{f.root.cert}, []*x509.Certificate{ca.cert}, testTime)
			if got := Admit(v, []*x509.Certificate{leaf.cert}, testTime); got.Reason != c.want {
				t.Errorf("%s (%s), want %s", string(got.Reason), got.Detail, string(c.want))
			}
		})
	}
}

func TestPathLength(t *testing.T) {
	root := issue(t, nil, newKey(t), caTemplate("Root"))
	chain := []*entity{root}
	var between []*x509.Certificate
	for i := range 3 {
		ca := issue(t, chain[i], newKey(t), caTemplate(fmt.Sprintf("CA %d", i)))
		chain, between = append(chain, ca), append(between, ca.cert)
	}
	v := newTestView([]*x509.Certificate{root.cert}, between, testTime)
	for i, want := range []Reason{Admitted, Admitted, Admitted, ChainTooLong} {
		leaf := issue(t, chain[i], newKey(t), deviceTemplate("d"))
		if got := Admit(v, []*x509.Certificate{leaf.cert}, testTime); got.Reason != want {
			t.Errorf("%d CAs: %s, want %s", i+1, got.Words(), string(want))
		}
	}
	tight := caTemplate("Tight")
	tight.MaxPathLenZero = true
	root = issue(t, nil, newKey(t), tight)
	ca := issue(t, root, newKey(t), caTemplate("CA"))
	v = newTestView([]*x509.Certificate{root.cert}, []*x509.Certificate{ca.cert}, testTime)
	leaf := issue(t, ca, newKey(t), deviceTemplate("d"))
	if got := Admit(v, []*x509.Certificate{leaf.cert}, testTime); got.Reason != UnknownIssuer {
		t.Errorf("pathlen 0 above a CA: %s", got.Words())
	}
}

// FuzzAdmit: whatever bytes come, no panic; and what we admit, crypto/x509 verifies by the same CAs.
func FuzzAdmit(f *testing.F) {
	fl := newFleet(f)
	f.Add(fl.device(f, "device-1").cert.Raw)
	f.Add(fl.factory.cert.Raw)
	f.Add(issue(f, fl.root, newKey(f), deviceTemplate("device-2")).cert.Raw)
	f.Add([]byte{0x30, 0x00})
	j := newJudge(fl.view, Rules{})
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(fl.root.cert)
	between.AddCert(fl.factory.cert)
	f.Fuzz(func(t *testing.T, der []byte) {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			deviceName(der)
			return
		}
		d := j.admit([]*x509.Certificate{cert}, testTime)
		if !d.Admitted() {
			return
		}
		if CheckName(d.Device) != nil || len(d.Path) < 2 {
			t.Errorf("admitted as %q by %d certificates", d.Device, len(d.Path))
		}
		if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: testTime,
			KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
			t.Errorf("admitted, but: %v", err)
		}
	})
}
