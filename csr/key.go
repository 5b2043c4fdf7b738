package csr

import (
	"bytes"
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
		return refuseAnd("generate an RSA key of 2048, 3072 or 4096 bits, or a P-256 key", ErrWeakKey, "rsa modulus has %d bits, fewer than 2048", bits)
	case bits > 8192: // bounds the work that a request can cause
		return refuseAnd("generate an RSA key of at most 4096 bits, or a P-256 key", ErrKeyType, "rsa modulus has %d bits", bits)
	case bits%8 != 0:
		return refuseAnd("generate an RSA key of exactly 2048, 3072 or 4096 bits", ErrWeakKey, "rsa modulus has %d bits, not a multiple of 8", bits)
	case k.E < minRSAPublic || k.E%2 == 0 || k.E > 1<<31-1:
		return refuseAnd("generate the RSA key with the exponent 65537 (F4)", ErrWeakKey, "rsa exponent %d is not an odd number of at least %d", k.E, minRSAPublic)
	}
	return checkWeak(v, k)
}

func checkWeak(v format.Version, pub crypto.PublicKey) error {
	if fault := weakkey.FaultAsOf(v, pub); fault != "" {
		return refuseAnd(weakkey.Hint(fault), ErrWeakKey, "%s", fault)
	}
	return nil
}

// keyHint says what to do about a key that could not be read.
func keyHint(spki []byte) string {
	has := func(oid string) bool { return bytes.Contains(spki[:min(len(spki), 64)], []byte(unhex(oid))) }
	switch {
	case has("06092a864886f70d01010a"):
		return "make a plain RSA key (rsaEncryption; openssl: -algorithm RSA), not one that is bound to PSS"
	case has("06072a8648ce3d0201") && has("06072a8648ce3d0101"):
		return "name the curve instead of its parameters (openssl: -pkeyopt ec_param_enc:named_curve)"
	case has("06072a8648ce3d0201"):
		return "use P-256, P-384 or P-521, and write the point uncompressed (openssl: ec -conv_form uncompressed)"
	}
	return hints[ErrKeyType]
}
