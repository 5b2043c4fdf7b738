package attest

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
)

// Kind is a kind of chip, and of evidence.
type Kind string

// The kinds.
const (
	TPM     Kind = "tpm"     // TPM 2.0
	PIV     Kind = "piv"     // PIV cards that attest as YubiKeys do
	YubiHSM Kind = "yubihsm" // YubiHSM 2
	Android Kind = "android" // Android Key Attestation
)

// Verdict is what evidence has shown. It is made by the checks of this package; one that was read from a file is only
// what somebody wrote.
type Verdict struct {
	Kind Kind `json:"kind"`
	// Manufacturer is the name under which the caller pinned the root.
	Manufacturer string `json:"manufacturer"`
	// Root is the SHA-256 (hex) of the pinned certificate that the chain ended at.
	Root string `json:"root"`
	// Certificate is the SHA-256 (hex) of the certificate that names the chip: the endorsement key's for a TPM.
	Certificate string `json:"certificate"`
	// Key is the SHA-256 (hex) of the SubjectPublicKeyInfo of the key that the evidence is about.
	Key string `json:"key"`
	// Facts are what the chip or its maker says besides: model, firmware, serial, level. Foreign text.
	Facts []Fact `json:"facts,omitempty"`
}

// Fact is one thing that the evidence says.
type Fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Fact is the value of a fact, "" if the evidence does not say.
func (v *Verdict) Fact(name string) string {
	for _, f := range v.Facts {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

func (v *Verdict) add(name, value string) {
	if value != "" {
		v.Facts = append(v.Facts, Fact{name, value})
	}
}

// hexText shows octets.
func hexText(b []byte) string { return hex.EncodeToString(b[:min(len(b), maxText/2)]) }

func digest(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// keyDigest is the SHA-256 of a key's SubjectPublicKeyInfo.
func keyDigest(pub crypto.PublicKey) (string, error) {
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return "", refuse(ErrMalformed, "public key: %w", err)
	}
	return digest(spki), nil
}

// sameKey compares two public keys.
func sameKey(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}
