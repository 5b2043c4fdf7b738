package attest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"time"

	"github.com/google/go-tpm/tpm2"
)

// minSecret and maxSecret bound the secret of a credential, in octets. A TPM takes at most the length of the hash that
// names its endorsement key.
const (
	minSecret = 16
	maxSecret = 32
)

// Credential is what MakeCredential gives a TPM to answer: the two parameters of TPM2_ActivateCredential.
type Credential struct {
	// Blob is a TPMS_ID_OBJECT, Encrypted the content of a TPM2B_ENCRYPTED_SECRET; both without their size.
	Blob      []byte `json:"blob"`
	Encrypted []byte `json:"encrypted_secret"`
}

// Secrets gives the secret of a credential for a pair of keys: always the same 16 to 32 octets for the same pair, and
// unlike any other. The secret belongs to the pair, so that nobody can answer with one attestation key and then prove with
// another.
type Secrets func(binding [32]byte) []byte

// SecretsFrom derives secrets from a key that nobody else knows, of 16 octets or more, and the parts, such as a nonce
// (HMAC-SHA-256).
func SecretsFrom(key []byte, parts ...[]byte) Secrets {
	return func(binding [32]byte) []byte {
		if len(key) < minSecret {
			return nil
		}
		h := hmac.New(sha256.New, key)
		h.Write(Qualifying("hanaper credential v1", append(parts, binding[:])...))
		return h.Sum(nil)
	}
}

// Binding names the pair of endorsement key and attestation key in the evidence, by their names in the TPM. It only reads
// the evidence, and checks nothing.
func (e *TPMEvidence) Binding() ([32]byte, error) {
	ek, err := parseTPMKey("endorsement key", e.EKPublic)
	if err != nil {
		return [32]byte{}, err
	}
	ak, err := parseTPMKey("attestation key", e.AKPublic)
	if err != nil {
		return [32]byte{}, err
	}
	return bind(ek, ak), nil
}

func bind(ek, ak *tpmKey) [32]byte {
	return [32]byte(Qualifying("hanaper ek and ak v1", ek.name, ak.name))
}

// MakeCredential encrypts the pair's secret so that only a TPM that holds the endorsement key of chain *and* the
// attestation key gives it back (TPM 2.0 Library, part 1, section "Credential Protection"). It first checks all that can be
// known of both keys: an attestation key that signs more than its TPM's own statements never gets a credential.
func (m *Manufacturers) MakeCredential(rand io.Reader, chain [][]byte, ekPublic, akPublic []byte, secrets Secrets, at time.Time) (*Credential, *Verdict, error) {
	ek, ak, v, err := m.verifyTPMKeys(chain, ekPublic, akPublic, at)
	if err != nil {
		return nil, nil, err
	}
	secret := secrets(bind(ek, ak))
	if len(secret) < minSecret || len(secret) > maxSecret {
		return nil, nil, refuse(ErrPolicy, "the secret of a credential has %d octets, not %d to %d", len(secret), minSecret, maxSecret)
	}
	to, err := tpm2.ImportEncapsulationKey(ek.area)
	if err != nil {
		return nil, nil, refuse(ErrEK, "%w", err)
	}
	blob, encrypted, err := tpm2.CreateCredential(rand, to, ak.name, secret)
	if err != nil {
		return nil, nil, refuse(ErrEK, "%w", err)
	}
	return &Credential{blob, encrypted}, v, nil
}

// Qualifying is the qualifying data for a statement about a key: SHA-256 over a label, and each part with its length
// before it, so that no two lists of parts have one value. A TPM takes at least 32 octets.
func Qualifying(label string, parts ...[]byte) []byte {
	h := sha256.New()
	for _, p := range append([][]byte{[]byte(label)}, parts...) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(p)))
		h.Write(n[:])
		h.Write(p)
	}
	return h.Sum(nil)
}
