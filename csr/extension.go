package csr

import (
	"cmp"
	"encoding/asn1"
	"encoding/hex"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

type extensionForm struct {
	oid asn1.ObjectIdentifier
	// read says in words what is asked for, and false where it cannot be read.
	read func(value cryptobyte.String, r *Request) (string, bool)
}

// extensionForms are the extensions that a policy can allow besides subjectAltName.
var extensionForms = map[string]extensionForm{
	"basicConstraints":     {asn1.ObjectIdentifier{2, 5, 29, 19}, readBasicConstraints},
	"keyUsage":             {asn1.ObjectIdentifier{2, 5, 29, 15}, readKeyUsage},
	"extKeyUsage":          {asn1.ObjectIdentifier{2, 5, 29, 37}, readExtKeyUsage},
	"subjectKeyIdentifier": {asn1.ObjectIdentifier{2, 5, 29, 14}, readSKI},
}

func extensionName(oid asn1.ObjectIdentifier) string {
	for name, f := range extensionForms {
		if f.oid.Equal(oid) {
			return name
		}
	}
	return oid.String()
}

// parseExtensions reads the Extensions of an extensionRequest (RFC 5280, section 4.1.2.9).
func (p *Policy) parseExtensions(extensions cryptobyte.String, r *Request) error {
	var seen []asn1.ObjectIdentifier
	for !extensions.Empty() {
		var ext, value cryptobyte.String
		var oid asn1.ObjectIdentifier
		if !extensions.ReadASN1(&ext, cbasn1.SEQUENCE) || !ext.ReadASN1ObjectIdentifier(&oid) {
			return refuseAnd("make the request anew: an extension in it is not of the form of RFC 5280, section 4.1", ErrMalformed, "an extension cannot be read")
		}
		if ext.PeekASN1Tag(cbasn1.BOOLEAN) {
			critical := false
			if !ext.ReadASN1Boolean(&critical) || !critical { // DER leaves the default, false, out
				return refuseAnd("leave critical out where it is FALSE: DER writes no default (RFC 5280, section 4.1)", ErrMalformed, "extension %s has a criticality that is not DER", extensionName(oid))
			}
		}
		if !ext.ReadASN1(&value, cbasn1.OCTET_STRING) || !ext.Empty() {
			return refuseAnd("write the extension as object identifier, critical if TRUE, and one OCTET STRING", ErrMalformed, "extension %s cannot be read", extensionName(oid))
		}
		for _, s := range seen {
			if s.Equal(oid) {
				return refuseAnd("ask for each extension once", ErrDuplicate, "extension %s", extensionName(oid))
			}
		}
		if seen = append(seen, oid); len(seen) > maxExtensions {
			return refuseAnd("ask for fewer extensions; a device needs none", ErrExtension, "more than %d", maxExtensions)
		}
		if err := p.parseExtension(oid, value, r); err != nil {
			return err
		}
	}
	return nil
}

func (p *Policy) parseExtension(oid asn1.ObjectIdentifier, value cryptobyte.String, r *Request) error {
	if oid.Equal(oidSAN) {
		return p.parseSANs(value, r) // refuses each kind that is not allowed, hence all of them if none is
	}
	name := extensionName(oid)
	if !p.extensions[name] && !p.ignores(name) {
		return refuseAnd("leave the extension "+name+" out of the request: the issuing profile sets the extensions, and a profile can be told to ignore it (asks)", ErrExtension, "%s", name)
	}
	form, known := extensionForms[name]
	if !known {
		p.note(r, name, "")
		return nil
	}
	words, ok := form.read(value, r)
	if !ok {
		return refuseAnd("leave the extension out, or write its value as RFC 5280, section 4.2.1, says", ErrMalformed, "extension %s cannot be read", name)
	}
	if r.asksCA && !p.ca {
		return refuseAnd("ask for no CA: a device's request has basicConstraints CA:FALSE or none (openssl: without -extensions v3_ca)", ErrExtension, "basicConstraints asks for a CA")
	}
	p.note(r, name, words)
	return nil
}

func readBasicConstraints(v cryptobyte.String, r *Request) (string, bool) {
	var seq cryptobyte.String
	if !v.ReadASN1(&seq, cbasn1.SEQUENCE) || !v.Empty() {
		return "", false
	}
	if seq.PeekASN1Tag(cbasn1.BOOLEAN) && (!seq.ReadASN1Boolean(&r.asksCA) || !r.asksCA) {
		return "", false
	}
	if seq.PeekASN1Tag(cbasn1.INTEGER) {
		var pathLen uint8
		if !r.asksCA || !seq.ReadASN1Integer(&pathLen) {
			return "", false
		}
	}
	if r.asksCA {
		return "CA:TRUE", seq.Empty()
	}
	return "CA:FALSE", seq.Empty()
}

func readKeyUsage(v cryptobyte.String, _ *Request) (string, bool) {
	var bits asn1.BitString
	ok := v.ReadASN1BitString(&bits) && v.Empty() && bits.BitLength > 0 && bits.BitLength <= len(usageNames)
	return usageWords(bits), ok
}

func readExtKeyUsage(v cryptobyte.String, _ *Request) (string, bool) {
	var seq cryptobyte.String
	if !v.ReadASN1(&seq, cbasn1.SEQUENCE) || !v.Empty() || seq.Empty() {
		return "", false
	}
	var words []string
	for !seq.Empty() {
		var oid asn1.ObjectIdentifier
		if !seq.ReadASN1ObjectIdentifier(&oid) {
			return "", false
		}
		words = append(words, cmp.Or(extUsageNames[oid.String()], oid.String()))
	}
	return strings.Join(words, ","), true
}

func readSKI(v cryptobyte.String, _ *Request) (string, bool) {
	var id cryptobyte.String
	ok := v.ReadASN1(&id, cbasn1.OCTET_STRING) && v.Empty() && len(id) > 0 && len(id) <= 64
	return hex.EncodeToString(id), ok
}
