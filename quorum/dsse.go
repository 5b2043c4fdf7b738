package quorum

import (
	"bytes"
	"crypto"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/strict"
)

// Payload types of our envelopes.
const (
	ApprovalPayload   = "application/vnd.hanaper.approval+json"
	RosterPayload     = "application/vnd.hanaper.roster+json"
	EnrolmentPayload  = "application/vnd.hanaper.officer+json"
	TranscriptPayload = "application/vnd.hanaper.transcript"
)

// maxSignatures bounds the signatures of an envelope.
const maxSignatures = 2 * MaxOfficers

var (
	// ErrEnvelope means bytes that are no DSSE envelope of the kind expected.
	ErrEnvelope = errors.New("quorum: malformed envelope")
	// ErrSignature means a signature that is not that of a key in the roster.
	ErrSignature = errors.New("quorum: signature does not verify")
	// ErrQuorum means too few distinct officers.
	ErrQuorum = errors.New("quorum: not enough officers")
)

func unverified(hint, format string, args ...any) error {
	return advice.New(advice.Unverified, hint, format, args...)
}

// SignDSSE returns a DSSE v1 envelope over payload with a signature of each key, which may be *Signer (its scheme) or any
// crypto.Signer (the default scheme of its key). Every signature is verified before it is returned.
func SignDSSE(payloadType string, payload []byte, keys ...crypto.Signer) ([]byte, error) {
	if len(keys) == 0 {
		return nil, fmt.Errorf("quorum: no key given to sign with")
	}
	env := dsse.Envelope{PayloadType: payloadType, Payload: base64.StdEncoding.EncodeToString(payload)}
	pae := dsse.PAE(payloadType, payload)
	for _, key := range keys {
		s, err := NewSigner(key, "")
		if err != nil {
			return nil, err
		}
		id, err := KeyID(s.Public())
		if err != nil {
			return nil, err
		}
		sig, err := s.sign(pae)
		if err != nil {
			return nil, err
		}
		env.Signatures = append(env.Signatures, dsse.Signature{KeyID: id, Sig: base64.StdEncoding.EncodeToString(sig)})
	}
	return marshalEnvelope(env)
}

func marshalEnvelope(e dsse.Envelope) ([]byte, error) {
	data, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("quorum: %w", err)
	}
	return append(data, '\n'), nil
}

// parseEnvelope reads an envelope; an empty payloadType accepts any. Base64 and JSON have one spelling here.
func parseEnvelope(env []byte, payloadType string) (dsse.Envelope, []byte, error) {
	var e dsse.Envelope
	if len(env) > MaxEnvelope {
		return e, nil, unverified("", "%w: larger than %d bytes", ErrEnvelope, MaxEnvelope)
	}
	if err := strict.JSON("envelope", env, &e); err != nil {
		return e, nil, unverified("", "%w: %w", ErrEnvelope, err)
	}
	if payloadType != "" && e.PayloadType != payloadType {
		return e, nil, unverified("", "%w: payload type is %.80q, want %q", ErrEnvelope, e.PayloadType, payloadType)
	}
	payload, err := base64.StdEncoding.Strict().DecodeString(e.Payload)
	if err != nil {
		return e, nil, unverified("", "%w: payload is not base64", ErrEnvelope)
	}
	if len(e.Signatures) == 0 || len(e.Signatures) > maxSignatures {
		return e, nil, unverified("", "%w: %d signatures; 1 to %d are allowed", ErrEnvelope, len(e.Signatures), maxSignatures)
	}
	if again, err := marshalEnvelope(e); err != nil || !bytes.Equal(again, env) {
		return e, nil, unverified("", "%w: not in its canonical form", ErrEnvelope)
	}
	return e, payload, nil
}

// VerifyDSSE checks an envelope against a trusted roster: its form, its payload type, that every signature verifies and
// belongs to somebody in the roster, and that at least min distinct people of role officer signed. It returns the payload
// and all distinct signers, of whatever role; the caller looks at their roles and at the payload.
func VerifyDSSE(env []byte, payloadType string, roster *Roster, min int) (payload []byte, signers []Officer, err error) {
	e, payload, err := parseEnvelope(env, payloadType)
	if err != nil {
		return nil, nil, err
	}
	pae := dsse.PAE(e.PayloadType, payload)
	for i, s := range e.Signatures {
		// The key id only finds the key; the scheme is the roster's.
		o, ok := roster.Officer(s.KeyID)
		if !ok {
			return nil, nil, unverified("", "%w: signature %d is of key %.16s, which is nobody's in the roster", ErrSignature, i+1, s.KeyID)
		}
		sig, err := base64.StdEncoding.Strict().DecodeString(s.Sig)
		if err != nil || !verify(o.Scheme, o.SigningKey, pae, sig) {
			return nil, nil, unverified("", "%w: signature %d, said to be by %s", ErrSignature, i+1, show.Text(o.Name))
		}
		signers = append(signers, o)
	}
	signers = distinct(signers)
	if n := countOfficers(signers); n < min {
		return nil, nil, refused("", "%w: %d of %d signed", ErrQuorum, n, min)
	}
	return payload, signers, nil
}

// distinct keeps the first of each person, by signing key.
func distinct(list []Officer) []Officer {
	seen := map[string]bool{}
	var out []Officer
	for _, o := range list {
		if !seen[o.KeyID] {
			seen[o.KeyID] = true
			out = append(out, o)
		}
	}
	return out
}

func countOfficers(list []Officer) int {
	n := 0
	for _, o := range list {
		if o.Role == RoleOfficer {
			n++
		}
	}
	return n
}

// PayloadDigest is the digest of what an envelope of this type holds, unverified: to find which roster it approves.
func PayloadDigest(env []byte, payloadType string) (Digest, error) {
	_, payload, err := parseEnvelope(env, payloadType)
	return Sum(payload), err
}

// UnverifiedPayload is what an envelope of this type holds. Nothing says that anybody signed it: it serves to find out whose key to verify it by.
func UnverifiedPayload(env []byte, payloadType string) ([]byte, error) {
	_, payload, err := parseEnvelope(env, payloadType)
	return payload, err
}

// VerifyDSSEKey checks an envelope that one key signed, which the caller trusts, in the key's default scheme, and returns the payload. A
// second signature is refused.
func VerifyDSSEKey(env []byte, payloadType string, key crypto.PublicKey) ([]byte, error) {
	e, payload, err := parseEnvelope(env, payloadType)
	if err != nil {
		return nil, err
	}
	id, err := KeyID(key)
	if err != nil {
		return nil, err
	}
	scheme, err := DefaultScheme(key)
	if err != nil {
		return nil, err
	}
	if len(e.Signatures) != 1 || e.Signatures[0].KeyID != id {
		return nil, unverified("", "%w: it is not signed by the key %.16s, and by no other", ErrSignature, id)
	}
	sig, err := base64.StdEncoding.Strict().DecodeString(e.Signatures[0].Sig)
	if err != nil || !verify(scheme, key, dsse.PAE(e.PayloadType, payload), sig) {
		return nil, unverified("", "%w: that of key %.16s", ErrSignature, id)
	}
	return payload, nil
}

// SignedDSSE gives what the one signature of an envelope of this type is over, and the signature. It verifies nothing.
func SignedDSSE(env []byte, payloadType string) (message, sig []byte, err error) {
	e, payload, err := parseEnvelope(env, payloadType)
	if err != nil {
		return nil, nil, err
	}
	if len(e.Signatures) != 1 {
		return nil, nil, unverified("", "%w: %d signatures where one is wanted", ErrSignature, len(e.Signatures))
	}
	sig, err = base64.StdEncoding.Strict().DecodeString(e.Signatures[0].Sig)
	return dsse.PAE(e.PayloadType, payload), sig, err
}

// JoinDSSE returns one envelope with the signatures of all, which must hold the same payload. Of two signatures of one key the first stays. It
// verifies none.
func JoinDSSE(payloadType string, envs ...[]byte) ([]byte, error) {
	var joined dsse.Envelope
	for i, env := range envs {
		e, _, err := parseEnvelope(env, payloadType)
		switch {
		case err != nil:
			return nil, err
		case i == 0:
			joined = e
			continue
		case e.Payload != joined.Payload:
			return nil, unverified("", "%w: two envelopes hold different payloads", ErrEnvelope)
		}
		for _, s := range e.Signatures {
			if !slices.ContainsFunc(joined.Signatures, func(have dsse.Signature) bool { return have.KeyID == s.KeyID }) {
				joined.Signatures = append(joined.Signatures, s)
			}
		}
	}
	return marshalEnvelope(joined)
}

// UnverifiedKeyIDs are the ids of the keys that an envelope of this type says it was signed by; nothing says that it was.
func UnverifiedKeyIDs(env []byte, payloadType string) (ids []string, err error) {
	e, _, err := parseEnvelope(env, payloadType)
	for _, s := range e.Signatures {
		ids = append(ids, s.KeyID)
	}
	return ids, err
}
