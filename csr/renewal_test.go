package csr

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// aged is a certificate that is to be renewed, with its key.
func aged(t *testing.T, key crypto.Signer, edit func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	c := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "dev-1", Organization: []string{"Example"}}, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
	if edit != nil {
		edit(c)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func signers(t *testing.T) map[string]crypto.Signer {
	t.Helper()
	keys := map[string]crypto.Signer{}
	for name, curve := range map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()} {
		k, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		keys[name] = k
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	keys["Ed25519"], keys["RSA-2048"] = ed, r
	return keys
}

// TestRenewalProof: of every type of key, made by us and by openssl; nothing but the old key's signature over these two is taken.
func TestRenewalProof(t *testing.T) {
	for name, key := range signers(t) {
		t.Run(name, func(t *testing.T) {
			old := aged(t, key, nil)
			next := signers(t)["P-256"]
			spki, _ := MarshalKey(next.Public())
			proof, err := SignRenewal(t.Context(), rand.Reader, key, old, spki)
			if err != nil {
				t.Fatal(err)
			}
			policy, err := DevicePolicy().ForRenewal(old)
			if err != nil {
				t.Fatal(err)
			}
			der, err := Create(rand.Reader, next, Template{Subject: old.Subject, RenewalProof: proof})
			if err != nil {
				t.Fatal(err)
			}
			r, err := Parse(der, policy)
			if err != nil || r.Renews(old) != nil || r.CheckRenewalProof(old) != nil {
				t.Fatal(err)
			}
			if _, err := Parse(der, DevicePolicy()); !errors.Is(err, ErrSubject) && !errors.Is(err, ErrRequestAttribute) {
				t.Errorf("a policy for enrolment takes the proof: %v", err)
			}
			for what, other := range map[string]*x509.Certificate{
				"another certificate of the same key": aged(t, key, func(c *x509.Certificate) { c.SerialNumber = big.NewInt(8) }),
				"another key's":                       aged(t, signers(t)[name], nil),
			} {
				if err := r.CheckRenewalProof(other); !errors.Is(err, ErrRenewalProof) {
					t.Errorf("%s: %v", what, err)
				}
			}
			byOpenSSL(t, key, old, name)
		})
	}
}

// byOpenSSL makes proof and request with nothing but openssl, as docs/spec/renewal.md says.
func byOpenSSL(t *testing.T, key crypto.Signer, old *x509.Certificate, name string) {
	dir := t.TempDir()
	run := func(args ...string) []byte {
		t.Helper()
		cmd := exec.Command("openssl", args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("openssl %v: %v %s", args, err, out)
		}
		return out
	}
	write := func(name string, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write("old.der", pkcs8)
	run("pkey", "-inform", "DER", "-in", "old.der", "-out", "old.key")
	run("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "new.key")
	run("pkey", "-in", "new.key", "-pubout", "-outform", "DER", "-out", "spki.der")
	spki, err := os.ReadFile(filepath.Join(dir, "spki.der"))
	if err != nil {
		t.Fatal(err)
	}
	write("message", RenewalMessage(old, spki))
	hash := map[string]string{"P-256": "-sha256", "P-384": "-sha384", "P-521": "-sha512", "RSA-2048": "-sha256"}[name]
	if hash == "" {
		run("pkeyutl", "-sign", "-rawin", "-inkey", "old.key", "-in", "message", "-out", "sig")
	} else {
		run("dgst", hash, "-sign", "old.key", "-out", "sig", "message")
	}
	sig, err := os.ReadFile(filepath.Join(dir, "sig"))
	if err != nil {
		t.Fatal(err)
	}
	write("req.cnf", fmt.Appendf(nil, "oid_section = oids\n[oids]\nrenewalProof = %s\n[req]\nprompt = no\ndistinguished_name = dn\nattributes = proof\n[dn]\nCN = dev-1\n[proof]\nrenewalProof = %s\n",
		RenewalProofOID, base64.StdEncoding.EncodeToString(sig)))
	run("req", "-new", "-config", "req.cnf", "-key", "new.key", "-outform", "DER", "-out", "req.der")
	der, err := os.ReadFile(filepath.Join(dir, "req.der"))
	if err != nil {
		t.Fatal(err)
	}
	policy, err := DevicePolicy().ForRenewal(old)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Parse(der, policy)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.CheckRenewalProof(old); err != nil {
		t.Error(err)
	}
	if text := string(run("req", "-in", "req.der", "-inform", "DER", "-noout", "-text")); !strings.Contains(text, "renewalProof") && !strings.Contains(text, RenewalProofOID) {
		t.Errorf("openssl does not show the attribute: %s", text)
	}
}

// TestRenews: the names are the certificate's, as RFC 7030, section 4.2.2, has it.
func TestRenews(t *testing.T) {
	key := signers(t)["P-256"]
	named := aged(t, key, func(c *x509.Certificate) { c.DNSNames = []string{"dev-1.example"} })
	for name, c := range map[string]struct {
		old  *x509.Certificate
		tmpl Template
		want error
	}{
		"CN":                  {aged(t, key, nil), Template{Subject: pkix.Name{CommonName: "dev-1"}}, nil},
		"whole subject":       {aged(t, key, nil), Template{Subject: pkix.Name{CommonName: "dev-1", Organization: []string{"Example"}}}, nil},
		"alternative name":    {named, Template{Subject: pkix.Name{CommonName: "dev-1"}, DNSNames: []string{"dev-1.example"}}, nil},
		"left out":            {named, Template{Subject: pkix.Name{CommonName: "dev-1"}}, ErrSAN},
		"another one":         {named, Template{Subject: pkix.Name{CommonName: "dev-1"}, DNSNames: []string{"dev-2.example"}}, ErrSAN},
		"one more":            {named, Template{Subject: pkix.Name{CommonName: "dev-1"}, DNSNames: []string{"dev-1.example", "dev-2.example"}}, ErrSAN},
		"of another kind":     {named, Template{Subject: pkix.Name{CommonName: "dev-1"}, EmailAddresses: []string{"a@dev-1.example"}}, ErrSAN},
		"where there is none": {aged(t, key, nil), Template{Subject: pkix.Name{CommonName: "dev-1"}, DNSNames: []string{"dev-1.example"}}, ErrSAN},
		"another CN":          {named, Template{Subject: pkix.Name{CommonName: "dev-2"}, DNSNames: []string{"dev-1.example"}}, ErrSubject},
		"another O":           {aged(t, key, nil), Template{Subject: pkix.Name{CommonName: "dev-1", Organization: []string{"Other"}}}, ErrSubject},
		"an OU":               {aged(t, key, nil), Template{Subject: pkix.Name{CommonName: "dev-1", OrganizationalUnit: []string{"Other"}}}, ErrSubject},
	} {
		t.Run(name, func(t *testing.T) {
			der, err := Create(rand.Reader, key, c.tmpl)
			if err != nil {
				t.Fatal(err)
			}
			policy, err := DevicePolicy().ForRenewal(c.old)
			if err != nil {
				t.Fatal(err)
			}
			r, err := Parse(der, policy)
			if err == nil {
				err = r.Renews(c.old)
			}
			if c.want == nil && err != nil || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}

// TestRenewsWhatIsIgnored: what the profile leaves out of account may be asked for again, and what the certificate has counts all the same.
func TestRenewsWhatIsIgnored(t *testing.T) {
	key := signers(t)["P-256"]
	plain := aged(t, key, nil)
	named := aged(t, key, func(c *x509.Certificate) { c.DNSNames = []string{"dev-1.example"} })
	for _, ignored := range [][]string{{"OU", "O", "dns"}, {"all"}} {
		base, err := NewPolicy(PolicyConfig{KeyAlgorithms: keyAlgorithms, Ignored: ignored})
		if err != nil && ignored[0] == "all" {
			base = DevicePolicy()
			base.ignoresAll = true
		} else if err != nil {
			t.Fatal(err)
		}
		for name, c := range map[string]struct {
			old  *x509.Certificate
			tmpl Template
			want error
		}{
			"an OU":        {plain, Template{Subject: pkix.Name{CommonName: "dev-1", OrganizationalUnit: []string{"x"}}}, nil},
			"a name":       {plain, Template{Subject: pkix.Name{CommonName: "dev-1"}, DNSNames: []string{"x.example"}}, nil},
			"its name":     {named, Template{Subject: pkix.Name{CommonName: "dev-1"}, DNSNames: []string{"dev-1.example"}}, nil},
			"another name": {named, Template{Subject: pkix.Name{CommonName: "dev-1"}, DNSNames: []string{"x.example"}}, ErrSAN},
			"another O":    {plain, Template{Subject: pkix.Name{CommonName: "dev-1", Organization: []string{"x"}}}, ErrSubject},
			"another CN":   {plain, Template{Subject: pkix.Name{CommonName: "dev-2"}}, ErrSubject},
		} {
			der, err := Create(rand.Reader, key, c.tmpl)
			if err != nil {
				t.Fatal(err)
			}
			policy, err := base.ForRenewal(c.old)
			if err != nil {
				t.Fatal(err)
			}
			r, err := Parse(der, policy)
			if err == nil {
				err = r.Renews(c.old)
			}
			if c.want == nil && err != nil || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("%v, %s: %v, want %v", ignored, name, err, c.want)
			}
		}
	}
}

// TestBadRenewalProofs: what is no proof is refused when it is read, whatever else it is.
func TestBadRenewalProofs(t *testing.T) {
	key := signers(t)["P-256"]
	old := aged(t, key, nil)
	policy, err := DevicePolicy().ForRenewal(old)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"!", "AAA", "AA=", "AAAA\n", strings.Repeat("A", maxRenewalProof+4), "AAAA=", "-_-_"} {
		der, err := Create(rand.Reader, key, Template{Subject: pkix.Name{CommonName: "dev-1"}, RenewalProof: text})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Parse(der, policy); !errors.Is(err, ErrMalformed) {
			t.Errorf("%.20q: %v", text, err)
		}
	}
	der, err := Create(rand.Reader, key, Template{Subject: pkix.Name{CommonName: "dev-1"}})
	if err != nil {
		t.Fatal(err)
	}
	r, err := Parse(der, policy)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.CheckRenewalProof(old); !errors.Is(err, ErrRenewalProof) {
		t.Error(err)
	}
}
