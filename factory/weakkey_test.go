package factory_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/csr"
	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/internal/weakkey"
)

// otherExponent is the key with the same modulus and another public exponent.
func otherExponent(t *testing.T, k *rsa.PrivateKey, e int) *rsa.PrivateKey {
	t.Helper()
	one := big.NewInt(1)
	phi := new(big.Int).Mul(new(big.Int).Sub(k.Primes[0], one), new(big.Int).Sub(k.Primes[1], one))
	o := &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: k.N, E: e}, D: new(big.Int).ModInverse(big.NewInt(int64(e)), phi), Primes: k.Primes}
	o.Precompute()
	if err := o.Validate(); err != nil {
		t.Fatal(err)
	}
	return o
}

// TestKeysOfOthers: a modulus that is a device's already gets no second certificate under another exponent, before or after the first; keys that
// are published, or on a list of weak ones, get none. Nothing is written, and each refusal says what to do.
func TestKeysOfOthers(t *testing.T) {
	weak := newRSA(t)
	sum := sha1.Sum(fmt.Appendf(nil, "Modulus=%X\n", weak.N))
	path := filepath.Join(t.TempDir(), "blacklist.RSA-2048")
	if err := os.WriteFile(path, fmt.Appendf(nil, "# test\n%x\n", sum[10:]), 0o600); err != nil {
		t.Fatal(err)
	}
	list, err := weakkey.LoadBlacklists([]string{path})
	if err != nil {
		t.Fatal(err)
	}
	r := serve(t, newPlant(t), func(c *factory.ServiceConfig) { c.WeakKeys = list })
	ctx, key := context.Background(), newRSA(t)
	again, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(id string, key crypto.Signer) factory.EnrollRequest {
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: id}}, key)
		if err != nil {
			t.Fatal(err)
		}
		return factory.EnrollRequest{CSR: string(csr.PEM(der))}
	}
	if _, isNew, err := r.service.Enroll(ctx, "line-1", ask("dev-1", key)); err != nil || !isNew {
		t.Fatal(isNew, err)
	}
	one, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), append(make([]byte, 31), 1))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		id   string
		key  crypto.Signer
		code factory.Code
		hint string
	}{
		"the same key, another device":                  {"dev-2", key, factory.CodeKeyKnown, "right board"},
		"the same modulus, another device":              {"dev-2", otherExponent(t, key, 65539), factory.CodePolicy, "65537"},
		"the same modulus, the same device":             {"dev-1", otherExponent(t, key, 65539), factory.CodePolicy, "65537"},
		"another exponent first":                        {"dev-3", otherExponent(t, again, 65539), factory.CodePolicy, "65537"},
		"a published key":                               {"dev-4", one, factory.CodePolicy, "everybody can sign"},
		"a key of a list":                               {"dev-5", weak, factory.CodePolicy, "CVE-2008-0166"},
		"the same modulus as on a list, other exponent": {"dev-5", otherExponent(t, weak, 65539), factory.CodePolicy, "65537"},
	} {
		before := r.rows()
		_, _, err := r.service.Enroll(ctx, "line-1", ask(c.id, c.key))
		if code(t, err) != c.code || !strings.Contains(faultHint(err), c.hint) || r.rows() != before {
			t.Errorf("%s: %v, hint %q", name, err, faultHint(err))
		}
	}
}
