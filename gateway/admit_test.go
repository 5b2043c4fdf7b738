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
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/gateway/fleettest"
	"github.com/hanaper/hanaper/trust"
)

func TestAdmit(t *testing.T) {
	f := fleettest.New(t)
	d := f.Device(t, "device-1")
	got := Admit(f.View, []*x509.Certificate{d.Cert}, fleettest.Time)
	if !got.Admitted() || got.Device != "device-1" || len(got.Path) != 3 {
		t.Fatalf("%+v", got)
	}
	if !got.Until.Equal(f.View.CRLInfos[trust.IssuerID(f.Root.Cert)].NextUpdate) {
		t.Errorf("valid until %s, want the next CRL at the latest", got.Until)
	}
	// Under the root itself, and whatever the device sends beside its leaf.
	direct := fleettest.Issue(t, f.Root, fleettest.NewKey(t), fleettest.DeviceTemplate("device-2"))
	if got := Admit(f.View, []*x509.Certificate{direct.Cert, d.Cert}, fleettest.Time); !got.Admitted() || len(got.Path) != 2 {
		t.Errorf("%+v", got)
	}
	if got := Admit(nil, []*x509.Certificate{d.Cert}, fleettest.Time); got.Reason != NoTrust {
		t.Errorf("no view: %+v", got)
	}
	if got := Admit(f.View, nil, fleettest.Time); got.Reason != NoCertificate {
		t.Errorf("no certificate: %+v", got)
	}
}

// TestLeafRefusals: one thing wrong with a leaf at a time.
func TestLeafRefusals(t *testing.T) {
	f := fleettest.New(t)
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
		{"expired", nil, func(c *x509.Certificate) { c.NotAfter = fleettest.Time.Add(-time.Second) }, Expired},
		{"not yet valid", nil, func(c *x509.Certificate) { c.NotBefore = fleettest.Time.Add(time.Second) }, NotYetValid},
		{"large", nil, func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Value: make([]byte, maxLeafSize)}}
		}, BadCertificate},
	} {
		t.Run(c.name, func(t *testing.T) {
			tmpl := fleettest.DeviceTemplate("device")
			tmpl.NotBefore, tmpl.NotAfter = fleettest.Time.Add(-time.Hour), fleettest.Time.Add(time.Hour)
			if c.edit != nil {
				c.edit(&tmpl)
			}
			key := c.key
			if key == nil {
				key = fleettest.NewKey(t)
			}
			leaf := fleettest.Issue(t, f.Factory, key, tmpl)
			if got := Admit(f.View, []*x509.Certificate{leaf.Cert}, fleettest.Time); got.Reason != c.want {
				t.Errorf("%s (%s), want %s", string(got.Reason), got.Detail, string(c.want))
			}
		})
	}
}

func TestKeyTypes(t *testing.T) {
	f := fleettest.New(t)
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	r, _ := rsa.GenerateKey(rand.Reader, 2048)
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	p521, _ := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	for name, k := range map[string]crypto.Signer{"Ed25519": ed, "RSA": r, "P-384": p384, "P-521": p521} {
		leaf := fleettest.Issue(t, f.Factory, k, fleettest.DeviceTemplate("d"))
		if got := Admit(f.View, []*x509.Certificate{leaf.Cert}, fleettest.Time); !got.Admitted() {
			t.Errorf("%s: %s", name, got.Words())
		}
		strict := *f.View
		strict.GatewayPolicy.KeyTypes = []string{"P-256"}
		if got := Admit(&strict, []*x509.Certificate{leaf.Cert}, fleettest.Time); got.Reason != BadKey {
			t.Errorf("%s under a policy of P-256 only: %s", name, got.Words())
		}
	}
}

// publicOnly is a key of which only the public half is known.
type publicOnly struct{ crypto.PublicKey }

func (k publicOnly) Public() crypto.PublicKey { return k.PublicKey }
func (publicOnly) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("no private half")
}

// TestWeakKeys: what anybody can sign with proves nobody.
func TestWeakKeys(t *testing.T) {
	f := fleettest.New(t)
	r, _ := rsa.GenerateKey(rand.Reader, 2048)
	for name, k := range map[string]crypto.PublicKey{
		"Ed25519 of order 1":      ed25519.PublicKey(append([]byte{1}, make([]byte, 31)...)),
		"RSA with a small factor": &rsa.PublicKey{N: new(big.Int).Sub(r.N, new(big.Int).Mod(r.N, big.NewInt(1009))), E: 65537},
	} {
		leaf := fleettest.Issue(t, f.Factory, publicOnly{k}, fleettest.DeviceTemplate("d"))
		if got := Admit(f.View, []*x509.Certificate{leaf.Cert}, fleettest.Time); got.Reason != BadKey || !strings.Contains(got.Detail, "small") {
			t.Errorf("%s: %q %s", name, got.Reason, got.Words())
		}
	}
}

func TestTrustRefusals(t *testing.T) {
	f, other := fleettest.New(t), fleettest.New(t)
	d := f.Device(t, "device-1")
	chain := []*x509.Certificate{d.Cert}
	edit := func(change func(v *fleettest.View)) View {
		v := *f.View
		v.CRLInfos = map[trust.ID]trust.CRLInfo{}
		for id, info := range f.View.CRLInfos {
			v.CRLInfos[id] = info
		}
		change(&v)
		return &v
	}
	stale := trust.CRLInfo{Number: big.NewInt(1), ThisUpdate: fleettest.Time.Add(-time.Hour), NextUpdate: fleettest.Time}
	early := trust.CRLInfo{Number: big.NewInt(1), ThisUpdate: fleettest.Time.Add(time.Second), NextUpdate: fleettest.Time.Add(time.Hour)}
	bare := trust.CRLInfo{ThisUpdate: fleettest.Time, NextUpdate: fleettest.Time.Add(time.Hour)}
	for _, c := range []struct {
		name  string
		view  View
		chain []*x509.Certificate
		want  Reason
	}{
		{"foreign", f.View, []*x509.Certificate{other.Device(t, "device-1").Cert}, UnknownIssuer},
		{"foreign with its own chain", f.View, []*x509.Certificate{other.Device(t, "d").Cert, other.Factory.Cert, other.Root.Cert}, UnknownIssuer},
		{"intermediate not in the view", edit(func(v *fleettest.View) { v.Between = nil }), chain, UnknownIssuer},
		{"root not in the view", edit(func(v *fleettest.View) { v.Roots = other.View.Roots }), chain, UnknownIssuer},
		{"revoked", f.View.Revoke(f.Factory.Cert, d.Cert.SerialNumber), chain, Revoked},
		{"issuer revoked", f.View.Revoke(f.Root.Cert, f.Factory.Cert.SerialNumber), chain, IssuerRevoked},
		{"serial revoked by another CA", f.View.Revoke(f.Root.Cert, d.Cert.SerialNumber), chain, Admitted},
		{"no CRL of the issuer", edit(func(v *fleettest.View) { delete(v.CRLInfos, trust.IssuerID(f.Factory.Cert)) }), chain, NoCRL},
		{"no CRL of the root", edit(func(v *fleettest.View) { delete(v.CRLInfos, trust.IssuerID(f.Root.Cert)) }), chain, NoCRL},
		{"stale CRL", edit(func(v *fleettest.View) { v.CRLInfos[trust.IssuerID(f.Factory.Cert)] = stale }), chain, StaleCRL},
		{"stale CRL of the root", edit(func(v *fleettest.View) { v.CRLInfos[trust.IssuerID(f.Root.Cert)] = stale }), chain, StaleCRL},
		{"CRL of the future", edit(func(v *fleettest.View) { v.CRLInfos[trust.IssuerID(f.Root.Cert)] = early }), chain, StaleCRL},
		{"CRL without number", edit(func(v *fleettest.View) { v.CRLInfos[trust.IssuerID(f.Root.Cert)] = bare }), chain, StaleCRL},
		{"expired view", edit(func(v *fleettest.View) { v.ExpiresAt = fleettest.Time }), chain, TrustExpired},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Admit(c.view, c.chain, fleettest.Time); got.Reason != c.want {
				t.Errorf("%s (%s), want %s", string(got.Reason), got.Detail, string(c.want))
			}
		})
	}
	// One CA's list concerns its own devices; and the officers may have it used for longer.
	id := trust.IssuerID(f.Factory.Cert)
	stale.Issuer = id
	ended := func(rules ...trust.CRLRule) View {
		return edit(func(v *fleettest.View) {
			v.CRLInfos[id], v.GatewayPolicy.CRLs, v.ExpiresAt = stale, rules, fleettest.Time.Add(9*time.Hour)
			root := v.CRLInfos[trust.IssuerID(f.Root.Cert)]
			root.NextUpdate = fleettest.Time.Add(9 * time.Hour)
			v.CRLInfos[trust.IssuerID(f.Root.Cert)] = root
		})
	}
	grace, frozen := trust.CRLRule{CA: id.String(), GraceHours: 2}, trust.CRLRule{CA: id.String(), Frozen: true}
	elsewhere := trust.CRLRule{CA: trust.IssuerID(f.Root.Cert).String(), GraceHours: 2}
	direct := fleettest.Issue(t, f.Root, fleettest.NewKey(t), fleettest.DeviceTemplate("device-2"))
	for _, c := range []struct {
		name  string
		view  View
		chain []*x509.Certificate
		after time.Duration
		want  Reason
	}{
		{"another CA's device", ended(), []*x509.Certificate{direct.Cert}, 0, Admitted},
		{"no rule", ended(), chain, 0, StaleCRL},
		{"a rule for another CA", ended(elsewhere), chain, 0, StaleCRL},
		{"in the grace", ended(grace), chain, 2*time.Hour - time.Second, Admitted},
		{"after it", ended(grace), chain, 2 * time.Hour, StaleCRL},
		{"frozen", ended(frozen), chain, 8 * time.Hour, Admitted},
	} {
		got := Admit(c.view, c.chain, stale.NextUpdate.Add(c.after))
		if got.Reason != c.want {
			t.Errorf("%s: %s, want %s", c.name, got.Words(), string(c.want))
		}
		if c.name == "in the grace" && !got.Until.Equal(stale.NextUpdate.Add(2*time.Hour)) {
			t.Errorf("admitted until %v", got.Until)
		}
	}
	noCRL := edit(func(v *fleettest.View) { v.CRLInfos = nil })
	if got := newJudge(noCRL, Rules{CRLByPolicy: true}).admit(chain, fleettest.Time); !got.Admitted() {
		t.Errorf("by a policy that asks for no CRL: %s", got.Words())
	}
	strict := edit(func(v *fleettest.View) { v.CRLInfos, v.GatewayPolicy.RequireCRL = nil, true })
	if got := newJudge(strict, Rules{CRLByPolicy: true}).admit(chain, fleettest.Time); got.Reason != NoCRL {
		t.Errorf("by a policy that asks for CRLs: %s", got.Words())
	}
}

// TestSignature: a leaf that names the factory as issuer, with its key id, signed by another key.
func TestSignature(t *testing.T) {
	f := fleettest.New(t)
	posing := &fleettest.Entity{Cert: f.Factory.Cert, Key: fleettest.NewKey(t)}
	der := f.Device(t, "device-1").Cert.Raw
	bent := bytes.Clone(der)
	bent[len(bent)-1] ^= 1
	leaf, err := x509.ParseCertificate(bent)
	if err != nil {
		t.Fatal(err)
	}
	if got := Admit(f.View, []*x509.Certificate{leaf}, fleettest.Time); got.Reason != BadSignature {
		t.Errorf("bent signature: %s", got.Words())
	}
	// x509.CreateCertificate refuses a key that is not the parent's, so the parent poses with the foreign key.
	parent := *posing.Cert
	parent.PublicKey = posing.Key.Public()
	forged := fleettest.Issue(t, &fleettest.Entity{Cert: &parent, Key: posing.Key}, fleettest.NewKey(t), fleettest.DeviceTemplate("victim"))
	if got := Admit(f.View, []*x509.Certificate{forged.Cert}, fleettest.Time); got.Reason != BadSignature {
		t.Errorf("forged: %s", got.Words())
	}
	// The right key under another key identifier: two readers would find two issuers.
	parent = *f.Factory.Cert
	parent.SubjectKeyId = []byte{9, 9, 9}
	other := fleettest.Issue(t, &fleettest.Entity{Cert: &parent, Key: f.Factory.Key}, fleettest.NewKey(t), fleettest.DeviceTemplate("device-1"))
	if got := Admit(f.View, []*x509.Certificate{other.Cert}, fleettest.Time); got.Reason != UnknownIssuer {
		t.Errorf("another authority key identifier: %s", got.Words())
	}
	// A CA that names the root as its issuer, with the root's key identifier, and is signed by another key, leads to no root.
	parent = *f.Root.Cert
	key := fleettest.NewKey(t)
	parent.PublicKey = key.Public()
	stray := fleettest.Issue(t, &fleettest.Entity{Cert: &parent, Key: key}, fleettest.NewKey(t), fleettest.CATemplate("Stray"))
	under := fleettest.Issue(t, stray, fleettest.NewKey(t), fleettest.DeviceTemplate("victim"))
	v := fleettest.NewView([]*x509.Certificate{f.Root.Cert}, []*x509.Certificate{stray.Cert}, fleettest.Time)
	if got := Admit(v, []*x509.Certificate{under.Cert}, fleettest.Time); got.Reason != UnknownIssuer {
		t.Errorf("under a CA that the root did not sign: %s", got.Words())
	}
}

// criticals are extensions that crypto/x509 knows, or parses past, and that are not processed here.
var criticals = map[string][]pkix.Extension{
	"policyConstraints":   {{Id: asn1.ObjectIdentifier{2, 5, 29, 36}, Critical: true, Value: []byte{0x30, 0x03, 0x80, 0x01, 0x00}}},
	"inhibitAnyPolicy":    {{Id: asn1.ObjectIdentifier{2, 5, 29, 54}, Critical: true, Value: []byte{0x02, 0x01, 0x00}}},
	"policyMappings":      {{Id: asn1.ObjectIdentifier{2, 5, 29, 33}, Critical: true, Value: []byte{0x30, 0x0a, 0x30, 0x08, 0x06, 0x02, 0x2a, 0x03, 0x06, 0x02, 0x2a, 0x04}}},
	"certificatePolicies": {{Id: asn1.ObjectIdentifier{2, 5, 29, 32}, Critical: true, Value: []byte{0x30, 0x06, 0x30, 0x04, 0x06, 0x02, 0x2a, 0x03}}},
}

// TestCriticalExtensionsOfLeaves: the same in a device's certificate.
func TestCriticalExtensionsOfLeaves(t *testing.T) {
	f := fleettest.New(t)
	for name, ext := range criticals {
		leaf := fleettest.DeviceTemplate("device-1")
		leaf.ExtraExtensions = ext
		if got := Admit(f.View, []*x509.Certificate{fleettest.Issue(t, f.Factory, fleettest.NewKey(t), leaf).Cert}, fleettest.Time); got.Reason != BadExtension {
			t.Errorf("%s: %s", name, got.Words())
		}
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
		{"policyConstraints", func(c *x509.Certificate) { c.ExtraExtensions = criticals["policyConstraints"] }, BadIssuer},
		{"inhibitAnyPolicy", func(c *x509.Certificate) { c.ExtraExtensions = criticals["inhibitAnyPolicy"] }, BadIssuer},
		{"policyMappings", func(c *x509.Certificate) { c.ExtraExtensions = criticals["policyMappings"] }, BadIssuer},
		{"certificatePolicies", func(c *x509.Certificate) { c.ExtraExtensions = criticals["certificatePolicies"] }, BadIssuer},
		{"no keyCertSign", func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign }, BadIssuer},
		{"no CA", func(c *x509.Certificate) { c.IsCA = false }, BadIssuer},
		{"server EKU", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }, BadIssuer},
		{"client EKU", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }, Admitted},
		{"expired", func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = fleettest.Time.Add(-time.Hour), fleettest.Time.Add(-time.Second)
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
			f := fleettest.New(t)
			tmpl := fleettest.CATemplate("Factory")
			tmpl.SubjectKeyId = []byte{1, 2, 3}
			c.edit(&tmpl)
			ca := fleettest.Issue(t, f.Root, fleettest.NewKey(t), tmpl)
			leafTmpl := fleettest.DeviceTemplate("device")
			leafTmpl.DNSNames = []string{"device.example"}
			signer := *ca
			parent := *ca.Cert
			parent.IsCA, parent.KeyUsage = true, x509.KeyUsageCertSign
			signer.Cert = &parent
			leaf := fleettest.Issue(t, &signer, fleettest.NewKey(t), leafTmpl)
			v := fleettest.NewView([]*x509.Certificate{f.Root.Cert}, []*x509.Certificate{ca.Cert}, fleettest.Time)
			if got := Admit(v, []*x509.Certificate{leaf.Cert}, fleettest.Time); got.Reason != c.want {
				t.Errorf("%s (%s), want %s", string(got.Reason), got.Detail, string(c.want))
			}
		})
	}
}

func TestPathLength(t *testing.T) {
	root := fleettest.Issue(t, nil, fleettest.NewKey(t), fleettest.CATemplate("Root"))
	chain := []*fleettest.Entity{root}
	var between []*x509.Certificate
	for i := range 3 {
		ca := fleettest.Issue(t, chain[i], fleettest.NewKey(t), fleettest.CATemplate(fmt.Sprintf("CA %d", i)))
		chain, between = append(chain, ca), append(between, ca.Cert)
	}
	v := fleettest.NewView([]*x509.Certificate{root.Cert}, between, fleettest.Time)
	for i, want := range []Reason{Admitted, Admitted, Admitted, ChainTooLong} {
		leaf := fleettest.Issue(t, chain[i], fleettest.NewKey(t), fleettest.DeviceTemplate("d"))
		if got := Admit(v, []*x509.Certificate{leaf.Cert}, fleettest.Time); got.Reason != want {
			t.Errorf("%d CAs: %s, want %s", i+1, got.Words(), string(want))
		}
	}
	tight := fleettest.CATemplate("Tight")
	tight.MaxPathLenZero = true
	root = fleettest.Issue(t, nil, fleettest.NewKey(t), tight)
	ca := fleettest.Issue(t, root, fleettest.NewKey(t), fleettest.CATemplate("CA"))
	v = fleettest.NewView([]*x509.Certificate{root.Cert}, []*x509.Certificate{ca.Cert}, fleettest.Time)
	leaf := fleettest.Issue(t, ca, fleettest.NewKey(t), fleettest.DeviceTemplate("d"))
	if got := Admit(v, []*x509.Certificate{leaf.Cert}, fleettest.Time); got.Reason != UnknownIssuer {
		t.Errorf("pathlen 0 above a CA: %s", got.Words())
	}
}

// FuzzAdmit: whatever bytes come, no panic; and what we admit, crypto/x509 verifies by the same CAs. The certificates are
// files, for the fuzzer's processes must agree on them: a root, two factories (one with name constraints), a device of each.
func FuzzAdmit(f *testing.F) {
	data, err := os.ReadFile("testdata/fleet.pem")
	if err != nil {
		f.Fatal(err)
	}
	var certs []*x509.Certificate
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			f.Fatal(err)
		}
		certs = append(certs, c)
		f.Add(c.Raw)
	}
	f.Add([]byte{0x30, 0x00})
	now := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	j := newJudge(fleettest.NewView(certs[:1], certs[1:3], now), Rules{})
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(certs[0])
	between.AddCert(certs[1])
	between.AddCert(certs[2])
	for _, c := range certs[3:] {
		if d := j.admit([]*x509.Certificate{c}, now); !d.Admitted() {
			f.Fatalf("%s: %s", c.Subject, d.Words())
		}
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			deviceName(der)
			return
		}
		d := j.admit([]*x509.Certificate{cert}, now)
		if !d.Admitted() {
			return
		}
		if CheckName(d.Device) != nil || len(d.Path) < 2 {
			t.Errorf("admitted as %q by %d certificates", d.Device, len(d.Path))
		}
		if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: now,
			KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
			t.Errorf("admitted, but: %v", err)
		}
	})
}
