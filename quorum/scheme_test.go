package quorum

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"testing"
)

// TestSchemeSalt: an officer's PSS salt has 32 bytes and no other length, and a PSS signature is no PKCS #1 one.
func TestSchemeSalt(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	message := []byte("statement")
	digest := Sum(message)
	for _, salt := range []int{1, 20, 31, 32, 33, rsa.PSSSaltLengthAuto} {
		sig, err := rsa.SignPSS(rand.Reader, key, crypto.SHA256, digest[:], &rsa.PSSOptions{SaltLength: salt})
		if err != nil {
			t.Fatal(err)
		}
		if got := verify(RSAPSSSHA256, &key.PublicKey, message, sig); got != (salt == 32) {
			t.Errorf("a salt of length %d is taken: %v", salt, got)
		}
		if verify(RSAPKCS1SHA256, &key.PublicKey, message, sig) {
			t.Errorf("PSS with salt %d is taken for PKCS #1", salt)
		}
	}
}

// TestSchemeOfTheKey: a good signature in a scheme that is not the key's counts for nothing.
func TestSchemeOfTheKey(t *testing.T) {
	message := []byte("statement")
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	digest := Sum(message)
	sig, err := ecdsa.SignASN1(rand.Reader, p384, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []Scheme{ECDSAP256SHA256, ECDSAP384SHA384, RSAPSSSHA256, RSAPKCS1SHA256, Ed25519, "", "rsa-pss-sha1"} {
		if verify(s, p384.Public(), message, sig) {
			t.Errorf("P-384 over SHA-256 is taken as %q", s)
		}
	}
}
