package csr

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

var (
	oidExtensionRequest = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 14}
	oidSAN              = asn1.ObjectIdentifier{2, 5, 29, 17}
	// oidEvidence is id-aa-attestation (draft-ietf-lamps-csr-attestation; id-aa-evidence in its earlier versions).
	oidEvidence = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 59}
)

// Parse reads one request, PEM or DER (RFC 2986), with nothing before or after it, proves possession of the private key
// and holds the request to the policy. Each error wraps one of the package's sentinels. What is cheap to refuse is
// refused before the signature is verified.
func Parse(data []byte, p *Policy) (*Request, error) {
	if p == nil {
		return nil, refuse(ErrPolicy, "there is none")
	}
	der, err := decode(data)
	if err != nil {
		return nil, err
	}
	r, attributes, err := parseOuter(der)
	if err != nil {
		return nil, err
	}
	if r.attrs, err = ParseName(r.rawSubject); err != nil {
		return nil, err
	}
	if r.cn, err = p.checkName(r.attrs); err != nil {
		return nil, err
	}
	if err := p.parseAttributes(attributes, r); err != nil {
		return nil, err
	}
	if err := p.parseKey(r); err != nil {
		return nil, err
	}
	if err := CheckSignature(r.pub, r.sigAlg, r.tbs, r.sig); err != nil {
		return nil, refuse(ErrPossession, "%w", err)
	}
	r.digest = sha256.Sum256(r.spki)
	return r, nil
}

// decode bounds the size and takes off the PEM. The result shares no memory with data.
func decode(data []byte) ([]byte, error) {
	if len(data) > maxPEM {
		return nil, refuse(ErrTooLarge, "%d octets", len(data))
	}
	text := bytes.TrimSpace(data)
	if len(text) == 0 {
		return nil, refuse(ErrMalformed, "it is empty")
	}
	der := data
	if bytes.HasPrefix(text, []byte("-----BEGIN ")) {
		block, rest := pem.Decode(text)
		switch {
		case block == nil:
			return nil, refuse(ErrMalformed, "the PEM cannot be read")
		case block.Type != "CERTIFICATE REQUEST" && block.Type != "NEW CERTIFICATE REQUEST":
			return nil, refuse(ErrMalformed, "the PEM holds a %q", clip([]byte(block.Type)))
		case len(block.Headers) > 0:
			return nil, refuse(ErrMalformed, "the PEM has headers")
		case len(bytes.TrimSpace(rest)) > 0:
			return nil, refuse(ErrTrailingData, "%d octets after the PEM", len(rest))
		}
		der = block.Bytes
	} else {
		der = bytes.Clone(der)
	}
	if len(der) > maxDER {
		return nil, refuse(ErrTooLarge, "%d octets", len(der))
	}
	return der, nil
}

// parseOuter takes the request apart as far as the content of its attributes, which it returns.
func parseOuter(der []byte) (*Request, cryptobyte.String, error) {
	r := &Request{raw: der}
	var outer, tbs, info, subject, spki, attributes, alg cryptobyte.String
	s := cryptobyte.String(der)
	if !s.ReadASN1(&outer, cbasn1.SEQUENCE) {
		return nil, nil, refuse(ErrMalformed, "it is not a DER sequence")
	}
	if !s.Empty() {
		return nil, nil, refuse(ErrTrailingData, "%d octets", len(s))
	}
	var sig asn1.BitString
	if !outer.ReadASN1Element(&tbs, cbasn1.SEQUENCE) || !outer.ReadASN1Element(&alg, cbasn1.SEQUENCE) ||
		!outer.ReadASN1BitString(&sig) || !outer.Empty() || sig.BitLength%8 != 0 {
		return nil, nil, refuse(ErrMalformed, "it is not request, algorithm and signature")
	}
	version := -1
	inner := tbs
	if !inner.ReadASN1(&info, cbasn1.SEQUENCE) || !info.ReadASN1Integer(&version) || version != 0 {
		return nil, nil, refuse(ErrMalformed, "its version is not v1 (0)")
	}
	if !info.ReadASN1Element(&subject, cbasn1.SEQUENCE) || !info.ReadASN1Element(&spki, cbasn1.SEQUENCE) ||
		!info.ReadASN1(&attributes, cbasn1.Tag(0).ContextSpecific().Constructed()) || !info.Empty() {
		return nil, nil, refuse(ErrMalformed, "it is not subject, key and attributes")
	}
	if r.sigAlg = SignatureAlgorithm(alg); r.sigAlg == x509.UnknownSignatureAlgorithm {
		return nil, nil, refuse(ErrSignature, "algorithm identifier %x", clip(alg))
	}
	r.tbs, r.rawSubject, r.spki, r.sig = tbs, subject, spki, sig.Bytes
	return r, attributes, nil
}

// parseAttributes reads the request's attributes: at most one extensionRequest, and one with evidence if the policy allows
// it. Each has exactly one value.
func (p *Policy) parseAttributes(attributes cryptobyte.String, r *Request) error {
	var seen []asn1.ObjectIdentifier
	for !attributes.Empty() {
		var attr, values, value cryptobyte.String
		var oid asn1.ObjectIdentifier
		if !attributes.ReadASN1(&attr, cbasn1.SEQUENCE) || !attr.ReadASN1ObjectIdentifier(&oid) ||
			!attr.ReadASN1(&values, cbasn1.SET) || !attr.Empty() {
			return refuse(ErrMalformed, "an attribute cannot be read")
		}
		if !oid.Equal(oidExtensionRequest) && (!oid.Equal(oidEvidence) || !p.evidence) {
			return refuse(ErrRequestAttribute, "%s", attributeName(oid))
		}
		if slices.ContainsFunc(seen, oid.Equal) {
			return refuse(ErrDuplicate, "%s", attributeName(oid))
		}
		seen = append(seen, oid)
		if !values.ReadASN1Element(&value, cbasn1.SEQUENCE) {
			return refuse(ErrMalformed, "%s cannot be read", attributeName(oid))
		}
		if !values.Empty() {
			return refuse(ErrDuplicate, "%s has more than one value", attributeName(oid))
		}
		if oid.Equal(oidEvidence) {
			r.evidence = value
			continue
		}
		var extensions cryptobyte.String
		if !value.ReadASN1(&extensions, cbasn1.SEQUENCE) || extensions.Empty() {
			return refuse(ErrMalformed, "extensionRequest cannot be read or is empty")
		}
		if err := p.parseExtensions(extensions, r); err != nil {
			return err
		}
	}
	return nil
}

func attributeName(oid asn1.ObjectIdentifier) string {
	switch oid.String() {
	case "1.2.840.113549.1.9.14":
		return "extensionRequest"
	case "1.2.840.113549.1.9.16.2.59":
		return "attestation evidence"
	case "1.2.840.113549.1.9.7":
		return "challengePassword"
	case "1.2.840.113549.1.9.2":
		return "unstructuredName"
	case "1.3.6.1.4.1.311.2.1.14":
		return "extension request of Microsoft's own kind"
	}
	return oid.String()
}

// parseKey reads the key, its one DER encoding, and refuses types that the policy does not allow and weak keys.
func (p *Policy) parseKey(r *Request) error {
	pub, err := x509.ParsePKIXPublicKey(r.spki)
	if err != nil {
		return refuse(ErrKeyType, "%w", err)
	}
	switch pub.(type) {
	case *ecdsa.PublicKey, *rsa.PublicKey, ed25519.PublicKey:
	default:
		return refuse(ErrKeyType, "%T", pub)
	}
	canonical, err := MarshalKey(pub)
	if err != nil || !bytes.Equal(canonical, r.spki) {
		return refuse(ErrMalformed, "the public key is not in its one DER encoding")
	}
	if err := CheckKeyAsOf(p.asOf, pub); err != nil {
		return err
	}
	if name := KeyAlgorithm(pub); !p.algorithms[name] {
		return refuse(ErrKeyType, "%s", name)
	}
	r.pub = pub
	return nil
}
