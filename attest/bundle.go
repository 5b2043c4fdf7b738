package attest

import (
	"bytes"
	"encoding/hex"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Evidence travels in a request as draft-ietf-lamps-csr-attestation has it (the form of its version 27: attribute
// id-aa-attestation, which earlier versions call id-aa-evidence, 1.2.840.113549.1.9.16.2.59; one AttestationBundle). The
// statements in it are those of docs/spec/attestation.md.
type Evidence struct {
	Kind  Kind
	Nonce []byte
	// Certificates are X.509, DER, in no order that matters.
	Certificates [][]byte
	// TPM is set for kind TPM; its EKChain is Certificates, the endorsement key's first.
	TPM *TPMEvidence
	// Other are the statements of kinds that this package does not know; see Verifier.
	Other []Statement
}

// Statement is one AttestationStatement: Type is the DER of an OBJECT IDENTIFIER, Value the DER of one value.
type Statement struct{ Type, Value []byte }

// Types of statements, DER. The first is the TCG's; the others are Hanaper's, below 2.25 and a UUID of its own
// (98cedbec-01dc-4727-8242-5c41a6952d09, ITU-T X.667).
var (
	typeTPMCertify    = mustHex("060567810514" + "01")                                        // tcg-attest-tpm-certify, 2.23.133.20.1
	typeChallenge     = mustHex("0616" + "6982b1ceedfb809de29ccf82a197889ab4d4da09" + "0101") // .1.1
	typeTPMActivation = mustHex("0616" + "6982b1ceedfb809de29ccf82a197889ab4d4da09" + "0102") // .1.2
)

func mustHex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err) // a constant of this file
	}
	return b
}

// Marshal gives the AttestationBundle, the value of the request's attribute.
func (e *Evidence) Marshal() ([]byte, error) {
	statements := []Statement{{typeChallenge, e.challenge()}}
	if t := e.TPM; t != nil {
		statements = append(statements, Statement{typeTPMCertify, sequence(t.Attest, t.Signature, t.KeyPublic)}, Statement{typeTPMActivation, t.activation()})
	}
	statements = append(statements, e.Other...)
	certs := e.Certificates
	if e.TPM != nil && len(certs) == 0 {
		certs = e.TPM.EKChain
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			for _, s := range statements {
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddBytes(s.Type)
					b.AddBytes(s.Value)
				})
			}
		})
		if len(certs) > 0 {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				for _, c := range certs {
					b.AddBytes(c)
				}
			})
		}
	})
	der, err := b.Bytes()
	if err != nil {
		return nil, err
	}
	if _, err := ParseEvidence(der); err != nil { // also that what is written is read the same way
		return nil, err
	}
	return der, nil
}

func (e *Evidence) challenge() []byte {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(1)
		b.AddASN1(cbasn1.UTF8String, func(b *cryptobyte.Builder) { b.AddBytes([]byte(e.Kind)) })
		b.AddASN1OctetString(e.Nonce)
	})
	return b.BytesOrPanic() // lengths are bounded by memory only here, and checked when it is read
}

// sequence is a SEQUENCE of OCTET STRINGs.
func sequence(parts ...[]byte) []byte {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, p := range parts {
			b.AddASN1OctetString(p)
		}
	})
	return b.BytesOrPanic()
}

func (t *TPMEvidence) activation() []byte {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, p := range [][]byte{t.EKPublic, t.AKPublic, t.Secret} {
			b.AddASN1OctetString(p)
		}
		if len(t.Quote) > 0 {
			b.AddASN1(quoteTag, func(b *cryptobyte.Builder) {
				b.AddASN1OctetString(t.Quote)
				b.AddASN1OctetString(t.QuoteSignature)
			})
		}
	})
	return b.BytesOrPanic()
}

var quoteTag = cbasn1.Tag(0).ContextSpecific().Constructed()

// ParseEvidence reads an AttestationBundle. It checks its form and nothing else. Each type of statement stands at most
// once, the challenge exactly once.
func ParseEvidence(der []byte) (*Evidence, error) {
	if len(der) > maxEvidence {
		return nil, refuse(ErrTooLarge, "%d octets, more than %d", len(der), maxEvidence)
	}
	var bundle, statements, certs cryptobyte.String
	s := cryptobyte.String(der)
	if !s.ReadASN1(&bundle, cbasn1.SEQUENCE) || !s.Empty() || !bundle.ReadASN1(&statements, cbasn1.SEQUENCE) || statements.Empty() {
		return nil, refuse(ErrMalformed, "it is not a bundle of statements and certificates")
	}
	hasCerts := !bundle.Empty()
	if hasCerts && (!bundle.ReadASN1(&certs, cbasn1.SEQUENCE) || certs.Empty() || !bundle.Empty()) {
		return nil, refuse(ErrMalformed, "the certificates cannot be read, or something follows them")
	}
	e := &Evidence{}
	for !certs.Empty() {
		var c cryptobyte.String
		if !certs.ReadASN1Element(&c, cbasn1.SEQUENCE) {
			return nil, refuse(ErrMalformed, "a certificate is not X.509")
		}
		if e.Certificates = append(e.Certificates, bytes.Clone(c)); len(e.Certificates) > maxChain {
			return nil, refuse(ErrTooLarge, "more than %d certificates", maxChain)
		}
	}
	if err := e.parseStatements(statements); err != nil {
		return nil, err
	}
	switch t := e.TPM; {
	case e.Kind == "":
		return nil, refuse(ErrMalformed, "it does not say for which challenge it was made")
	case (e.Kind == TPM) != (t != nil), t != nil && (t.Attest == nil || t.AKPublic == nil):
		return nil, refuse(ErrMalformed, "evidence of a TPM is a certification and an activation, and that of another chip neither")
	case t != nil:
		t.EKChain = e.Certificates
	}
	return e, nil
}

func (e *Evidence) parseStatements(statements cryptobyte.String) error {
	seen := map[string]bool{}
	for !statements.Empty() {
		var one, oid, stmt cryptobyte.String
		var tag cbasn1.Tag
		if !statements.ReadASN1(&one, cbasn1.SEQUENCE) || !one.ReadASN1Element(&oid, cbasn1.OBJECT_IDENTIFIER) || !one.ReadAnyASN1Element(&stmt, &tag) {
			return refuse(ErrMalformed, "a statement cannot be read")
		}
		if !one.Empty() {
			return refuse(ErrMalformed, "a statement has a third part, as drafts before version 27 had a hint")
		}
		if seen[string(oid)] {
			return refuse(ErrMalformed, "a type of statement stands twice")
		}
		if seen[string(oid)] = true; len(seen) > maxStatements {
			return refuse(ErrTooLarge, "more than %d statements", maxStatements)
		}
		ok := true
		switch {
		case bytes.Equal(oid, typeChallenge):
			ok = e.readChallenge(stmt)
		case bytes.Equal(oid, typeTPMCertify):
			ok = e.tpm().readCertify(stmt)
		case bytes.Equal(oid, typeTPMActivation):
			ok = e.tpm().readActivation(stmt)
		default:
			e.Other = append(e.Other, Statement{bytes.Clone(oid), bytes.Clone(stmt)})
		}
		if !ok {
			return refuse(ErrMalformed, "the statement of type %x", []byte(oid))
		}
	}
	return nil
}

func (e *Evidence) tpm() *TPMEvidence {
	if e.TPM == nil {
		e.TPM = &TPMEvidence{}
	}
	return e.TPM
}

func (e *Evidence) readChallenge(s cryptobyte.String) bool {
	var seq, kind, nonce cryptobyte.String
	version := 0
	if !s.ReadASN1(&seq, cbasn1.SEQUENCE) || !seq.ReadASN1Integer(&version) || version != 1 || !seq.ReadASN1(&kind, cbasn1.UTF8String) ||
		!seq.ReadASN1(&nonce, cbasn1.OCTET_STRING) || !seq.Empty() {
		return false
	}
	e.Kind, e.Nonce = Kind(kind), bytes.Clone(nonce)
	return e.Kind.valid() && len(nonce) > 0 && len(nonce) <= 128
}

// valid: the names of kinds are short words.
func (k Kind) valid() bool {
	return len(k) > 0 && len(k) <= 32 && !slices.ContainsFunc([]byte(k), func(c byte) bool {
		return (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-'
	})
}

// octets reads OCTET STRINGs that are not empty, as many as there are places.
func octets(s *cryptobyte.String, places ...*[]byte) bool {
	for _, p := range places {
		var o cryptobyte.String
		if !s.ReadASN1(&o, cbasn1.OCTET_STRING) || len(o) == 0 {
			return false
		}
		*p = bytes.Clone(o)
	}
	return true
}

func (t *TPMEvidence) readCertify(s cryptobyte.String) bool {
	var seq cryptobyte.String
	return s.ReadASN1(&seq, cbasn1.SEQUENCE) && octets(&seq, &t.Attest, &t.Signature, &t.KeyPublic) && seq.Empty()
}

func (t *TPMEvidence) readActivation(s cryptobyte.String) bool {
	var seq, quote cryptobyte.String
	if !s.ReadASN1(&seq, cbasn1.SEQUENCE) || !octets(&seq, &t.EKPublic, &t.AKPublic, &t.Secret) {
		return false
	}
	if seq.PeekASN1Tag(quoteTag) && (!seq.ReadASN1(&quote, quoteTag) || !octets(&quote, &t.Quote, &t.QuoteSignature) || !quote.Empty()) {
		return false
	}
	return seq.Empty()
}
