package csr

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	_ "crypto/sha256" // the hashes below
	_ "crypto/sha512"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"io"
	"sync"

	"github.com/hanaper/hanaper/internal/signature"
)

// sigAlg is a signature algorithm with the one DER encoding of its AlgorithmIdentifier that is accepted: parameters
// absent for ECDSA and EdDSA (RFC 5758, 8410), NULL for PKCS#1 v1.5 (RFC 4055), and for PSS the hash for MGF1 too and a
// salt of its length.
type sigAlg struct {
	alg  x509.SignatureAlgorithm
	hash crypto.Hash
	der  string
}

var sigAlgs = []sigAlg{
	{x509.ECDSAWithSHA256, crypto.SHA256, unhex("300a06082a8648ce3d040302")},
	{x509.ECDSAWithSHA384, crypto.SHA384, unhex("300a06082a8648ce3d040303")},
	{x509.ECDSAWithSHA512, crypto.SHA512, unhex("300a06082a8648ce3d040304")},
	{x509.PureEd25519, 0, unhex("300506032b6570")},
	{x509.SHA256WithRSA, crypto.SHA256, unhex("300d06092a864886f70d01010b0500")},
	{x509.SHA384WithRSA, crypto.SHA384, unhex("300d06092a864886f70d01010c0500")},
	{x509.SHA512WithRSA, crypto.SHA512, unhex("300d06092a864886f70d01010d0500")},
	{x509.SHA256WithRSAPSS, crypto.SHA256, pss("01", 32)},
	{x509.SHA384WithRSAPSS, crypto.SHA384, pss("02", 48)},
	{x509.SHA512WithRSAPSS, crypto.SHA512, pss("03", 64)},
}

func unhex(s string) string {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err) // a constant of this file
	}
	return string(b)
}

// pss is the identifier of RSA-PSS, with the NULL that hashes have in it (RFC 4055, section 2.1).
func pss(hash string, salt byte) string { return pssWith(hash, salt, true, true, false) }

// pssWith says whether the hash, and the hash of MGF1, have their NULL, and whether the trailer field stands there with its default.
func pssWith(hash string, salt byte, null, mgfNull, trailer bool) string {
	id := func(null bool) string {
		oid := "06096086480165030402" + hash
		if null {
			oid += "0500"
		}
		return tlvHex("30", oid)
	}
	mgf := tlvHex("30", "06092a864886f70d010108"+id(mgfNull))
	params := tlvHex("a0", id(null)) + tlvHex("a1", mgf) + tlvHex("a2", "0201"+hex.EncodeToString([]byte{salt}))
	if trailer {
		params += "a303020101"
	}
	return unhex(tlvHex("30", "06092a864886f70d01010a"+tlvHex("30", params)))
}

// tlvHex is for contents of fewer than 128 octets, in hex.
func tlvHex(tag, content string) string {
	return tag + hex.EncodeToString([]byte{byte(len(content) / 2)}) + content
}

// requestAlgorithms are the identifiers that a request may have besides the one of sigAlgs: some stacks write NULL for ECDSA (Mbed TLS 2.28,
// tpm2-openssl), others leave it out for RSA (RFC 4055, section 5: readers take both) or for the hashes of PSS (section 2.1: likewise). Botan writes PSS's trailer field, a default.
// Certificates and CRLs have the one form.
var requestAlgorithms = sync.OnceValue(func() map[string]x509.SignatureAlgorithm {
	m := make(map[string]x509.SignatureAlgorithm)
	for _, s := range sigAlgs {
		m[s.der] = s.alg
	}
	for suffix, alg := range map[string]x509.SignatureAlgorithm{"02": x509.ECDSAWithSHA256, "03": x509.ECDSAWithSHA384, "04": x509.ECDSAWithSHA512} {
		m[unhex("300c06082a8648ce3d0403"+suffix+"0500")] = alg
	}
	for suffix, alg := range map[string]x509.SignatureAlgorithm{"0b": x509.SHA256WithRSA, "0c": x509.SHA384WithRSA, "0d": x509.SHA512WithRSA} {
		m[unhex("300b06092a864886f70d0101"+suffix)] = alg
	}
	for _, h := range []struct {
		hash string
		salt byte
		alg  x509.SignatureAlgorithm
	}{{"01", 32, x509.SHA256WithRSAPSS}, {"02", 48, x509.SHA384WithRSAPSS}, {"03", 64, x509.SHA512WithRSAPSS}} {
		for _, null := range []bool{true, false} {
			for _, mgfNull := range []bool{true, false} {
				m[pssWith(h.hash, h.salt, null, mgfNull, false)] = h.alg
				m[pssWith(h.hash, h.salt, null, mgfNull, true)] = h.alg
			}
		}
	}
	return m
})

// refuseAlgorithm says of an identifier that is not one of requestAlgorithms what to sign with instead.
func refuseAlgorithm(id []byte) error {
	hint := hints[ErrSignature]
	has := func(oid string) bool { return bytes.Contains(id, []byte(unhex(oid))) }
	switch {
	case has("06092a864886f70d01010a"):
		hint = "sign RSA-PSS with SHA-256 or longer, MGF1 with the same hash, and a salt as long as the hash; openssl: -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:digest"
	case has("06092a864886f70d010105"), has("06072a8648ce3d0401"), has("06092a864886f70d010104"):
		hint = "sign with SHA-256, not SHA-1 or MD5; openssl: -sha256"
	}
	return refuseAnd(hint, ErrSignature, "algorithm identifier %x", clip(id))
}

var sigAlgByDER = func() map[string]sigAlg {
	m := make(map[string]sigAlg)
	for _, s := range sigAlgs {
		m[s.der] = s
	}
	return m
}()

// AlgorithmIdentifier is the DER of a signature algorithm; nil for one that Hanaper does not use.
func AlgorithmIdentifier(a x509.SignatureAlgorithm) []byte {
	for _, s := range sigAlgs {
		if s.alg == a {
			return []byte(s.der)
		}
	}
	return nil
}

// SignatureAlgorithm is the algorithm that the DER of an AlgorithmIdentifier names, or UnknownSignatureAlgorithm for any
// that is weak, unknown or not encoded in the one accepted way.
func SignatureAlgorithm(der []byte) x509.SignatureAlgorithm { return sigAlgByDER[string(der)].alg }

// KeyAlgorithm names the key's type and size in Hanaper's words (P-256, RSA-3072, Ed25519); an RSA key of any other
// size is named likewise (RSA-1024), and "" is a type that Hanaper does not know.
func KeyAlgorithm(pub crypto.PublicKey) string {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return "P-256"
		case elliptic.P384():
			return "P-384"
		case elliptic.P521():
			return "P-521"
		}
	case ed25519.PublicKey:
		return "Ed25519"
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA-%d", k.N.BitLen())
	}
	return ""
}

// DefaultSignature is the algorithm that a key signs with unless told otherwise: the hash fits the curve, and RSA uses
// PKCS#1 v1.5 with SHA-256.
func DefaultSignature(pub crypto.PublicKey) x509.SignatureAlgorithm {
	switch KeyAlgorithm(pub) {
	case "P-256":
		return x509.ECDSAWithSHA256
	case "P-384":
		return x509.ECDSAWithSHA384
	case "P-521":
		return x509.ECDSAWithSHA512
	case "Ed25519":
		return x509.PureEd25519
	}
	if _, ok := pub.(*rsa.PublicKey); ok {
		return x509.SHA256WithRSA
	}
	return x509.UnknownSignatureAlgorithm
}

// SignMessage signs message with key and verifies the signature in software before it returns it, for a token's answer
// is not trusted. It waits for the token no longer than the context where the key has SignContext, as hsm.Key has.
func SignMessage(ctx context.Context, rand io.Reader, key crypto.Signer, alg x509.SignatureAlgorithm, message []byte) ([]byte, error) {
	s, ok := sigAlgByDER[string(AlgorithmIdentifier(alg))]
	if !ok {
		return nil, fmt.Errorf("signature algorithm %v is not one that hanaper signs with", alg)
	}
	input, opts := message, crypto.SignerOpts(s.hash)
	if s.hash != 0 {
		h := s.hash.New()
		h.Write(message)
		input = h.Sum(nil)
	}
	switch alg {
	case x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS:
		opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: s.hash}
	}
	sig, err := signature.Ask(ctx, rand, key, input, opts)
	if err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	if err := CheckSignature(key.Public(), alg, message, sig); err != nil {
		return nil, fmt.Errorf("the key returned a signature that does not verify under its own public key: %w", err)
	}
	return sig, nil
}

// CheckSignature verifies a signature over message.
func CheckSignature(pub crypto.PublicKey, alg x509.SignatureAlgorithm, message, sig []byte) error {
	return (&x509.Certificate{PublicKey: pub}).CheckSignature(alg, message, sig)
}

// spkiPrefixes are what stands before the key's bits in the SubjectPublicKeyInfo of each curve (RFC 5480, RFC 8410).
var spkiPrefixes = map[string]string{
	"P-256":   unhex("3059301306072a8648ce3d020106082a8648ce3d030107034200"),
	"P-384":   unhex("3076301006072a8648ce3d020106052b81040022036200"),
	"P-521":   unhex("30819b301006072a8648ce3d020106052b8104002303818600"),
	"Ed25519": unhex("302a300506032b6570032100"),
}

// MarshalKey is x509.MarshalPKIXPublicKey without its reflection, which would be felt three times in each issuance.
func MarshalKey(pub crypto.PublicKey) ([]byte, error) {
	var bits []byte
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		b, err := k.Bytes()
		if err != nil {
			return nil, err
		}
		bits = b
	case ed25519.PublicKey:
		bits = k
	}
	if prefix, ok := spkiPrefixes[KeyAlgorithm(pub)]; ok {
		return append([]byte(prefix), bits...), nil
	}
	return x509.MarshalPKIXPublicKey(pub)
}
