package factory_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/csr"
	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/factory/namepolicy"
	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/strict"
)

// profiles loads profile files by the texts of them.
func profiles(t testing.TB, texts ...string) ([]*factory.Profile, error) {
	t.Helper()
	c, err := factory.LoadConfig("../docs/examples/hanaperd.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for i, text := range texts {
		path := filepath.Join(t.TempDir(), fmt.Sprintf("%d.yaml", i))
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c.Profiles = append(c.Profiles, path)
	}
	return c.LoadProfiles(factory.ProfileSources{Names: namepolicy.New})
}

func oneProfile(t testing.TB, text string) func(*factory.ServiceConfig) {
	t.Helper()
	ps, err := profiles(t, text)
	if err != nil {
		t.Fatal(err)
	}
	return func(c *factory.ServiceConfig) { c.Profiles, c.DefaultProfile = ps, ps[0].Name }
}

func foreign(t testing.TB, name string) factory.EnrollRequest {
	t.Helper()
	data, err := os.ReadFile("../csr/testdata/requests/" + name + ".csr")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(data, []byte("-----BEGIN")) {
		data = csr.PEM(data)
	}
	return factory.EnrollRequest{CSR: string(data)}
}

func certOf(t testing.TB, a *factory.EnrollAnswer) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode([]byte(a.Certificate))
	if block == nil {
		t.Fatal("no certificate in the answer")
		return nil
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

const everythingIgnored = `
name: lenient
asks: {C: ignore, O: ignore, OU: ignore, serialNumber: ignore, emailAddress: ignore, subjectAltName: ignore, keyUsage: ignore, extKeyUsage: ignore, basicConstraints: ignore,
  subjectKeyIdentifier: ignore, challengePassword: ignore, unstructuredName: ignore, 2.16.840.1.113730.1.1: ignore, 1.3.6.1.5.5.7.1.24: ignore,
  1.3.6.1.4.1.311.13.2.3: ignore, 1.3.6.1.4.1.311.21.20: ignore, 1.3.6.1.4.1.311.2.1.14: ignore}
`

// TestIgnoringProfile: every request of another stack that can be read gets a certificate with its CN and key, and nothing else that it asks
// for; what was left out is on record, and no password with it. The default profile refuses the same requests.
func TestIgnoringProfile(t *testing.T) {
	var m struct {
		Requests []struct {
			File     string `yaml:"file"`
			Made     string `yaml:"made"`
			Device   string `yaml:"device"`
			Ignoring string `yaml:"ignoring"`
			CN       string `yaml:"cn"`
			Asks     string `yaml:"asks"`
		} `yaml:"requests"`
	}
	if err := strict.ReadFile("../csr/testdata/requests/manifest.yaml", &m); err != nil {
		t.Fatal(err)
	}
	p := newPlant(t)
	plain, lenient := serve(t, p), serve(t, p, oneProfile(t, everythingIgnored))
	ctx, taken := context.Background(), map[string]bool{}
	for _, f := range m.Requests {
		q := foreign(t, strings.TrimSuffix(f.File, ".csr"))
		before := plain.rows()
		if _, _, err := plain.service.Enroll(ctx, "line-1", q); (err == nil) != (f.Device == "ok") && !sharesKey(err) {
			t.Errorf("%s, by default: %v", f.File, err)
		} else if err != nil && plain.rows() != before {
			t.Errorf("%s: refused, and something is written", f.File)
		}
		before = lenient.rows()
		a, _, err := lenient.service.Enroll(ctx, "line-1", q)
		if want := f.Ignoring == "ok" && f.CN != "gerät-7"; (err == nil) != want && !(want && sharesKey(err)) {
			t.Errorf("%s: %v", f.File, err)
		} else if err != nil && lenient.rows() != before {
			t.Errorf("%s: refused, and something is written", f.File)
		}
		if err != nil {
			continue
		}
		taken[f.CN] = true
		cert := certOf(t, a)
		if cert.Subject.String() != "CN="+f.CN || len(cert.DNSNames)+len(cert.IPAddresses)+len(cert.URIs) > 0 || cert.KeyUsage != x509.KeyUsageDigitalSignature || cert.IsCA {
			t.Errorf("%s: %v", f.File, cert.Subject)
		}
		rec, err := lenient.store.ByDevice(ctx, f.CN)
		if err != nil || (len(rec.Asked) > 0) != (f.Asks != "") || bytes.Contains(rec.Asked, []byte("secret")) || rec.Profile != "lenient" {
			t.Errorf("%s: on record as asked for is %s, profile %q, %v", f.File, rec.Asked, rec.Profile, err)
		}
	}
	if len(taken) < 50 {
		t.Errorf("%d were enrolled", len(taken))
	}
}

// sharesKey: some of the requests were made with one key, which is one device's here.
func sharesKey(err error) bool {
	f, ok := err.(*factory.Fault)
	return ok && (f.Code == factory.CodeKeyKnown || f.Code == factory.CodeOtherKey)
}

const taking = `
name: taking
days: 100
organization: Acme
id: {match: '[a-z0-9-]+'}
asks: {OU: take, serialNumber: take, dns: take, ip: take, keyUsage: take, extKeyUsage: take, basicConstraints: take, O: ignore, uri: ignore}
names: {allow: {ip: [192.0.2.0/24]}, deny: {ip: [192.0.2.9], cn: [golden]}}
certificate: {crl_urls: ["http://pki.example/factory.crl"]}
`

// TestTakingProfile: what is taken stands in the certificate, also in one that is signed after a crash; what would not is refused, and writes
// nothing.
func TestTakingProfile(t *testing.T) {
	p := newPlant(t)
	flaky := &awayKey{Signer: p.key}
	var err error
	if p.issuer, err = ca.NewIssuer(p.issuing, flaky, p.fleet.cert); err != nil {
		t.Fatal(err)
	}
	r := serve(t, p, oneProfile(t, taking))
	ctx, key := context.Background(), newKey(t)
	ask := func(tmpl x509.CertificateRequest) factory.EnrollRequest {
		der, err := x509.CreateCertificateRequest(rand.Reader, &tmpl, key)
		if err != nil {
			t.Fatal(err)
		}
		return factory.EnrollRequest{CSR: string(csr.PEM(der))}
	}
	usage := func(id int, value ...byte) pkix.Extension {
		return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, id}, Value: value}
	}
	named := func(cn string) pkix.Name { return pkix.Name{CommonName: cn} }
	for name, c := range map[string]struct {
		q    x509.CertificateRequest
		hint string
	}{
		"another host":     {x509.CertificateRequest{Subject: named("dev-1"), DNSNames: []string{"other"}}, "no name but the CN"},
		"another address":  {x509.CertificateRequest{Subject: named("dev-1"), IPAddresses: []net.IP{{192, 0, 3, 1}}}, "lists"},
		"a denied address": {x509.CertificateRequest{Subject: named("dev-1"), IPAddresses: []net.IP{{192, 0, 2, 9}}}, "lists"},
		"a denied CN":      {x509.CertificateRequest{Subject: named("golden")}, "lists"},
		"an id":            {x509.CertificateRequest{Subject: named("Dev-1")}, "[a-z0-9-]+"},
		"a key usage":      {x509.CertificateRequest{Subject: named("dev-1"), ExtraExtensions: []pkix.Extension{usage(15, 3, 2, 5, 0xa0)}}, "no other than digitalSignature"},
		"a usage":          {x509.CertificateRequest{Subject: named("dev-1"), ExtraExtensions: []pkix.Extension{usage(37, 0x30, 10, 6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 1)}}, "no other than clientAuth"},
		"a CA":             {x509.CertificateRequest{Subject: named("dev-1"), ExtraExtensions: []pkix.Extension{usage(19, 0x30, 3, 1, 1, 0xff)}}, "ask for no CA"},
		"a serial twice":   {x509.CertificateRequest{Subject: pkix.Name{CommonName: "dev-1", ExtraNames: []pkix.AttributeTypeAndValue{{Type: []int{2, 5, 4, 5}, Value: "1"}, {Type: []int{2, 5, 4, 5}, Value: "2"}}}}, "stand once"},
		"a mail address":   {x509.CertificateRequest{Subject: named("dev-1"), EmailAddresses: []string{"a@b.example"}}, "asks: email"},
		"a place":          {x509.CertificateRequest{Subject: pkix.Name{CommonName: "dev-1", Locality: []string{"Ulm"}}}, "leave L out"},
	} {
		before := r.rows()
		_, _, err := r.service.Enroll(ctx, "line-1", ask(c.q))
		if code(t, err) != factory.CodePolicy || !strings.Contains(faultHint(err), c.hint) || r.rows() != before {
			t.Errorf("%s: %v; hint %q", name, err, faultHint(err))
		}
	}
	good := ask(x509.CertificateRequest{Subject: pkix.Name{CommonName: "dev-1", ExtraNames: []pkix.AttributeTypeAndValue{{Type: []int{2, 5, 4, 11}, Value: "Line 7"}, {Type: []int{2, 5, 4, 11}, Value: "Bay 2"}}, Organization: []string{"Evil"}, SerialNumber: "SN-7"}, DNSNames: []string{"dev-1"},
		IPAddresses: []net.IP{{192, 0, 2, 7}}, ExtraExtensions: []pkix.Extension{usage(15, 3, 2, 7, 0x80), usage(37, 0x30, 10, 6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 2), usage(19, 0x30, 0)}})
	flaky.away.Store(true)
	if _, _, err := r.service.Enroll(ctx, "line-1", good); code(t, err) != factory.CodeUnavailable {
		t.Fatal(err)
	}
	flaky.away.Store(false)
	open, err := r.store.ByDevice(ctx, "dev-1")
	if err != nil || !open.Open() {
		t.Fatal(open.State, err)
	}
	if done, left, err := r.service.Recover(ctx); done != 1 || left != 0 || err != nil {
		t.Fatal(done, left, err)
	}
	a, isNew, err := r.service.Enroll(ctx, "line-1", good)
	if err != nil || isNew {
		t.Fatal(isNew, err)
	}
	cert := certOf(t, a)
	var subject []string
	for _, n := range cert.Subject.Names {
		subject = append(subject, fmt.Sprint(n.Value))
	}
	if strings.Join(subject, "|") != "Acme|dev-1|SN-7|Line 7|Bay 2" && strings.Join(subject, "|") != "Acme|dev-1|Line 7|Bay 2|SN-7" {
		t.Errorf("subject %v", subject)
	}
	if len(cert.DNSNames) != 1 || cert.DNSNames[0] != "dev-1" || len(cert.IPAddresses) != 1 || len(cert.CRLDistributionPoints) != 1 || cert.NotAfter.Sub(cert.NotBefore).Hours() > 101*24 {
		t.Errorf("%v %v %v, until %v", cert.DNSNames, cert.IPAddresses, cert.CRLDistributionPoints, cert.NotAfter)
	}
	if trimZero(a.Serial) != trimZero(hexOf(open.Serial)) {
		t.Error("the crash cost a number")
	}
}

func faultHint(err error) string {
	if f, ok := err.(*factory.Fault); ok {
		return f.Hint
	}
	return advice.Hint(err)
}

// TestProfileFiles: the examples load, and each mistake in a file is said, with what to do.
func TestProfileFiles(t *testing.T) {
	var examples []string
	for _, f := range []string{"vehicle", "sensor"} {
		data, err := os.ReadFile("../docs/examples/profiles/" + f + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		examples = append(examples, string(data))
	}
	if ps, err := profiles(t, examples...); err != nil || len(ps) != 2 || ps[0].Days != 5475 || ps[1].Organization != "" {
		t.Fatal(ps, err)
	}
	for name, bad := range map[string]string{
		"empty": "", "no name": "days: 5", "the built-in name": "name: device", "a name with a slash": "name: a/b", "unknown key": "name: a\nday: 5", "key twice": "name: a\nname: b",
		"too long": "name: a\ndays: 40000", "less than the least": "name: a\ndays: 5\nminimum_days: 6", "key algorithm": "name: a\nkey_algorithms: [DSA]", "pattern": "name: a\nid: {pattern: vim}",
		"no pattern": "name: a\nid: {}", "unknown ask": "name: a\nasks: {CN: ignore}", "unknown answer": "name: a\nasks: {OU: allow}", "answer of another kind": "name: a\nasks: {OU: true}",
		"a password is taken": "name: a\nasks: {challengePassword: take}", "the organization twice": "name: a\norganization: Acme\nasks: {O: take}", "empty lists": "name: a\nnames: {}",
		"a list that is none": "name: a\nnames: {allow: {ip: [x]}}", "a usage of a CA": "name: a\ncertificate: {key_usage: [keyCertSign]}", "any usage": "name: a\ncertificate: {ext_key_usage: [any]}",
		"a URL": "name: a\ncertificate: {crl_urls: [ldap://x]}", "evidence's own": "name: a\nasks: {1.2.840.113549.1.9.16.2.59: ignore}",
	} {
		ps, err := profiles(t, bad)
		if ps != nil || err == nil || advice.KindOf(err) != advice.Usage {
			t.Errorf("%s: %v, kind %v", name, err, advice.KindOf(err))
		}
	}
	if _, err := profiles(t, "name: a", "name: a"); err == nil || !strings.Contains(err.Error(), "too") {
		t.Errorf("a name twice: %v", err)
	}
	c, err := factory.LoadConfig("../docs/examples/hanaperd.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c.Devices.Profile = "vehicle"
	if _, err := c.LoadProfiles(factory.ProfileSources{}); err == nil || !strings.Contains(advice.Hint(err), "profiles") {
		t.Errorf("a default that no file has: %v", err)
	}
	// A service refuses what the loader would.
	if _, err := factory.NewService(factory.ServiceConfig{Store: serve(t, newPlant(t)).store, DefaultProfile: "vehicle"}); err == nil {
		t.Error("a default profile that is not there")
	}
}

// throughSpy opens the plant's token once more through OpenSC's pkcs11-spy, and counts from then on what is called.
func throughSpy(t *testing.T, p *plant) (calls func(name string) int) {
	t.Helper()
	spies, _ := filepath.Glob("/usr/lib/*-linux-gnu/pkcs11/pkcs11-spy.so")
	if len(spies) == 0 {
		t.Fatal("no pkcs11-spy.so: install the packages of scripts/packages-test.txt")
	}
	report := filepath.Join(t.TempDir(), "report")
	for name, value := range map[string]string{"PKCS11SPY": p.board.Module, "PKCS11SPY_OUTPUT": report} {
		if err := os.Setenv(name, value); err != nil { // for good: the spy reads them when it is loaded
			t.Fatal(err)
		}
	}
	uri, err := hsm.ParseURI(p.board.URI)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.token.Close(); err != nil {
		t.Fatal(err)
	}
	uri.ModulePath = spies[0]
	if p.token, err = pkcs11.Open(context.Background(), pkcs11.Config{URI: uri, PIN: hsm.PINFile(p.board.PINFile)}); err != nil {
		t.Fatal(err)
	}
	if p.key, err = p.token.Key(context.Background(), hsm.Query{Label: "factory-ca"}); err != nil {
		t.Fatal(err)
	}
	if p.issuer, err = ca.NewIssuer(p.issuing, p.key, p.fleet.cert); err != nil {
		t.Fatal(err)
	}
	return func(name string) int {
		said, err := os.ReadFile(report)
		if err != nil {
			t.Fatal(err)
		}
		return len(regexp.MustCompile(`(?m)^\d+: `+name+`$`).FindAll(said, -1))
	}
}

// TestBadRequestsReachNoToken: no bad request, of more than 400, makes the token sign or leaves a row; a good one does both.
func TestBadRequestsReachNoToken(t *testing.T) {
	p := newPlant(t)
	calls := throughSpy(t, p)
	r := serve(t, p, oneProfile(t, "name: luhn\nid: {pattern: luhn}\nasks: {OU: ignore, dns: take}"))
	ctx := context.Background()
	var bad []string
	files, err := filepath.Glob("../csr/testdata/requests/*.csr")
	if err != nil || len(files) < 100 {
		t.Fatal(len(files), err)
	}
	for _, f := range files { // none has an id of the profile's form
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		bad = append(bad, string(data))
	}
	key := newKey(t)
	good := request(t, key, csr.Template{Subject: pkix.Name{CommonName: "79927398713"}})
	block, _ := pem.Decode([]byte(good))
	for i := range block.Bytes { // one octet changed
		other := bytes.Clone(block.Bytes)
		other[i] ^= 0x20
		bad = append(bad, string(csr.PEM(other)))
	}
	for i := 0; i < len(good); i += 7 { // cut short, and with something behind it
		bad = append(bad, good[:i], good+good[:i+1])
	}
	weak := *newRSA(t)
	weak.E = 3
	for _, key := range []crypto.Signer{key, &weak} {
		for _, tmpl := range []x509.CertificateRequest{{Subject: pkix.Name{CommonName: "79927398710"}}, {Subject: pkix.Name{CommonName: "79927398713", Organization: []string{"x"}}}, {}, {Subject: pkix.Name{CommonName: "79927398713"}, DNSNames: []string{"x"}},
			{Subject: pkix.Name{CommonName: "79927398713"}, EmailAddresses: []string{"a@b.example"}}} {
			der, err := x509.CreateCertificateRequest(rand.Reader, &tmpl, key)
			if err != nil {
				continue // Go signs with no such key
			}
			bad = append(bad, string(csr.PEM(der)))
		}
	}
	before := r.rows()
	signed := calls("C_Sign")
	for _, q := range bad {
		if strings.TrimSpace(q) == strings.TrimSpace(good) {
			continue
		}
		a, _, err := r.service.Enroll(ctx, "line-1", factory.EnrollRequest{CSR: q})
		if a != nil || code(t, err) != factory.CodePolicy || faultHint(err) == "" {
			t.Errorf("%.200q: %v, hint %q", q, err, faultHint(err))
		}
	}
	if len(bad) < 400 || r.rows() != before {
		t.Errorf("%d bad requests; the store holds %s, was %s", len(bad), r.rows(), before)
	}
	if n := calls("C_Sign") - signed; n != 0 || calls("C_Initialize") == 0 {
		t.Errorf("%d signatures for bad requests", n)
	}
	if _, isNew, err := r.service.Enroll(ctx, "line-1", factory.EnrollRequest{CSR: good}); err != nil || !isNew {
		t.Fatal(isNew, err)
	}
	if n := calls("C_Sign") - signed; n == 0 { // two calls: the first asks for the length
		t.Error("the spy sees no signature")
	}
}

func newRSA(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return k
}
