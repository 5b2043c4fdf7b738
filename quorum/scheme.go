package quorum

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	_ "crypto/sha512" // SHA-384 for P-384
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/signature"
)

// Scheme is how an officer's key signs. The roster states it, so that a signature never chooses its own algorithm.
type Scheme string

// The signature schemes. ECDSA signatures are ASN.1 DER; PSS salts are as long as the hash.
const (
	Ed25519         Scheme = "ed25519"
	ECDSAP256SHA256 Scheme = "ecdsa-p256-sha256"
	ECDSAP384SHA384 Scheme = "ecdsa-p384-sha384"
	RSAPSSSHA256    Scheme = "rsa-pss-sha256"
	// RSAPKCS1SHA256 is for cards that cannot do PSS.
	RSAPKCS1SHA256 Scheme = "rsa-pkcs1-sha256"
)

// ErrKey means a key that no officer may use.
var ErrKey = advice.New(advice.Usage, "", "quorum: unsuitable key")

// DefaultScheme is the scheme of a key for which nothing else is said.
func DefaultScheme(pub crypto.PublicKey) (Scheme, error) {
	switch k := pub.(type) {
	case ed25519.PublicKey:
		return Ed25519, nil
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return ECDSAP256SHA256, nil
		case elliptic.P384():
			return ECDSAP384SHA384, nil
		}
		return "", fmt.Errorf("%w: curve %s: use P-256 or P-384", ErrKey, k.Curve.Params().Name)
	case *rsa.PublicKey:
		if err := checkRSA(k); err != nil {
			return "", err
		}
		return RSAPSSSHA256, nil
	}
	return "", fmt.Errorf("%w: %T: use Ed25519, ECDSA P-256 or P-384, or RSA", ErrKey, pub)
}

func checkRSA(k *rsa.PublicKey) error {
	if n := k.N.BitLen(); n < minRSA || n > maxRSA {
		return fmt.Errorf("%w: RSA of %d bits: use %d to %d", ErrKey, n, minRSA, maxRSA)
	}
	if k.E < 3 || k.E&1 == 0 {
		return fmt.Errorf("%w: RSA exponent %d", ErrKey, k.E)
	}
	return nil
}

// checkScheme refuses a scheme that the key cannot use.
func checkScheme(s Scheme, pub crypto.PublicKey) error {
	want, err := DefaultScheme(pub)
	if err != nil {
		return err
	}
	if s != want && !(s == RSAPKCS1SHA256 && want == RSAPSSSHA256) {
		return fmt.Errorf("%w: scheme %.40q does not fit a key for %s", ErrKey, s, want)
	}
	return nil
}

// Signer is a private key with the scheme in which it signs.
type Signer struct {
	crypto.Signer
	scheme Scheme
}

// NewSigner joins a key and a scheme; an empty scheme means the key's default.
func NewSigner(key crypto.Signer, s Scheme) (*Signer, error) {
	if w, ok := key.(*Signer); ok {
		if s == "" || s == w.scheme {
			return w, nil
		}
		key = w.Signer
	}
	if s == "" {
		var err error
		if s, err = DefaultScheme(key.Public()); err != nil {
			return nil, err
		}
	}
	if err := checkScheme(s, key.Public()); err != nil {
		return nil, err
	}
	return &Signer{key, s}, nil
}

// Scheme is the scheme in which the key signs.
func (s *Signer) Scheme() Scheme { return s.scheme }

// sign signs message and checks the result before anyone relies on it.
func (s *Signer) sign(message []byte) ([]byte, error) {
	sig, err := signature.Sign(s, message, options[s.scheme])
	if errors.Is(err, signature.ErrWrong) {
		return nil, fmt.Errorf("quorum: key %.16s made a signature that does not verify as %s", keyID(s.Public()), show.Text(s.scheme))
	}
	if err != nil {
		return nil, fmt.Errorf("quorum: signing with key %.16s: %w", keyID(s.Public()), err)
	}
	return sig, nil
}

// options are what a scheme asks of a key.
var options = map[Scheme]crypto.SignerOpts{
	Ed25519: crypto.Hash(0), ECDSAP256SHA256: crypto.SHA256, ECDSAP384SHA384: crypto.SHA384, RSAPSSSHA256: signature.PSS256, RSAPKCS1SHA256: crypto.SHA256,
}

// verify checks a signature. The scheme must be the key's: another one verifies nothing.
func verify(s Scheme, pub crypto.PublicKey, message, sig []byte) bool {
	return checkScheme(s, pub) == nil && signature.VerifyMessage(pub, message, options[s], sig)
}

// KeyID is the hexadecimal SHA-256 of a public key's SubjectPublicKeyInfo (DER).
func KeyID(pub crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrKey, err)
	}
	return Sum(der).String(), nil
}

// keyID is KeyID for messages.
func keyID(pub crypto.PublicKey) string {
	id, err := KeyID(pub)
	if err != nil {
		return "?"
	}
	return id
}
