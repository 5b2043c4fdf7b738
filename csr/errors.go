package csr

import (
	"errors"

	"github.com/hanaper/hanaper/internal/advice"
)

// What Parse refuses. The errors returned wrap exactly one of these and say what was found.
var (
	ErrTooLarge         = errors.New("request is too large")
	ErrMalformed        = errors.New("request is malformed")
	ErrTrailingData     = errors.New("data follows the request")
	ErrSignature        = errors.New("signature algorithm is not allowed")
	ErrPossession       = errors.New("signature does not verify: possession of the key is not proven")
	ErrKeyType          = errors.New("key type is not allowed")
	ErrWeakKey          = errors.New("key is weak")
	ErrNoCommonName     = errors.New("subject has no common name")
	ErrCommonNames      = errors.New("subject has more than one common name")
	ErrCommonName       = errors.New("common name is not allowed")
	ErrSubject          = errors.New("subject attribute is not allowed")
	ErrString           = errors.New("subject attribute has a string type or character that is not allowed")
	ErrMultiValued      = errors.New("subject has a multi-valued relative distinguished name")
	ErrRequestAttribute = errors.New("request attribute is not allowed")
	ErrExtension        = errors.New("requested extension is not allowed")
	ErrSAN              = errors.New("subject alternative name is not allowed")
	ErrDuplicate        = errors.New("something stands twice in the request")
	ErrPolicy           = errors.New("csr policy is not usable")
)

// hints are those of refusals that have one reason alone; the others bring their own.
var hints = map[error]string{
	ErrTooLarge:         "send one PKCS#10 request of at most 16 KiB",
	ErrMalformed:        "make the request anew with a tool that writes DER (openssl, certtool, Mbed TLS, keytool)",
	ErrTrailingData:     "send one request and nothing behind it",
	ErrSignature:        "sign the request with SHA-256, SHA-384 or SHA-512 (RSA or ECDSA), or with Ed25519",
	ErrPossession:       "make the request anew with the private key of the public key in it; where it was edited or converted after it was signed, send the first one",
	ErrKeyType:          "generate a key on P-256, P-384 or P-521, an Ed25519 key, or an RSA key of 2048 to 4096 bits",
	ErrWeakKey:          "generate a new key; if a token made this one, ask its maker for a firmware without the fault",
	ErrNoCommonName:     "put the device's id into the subject as its CN (openssl: -subj /CN=ID; an empty answer at the prompt leaves it out)",
	ErrCommonNames:      "put exactly one CN into the subject: readers differ in which of two they take",
	ErrCommonName:       "use a common name that the policy allows",
	ErrSubject:          "leave the attribute out, or allow it in the policy",
	ErrString:           "use PrintableString or UTF8String and printable characters",
	ErrMultiValued:      "put each attribute into a relative distinguished name of its own (openssl: / between them, not +)",
	ErrRequestAttribute: "leave the attribute out of the request, or have the profile ignore it by its object identifier (asks)",
	ErrExtension:        "leave the extension out: the issuing profile sets the extensions",
	ErrSAN:              "leave the name out, or allow its kind in the policy",
	ErrDuplicate:        "let each thing stand once",
	ErrRenewalProof:     "sign the text of docs/spec/renewal.md with the old key, and put the signature into the request",
	ErrPolicy:           "mend the policy",
}

func kindOf(sentinel error) advice.Kind {
	switch sentinel {
	case ErrTooLarge, ErrMalformed, ErrTrailingData, ErrPolicy:
		return advice.Usage
	case ErrPossession, ErrRenewalProof:
		return advice.Unverified
	}
	return advice.Refused
}

// refuseAnd is refuse with a hint of its own, which says what to do on the device's side.
func refuseAnd(hint string, sentinel error, detail string, args ...any) error {
	return advice.New(kindOf(sentinel), hint, "csr: %w: "+detail, append([]any{sentinel}, args...)...)
}

// refuse makes an error that wraps sentinel; detail follows its text.
func refuse(sentinel error, detail string, args ...any) error {
	return advice.New(kindOf(sentinel), hints[sentinel], "csr: %w: "+detail, append([]any{sentinel}, args...)...)
}
