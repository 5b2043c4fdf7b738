package pkcs11

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"

	p11 "github.com/miekg/pkcs11"

	"github.com/hanaper/hanaper/hsm"
)

type family int

const (
	familyEC family = iota + 1
	familyRSA
	familyEd25519
)

// kind is an algorithm in PKCS#11's terms.
type kind struct {
	family   family
	keyType  uint // CKK_
	generate uint // CKM_
	bits     int
	curve    elliptic.Curve
	params   [][]byte // CKA_EC_PARAMS: as written, then what other tokens want or answer
}

// An Edwards curve's name as a PrintableString, which PKCS#11 v3.0 allows beside the OID 1.3.101.112.
var (
	oidP256       = []byte{0x06, 0x08, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07}
	oidP384       = []byte{0x06, 0x05, 0x2B, 0x81, 0x04, 0x00, 0x22}
	oidEd25519    = []byte{0x06, 0x03, 0x2B, 0x65, 0x70}
	nameEd25519   = append([]byte{0x13, 0x0C}, "edwards25519"...)
	oidEd25519Gnu = []byte{0x06, 0x09, 0x2B, 0x06, 0x01, 0x04, 0x01, 0xDA, 0x47, 0x0F, 0x01} // 1.3.6.1.4.1.11591.15.1
	kinds         = map[hsm.Algorithm]kind{
		hsm.P256:    {family: familyEC, keyType: p11.CKK_EC, generate: p11.CKM_EC_KEY_PAIR_GEN, bits: 256, curve: elliptic.P256(), params: [][]byte{oidP256}},
		hsm.P384:    {family: familyEC, keyType: p11.CKK_EC, generate: p11.CKM_EC_KEY_PAIR_GEN, bits: 384, curve: elliptic.P384(), params: [][]byte{oidP384}},
		hsm.RSA2048: {family: familyRSA, keyType: p11.CKK_RSA, generate: p11.CKM_RSA_PKCS_KEY_PAIR_GEN, bits: 2048},
		hsm.RSA3072: {family: familyRSA, keyType: p11.CKK_RSA, generate: p11.CKM_RSA_PKCS_KEY_PAIR_GEN, bits: 3072},
		hsm.RSA4096: {family: familyRSA, keyType: p11.CKK_RSA, generate: p11.CKM_RSA_PKCS_KEY_PAIR_GEN, bits: 4096},
		hsm.Ed25519: {family: familyEd25519, keyType: ckkECEdwards, generate: ckmECEdwardsKeyPairGen, bits: 255, params: [][]byte{oidEd25519, nameEd25519, oidEd25519Gnu}},
	}
)

// kindOf finds an algorithm in PKCS#11's terms.
func kindOf(a hsm.Algorithm) (kind, error) {
	k, ok := kinds[a]
	if !ok {
		return kind{}, fmt.Errorf("algorithm %q is none of %v", string(a), hsm.Algorithms())
	}
	return k, nil
}

var errNoPublic = errors.New("no public key beside it: neither a public key object nor a certificate of the same id")

// readPublic reads the public half out of an object, and checks that it lies on its curve or has a fit modulus.
func (t *Token) readPublic(s session, o p11.ObjectHandle) (crypto.PublicKey, error) {
	v, err := t.attributes(s, o, p11.CKA_KEY_TYPE)
	if err != nil {
		return nil, err
	}
	switch number(v[p11.CKA_KEY_TYPE]) {
	case p11.CKK_RSA:
		if v, err = t.attributes(s, o, p11.CKA_MODULUS, p11.CKA_PUBLIC_EXPONENT); err != nil {
			return nil, err
		}
		if len(v[p11.CKA_MODULUS]) == 0 || len(v[p11.CKA_PUBLIC_EXPONENT]) == 0 {
			return nil, errNoPublic
		}
		return rsaPublic(v[p11.CKA_MODULUS], v[p11.CKA_PUBLIC_EXPONENT])
	case p11.CKK_EC, ckkECEdwards:
		if v, err = t.attributes(s, o, p11.CKA_EC_PARAMS, p11.CKA_EC_POINT); err != nil {
			return nil, err
		}
		if len(v[p11.CKA_EC_POINT]) == 0 {
			return nil, errNoPublic
		}
		return ecPublic(v[p11.CKA_EC_PARAMS], v[p11.CKA_EC_POINT])
	}
	return nil, fmt.Errorf("key of a type that is not used here (%x)", v[p11.CKA_KEY_TYPE])
}

// rsaPublic refuses what no honest RSA key is: an even modulus or exponent, an exponent of 1. Whether the size is large enough is for those
// to say who use the key.
func rsaPublic(modulus, exponent []byte) (crypto.PublicKey, error) {
	n, e := new(big.Int).SetBytes(modulus), new(big.Int).SetBytes(exponent)
	if !e.IsInt64() || e.Int64() < 3 || e.Int64() > 1<<31-1 || e.Bit(0) == 0 {
		return nil, fmt.Errorf("RSA public exponent %s is not fit", e)
	}
	if n.BitLen() < 1024 || n.BitLen() > 16384 || n.Bit(0) == 0 {
		return nil, fmt.Errorf("RSA modulus of %d bits is not fit", n.BitLen())
	}
	return &rsa.PublicKey{N: n, E: int(e.Int64())}, nil
}

// ecPublic reads CKA_EC_POINT, which most tokens wrap in a DER OCTET STRING (as the standard says) and some give raw.
func ecPublic(params, point []byte) (crypto.PublicKey, error) {
	raw := point
	var inner []byte
	if rest, err := asn1.Unmarshal(point, &inner); err == nil && len(rest) == 0 {
		raw = inner
	}
	switch {
	case bytes.Equal(params, oidP256):
		return ecdsaPublic(elliptic.P256(), ecdh.P256(), raw, point)
	case bytes.Equal(params, oidP384):
		return ecdsaPublic(elliptic.P384(), ecdh.P384(), raw, point)
	case bytes.Equal(params, oidEd25519), bytes.Equal(params, nameEd25519), bytes.Equal(params, oidEd25519Gnu):
		if len(raw) != ed25519.PublicKeySize && len(point) == ed25519.PublicKeySize {
			raw = point
		}
		if len(raw) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("Ed25519 public key of %d bytes", len(raw))
		}
		return ed25519.PublicKey(bytes.Clone(raw)), nil
	}
	return nil, fmt.Errorf("curve with parameters %x is not used here", params)
}

// ecdsaPublic takes the first of the spellings that is an uncompressed point on the curve. Where none is, the token gives no usable key.
func ecdsaPublic(curve elliptic.Curve, check ecdh.Curve, points ...[]byte) (crypto.PublicKey, error) {
	for _, p := range points {
		if _, err := check.NewPublicKey(p); err != nil { // uncompressed, and on the curve
			continue
		}
		return ecdsa.ParseUncompressedPublicKey(curve, p)
	}
	return nil, fmt.Errorf("public key is no uncompressed point of %s", curve.Params().Name)
}

// keyID is the CKA_ID of a key that was not given one: the first 20 bytes of the SHA-256 of its SubjectPublicKeyInfo.
func keyID(pub crypto.PublicKey) ([]byte, error) {
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(spki)
	return sum[:20], nil
}
