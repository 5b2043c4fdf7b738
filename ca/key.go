package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // key identifiers, not signatures (RFC 5280, section 4.2.1.2)
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/hanaper/hanaper/csr"
	"github.com/hanaper/hanaper/internal/advice"
	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// SameKey is true if both are the same public key.
func SameKey(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && b != nil && k.Equal(b)
}

// CheckKeyMatches returns a *RuleError unless pub is the key in cert: for a certificate that an external CA issued on our
// request, and for one found beside a key in a token.
func CheckKeyMatches(cert *x509.Certificate, pub crypto.PublicKey) error {
	f := findings{subject: describe(cert)}
	if !SameKey(cert.PublicKey, pub) {
		f.add(ruleIssuerKey, "its key is another (%s) than the one expected (%s)", csr.KeyAlgorithm(cert.PublicKey), csr.KeyAlgorithm(pub))
	}
	return f.err(advice.Refused)
}

// keyID is the subject key identifier that Hanaper issues: the first 160 bits of the SHA-256 of the key's bits (RFC 7093,
// section 2, method 1).
func keyID(spki []byte) ([]byte, error) {
	bits, err := keyBits(spki)
	if err != nil {
		return nil, err
	}
	h := sha256.Sum256(bits)
	return h[:20], nil
}

func keyBits(spki []byte) ([]byte, error) {
	s := cryptobyte.String(spki)
	var seq, alg cryptobyte.String
	var bits asn1.BitString
	if !s.ReadASN1(&seq, cbasn1.SEQUENCE) || !seq.ReadASN1(&alg, cbasn1.SEQUENCE) || !seq.ReadASN1BitString(&bits) {
		return nil, fmt.Errorf("public key info cannot be read")
	}
	return bits.Bytes, nil
}

// madeOfKey reports whether id is one of the identifiers that RFC 5280, section 4.2.1.2 (1) or RFC 7093, section 2 make.
func madeOfKey(id, spki []byte) bool {
	bits, err := keyBits(spki)
	if err != nil {
		return false
	}
	h256 := sha256.Sum256(bits)
	if string(id) == string(h256[:20]) {
		return true
	}
	h1, h384, h512, whole := sha1.Sum(bits), sha512.Sum384(bits), sha512.Sum512(bits), sha256.Sum256(spki)
	for _, want := range [][]byte{h1[:], h384[:20], h512[:20], whole[:], h256[:], whole[:20]} {
		if string(id) == string(want) {
			return true
		}
	}
	return false
}

func parseOID(s string) (asn1.ObjectIdentifier, error) {
	var oid asn1.ObjectIdentifier
	for part := range strings.SplitSeq(s, ".") {
		n, err := strconv.Atoi(part)
		if err != nil || n < 0 || n > 1<<30 || part != strconv.Itoa(n) {
			return nil, fmt.Errorf("%q is not an object identifier", s)
		}
		oid = append(oid, n)
	}
	if len(oid) < 2 || oid[0] > 2 || oid[0] < 2 && oid[1] > 39 {
		return nil, fmt.Errorf("%q is not an object identifier", s)
	}
	return oid, nil
}

// placeholder is a signature of the form that pub's algorithm makes, which no key made.
func placeholder(pub crypto.PublicKey) []byte {
	switch k := pub.(type) {
	case *rsa.PublicKey:
		sig := make([]byte, k.Size())
		for i := range sig {
			sig[i] = 1
		}
		return sig
	case ed25519.PublicKey:
		return make([]byte, ed25519.SignatureSize)
	}
	return []byte{0x30, 6, 2, 1, 1, 2, 1, 1} // ECDSA: r = s = 1
}

var specimenKeys struct {
	sync.Mutex
	keys map[string]crypto.Signer
}

// SpecimenKey returns a throw-away key for checking a hierarchy whose real keys do not exist yet: the same one for the same
// algorithm (P-256, P-384, P-521, Ed25519, RSA-2048, RSA-3072, RSA-4096) and name within the process. What it signs is worth
// nothing and must never be written anywhere.
func SpecimenKey(algorithm, name string) (crypto.Signer, error) {
	specimenKeys.Lock()
	defer specimenKeys.Unlock()
	id := algorithm + "\x00" + name
	if k, ok := specimenKeys.keys[id]; ok {
		return k, nil
	}
	k, err := newKey(algorithm)
	if err != nil {
		return nil, err
	}
	if specimenKeys.keys == nil {
		specimenKeys.keys = make(map[string]crypto.Signer)
	}
	specimenKeys.keys[id] = k
	return k, nil
}

// newKey takes its randomness from the system: the keys prove nothing and never need to be repeated.
func newKey(algorithm string) (crypto.Signer, error) {
	switch algorithm {
	case "P-256":
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "P-384":
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "P-521":
		return ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case "Ed25519":
		_, k, err := ed25519.GenerateKey(rand.Reader)
		return k, err
	case "RSA-2048":
		return rsa.GenerateKey(rand.Reader, 2048)
	case "RSA-3072":
		return rsa.GenerateKey(rand.Reader, 3072)
	case "RSA-4096":
		return rsa.GenerateKey(rand.Reader, 4096)
	}
	return nil, advice.New(advice.Usage, "use one of "+strings.Join(keyAlgorithms, ", "), "ca: key algorithm %q is not known", algorithm)
}

// signatureFor picks the algorithm: the profile's for RSA keys, else the one that fits.
func signatureFor(pub crypto.PublicKey, wish x509.SignatureAlgorithm) x509.SignatureAlgorithm {
	if _, ok := pub.(*rsa.PublicKey); ok && wish != x509.UnknownSignatureAlgorithm {
		return wish
	}
	return csr.DefaultSignature(pub)
}

// fits reports whether a signature algorithm is one that a key of pub's type should make.
func fits(pub crypto.PublicKey, alg x509.SignatureAlgorithm) bool {
	if _, ok := pub.(*rsa.PublicKey); ok {
		for _, a := range rsaSignatures {
			if a == alg {
				return true
			}
		}
		return false
	}
	return alg != x509.UnknownSignatureAlgorithm && alg == csr.DefaultSignature(pub)
}
