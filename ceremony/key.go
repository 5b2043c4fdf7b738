package ceremony

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/signature"
)

// The kinds of leaves of a signature.
const (
	kindSignIntent = "sign-intent"
	kindSignature  = "signature"
)

var _ = register[signIntentLeaf](kindSignIntent) && register[signatureLeaf](kindSignature)

// signIntentLeaf: what a key is about to sign.
type signIntentLeaf struct {
	Head
	Key string `json:"key"`
	// Scheme is "ecdsa", "rsa-pkcs1v15", "rsa-pss" or "ed25519".
	Scheme string `json:"scheme"`
	// Hash is the hash's name, empty for Ed25519.
	Hash string `json:"hash"`
	// Digest is what the token is given, hex; for Ed25519 the SHA-256 of the message.
	Digest string `json:"digest"`
}

func (l *signIntentLeaf) show(s *shown) { s.signs[l.Key]++ }

// signatureLeaf: the signature, checked against the public key.
type signatureLeaf struct {
	Head
	Signature []byte `json:"signature"`
}

func (*signatureLeaf) left(o *leftover) { o.signatures++ }

func (l *signatureLeaf) record() string {
	return fmt.Sprintf("%d bytes, SHA-256 %s", len(l.Signature), hexSHA256(l.Signature))
}

const schemePSS = "rsa-pss"

// key is a private key of the ceremony. Every signature it makes is journalled: what is to be signed before, the
// signature after; a session that follows a journal takes the signature from there and checks it.
type key struct {
	session   *Session
	name      string
	token     string
	label     string
	id        []byte
	algorithm hsm.Algorithm
	class     hsm.Class
	public    crypto.PublicKey
	spki      []byte
	attrs     hsm.Attributes
	// purpose is what the key is for, set by its first use: a key has one.
	purpose string
	// bornHere is true for a key generated in this ceremony or one that it carries on from.
	bornHere bool
	// madeHere is true for a key that this very ceremony put into its token: generated, restored or copied by hand.
	madeHere bool
	// imported is true for a key taken up from an earlier ceremony.
	imported bool
	// home is the token of a key that an earlier ceremony left.
	home hsm.TokenInfo
	// live is nil until the token is needed.
	live      hsm.Key
	destroyed bool
	// backedUp is true once the key was wrapped and made unextractable; restoredFrom is the key that a restored one is of.
	backedUp     bool
	restoredFrom *key
	// of is the name of the key of which this one is a copy, restored or made by hand, whatever copy it was made from; empty for one
	// that was generated.
	of string
	// birth is what the TPM certified of a key that was born in it; nil without.
	birth *birthRecord
	// standIn is true in a rehearsal for a copy that nobody made: restoredFrom signs for it.
	standIn bool
}

var _ crypto.Signer = (*key)(nil)

// original is the name of the key that was generated.
func (k *key) original() string {
	if k.of != "" {
		return k.of
	}
	return k.name
}

// standsFor says of which key this one is a copy.
func (k *key) standsFor() string {
	if k.of == "" || k.of == k.name {
		return fmt.Sprintf("key %q", k.name)
	}
	return fmt.Sprintf("key %q, which stands for key %q", k.name, k.of)
}

func marshalSPKI(pub crypto.PublicKey) (der []byte, fingerprint string, err error) {
	if der, err = x509.MarshalPKIXPublicKey(pub); err != nil {
		return nil, "", err
	}
	return der, hexSHA256(der), nil
}

// accept takes the key over from its leaf, if it is what was asked for.
func (k *key) accept(l keyLeaf) error {
	pub, err := x509.ParsePKIXPublicKey(l.SPKI)
	if err != nil {
		return fmt.Errorf("holds no public key: %w", err)
	}
	der, print, err := marshalSPKI(pub)
	if err != nil || !bytes.Equal(der, l.SPKI) || print != l.Fingerprint || l.Name != k.name {
		return errors.New("contradicts itself or its intent")
	}
	if got := hsm.AlgorithmOf(pub); got != k.algorithm {
		return refuse(RuleAttributes, "key %q came out as %s, not %s", k.name, got, show.Text(k.algorithm))
	}
	for _, other := range k.session.state.keys {
		if k.restoredFrom != nil {
			break
		}
		if ca.SameKey(other.public, pub) {
			return refuse(RuleOneKey, "key %q is the same key as %q", k.name, other.name)
		}
	}
	if k.restoredFrom != nil && !ca.SameKey(k.restoredFrom.public, pub) {
		return refuse(RuleOneKey, "the restored key %q is not the key %q that was backed up", k.name, k.restoredFrom.name)
	}
	k.public, k.spki, k.attrs = pub, der, l.Attributes
	return checkAttributes(k)
}

// checkAttributes holds what the token read back to the key's class; the token's own layer did so before.
func checkAttributes(k *key) error {
	a := k.attrs
	wrong := func(what string) error {
		return refuse(RuleAttributes, "key %q of class %s came out %s", k.name, show.Text(k.class), show.Line(what))
	}
	switch {
	case a.Label != k.label || !bytes.Equal(a.ID, k.id):
		return wrong("with another label or id")
	case a.Algorithm != k.algorithm:
		return wrong("as " + string(a.Algorithm))
	case !a.Token || !a.Private || !a.Sensitive || !a.Sign:
		return wrong("public, not sensitive, for the session only, or unable to sign")
	}
	switch k.class {
	case hsm.Sealed:
		if a.Extractable || !a.NeverExtractable || !a.AlwaysSensitive || !a.Local {
			return wrong("extractable, or not born in the token")
		}
	case hsm.Backup:
		if !k.backedUp && !a.Extractable || k.backedUp && a.Extractable || !a.WrapWithTrusted || !a.AlwaysSensitive || !a.Local {
			return wrong("without the protection of its class")
		}
	case hsm.RestoredBackup:
		if !k.backedUp && !a.Extractable || k.backedUp && a.Extractable || !a.WrapWithTrusted {
			return wrong("without the protection of its class")
		}
	case hsm.Restored:
		if a.Extractable {
			return wrong("extractable")
		}
	}
	return nil
}

// Public is the key's public half.
func (k *key) Public() crypto.PublicKey { return k.public }

// Sign journals, signs in the token and checks the signature.
func (k *key) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	s := k.session
	if s.failed != nil {
		return nil, s.failed
	}
	if k.destroyed {
		return nil, s.fail(refuse(RuleReference, "key %q was destroyed", k.name))
	}
	in, err := signIntent(k, digest, opts)
	if err != nil {
		return nil, s.fail(err)
	}
	var out signatureLeaf
	if !s.how.acts() {
		if out.Signature, err = s.recorded(in); err != nil {
			return nil, err
		}
	} else if err := s.emit(&in, kindSignIntent); err != nil {
		return nil, err
	} else if err := s.outcome(&out, kindSignature, func(bool) error {
		if err := k.revive(); err != nil {
			return err
		}
		var err error
		out.Signature, err = k.live.Sign(rand, digest, opts)
		return err
	}, func() error {
		if !signature.Verify(k.public, digest, opts, out.Signature) {
			return fmt.Errorf("the signature by key %q in token %q does not verify", k.name, k.token)
		}
		return nil
	}); err != nil {
		return nil, err
	}
	return out.Signature, nil
}

// willSign counts signatures that a key of an earlier ceremony makes, which a session on specimens does not have it make.
func (s *Session) willSign(k *key, n int) {
	if s.how.onSpecimens() {
		if s.will[s.step] == nil {
			s.will[s.step] = map[string]int{}
		}
		s.will[s.step][k.name] += n
	}
}

// revive finds the key in its token, for a session that took it over from a journal.
func (k *key) revive() error {
	if k.live != nil {
		return nil
	}
	if k.standIn {
		err := k.restoredFrom.revive()
		k.live = k.restoredFrom.live
		return err
	}
	t, err := k.session.token(k.token)
	if err != nil {
		return err
	}
	live, err := t.Key(k.session.ctx, hsm.Query{Label: k.label, ID: k.id})
	if err != nil {
		return err
	}
	if !ca.SameKey(live.Public(), k.public) {
		return refuse(RuleOneKey, "key %q in %s is not the key of the transcript", k.label, t.Info().Name())
	}
	k.live = live
	return nil
}

func signIntent(k *key, digest []byte, opts crypto.SignerOpts) (signIntentLeaf, error) {
	in := signIntentLeaf{Key: k.name, Digest: hex.EncodeToString(digest)}
	hash := opts.HashFunc()
	if hash != 0 {
		in.Hash = hash.String()
		if !hash.Available() || hash.Size() != len(digest) {
			return in, fmt.Errorf("key %q: %d bytes are no %s digest", k.name, len(digest), hash)
		}
	}
	switch k.public.(type) {
	case *ecdsa.PublicKey:
		in.Scheme = "ecdsa"
	case *rsa.PublicKey:
		in.Scheme = "rsa-pkcs1v15"
		if pss, ok := opts.(*rsa.PSSOptions); ok {
			in.Scheme = schemePSS
			if pss.SaltLength != rsa.PSSSaltLengthEqualsHash && pss.SaltLength != hash.Size() {
				return in, fmt.Errorf("key %q: the PSS salt must be as long as the hash", k.name)
			}
		}
	case ed25519.PublicKey:
		if hash != 0 {
			return in, fmt.Errorf("key %q: Ed25519 signs messages, not digests", k.name)
		}
		sum := sha256.Sum256(digest)
		in.Scheme, in.Digest = "ed25519", hex.EncodeToString(sum[:])
		return in, nil
	}
	if hash == 0 {
		return in, fmt.Errorf("key %q: no hash is named", k.name)
	}
	return in, nil
}
