package trust

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/secure-systems-lab/go-securesystemslib/cjson"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/signature"
	"github.com/hanaper/hanaper/internal/weakkey"
)

// CheckKey refuses a public key that cannot be a TUF role's: P-256, Ed25519 and RSA of 2048 to 4096 bits can, if they are
// not known to be weak. P-384 cannot: TUF clients disagree on it.
func CheckKey(key crypto.PublicKey) error { return CheckKeyAsOf(knownAt{}, key) }

// CheckKeyAsOf is CheckKey by what was known of weak keys when a format of ceremonies was the newest.
func CheckKeyAsOf(v knownAt, key crypto.PublicKey) error {
	const hint = "generate a P-256, Ed25519 or RSA key for this role"
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() {
			return usage(hint, "a %s key cannot sign trust metadata", k.Curve.Params().Name)
		}
	case ed25519.PublicKey:
		if len(k) != ed25519.PublicKeySize {
			return usage(hint, "an Ed25519 key of %d bytes is not one", len(k))
		}
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < 2048 || n > 4096 {
			return usage(hint, "an RSA key of %d bits cannot sign trust metadata", n)
		}
		if k.E < 3 || k.E&1 == 0 {
			return usage(hint, "an RSA key with the exponent %d cannot sign trust metadata", k.E)
		}
	default:
		return usage(hint, "a key of type %T cannot sign trust metadata", key)
	}
	if fault := weakkey.FaultAsOf(v, key); fault != "" {
		return usage(hint, "anybody could sign with this key: %s", fault)
	}
	return nil
}

// tufKey is the TUF form of a public key, and its id.
func tufKey(v knownAt, pub crypto.PublicKey) (*metadata.Key, string, error) {
	if err := CheckKeyAsOf(v, pub); err != nil {
		return nil, "", err
	}
	k, err := metadata.KeyFromPublicKey(pub)
	if err != nil {
		return nil, "", err
	}
	id, err := k.ID()
	return k, id, err
}

// checkTUFKey is for keys read from metadata: only the form that tufKey makes is accepted, under its own id.
func checkTUFKey(v knownAt, id string, k *metadata.Key) (crypto.PublicKey, error) {
	if k == nil {
		return nil, errors.New("key is null")
	}
	pub, err := k.ToPublicKey()
	if err != nil {
		return nil, err
	}
	want, wantID, err := tufKey(v, pub)
	if err != nil {
		return nil, err
	}
	if id != wantID || k.Type != want.Type || k.Scheme != want.Scheme || k.Value.PublicKey != want.Value.PublicKey ||
		len(k.UnrecognizedFields) != 0 || len(k.Value.UnrecognizedFields) != 0 {
		return nil, fmt.Errorf("key %.16s is not in the form of its type", show.Text(id))
	}
	return pub, nil
}

// verifyBytes is strict where TUF libraries are lax: the PSS salt is 32 bytes.
func verifyBytes(pub crypto.PublicKey, message, sig []byte) bool {
	return signature.VerifyMessage(pub, message, signature.Scheme(pub), sig)
}

// spkiID names a public key as IssuerID names a CA.
func spkiID(pub crypto.PublicKey) (ID, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return ID{}, err
	}
	return sha256.Sum256(der), nil
}

// sign adds the signature of each signer whose key id is in ids, and none twice.
func sign[T metadata.Roles](m *metadata.Metadata[T], thing string, ids map[string]bool, signers []crypto.Signer) error {
	payload, err := cjson.EncodeCanonical(m.Signed)
	if err != nil {
		return fmt.Errorf("%s: %w", thing, err)
	}
	done := map[string]bool{}
	for _, s := range signers {
		_, id, err := tufKey(knownFirst, s.Public())
		if err != nil {
			return fmt.Errorf("%s: %w", thing, err)
		}
		if !ids[id] || done[id] {
			continue
		}
		sig, err := signature.Sign(s, payload, signature.Scheme(s.Public()))
		if err != nil {
			return fmt.Errorf("signing %s with key %.16s: %w", thing, id, err)
		}
		done[id] = true
		m.Signatures = append(m.Signatures, metadata.Signature{KeyID: id, Signature: sig})
	}
	return nil
}
