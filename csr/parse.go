package csr

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"maps"
	"slices"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/hanaper/hanaper/internal/format"
)

// wolfVersion is what wolfSSL writes for the version of a request: its default for certificates, v3.
const wolfVersion = 2

var (
	oidExtensionRequest = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 14}
	oidSAN              = asn1.ObjectIdentifier{2, 5, 29, 17}
	// oidEvidence is id-aa-attestation (draft-ietf-lamps-csr-attestation; id-aa-evidence in its earlier versions).
	oidEvidence = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 59}
)

// Parse reads one request, PEM or DER (RFC 2986), proves possession of the private key over the octets as they came, and
// holds the request to the policy. Each error wraps one of the package's sentinels and has a hint for the device's side.
// What is cheap to refuse is refused before the signature is verified.
//
// Some stacks write a plain request in another form, which means the same and nothing else; it is read as the plain one:
// words and a byte order mark before the PEM, version 2 for 0 (wolfSSL), an absent attributes field (RFC 2986 wants an
// empty one), and algorithm identifiers with or without the NULL that the RFCs ask for or leave out. Everything else
// that is not DER, or could be read in two ways, is refused.
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
	if r.cn, err = p.checkName(r); err != nil {
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

// parseOuter takes the request apart as far as the content of its attributes, which it returns.
func parseOuter(der []byte) (*Request, cryptobyte.String, error) {
	r := &Request{raw: der}
	var outer, tbs, info, subject, spki, attributes, alg cryptobyte.String
	s := cryptobyte.String(der)
	if !s.ReadASN1(&outer, cbasn1.SEQUENCE) {
		if len(der) > 1 && der[0] == 0x30 && der[1] == 0x80 {
			return nil, nil, refuseAnd("encode it as DER: every length known, as short as it can be", ErrMalformed, "it is BER of indefinite length")
		}
		return nil, nil, refuseAnd("send the whole file as DER or PEM: it was cut short, changed, or is something else", ErrMalformed, "it is not one DER sequence")
	}
	if !s.Empty() {
		return nil, nil, refuse(ErrTrailingData, "%d octets", len(s))
	}
	var sig asn1.BitString
	if !outer.ReadASN1Element(&tbs, cbasn1.SEQUENCE) || !outer.ReadASN1Element(&alg, cbasn1.SEQUENCE) ||
		!outer.ReadASN1BitString(&sig) || !outer.Empty() || sig.BitLength%8 != 0 {
		return nil, nil, refuseAnd("make the request anew; it was cut short, or is another structure than RFC 2986, section 4.2", ErrMalformed, "it is not request, algorithm and signature")
	}
	version := -1
	inner := tbs
	if !inner.ReadASN1(&info, cbasn1.SEQUENCE) || !info.ReadASN1Integer(&version) || version != 0 && version != wolfVersion {
		return nil, nil, refuseAnd("write version 0 (v1), the only one of RFC 2986; wolfSSL: set req.version = 0", ErrMalformed, "its version is not v1 (0)")
	}
	if !info.ReadASN1Element(&subject, cbasn1.SEQUENCE) || !info.ReadASN1Element(&spki, cbasn1.SEQUENCE) ||
		!info.ReadOptionalASN1(&attributes, nil, cbasn1.Tag(0).ContextSpecific().Constructed()) || !info.Empty() {
		return nil, nil, refuseAnd("make the request anew: its inside is another structure than RFC 2986, section 4.1", ErrMalformed, "it is not subject, key and attributes")
	}
	if r.sigAlg = requestAlgorithms()[string(alg)]; r.sigAlg == x509.UnknownSignatureAlgorithm {
		return nil, nil, refuseAlgorithm(alg)
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
		if !attributes.ReadASN1(&attr, cbasn1.SEQUENCE) {
			return refuse(ErrMalformed, "an attribute cannot be read")
		}
		if isRenewalProof(attr) {
			if err := p.readRenewalProof(attr, r); err != nil {
				return err
			}
			continue
		}
		if !attr.ReadASN1ObjectIdentifier(&oid) ||
			!attr.ReadASN1(&values, cbasn1.SET) || !attr.Empty() {
			return refuseAnd("make the request anew without attributes: one in it is not of the form of RFC 2986, section 4.1", ErrMalformed, "an attribute cannot be read")
		}
		name := attributeName(oid)
		if !oid.Equal(oidExtensionRequest) && (!oid.Equal(oidEvidence) || !p.evidence) && !p.ignores(name) {
			return refuseAnd(attributeHint(name), ErrRequestAttribute, "%s", name)
		}
		if slices.ContainsFunc(seen, oid.Equal) {
			return refuseAnd("let each attribute of the request stand once", ErrDuplicate, "%s", name)
		}
		seen = append(seen, oid)
		if p.ignores(name) {
			if err := p.ignoreAttribute(name, values, r); err != nil {
				return err
			}
			continue
		}
		if !values.ReadASN1Element(&value, cbasn1.SEQUENCE) {
			return refuseAnd("leave the attribute out, or give it exactly one value of its form", ErrMalformed, "%s cannot be read", name)
		}
		if !values.Empty() {
			return refuseAnd("give each attribute of the request exactly one value", ErrDuplicate, "%s has more than one value", name)
		}
		if oid.Equal(oidEvidence) {
			r.evidence = value
			continue
		}
		var extensions cryptobyte.String
		if !value.ReadASN1(&extensions, cbasn1.SEQUENCE) || extensions.Empty() {
			return refuseAnd("leave extensionRequest out where no extension is asked for", ErrMalformed, "extensionRequest cannot be read or is empty")
		}
		if err := p.parseExtensions(extensions, r); err != nil {
			return err
		}
	}
	return nil
}

// ignoreAttribute reads an attribute that the policy leaves out of account, which has exactly one value all the same.
func (p *Policy) ignoreAttribute(name string, values cryptobyte.String, r *Request) error {
	var value cryptobyte.String
	if !values.ReadAnyASN1Element(&value, new(cbasn1.Tag)) {
		return refuseAnd("leave the attribute out, or give it exactly one value of its form", ErrMalformed, "%s cannot be read", name)
	}
	if !values.Empty() {
		return refuseAnd("give each attribute of the request exactly one value", ErrDuplicate, "%s has more than one value", name)
	}
	words := ""
	if name == challengePassword || name == unstructuredName {
		text, ok := readText(value)
		if !ok {
			return refuseAnd("write it as one string of 1 to 255 octets, or leave it out", ErrMalformed, "%s is not one string of 1 to 255 octets", name)
		}
		if name == unstructuredName { // a password goes nowhere
			words = text
		}
	}
	p.note(r, name, words)
	return nil
}

func attributeHint(name string) string {
	switch name {
	case challengePassword:
		return "make the request without a challenge password (openssl: leave it empty, or use -subj), or have the profile ignore it (asks: challengePassword)"
	case unstructuredName:
		return "leave the optional company name empty (openssl: or use -subj), or have the profile ignore it (asks: unstructuredName)"
	case "1.3.6.1.4.1.311.2.1.14":
		return "ask for extensions with PKCS#9's extensionRequest, not with Microsoft's own attribute; or have the profile ignore 1.3.6.1.4.1.311.2.1.14 (asks)"
	case "attestation evidence":
		return "leave device.attestation out of the station's configuration, or set attestation.policy in hanaperd's"
	}
	return hints[ErrRequestAttribute]
}

func attributeName(oid asn1.ObjectIdentifier) string {
	switch oid.String() {
	case "1.2.840.113549.1.9.14":
		return "extensionRequest"
	case "1.2.840.113549.1.9.16.2.59":
		return "attestation evidence"
	case "1.2.840.113549.1.9.7":
		return challengePassword
	case "1.2.840.113549.1.9.2":
		return unstructuredName
	}
	return oid.String()
}

// parseKey reads the key, its one DER encoding, and refuses types that the policy does not allow and weak keys.
func (p *Policy) parseKey(r *Request) error {
	pub, err := x509.ParsePKIXPublicKey(r.spki)
	if err != nil {
		return refuseAnd(keyHint(r.spki), ErrKeyType, "%w", err)
	}
	switch pub.(type) {
	case *ecdsa.PublicKey, *rsa.PublicKey, ed25519.PublicKey:
	default:
		return refuse(ErrKeyType, "%T", pub)
	}
	canonical, err := MarshalKey(pub)
	if err != nil || !bytes.Equal(canonical, r.spki) {
		return refuseAnd("encode the key as RFC 3279, 5480 or 8410 say, in DER: a named curve, numbers without leading zeros", ErrMalformed, "the public key is not in its one DER encoding")
	}
	if err := CheckKeyAsOf(p.asOf, pub); err != nil {
		return err
	}
	// What a ceremony of before certified is held to what was known then.
	if k, ok := pub.(*rsa.PublicKey); ok && p.oneExponent && p.asOf == (format.Version{}) && k.E != minRSAPublic {
		return refuseAnd("generate the RSA key with the exponent 65537, as openssl and TPMs do by themselves", ErrKeyType, "rsa exponent %d", k.E)
	}
	if name := KeyAlgorithm(pub); !p.algorithms[name] {
		return refuseAnd("generate a key of one of these types: "+strings.Join(slices.Sorted(maps.Keys(p.algorithms)), ", "), ErrKeyType, "%s", name)
	}
	r.pub = pub
	return nil
}
