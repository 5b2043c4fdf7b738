package attest

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
)

// CheckQuote holds a TPM's statement of its registers (TPM2_Quote: a TPMS_ATTEST and a TPMT_SIGNATURE) to values, and its signature to an
// attestation key (TPMT_PUBLIC). It gives the name of that key, the SHA-256 of its SubjectPublicKeyInfo in hexadecimal.
//
// An attacker who chooses all of it can quote whatever he likes, with a key of his own: nothing here says that the key lives in a
// TPM. So a caller has people compare the name with one that they know from elsewhere.
func CheckQuote(attestationKey, statement, signature, qualifying []byte, values PCRState) (key string, err error) {
	ak, err := parseTPMKey("attestation key", attestationKey)
	if err != nil {
		return "", err
	}
	if err := ak.checkAK(); err != nil {
		return "", err
	}
	if _, err := ak.checkQuote(statement, signature, qualifying, []PCRState{values}); err != nil {
		return "", err
	}
	return KeyName(attestationKey)
}

// KeyName is the name of an attestation key (TPMT_PUBLIC): the SHA-256 of its SubjectPublicKeyInfo, in hexadecimal.
func KeyName(attestationKey []byte) (string, error) {
	ak, err := parseTPMKey("attestation key", attestationKey)
	if err != nil {
		return "", err
	}
	spki, err := x509.MarshalPKIXPublicKey(ak.pub)
	if err != nil {
		return "", refuse(ErrMalformed, "attestation key: %w", err)
	}
	sum := sha256.Sum256(spki)
	return hex.EncodeToString(sum[:]), nil
}
