package csr

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"

	"github.com/hanaper/hanaper/internal/format"
	"github.com/hanaper/hanaper/internal/weakkey"
)

// CheckKeyAsOf refuses keys that were known to be weak when a format of ceremonies was the newest, whatever made them; the
// zero Version stands for today:
//   - RSA below 2048 bits, with an exponent that is even, below 65537 or above 2^31-1, with a factor below 2000,
//     of the ROCA kind (CVE-2017-15361: smartcards and TPMs made such keys), or with primes so near each other that
//     Fermat's method finds them in 100 rounds;
//   - Ed25519 keys of small order, under which anybody can sign;
//   - types that Hanaper does not know.
//
// Points of NIST curves were checked to lie on their curve when they were parsed.
func CheckKeyAsOf(v format.Version, pub crypto.PublicKey) error {
	switch k := pub.(type) {
	case *rsa.PublicKey:
		return checkRSA(v, k)
	case ed25519.PublicKey:
		if err := checkWeak(v, k); err != nil {
			return err
		}
	}
	if KeyAlgorithm(pub) == "" {
		return refuse(ErrKeyType, "%T", pub)
	}
	return nil
}

func checkRSA(v format.Version, k *rsa.PublicKey) error {
	bits := k.N.BitLen()
	switch {
	case bits < 2048:
		return refuse(ErrWeakKey, "rsa modulus has %d bits, fewer than 2048", bits)
	case bits > 8192: // bounds the work that a request can cause
		return refuse(ErrKeyType, "rsa modulus has %d bits", bits)
	case bits%8 != 0:
		return refuse(ErrWeakKey, "rsa modulus has %d bits, not a multiple of 8", bits)
	case k.E < minRSAPublic || k.E%2 == 0 || k.E > 1<<31-1:
		return refuse(ErrWeakKey, "rsa exponent %d is not an odd number of at least %d", k.E, minRSAPublic)
	}
	return checkWeak(v, k)
}

func checkWeak(v format.Version, pub crypto.PublicKey) error {
	if fault := weakkey.FaultAsOf(v, pub); fault != "" {
		return refuse(ErrWeakKey, "%s", fault)
	}
	return nil
}
