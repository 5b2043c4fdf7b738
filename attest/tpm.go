package attest

import (
	"crypto"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"time"
)

// TPMEvidence is what a TPM and its holder say of one key. Every field is foreign. The structures are those of the TPM 2.0
// Library, part 2, without the two octets of size that stand before them in commands.
type TPMEvidence struct {
	// EKChain is the certificate of the endorsement key and those above it, DER; the root need not be among them.
	EKChain [][]byte `json:"ek_chain"`
	// EKPublic, AKPublic and KeyPublic are TPMT_PUBLIC.
	EKPublic  []byte `json:"ek_public"`
	AKPublic  []byte `json:"ak_public"`
	KeyPublic []byte `json:"key_public"`
	// Attest is the TPMS_ATTEST of TPM2_Certify over the key, by the attestation key; Signature its TPMT_SIGNATURE.
	Attest    []byte `json:"attest"`
	Signature []byte `json:"signature"`
	// Secret is what TPM2_ActivateCredential gave back.
	Secret []byte `json:"secret,omitempty"`
	// Quote is the TPMS_ATTEST of TPM2_Quote, and its signature; empty if no policy asks for one.
	Quote          []byte `json:"quote,omitempty"`
	QuoteSignature []byte `json:"quote_signature,omitempty"`
}

// KeyUse is what a key is for.
type KeyUse int

// The uses.
const (
	Signs KeyUse = iota
	Decrypts
)

// Want is what the caller knows by itself and holds the evidence to.
type Want struct {
	// Key is the key that it is about: of the request, or of the ceremony's step.
	Key crypto.PublicKey
	Use KeyUse
	// Qualifying is the qualifying data that this proof and no other was made for; see Qualifying. Nonce is the challenge itself, for
	// chips that take no more than that.
	Qualifying, Nonce []byte
	// Activation says why the caller believes that the attestation key lives in the TPM of the endorsement key.
	Activation Activation
	// States that the machine may be in; nil asks for no quote.
	States []PCRState
	// At is the time at which certificates must be valid.
	At time.Time
}

// Activation is how credential activation was shown, for one pair of endorsement key and attestation key. The zero value
// shows nothing and is refused.
type Activation struct {
	secrets Secrets
	witness string
	binding [32]byte
}

// BySecret: the evidence must hold the secret of the credential that MakeCredential made, from the same secrets, for exactly
// the two keys of the evidence.
func BySecret(secrets Secrets) Activation { return Activation{secrets: secrets} }

// ByWitness: somebody whom the caller believes has seen the activation of the two keys that binding names (see Binding).
// witness says who, in a few words; it stands in the verdict. An offline reader has nothing better, for a secret proves
// something only to whoever made it and has told nobody. The caller takes binding from where the witness vouches for it, such
// as a signed transcript.
func ByWitness(witness string, binding [32]byte) Activation {
	return Activation{witness: witness, binding: binding}
}

// VerifyTPM checks, in this order: the endorsement key's certificate chains to a manufacturer that is pinned for TPMs; the
// endorsement key is that of the certificate; the attestation key signs only its TPM's own statements, lives in that TPM,
// and has certified the key for the wanted purpose; the key is the wanted one and cannot leave; the machine's state, if
// the caller wants one. Each error wraps one of the package's reasons.
func (m *Manufacturers) VerifyTPM(e *TPMEvidence, want Want) (*Verdict, error) {
	ek, ak, v, err := m.verifyTPMKeys(e.EKChain, e.EKPublic, e.AKPublic, want.At)
	if err != nil {
		return nil, err
	}
	if err := want.Activation.check(bind(ek, ak), e.Secret, v); err != nil {
		return nil, err
	}
	key, err := parseTPMKey("key", e.KeyPublic)
	if err == nil {
		err = key.strong("key", m.asOf)
	}
	if err != nil {
		return nil, err
	}
	if want.Key == nil || !sameKey(key.pub, want.Key) {
		return nil, refuse(ErrOtherKey, "the certified key is not the key of the request")
	}
	if err := key.checkBorn(want.Use); err != nil {
		return nil, err
	}
	st, err := ak.checkCertified(e.Attest, e.Signature, want.Qualifying, key)
	if err != nil {
		return nil, err
	}
	if len(want.States) > 0 {
		state, err := ak.checkQuote(e.Quote, e.QuoteSignature, want.Qualifying, want.States)
		if err != nil {
			return nil, err
		}
		v.add("state", state)
	}
	if v.Key, err = keyDigest(key.pub); err != nil {
		return nil, err
	}
	v.add("firmware", fmt.Sprintf("%016x", st.FirmwareVersion))
	v.add("ek name", hex.EncodeToString(ek.name))
	v.add("ak name", hex.EncodeToString(ak.name))
	v.add("key name", hex.EncodeToString(key.name))
	return v, nil
}

// verifyTPMKeys checks what can be known before anything was activated or certified.
func (m *Manufacturers) verifyTPMKeys(chain [][]byte, ekPublic, akPublic []byte, at time.Time) (ek, ak *tpmKey, v *Verdict, err error) {
	cert, name, anchor, err := m.checkEKChain(at, chain)
	if err != nil {
		return nil, nil, nil, err
	}
	if ek, err = parseTPMKey("endorsement key", ekPublic); err != nil {
		return nil, nil, nil, err
	}
	if err := ek.strong("endorsement key", m.asOf); err != nil {
		return nil, nil, nil, err
	}
	if err := ek.checkEK(cert.PublicKey); err != nil {
		return nil, nil, nil, err
	}
	if ak, err = parseTPMKey("attestation key", akPublic); err != nil {
		return nil, nil, nil, err
	}
	if err := ak.strong("attestation key", m.asOf); err != nil {
		return nil, nil, nil, err
	}
	if err := ak.checkAK(); err != nil {
		return nil, nil, nil, err
	}
	v = &Verdict{Kind: TPM, Manufacturer: anchor.name, Root: anchor.root, Certificate: digest(cert.Raw)}
	name.facts(v)
	return ek, ak, v, nil
}

func (a Activation) check(binding [32]byte, secret []byte, v *Verdict) error {
	switch {
	case a.witness != "" && a.binding == binding:
		v.add("activation", "seen by "+a.witness)
		return nil
	case a.witness != "":
		return refuse(ErrNotActivated, "the keys that %s has seen are others", a.witness)
	case a.secrets == nil:
		return refuse(ErrNotActivated, "no credential was made for it")
	case len(secret) == 0:
		return refuse(ErrNotActivated, "the credential's secret was not given back")
	}
	made := a.secrets(binding)
	if len(made) < minSecret || subtle.ConstantTimeCompare(made, secret) != 1 {
		return refuse(ErrNotActivated, "the answer to the credential is wrong: another tpm gave it, or it answers another credential")
	}
	v.add("activation", "secret given back")
	return nil
}
