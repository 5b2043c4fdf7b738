package ca

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	zx509 "github.com/zmap/zcrypto/x509"
	"github.com/zmap/zlint/v3"
	zlinter "github.com/zmap/zlint/v3/lint"
)

// everything is one certificate of each profile and a CRL, with every extension that can be written.
type everything struct {
	*family
	leaves map[string]*x509.Certificate // by profile
	ca     map[string]*x509.Certificate
	crl    *x509.RevocationList
}

func newEverything(t testing.TB, alg string) *everything {
	t.Helper()
	e := &everything{family: newFamily(t, alg, alg), leaves: map[string]*x509.Certificate{}, ca: map[string]*x509.Certificate{}}
	urls := func(c *ProfileConfig) {
		c.CRLURLs, c.IssuerURLs, c.OCSPURLs = []string{"http://pki.example.com/f.crl"}, []string{"http://pki.example.com/f.cer"}, []string{"http://ocsp.example.com"}
		c.Policies, c.CPS = []string{"1.3.6.1.4.1.99999.1.1"}, map[string]string{"1.3.6.1.4.1.99999.1.1": "https://pki.example.com/cps"}
		if c.Name == "subordinate-ca" {
			c.CPS = nil // a plain policy, which crypto/x509 can judge
		}
	}
	names := map[string]Template{
		"device":   {},
		"station":  {URIs: []*url.URL{StationURI("line-1")}},
		"operator": {URIs: []*url.URL{OperatorURI("ann")}},
		"server":   {DNSNames: []string{"gw.example.com"}, IPs: []net.IP{{192, 0, 2, 1}, net.ParseIP("2001:db8::1")}},
	}
	for profile, tpl := range names {
		tpl.Subject, tpl.PublicKey, tpl.NotBefore, tpl.NotAfter = cn("gw.example.com"), mustKey(t, "P-256", profile).Public(), t0, t0.AddDate(0, 0, 300)
		e.leaves[profile] = mustIssue(t, e.facIssuer, mustProfile(t, profile, urls), tpl)
	}
	e.ca["subordinate-ca"] = mustIssue(t, e.rootIssuer, mustProfile(t, "subordinate-ca", urls), Template{Subject: cn("Example Sub CA"), PublicKey: mustKey(t, "P-256", "sub").Public(), NotBefore: t0, NotAfter: years(5), PathLen: pathLen(0),
		Constraints: &NameConstraints{PermittedDNS: []string{"example.com"}, ExcludedIP: []string{"0.0.0.0/0", "::/0"}, PermittedEmail: []string{"example.com"}, PermittedURI: []string{".example.com"}}})
	prep, err := e.facIssuer.PrepareCRL(CRLTemplate{Number: big.NewInt(300), ThisUpdate: t0, NextUpdate: years(1), Entries: []x509.RevocationListEntry{
		{SerialNumber: e.leaves["station"].SerialNumber, RevocationTime: t0, ReasonCode: 1}, {SerialNumber: big.NewInt(5), RevocationTime: t0}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if e.crl, err = prep.Sign(context.Background(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	return e
}

func writePEM(t testing.TB, file, kind string, ders ...[]byte) string {
	t.Helper()
	var out []byte
	for _, d := range ders {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: d})...)
	}
	if err := os.WriteFile(file, out, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// peer runs another program; a machine without it fails the test.
func peer(t testing.TB, name string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%v: install the packages of scripts/packages-test.txt", err)
	}
	out, err := exec.Command(path, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

var judged = []string{"P-256", "P-384", "P-521", "Ed25519", "RSA-3072"}

func TestOpenSSL(t *testing.T) {
	for _, alg := range judged {
		t.Run(alg, func(t *testing.T) {
			e, dir := newEverything(t, alg), t.TempDir()
			file := func(n string) string { return filepath.Join(dir, n) }
			root, fac := writePEM(t, file("root"), "CERTIFICATE", e.root.Raw), writePEM(t, file("factory"), "CERTIFICATE", e.factory.Raw)
			at := []string{"verify", "-x509_strict", "-check_ss_sig", "-attime", strconv.FormatInt(t0.Add(time.Hour).Unix(), 10), "-CAfile", root}
			peer(t, "openssl", append(at, root)...)
			peer(t, "openssl", append(at, fac)...)
			peer(t, "openssl", append(at, writePEM(t, file("sub"), "CERTIFICATE", e.ca["subordinate-ca"].Raw))...)
			for profile, c := range e.leaves {
				leaf := writePEM(t, file(profile), "CERTIFICATE", c.Raw)
				purpose := "sslclient"
				if profile == "server" {
					purpose = "sslserver"
				}
				peer(t, "openssl", append(at, "-purpose", purpose, "-untrusted", fac, leaf)...)
				text := peer(t, "openssl", "x509", "-noout", "-text", "-in", leaf)
				for _, want := range []string{"X509v3 Key Usage: critical", "URI:http://pki.example.com/f.crl", "CA Issuers - URI:http://pki.example.com/f.cer", "OCSP - URI:http://ocsp.example.com", "Policy: 1.3.6.1.4.1.99999.1.1", "CPS: https://pki.example.com/cps", "CN = gw.example.com"} {
					if !strings.Contains(text, want) {
						t.Errorf("%s: openssl does not read %q in\n%s", profile, want, text)
					}
				}
			}
			crl := writePEM(t, file("crl"), "X509 CRL", e.crl.Raw)
			text := peer(t, "openssl", "crl", "-noout", "-text", "-in", crl, "-CAfile", fac)
			if !strings.Contains(text, "verify OK") || !strings.Contains(text, "Key Compromise") || !strings.Contains(strings.Join(strings.Fields(text), " "), "CRL Number: 300") {
				t.Errorf("openssl reads the CRL as\n%s", text)
			}
			rootCRL, err := e.rootIssuer.PrepareCRL(CRLTemplate{Number: big.NewInt(1), ThisUpdate: t0, NextUpdate: years(1)}, nil)
			if err != nil {
				t.Fatal(err)
			}
			rc, err := rootCRL.Sign(context.Background(), rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			both := writePEM(t, file("crls"), "X509 CRL", rc.Raw, e.crl.Raw)
			revocation := append(at, "-crl_check_all", "-CRLfile", both, "-untrusted", fac)
			peer(t, "openssl", append(revocation, file("device"))...)
			if out, err := exec.Command("openssl", append(revocation, file("station"))...).CombinedOutput(); err == nil || !strings.Contains(string(out), "certificate revoked") {
				t.Errorf("openssl accepts a revoked certificate: %s", out)
			}
		})
	}
}

func TestCerttool(t *testing.T) {
	for _, alg := range judged {
		t.Run(alg, func(t *testing.T) {
			e, dir := newEverything(t, alg), t.TempDir()
			root := writePEM(t, filepath.Join(dir, "root"), "CERTIFICATE", e.root.Raw)
			for profile, c := range e.leaves {
				chain := writePEM(t, filepath.Join(dir, profile), "CERTIFICATE", c.Raw, e.factory.Raw)
				out := peer(t, "certtool", "--verify", "--load-ca-certificate", root, "--infile", chain)
				if !strings.Contains(out, "Verified. The certificate is trusted.") {
					t.Errorf("%s: certtool says\n%s", profile, out)
				}
			}
			out := peer(t, "certtool", "--crl-info", "--infile", writePEM(t, filepath.Join(dir, "crl"), "X509 CRL", e.crl.Raw))
			if !strings.Contains(out, "Revoked certificates (2)") {
				t.Errorf("certtool reads the CRL as\n%s", out)
			}
		})
	}
}

// TestZlint holds all certificates to zlint's RFC 5280 and community lints.
func TestZlint(t *testing.T) {
	registry, err := zlinter.GlobalRegistry().Filter(zlinter.FilterOptions{IncludeSources: zlinter.SourceList{zlinter.RFC5280, zlinter.RFC5480, zlinter.RFC5891, zlinter.RFC8813, zlinter.RFC3279, zlinter.Community}})
	if err != nil {
		t.Fatal(err)
	}
	for _, alg := range judged {
		e := newEverything(t, alg)
		all := map[string]*x509.Certificate{"fleet-root": e.root, "factory-ca": e.factory}
		for _, m := range []map[string]*x509.Certificate{e.leaves, e.ca} {
			for profile, c := range m {
				all[profile] = c
			}
		}
		for profile, c := range all {
			z, err := zx509.ParseCertificate(c.Raw)
			if err != nil {
				t.Fatal(err)
			}
			for lint, r := range zlint.LintCertificateEx(z, registry).Results {
				if r.Status >= zlinter.Warn {
					t.Errorf("%s %s: %s: %s %s", alg, profile, lint, r.Status, r.Details)
				}
			}
		}
		z, err := zx509.ParseRevocationList(e.crl.Raw)
		if err != nil {
			t.Fatal(err)
		}
		for lint, r := range zlint.LintRevocationListEx(z, registry).Results {
			if r.Status >= zlinter.Warn {
				t.Errorf("%s CRL: %s: %s %s", alg, lint, r.Status, r.Details)
			}
		}
	}
}

// TestSameAsStandardLibrary compares our encoding of extensions with crypto/x509's, octet for octet.
func TestSameAsStandardLibrary(t *testing.T) {
	e, plain := newEverything(t, "P-256"), 0
	for profile, c := range e.leaves {
		der, err := x509.CreateCertificate(rand.Reader, c, e.factory, c.PublicKey, e.factoryKey)
		if err != nil {
			t.Fatal(err)
		}
		std, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		plain += sameExtensions(t, profile, c, std)
	}
	for profile, c := range map[string]*x509.Certificate{"factory-ca": e.factory, "subordinate-ca": e.ca["subordinate-ca"]} {
		der, err := x509.CreateCertificate(rand.Reader, c, e.root, c.PublicKey, e.rootKey)
		if err != nil {
			t.Fatal(err)
		}
		std, _ := x509.ParseCertificate(der)
		plain += sameExtensions(t, profile, c, std)
	}
	if plain == 0 {
		t.Error("no plain policy was compared")
	}
}

// cpsURL is the OID of a practice statement's URL (RFC 5280, section 4.2.1.4) as it stands in an extension.
var cpsURL = []byte{0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x02, 0x01}

// sameExtensions says whether it compared plain policies.
func sameExtensions(t *testing.T, profile string, ours, std *x509.Certificate) (plain int) {
	t.Helper()
	want := map[string]string{}
	for _, x := range std.Extensions {
		want[x.Id.String()] = fmt.Sprintf("%v %x", x.Critical, x.Value)
	}
	for _, x := range ours.Extensions {
		if x.Id.Equal(oidPolicies) && bytes.Contains(x.Value, cpsURL) {
			delete(want, x.Id.String())
			continue // crypto/x509 cannot write the URL of a practice statement; openssl reads ours (TestOpenSSL)
		} else if x.Id.Equal(oidPolicies) {
			plain++
		}
		if got := fmt.Sprintf("%v %x", x.Critical, x.Value); got != want[x.Id.String()] {
			t.Errorf("%s: extension %v is %s, crypto/x509 writes %s", profile, x.Id, got, want[x.Id.String()])
		}
		delete(want, x.Id.String())
	}
	if len(want) > 0 || !bytes.Equal(ours.RawSubject, std.RawSubject) || ours.SerialNumber.Cmp(std.SerialNumber) != 0 {
		t.Errorf("%s: not there: %v", profile, want)
	}
	return plain
}
