package uptane

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/signature"
)

// Method is the word for a signature scheme in metadata.
type Method string

// The methods that devices accept.
const (
	RSASSAPSSSHA256 Method = "rsassa-pss-sha256"
	// methodPSS is an older word for the same; accepted when reading.
	methodPSS     Method = "rsassa-pss"
	MethodEd25519 Method = "ed25519"
)

// Signature is one entry of a document's signatures.
type Signature struct {
	KeyID  string `json:"keyid"`
	Method Method `json:"method"`
	// Sig is the raw signature; it is base64 in JSON.
	Sig []byte `json:"sig"`
}

// verify checks a signature as strictly as server and client together: the method must fit the key, and a PSS salt
// must have exactly 32 bytes.
func (k Key) verify(message []byte, s Signature) error {
	switch pub := k.pub.(type) {
	case *rsa.PublicKey:
		if s.Method != RSASSAPSSSHA256 && s.Method != methodPSS {
			return because(ErrMethod, "method %q does not fit the RSA key %s", s.Method, k.id)
		}
		if signature.VerifyMessage(pub, message, signature.PSS256, s.Sig) {
			return nil
		}
		// The reason is found out for the message; what a device refuses stays refused.
		if signature.VerifyAnySalt(pub, signature.Digest(message, crypto.SHA256), s.Sig) {
			return because(ErrSalt, "signature of key %s has a PSS salt of another length than 32 bytes", k.id)
		}
		if signature.VerifyMessage(pub, message, crypto.SHA256, s.Sig) {
			return because(ErrSignature, "signature of key %s is PKCS#1 v1.5, not PSS", k.id)
		}
	case ed25519.PublicKey:
		if s.Method != MethodEd25519 {
			return because(ErrMethod, "method %q does not fit the Ed25519 key %s", s.Method, k.id)
		}
		if signature.VerifyMessage(pub, message, crypto.Hash(0), s.Sig) {
			return nil
		}
	}
	return because(ErrSignature, "signature of key %s does not verify", k.id)
}

// signMessage signs in the token and verifies in software before anything is returned.
func signMessage(signer crypto.Signer, message []byte) (Key, Signature, error) {
	k, err := NewKey(signer.Public())
	if err != nil {
		return Key{}, Signature{}, err
	}
	s := Signature{KeyID: k.id, Method: k.Method()}
	opts := signature.Scheme(k.pub)
	if s.Sig, err = signer.Sign(rand.Reader, signature.Digest(message, opts), opts); err != nil {
		return Key{}, Signature{}, fmt.Errorf("signing with key %s: %w", k.id, err)
	}
	if err := k.verify(message, s); err != nil {
		hint := "the token signs wrongly: do not use it"
		if errors.Is(err, ErrSalt) {
			hint = "the server refuses any PSS salt but 32 bytes: this token cannot sign Uptane with RSA; try Ed25519 or another token"
		}
		return Key{}, Signature{}, advice.Wrap(advice.Failed, err, hint)
	}
	return k, s, nil
}

// TrialText is what CheckSigner has a key sign. Transcripts of ceremonies hold signatures over it, so it never changes.
const TrialText = "a signature to find out what this token can do; not metadata\n"

// CheckSigner finds out, by one signature over a text that is no metadata, whether a key can sign Uptane at all: its
// type, and that the token's PSS salt is 32 bytes. Call it before a key is committed to a root.
func CheckSigner(signer crypto.Signer) error {
	_, _, err := signMessage(signer, []byte(TrialText))
	return refused(err)
}

func signaturesOf(v *value) ([]Signature, error) {
	if v.kind != array {
		return nil, because(ErrMalformed, "%q must be an array, not %s", "signatures", v.kind)
	}
	if len(v.items) > MaxSignatures {
		return nil, because(ErrTooLarge, "%d signatures are more than %d", len(v.items), MaxSignatures)
	}
	list := make([]Signature, 0, len(v.items))
	seen := map[string]bool{}
	for i := range v.items {
		r := reader{where: fmt.Sprintf("signature %d", i+1)}
		o := r.object(&v.items[i])
		id, method, sig := r.text(o, "keyid"), r.text(o, "method"), r.text(o, "sig")
		r.only(o, "keyid", "method", "sig")
		if r.err == nil && !isKeyID(id) {
			r.fail(ErrKeyID, "key id %q is not 64 lower-case hex digits", id)
		}
		switch Method(method) {
		case RSASSAPSSSHA256, methodPSS, MethodEd25519:
		default:
			r.fail(ErrMethod, "signature method %q is not accepted by devices", method)
		}
		raw, err := base64.StdEncoding.Strict().DecodeString(sig)
		if err != nil || base64.StdEncoding.EncodeToString(raw) != sig { // the decoder skips line breaks
			r.fail(ErrMalformed, "%q is not base64 without white space", "sig")
		}
		if seen[id] {
			r.fail(ErrRepeatedKey, "a second signature of key %s: devices refuse the document", id)
		}
		if r.err != nil {
			return nil, r.err
		}
		seen[id] = true
		list = append(list, Signature{KeyID: id, Method: Method(method), Sig: raw})
	}
	return list, nil
}

func isKeyID(s string) bool { return isHex(s, 64) }

func (s Signature) write(w *writer) {
	w.open()
	w.key("keyid")
	w.text(s.KeyID)
	w.key("method")
	w.text(string(s.Method))
	w.key("sig")
	w.text(base64.StdEncoding.EncodeToString(s.Sig))
	w.close()
}
