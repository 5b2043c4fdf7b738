package csr

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Attribute is one attribute of a name, in its own relative distinguished name.
type Attribute struct {
	// Type is the short name (CN, O, serialNumber) or, if Hanaper has none, the dotted object identifier.
	Type  string
	Value string
	oid   asn1.ObjectIdentifier
}

type attributeKind struct {
	name string
	oid  asn1.ObjectIdentifier
	max  int        // characters: RFC 5280, appendix A.1, the ub- bounds
	tag  cbasn1.Tag // 0: PrintableString or UTF8String
}

var attributeKinds = []attributeKind{
	{"CN", asn1.ObjectIdentifier{2, 5, 4, 3}, 64, 0},
	{"SN", asn1.ObjectIdentifier{2, 5, 4, 4}, 64, 0},
	{"serialNumber", asn1.ObjectIdentifier{2, 5, 4, 5}, 64, cbasn1.PrintableString},
	{"C", asn1.ObjectIdentifier{2, 5, 4, 6}, 2, cbasn1.PrintableString},
	{"L", asn1.ObjectIdentifier{2, 5, 4, 7}, 128, 0},
	{"ST", asn1.ObjectIdentifier{2, 5, 4, 8}, 128, 0},
	{"street", asn1.ObjectIdentifier{2, 5, 4, 9}, maxValue, 0},
	{"O", asn1.ObjectIdentifier{2, 5, 4, 10}, 64, 0},
	{"OU", asn1.ObjectIdentifier{2, 5, 4, 11}, 64, 0},
	{"title", asn1.ObjectIdentifier{2, 5, 4, 12}, 64, 0},
	{"postalCode", asn1.ObjectIdentifier{2, 5, 4, 17}, 40, 0},
	{"GN", asn1.ObjectIdentifier{2, 5, 4, 42}, 64, 0},
	{"dnQualifier", asn1.ObjectIdentifier{2, 5, 4, 46}, 64, cbasn1.PrintableString},
	{"organizationIdentifier", asn1.ObjectIdentifier{2, 5, 4, 97}, maxValue, 0},
	{"UID", asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 1}, maxValue, 0},
	{"DC", asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 25}, 63, cbasn1.IA5String},
	{"emailAddress", asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}, maxValue, cbasn1.IA5String},
}

func attributeByOID(oid asn1.ObjectIdentifier) (attributeKind, bool) {
	for _, k := range attributeKinds {
		if k.oid.Equal(oid) {
			return k, true
		}
	}
	return attributeKind{}, false
}

// KnownAttribute reports whether name is the short name of a subject attribute.
func KnownAttribute(name string) bool {
	for _, k := range attributeKinds {
		if k.name == name {
			return true
		}
	}
	return false
}

// ParseName reads the DER of a Name, strictly: one attribute in each relative distinguished name, only types that
// Hanaper knows, only PrintableString, UTF8String and (where the type demands it) IA5String, only printable characters,
// lengths within RFC 5280's bounds.
func ParseName(der []byte) ([]Attribute, error) {
	var rdns cryptobyte.String
	if s := cryptobyte.String(der); !s.ReadASN1(&rdns, cbasn1.SEQUENCE) || !s.Empty() {
		return nil, refuseAnd("make the request anew: its subject is not of the form of RFC 5280, section 4.1.2.4", ErrMalformed, "the name is not one sequence")
	}
	attrs := make([]Attribute, 0, 4)
	for !rdns.Empty() {
		var set, seq, value cryptobyte.String
		var oid asn1.ObjectIdentifier
		var tag cbasn1.Tag
		if !rdns.ReadASN1(&set, cbasn1.SET) || !set.ReadASN1(&seq, cbasn1.SEQUENCE) || !seq.ReadASN1ObjectIdentifier(&oid) ||
			!seq.ReadAnyASN1(&value, &tag) || !seq.Empty() {
			return nil, refuseAnd("make the request anew with a subject of CN alone; an attribute in this one cannot be read", ErrMalformed, "a relative distinguished name cannot be read")
		}
		if !set.Empty() {
			return nil, refuse(ErrMultiValued, "at attribute %d", len(attrs)+1)
		}
		if len(attrs) == maxAttributes {
			return nil, refuseAnd("make a subject of CN alone", ErrSubject, "more than %d attributes", maxAttributes)
		}
		kind, ok := attributeByOID(oid)
		if !ok {
			return nil, refuseAnd("use in the subject only attributes that have a name in RFC 5280, at best CN alone", ErrSubject, "type %v is not known", oid)
		}
		if err := checkString(kind, tag, value); err != nil {
			return nil, err
		}
		attrs = append(attrs, Attribute{Type: kind.name, Value: string(value), oid: kind.oid})
	}
	return attrs, nil
}

func checkString(kind attributeKind, tag cbasn1.Tag, value []byte) error {
	switch {
	case kind.tag != 0 && tag != kind.tag:
		return refuseAnd("write serialNumber, C and dnQualifier as PrintableString, DC and emailAddress as IA5String", ErrString, "%s has tag %d, wants %d", kind.name, tag, kind.tag)
	case tag != cbasn1.PrintableString && tag != cbasn1.UTF8String && tag != cbasn1.IA5String,
		tag == cbasn1.IA5String && kind.tag != tag:
		return refuseAnd("write the subject as UTF8String or PrintableString (openssl: string_mask = utf8only)", ErrString, "%s has tag %d, wants PrintableString or UTF8String", kind.name, tag)
	case tag == cbasn1.PrintableString && !printableString(value):
		return refuseAnd("write it as UTF8String: a PrintableString has letters, digits and '()+,-./:=? alone", ErrString, "%s %q has characters that a PrintableString cannot hold", kind.name, clip(value))
	case tag == cbasn1.IA5String && !ascii(value):
		return refuseAnd("write it in ASCII", ErrString, "%s has characters outside ASCII", kind.name)
	}
	return checkValue(kind, string(value))
}

func checkValue(kind attributeKind, v string) error {
	if !utf8.ValidString(v) {
		return refuseAnd("encode the subject as UTF-8 (openssl: -utf8)", ErrString, "%s is not UTF-8", kind.name)
	}
	if n := utf8.RuneCountInString(v); n == 0 || n > kind.max {
		if kind.name == "CN" {
			return refuseAnd("give the device an id of 1 to 64 characters as its CN", ErrCommonName, "it has %d characters, wants 1 to %d", n, kind.max)
		}
		return refuseAnd("shorten the attribute, or leave it out where it is empty", ErrString, "%s has %d characters, wants 1 to %d", kind.name, n, kind.max)
	}
	for _, r := range v {
		if !unicode.IsPrint(r) { // also refuses control, format and direction marks, and spaces other than U+0020
			return refuseAnd("leave control characters, line ends and direction marks out of the subject; was the id read from a scanner or a file with its line end?", ErrString, "%s has the unprintable character %U", kind.name, r)
		}
	}
	if strings.TrimSpace(v) != v {
		return refuseAnd("trim the attribute; was the id read with a blank around it?", ErrString, "%s begins or ends with a space", kind.name)
	}
	if kind.name == "C" && (len(v) != 2 || v[0] < 'A' || v[0] > 'Z' || v[1] < 'A' || v[1] > 'Z') {
		return refuseAnd("write the country as two capital letters (ISO 3166), or leave it out", ErrString, "C is not two capital letters")
	}
	return nil
}

// CheckCommonName holds a CN to the rules that no policy can loosen: 1 to 64 printable characters, no slash, no
// backslash, no "..", so that the name can stand in a path, a header and a log line.
func CheckCommonName(cn string) error {
	if err := checkValue(attributeKinds[0], cn); err != nil {
		return err
	}
	if strings.ContainsAny(cn, `/\`) || strings.Contains(cn, "..") || cn == "." {
		return refuseAnd("choose device ids without / and \\ and without two dots in a row", ErrCommonName, "%q has a slash, a backslash or a path step", cn)
	}
	return nil
}

// MarshalName encodes a name: one attribute in each relative distinguished name (several O or OU make several),
// PrintableString where it can hold the value, else UTF8String. It refuses what ParseName refuses.
func MarshalName(n pkix.Name) ([]byte, error) {
	var b cryptobyte.Builder
	var failed error
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		count := 0
		for _, rdn := range n.ToRDNSequence() {
			for _, a := range rdn {
				if count++; count > maxAttributes && failed == nil {
					failed = refuseAnd("make a subject of CN alone", ErrSubject, "more than %d attributes", maxAttributes)
				}
				if err := addAttribute(b, a); err != nil && failed == nil {
					failed = err
				}
			}
		}
	})
	if failed != nil {
		return nil, failed
	}
	return b.Bytes()
}

func addAttribute(b *cryptobyte.Builder, a pkix.AttributeTypeAndValue) error {
	kind, ok := attributeByOID(a.Type)
	if !ok {
		return refuseAnd("use in the subject only attributes that have a name in RFC 5280, at best CN alone", ErrSubject, "type %v is not known", a.Type)
	}
	v, ok := a.Value.(string)
	if !ok {
		return refuse(ErrString, "%s is a %T, wants a string", kind.name, a.Value)
	}
	tag := kind.tag
	if tag == 0 {
		tag = cbasn1.UTF8String
		if printableString([]byte(v)) {
			tag = cbasn1.PrintableString
		}
	}
	if err := checkString(kind, tag, []byte(v)); err != nil {
		return err
	}
	b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(kind.oid)
			b.AddASN1(tag, func(b *cryptobyte.Builder) { b.AddBytes([]byte(v)) })
		})
	})
	return nil
}

// AppendAttribute adds an attribute by its short name to a name that MarshalName encodes: behind all others, in the order of the calls.
func AppendAttribute(n *pkix.Name, short, value string) error {
	for _, k := range attributeKinds {
		if k.name == short {
			n.ExtraNames = append(n.ExtraNames, pkix.AttributeTypeAndValue{Type: k.oid, Value: value})
			return nil
		}
	}
	return refuse(ErrSubject, "%q is the short name of no attribute", short)
}

// toName fills a pkix.Name.
func toName(attrs []Attribute) pkix.Name {
	seq := make(pkix.RDNSequence, len(attrs))
	for i, a := range attrs {
		seq[i] = []pkix.AttributeTypeAndValue{{Type: a.oid, Value: a.Value}}
	}
	var n pkix.Name
	n.FillFromRDNSequence(&seq)
	return n
}

func printableString(b []byte) bool {
	for _, c := range b {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte(" '()+,-./:=?", c) >= 0) {
			return false
		}
	}
	return true
}

func ascii(b []byte) bool {
	for _, c := range b {
		if c > 0x7e || c < 0x20 {
			return false
		}
	}
	return true
}

// clip bounds what an attacker can put into a message.
func clip(b []byte) []byte {
	if len(b) > 80 {
		return b[:80]
	}
	return b
}
