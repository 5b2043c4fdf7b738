package gateway

import (
	"encoding/asn1"
	"fmt"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

var oidCommonName = asn1.ObjectIdentifier{2, 5, 4, 3}

// deviceName reads the one CN out of a subject's DER. crypto/x509 keeps the last of several CNs, devices the first; only
// the bytes tell that there are several.
func deviceName(subject []byte) (string, Reason, string) {
	if len(subject) > maxSubjectSize {
		return "", BadCertificate, fmt.Sprintf("the subject has %d bytes", len(subject))
	}
	bad := func() (string, Reason, string) { return "", BadCertificate, "the subject is not well-formed DER" }
	in := cryptobyte.String(subject)
	var rdns, name cryptobyte.String
	var tag cbasn1.Tag
	found := 0
	if !in.ReadASN1(&rdns, cbasn1.SEQUENCE) || !in.Empty() {
		return bad()
	}
	for !rdns.Empty() {
		var rdn cryptobyte.String
		if !rdns.ReadASN1(&rdn, cbasn1.SET) || rdn.Empty() {
			return bad()
		}
		for !rdn.Empty() {
			var pair, value cryptobyte.String
			var oid asn1.ObjectIdentifier
			var valueTag cbasn1.Tag
			if !rdn.ReadASN1(&pair, cbasn1.SEQUENCE) || !pair.ReadASN1ObjectIdentifier(&oid) ||
				!pair.ReadAnyASN1(&value, &valueTag) || !pair.Empty() {
				return bad()
			}
			if oid.Equal(oidCommonName) {
				name, tag = value, valueTag
				found++
			}
		}
	}
	switch {
	case found == 0:
		return "", NoName, ""
	case found > 1:
		return "", AmbiguousName, fmt.Sprintf("%d CNs", found)
	case tag != cbasn1.UTF8String && tag != cbasn1.PrintableString && tag != cbasn1.IA5String:
		return "", BadName, "the CN is neither UTF8String, PrintableString nor IA5String"
	}
	if err := CheckName(string(name)); err != nil {
		return "", BadName, err.Error()
	}
	return string(name), "", ""
}

// CheckName says whether a CN can be a device id: 1 to 64 bytes of printable ASCII without whitespace, slash, backslash,
// percent sign or "..": it travels in headers and may end in paths and file names.
func CheckName(name string) error {
	if name == "" || len(name) > maxNameLength {
		return fmt.Errorf("the CN has %d bytes, not 1 to %d", len(name), maxNameLength)
	}
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c > '~' || c == '/' || c == '\\' || c == '%' {
			return fmt.Errorf("the CN holds the byte %#02x", c)
		}
	}
	if name == "." || strings.Contains(name, "..") {
		return fmt.Errorf("the CN %q reads as a path", name)
	}
	return nil
}

// foldName is the form in which ids are compared: they are ASCII.
func foldName(name string) string { return strings.ToLower(name) }
