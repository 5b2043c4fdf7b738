package csr

import (
	"encoding/asn1"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

type extensionForm struct {
	oid  asn1.ObjectIdentifier
	read func(value cryptobyte.String, r *Request) bool
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
			return refuse(ErrMalformed, "an extension cannot be read")
		}
		if ext.PeekASN1Tag(cbasn1.BOOLEAN) {
			critical := false
			if !ext.ReadASN1Boolean(&critical) || !critical { // DER leaves the default, false, out
				return refuse(ErrMalformed, "extension %s has a criticality that is not DER", extensionName(oid))
			}
		}
		if !ext.ReadASN1(&value, cbasn1.OCTET_STRING) || !ext.Empty() {
			return refuse(ErrMalformed, "extension %s cannot be read", extensionName(oid))
		}
		for _, s := range seen {
			if s.Equal(oid) {
				return refuse(ErrDuplicate, "extension %s", extensionName(oid))
			}
		}
		if seen = append(seen, oid); len(seen) > maxExtensions {
			return refuse(ErrExtension, "more than %d", maxExtensions)
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
	if !p.extensions[name] {
		return refuse(ErrExtension, "%s", name)
	}
	if !extensionForms[name].read(value, r) {
		return refuse(ErrMalformed, "extension %s cannot be read", name)
	}
	if r.asksCA && !p.ca {
		return refuse(ErrExtension, "basicConstraints asks for a CA")
	}
	return nil
}

func readBasicConstraints(v cryptobyte.String, r *Request) bool {
	var seq cryptobyte.String
	if !v.ReadASN1(&seq, cbasn1.SEQUENCE) || !v.Empty() {
		return false
	}
	if seq.PeekASN1Tag(cbasn1.BOOLEAN) && (!seq.ReadASN1Boolean(&r.asksCA) || !r.asksCA) {
		return false
	}
	if seq.PeekASN1Tag(cbasn1.INTEGER) {
		var pathLen uint8
		if !r.asksCA || !seq.ReadASN1Integer(&pathLen) {
			return false
		}
	}
	return seq.Empty()
}

func readKeyUsage(v cryptobyte.String, _ *Request) bool {
	var bits asn1.BitString
	return v.ReadASN1BitString(&bits) && v.Empty() && bits.BitLength > 0 && bits.BitLength <= 9
}

func readExtKeyUsage(v cryptobyte.String, _ *Request) bool {
	var seq cryptobyte.String
	if !v.ReadASN1(&seq, cbasn1.SEQUENCE) || !v.Empty() || seq.Empty() {
		return false
	}
	for !seq.Empty() {
		var oid asn1.ObjectIdentifier
		if !seq.ReadASN1ObjectIdentifier(&oid) {
			return false
		}
	}
	return true
}

func readSKI(v cryptobyte.String, _ *Request) bool {
	var id cryptobyte.String
	return v.ReadASN1(&id, cbasn1.OCTET_STRING) && v.Empty() && len(id) > 0 && len(id) <= 64
}
