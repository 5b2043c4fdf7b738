package journal

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/signature"
)

// Signature types of signed notes (C2SP signed-note): Ed25519, and ECDSA over SHA-256.
const (
	algEd25519 = 1
	algECDSA   = 2
)

type noteVerifier struct {
	name string
	hash uint32
	pub  crypto.PublicKey
	vkey string
}

func (v *noteVerifier) Name() string    { return v.name }
func (v *noteVerifier) KeyHash() uint32 { return v.hash }

// String is the verifier key: NAME+HASH+BASE64(type || key).
func (v *noteVerifier) String() string { return v.vkey }

func (v *noteVerifier) Verify(msg, sig []byte) bool {
	return signature.VerifyMessage(v.pub, msg, signature.Scheme(v.pub), sig)
}

type noteSigner struct {
	*noteVerifier
	key crypto.Signer
}

// Sign asks the key, which may live in a token, and checks its answer before anyone relies on it.
func (s *noteSigner) Sign(msg []byte) ([]byte, error) {
	sig, err := signature.Sign(s.key, msg, signature.Scheme(s.pub))
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", show.Text(s.name), err)
	}
	return sig, nil
}

func newVerifier(name string, pub crypto.PublicKey) (*noteVerifier, error) {
	if err := checkOrigin(name); err != nil {
		return nil, fmt.Errorf("journal: key name %q: use printable ASCII without space and plus", name)
	}
	var encoded []byte
	var sum [sha256.Size]byte
	switch k := pub.(type) {
	case ed25519.PublicKey:
		encoded = append([]byte{algEd25519}, k...)
		sum = sha256.Sum256(append([]byte(name+"\n"), encoded...))
	case *ecdsa.PublicKey:
		der, err := x509.MarshalPKIXPublicKey(k)
		if err != nil {
			return nil, fmt.Errorf("journal: key %s: %w", show.Text(name), err)
		}
		encoded = append([]byte{algECDSA}, der...)
		// Not over the name: the key hash of this type is that of the SubjectPublicKeyInfo alone.
		sum = sha256.Sum256(der)
	default:
		return nil, fmt.Errorf("journal: key %s is %T: checkpoints are signed with Ed25519 or ECDSA", show.Text(name), pub)
	}
	hash := binary.BigEndian.Uint32(sum[:])
	vkey := fmt.Sprintf("%s+%08x+%s", name, hash, base64.StdEncoding.EncodeToString(encoded))
	return &noteVerifier{name: name, hash: hash, pub: pub, vkey: vkey}, nil
}

// NoteSigner makes a signer of notes from a private key, Ed25519 or ECDSA, wherever it lives.
func NoteSigner(name string, key crypto.Signer) (note.Signer, error) {
	v, err := newVerifier(name, key.Public())
	if err != nil {
		return nil, err
	}
	return &noteSigner{noteVerifier: v, key: key}, nil
}

// NoteVerifier makes a verifier of notes from a public key, Ed25519 or ECDSA.
func NoteVerifier(name string, pub crypto.PublicKey) (note.Verifier, error) {
	v, err := newVerifier(name, pub)
	if err != nil {
		return nil, err
	}
	return v, nil
}

// VerifierKey is the text by which a public key is given to verifiers of notes: NAME+HASH+BASE64(type || key).
func VerifierKey(name string, pub crypto.PublicKey) (string, error) {
	v, err := newVerifier(name, pub)
	if err != nil {
		return "", err
	}
	return v.vkey, nil
}

var errVerifierKey = errors.New("journal: malformed verifier key: want NAME+HASH+BASE64")

// ParseVerifierKey reads the text made by VerifierKey, of either key type.
func ParseVerifierKey(vkey string) (note.Verifier, error) {
	parts := strings.SplitN(vkey, "+", 3)
	if len(parts) != 3 || len(parts[1]) != 8 || len(vkey) > MaxCheckpoint {
		return nil, errVerifierKey
	}
	hash, err := strconv.ParseUint(parts[1], 16, 32)
	if err != nil {
		return nil, errVerifierKey
	}
	raw, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(raw) < 2 {
		return nil, errVerifierKey
	}
	var pub crypto.PublicKey
	switch alg, key := raw[0], raw[1:]; alg {
	case algEd25519:
		if len(key) != ed25519.PublicKeySize {
			return nil, errVerifierKey
		}
		pub = ed25519.PublicKey(key)
	case algECDSA:
		if pub, err = x509.ParsePKIXPublicKey(key); err != nil {
			return nil, errVerifierKey
		}
		if _, ok := pub.(*ecdsa.PublicKey); !ok {
			return nil, errVerifierKey
		}
	default:
		return nil, fmt.Errorf("journal: verifier key of type %d: only 1 (Ed25519) and 2 (ECDSA) are known", alg)
	}
	v, err := newVerifier(parts[0], pub)
	if err != nil {
		return nil, err
	}
	if v.hash != uint32(hash) {
		return nil, fmt.Errorf("journal: verifier key %s: hash %08x does not fit the key", show.Text(parts[0]), hash)
	}
	return v, nil
}
