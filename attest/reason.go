package attest

import (
	"errors"

	"github.com/hanaper/hanaper/internal/advice"
)

// Why evidence is refused. Each error returned wraps exactly one of these and says what was found.
var (
	ErrTooLarge      = errors.New("evidence is too large")
	ErrMalformed     = errors.New("evidence cannot be read")
	ErrManufacturer  = errors.New("evidence does not come from a pinned manufacturer")
	ErrExpired       = errors.New("certificate of the evidence is not valid at this time")
	ErrCertificate   = errors.New("certificate of the evidence is not of the kind that vouches for a chip")
	ErrEK            = errors.New("endorsement key is not the one in its certificate, or no endorsement key")
	ErrAK            = errors.New("attestation key may sign other things than what its tpm says itself")
	ErrNotActivated  = errors.New("attestation key is not shown to live in the tpm of the endorsement key")
	ErrNotFromTPM    = errors.New("signed statement was not made by a tpm")
	ErrStatement     = errors.New("signed statement is of another kind")
	ErrSignature     = errors.New("signature of the evidence does not verify")
	ErrStale         = errors.New("evidence was made for something else or at another time")
	ErrNonce         = errors.New("challenge is not one for this")
	ErrNonceExpired  = errors.New("challenge has expired")
	ErrOtherKey      = errors.New("evidence is about another key")
	ErrKeyAttributes = errors.New("key may leave the chip, or was not made in it")
	ErrWeakKey       = errors.New("key of the evidence is weak")
	ErrPCR           = errors.New("state of the machine is not one that the policy allows")
	ErrPolicy        = errors.New("attestation policy is not usable")
)

var hints = map[error]string{
	ErrTooLarge:      "send the evidence of one key, with the chain up to the manufacturer's root",
	ErrMalformed:     "make the evidence anew with this release's station, or see docs/spec/attestation.md",
	ErrManufacturer:  "send the whole chain, or pin that manufacturer's root if you buy its chips",
	ErrExpired:       "look at the clock first; a chip whose certificate has ended needs another from its manufacturer",
	ErrCertificate:   "take the certificate that the manufacturer put into the chip for its endorsement or attestation key",
	ErrEK:            "read the endorsement key's certificate and public area from the same tpm",
	ErrAK:            "make the attestation key as restricted, sign, fixedTPM, fixedParent, sensitiveDataOrigin, without decrypt",
	ErrNotActivated:  "let the tpm that holds both keys answer the credential (TPM2_ActivateCredential), and start anew",
	ErrNotFromTPM:    "let the tpm make the statement (TPM2_Certify, TPM2_Quote)",
	ErrStatement:     "certify the key with TPM2_Certify; send a TPM2_Quote only as the quote",
	ErrSignature:     "sign with the attestation key whose public area is sent",
	ErrStale:         "ask for a new challenge and make the evidence for it",
	ErrNonce:         "ask for a challenge for this device, with this station, and make the evidence for it",
	ErrNonceExpired:  "ask for a new challenge and make the evidence for it; and compare the clocks of the servers",
	ErrOtherKey:      "certify the very key that is to be used",
	ErrKeyAttributes: "generate the key inside the chip as fixedTPM, fixedParent, sensitiveDataOrigin",
	ErrWeakKey:       "generate a new key; if a chip made this one, ask its maker for a firmware without the fault",
	ErrPCR:           "compare the device's software with what the policy expects; a new release needs a new policy",
	ErrPolicy:        "mend the policy",
}

func kindOf(reason error) advice.Kind {
	switch reason {
	case ErrPolicy, ErrMalformed, ErrTooLarge:
		return advice.Usage
	}
	return advice.Unverified
}

// refuse makes an error that wraps reason; detail follows its text.
func refuse(reason error, detail string, args ...any) error {
	return advice.New(kindOf(reason), hints[reason], "%w: "+detail, append([]any{reason}, args...)...)
}
