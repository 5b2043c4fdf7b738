package csr

import (
	"encoding/asn1"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Ask is something that a request asks for besides its CN and its key.
type Ask struct {
	// Name is that of a subject attribute (OU), a kind of subject alternative name (dns), an extension (keyUsage), an attribute of the request
	// (challengePassword), or a dotted object identifier that Hanaper has no name for.
	Name string `json:"name"`
	// Value is what is asked for, in words; empty for a challengePassword, which is a secret, and for what Hanaper cannot read.
	Value string `json:"value,omitempty"`
}

// Asks are what the request asks for and the policy allows, Ignored what it asks for and the policy leaves out of account; in the order of
// the request. The names that DNSNames and its neighbours give are those that are allowed; Subject has all of its attributes.
func (r *Request) Asks() []Ask { return slices.Clone(r.asks) }

// Ignored says what the request asks for and the policy leaves out of account.
func (r *Request) Ignored() []Ask { return slices.Clone(r.ignored) }

// ignores says whether the policy leaves out of account what has this name.
func (p *Policy) ignores(name string) bool {
	return p.ignored[name] || p.ignoresAll && Askable(name) && !p.attributes[name] && !p.extensions[name]
}

// note keeps what was asked for.
func (p *Policy) note(r *Request, name, value string) {
	if p.ignores(name) {
		r.ignored = append(r.ignored, Ask{name, value})
		return
	}
	r.asks = append(r.asks, Ask{name, value})
}

const (
	challengePassword = "challengePassword"
	unstructuredName  = "unstructuredName"
)

// Askable reports whether a policy can leave what has this name out of account.
func Askable(name string) bool {
	_, extension := extensionForms[name]
	kind := slices.Index(kindNames[:], name)
	return extension || name == challengePassword || name == unstructuredName || KnownAttribute(name) && name != "CN" || kind >= 0 && parsedKinds[kind] ||
		isOID(name) && !slices.Contains(neverIgnored, name)
}

// neverIgnored are what Hanaper knows under a name of its own, or must understand to know what is asked for.
var neverIgnored = []string{"2.5.29.14", "2.5.29.15", "2.5.29.17", "2.5.29.19", "2.5.29.37", "1.2.840.113549.1.9.2", "1.2.840.113549.1.9.7",
	"1.2.840.113549.1.9.14", "1.2.840.113549.1.9.16.2.59"}

// isOID says whether s is an object identifier in its one dotted spelling.
func isOID(s string) bool {
	parts := strings.Split(s, ".")
	if len(parts) < 3 || len(s) > 128 {
		return false
	}
	oid := make(asn1.ObjectIdentifier, len(parts))
	for i, part := range parts {
		n, err := strconv.ParseUint(part, 10, 31)
		if err != nil || strconv.FormatUint(n, 10) != part {
			return false
		}
		oid[i] = int(n)
	}
	var b cryptobyte.Builder
	b.AddASN1ObjectIdentifier(oid)
	_, err := b.Bytes()
	return err == nil
}

// readText reads the value of challengePassword or unstructuredName: one string of RFC 2985, section 5.4.
func readText(value cryptobyte.String) (string, bool) {
	var text cryptobyte.String
	var tag cbasn1.Tag
	if !value.ReadAnyASN1(&text, &tag) || !value.Empty() || len(text) == 0 || len(text) > 255 {
		return "", false
	}
	switch tag {
	case cbasn1.PrintableString, cbasn1.IA5String, cbasn1.UTF8String, cbasn1.T61String:
		return string(text), true
	}
	return "", false
}

// usageNames are the bits of keyUsage, by number (RFC 5280, section 4.2.1.3).
var usageNames = [9]string{"digitalSignature", "contentCommitment", "keyEncipherment", "dataEncipherment", "keyAgreement", "keyCertSign", "cRLSign", "encipherOnly", "decipherOnly"}

// extUsageNames are the usages of RFC 5280, section 4.2.1.12, by object identifier.
var extUsageNames = map[string]string{"2.5.29.37.0": "any", "1.3.6.1.5.5.7.3.1": "serverAuth", "1.3.6.1.5.5.7.3.2": "clientAuth", "1.3.6.1.5.5.7.3.3": "codeSigning",
	"1.3.6.1.5.5.7.3.4": "emailProtection", "1.3.6.1.5.5.7.3.8": "timeStamping", "1.3.6.1.5.5.7.3.9": "OCSPSigning"}

func usageWords(bits asn1.BitString) string {
	var words []string
	for i, name := range usageNames {
		if bits.At(i) == 1 {
			words = append(words, name)
		}
	}
	return strings.Join(words, ",")
}
