package csr

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"math/big"
	"testing"

	"github.com/hanaper/hanaper/internal/format"
)

func newKey(t testing.TB, alg string) crypto.Signer {
	t.Helper()
	var k crypto.Signer
	var err error
	switch alg {
	case "P-224":
		k, err = ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	case "P-256":
		k, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "P-384":
		k, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "P-521":
		k, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case "Ed25519":
		_, k, err = ed25519.GenerateKey(rand.Reader)
	case "RSA-2048":
		k, err = rsa.GenerateKey(rand.Reader, 2048)
	default:
		t.Fatalf("no key of %s here", alg)
	}
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestMarshalKey(t *testing.T) {
	for _, alg := range []string{"P-256", "P-384", "P-521", "Ed25519", "RSA-2048"} {
		pub := newKey(t, alg).Public()
		want, err := x509.MarshalPKIXPublicKey(pub)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := MarshalKey(pub); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %x, %v, want %x", alg, got, err, want)
		}
		if KeyAlgorithm(pub) != alg {
			t.Errorf("%s is called %s", alg, KeyAlgorithm(pub))
		}
	}
	if KeyAlgorithm(newKey(t, "P-224").Public()) != "" || KeyAlgorithm(nil) != "" {
		t.Error("an unknown type has a name")
	}
}

// TestSignatureAlgorithms compares the table with what crypto/x509 writes.
func TestSignatureAlgorithms(t *testing.T) {
	for _, s := range sigAlgs {
		var key crypto.Signer
		switch s.alg {
		case x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512:
			key = newKey(t, "P-256")
		case x509.PureEd25519:
			key = newKey(t, "Ed25519")
		default:
			key = newKey(t, "RSA-2048")
		}
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{SignatureAlgorithm: s.alg}, key)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(der, []byte(s.der)) {
			t.Errorf("%v is not encoded as %x", s.alg, s.der)
		}
		if SignatureAlgorithm([]byte(s.der)) != s.alg || !bytes.Equal(AlgorithmIdentifier(s.alg), []byte(s.der)) {
			t.Errorf("%v: the tables differ", s.alg)
		}
		sig, err := SignMessage(context.Background(), rand.Reader, key, s.alg, []byte("m"))
		if err != nil || CheckSignature(key.Public(), s.alg, []byte("m"), sig) != nil || CheckSignature(key.Public(), s.alg, []byte("n"), sig) == nil {
			t.Errorf("%v: signing: %v", s.alg, err)
		}
	}
	if AlgorithmIdentifier(x509.SHA1WithRSA) != nil || SignatureAlgorithm(nil) != x509.UnknownSignatureAlgorithm {
		t.Error("a weak algorithm is known")
	}
}

func TestSignMessageDoesNotTrustTheKey(t *testing.T) {
	k := swapped{newKey(t, "P-256"), newKey(t, "P-256")}
	if _, err := SignMessage(context.Background(), rand.Reader, k, x509.ECDSAWithSHA256, []byte("m")); err == nil {
		t.Error("a wrong signature was handed on")
	}
}

var one = big.NewInt(1)

// swapped says it is one key and signs with another.
type swapped struct {
	says crypto.Signer
	crypto.Signer
}

func (s swapped) Public() crypto.PublicKey { return s.says.Public() }

func prime(t testing.TB, bits int) *big.Int {
	p, err := rand.Prime(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func next(p *big.Int) *big.Int {
	q := new(big.Int).Add(p, big.NewInt(2))
	for !q.ProbablyPrime(20) {
		q.Add(q, big.NewInt(2))
	}
	return q
}

// rocaPrime makes a prime as the faulty chips did: k·M + (65537^a mod M), M the product of the first primes.
func rocaPrime(t testing.TB) *big.Int {
	m := big.NewInt(2)
	for p := int64(3); p <= 701; p += 2 {
		if big.NewInt(p).ProbablyPrime(0) {
			m.Mul(m, big.NewInt(p))
		}
	}
	bits := 1024 - m.BitLen()
	for range 200000 {
		a, _ := rand.Int(rand.Reader, m)
		k, _ := rand.Int(rand.Reader, new(big.Int).Lsh(one, uint(bits)))
		k.SetBit(k, bits-1, 1).SetBit(k, bits-2, 1)
		p := new(big.Int).Exp(big.NewInt(65537), a, m)
		p.Add(p, k.Mul(k, m))
		if p.BitLen() == 1024 && p.ProbablyPrime(10) {
			return p
		}
	}
	t.Fatal("no prime found")
	return nil
}

func TestWeakKeys(t *testing.T) {
	p := prime(t, 1024)
	good := newKey(t, "RSA-2048").Public().(*rsa.PublicKey)
	mul := func(a, b *big.Int) *big.Int { return new(big.Int).Mul(a, b) }
	small := mul(big.NewInt(1999), prime(t, 2048-11))
	for small.BitLen() != 2048 {
		small = mul(big.NewInt(1999), prime(t, 2048-10))
	}
	for name, k := range map[string]crypto.PublicKey{
		"1024 bits":       &rsa.PublicKey{N: mul(prime(t, 512), prime(t, 512)), E: 65537},
		"exponent 3":      &rsa.PublicKey{N: good.N, E: 3},
		"exponent 1":      &rsa.PublicKey{N: good.N, E: 1},
		"even exponent":   &rsa.PublicKey{N: good.N, E: 65538},
		"even modulus":    &rsa.PublicKey{N: new(big.Int).Sub(good.N, one), E: 65537},
		"small factor":    &rsa.PublicKey{N: small, E: 65537},
		"odd size":        &rsa.PublicKey{N: mul(good.N, big.NewInt(9)), E: 65537},
		"near primes":     &rsa.PublicKey{N: mul(p, next(p)), E: 65537},
		"ROCA":            &rsa.PublicKey{N: mul(rocaPrime(t), rocaPrime(t)), E: 65537},
		"small order":     ed25519.PublicKey(make([]byte, 32)),
		"identity":        ed25519.PublicKey(append([]byte{1}, make([]byte, 31)...)),
		"identity, sign":  ed25519.PublicKey(append(append([]byte{1}, make([]byte, 30)...), 0x80)),
		"a short ed25519": ed25519.PublicKey{1, 2},
	} {
		if err := CheckKeyAsOf(format.Version{}, k); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	for range 3 {
		if err := CheckKeyAsOf(format.Version{}, newKey(t, "RSA-2048").Public()); err != nil {
			t.Error(err)
		}
	}
	if err := CheckKeyAsOf(format.Version{}, good); err != nil {
		t.Error(err)
	}
}
