package quorum

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"fmt"
)

// Decryption is how a share is encrypted to an officer's key. The roster states it.
type Decryption string

// HPKE is RFC 9180 in base mode with DHKEM of the curve, HKDF-SHA256 and AES-256-GCM. OAEP wraps a 32-byte key for
// AES-256-GCM; SHA-1 is there for tokens that have no other (its use here does not rest on collision resistance).
const (
	HPKEP256   Decryption = "hpke-p256"
	HPKEP384   Decryption = "hpke-p384"
	OAEPSHA256 Decryption = "rsa-oaep-sha256"
	OAEPSHA1   Decryption = "rsa-oaep-sha1"
)

// DefaultDecryption is the scheme of a key for which nothing else is said.
func DefaultDecryption(pub crypto.PublicKey) (Decryption, error) {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return HPKEP256, nil
		case elliptic.P384():
			return HPKEP384, nil
		}
	case *rsa.PublicKey:
		if err := checkRSA(k); err != nil {
			return "", err
		}
		return OAEPSHA256, nil
	}
	return "", fmt.Errorf("%w: %T cannot decrypt: use ECDH on P-256 or P-384, or RSA", ErrKey, pub)
}

func checkDecryption(d Decryption, pub crypto.PublicKey) error {
	want, err := DefaultDecryption(pub)
	if err != nil {
		return err
	}
	if d != want && !(d == OAEPSHA1 && want == OAEPSHA256) {
		return fmt.Errorf("%w: scheme %.40q does not fit a key for %s", ErrKey, d, want)
	}
	return nil
}
