package csr

import (
	"net"
	"net/url"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// The kinds of GeneralName, by tag number (RFC 5280, section 4.2.1.6).
const (
	kindEmail = 1
	kindDNS   = 2
	kindURI   = 6
	kindIP    = 7
	numKinds  = 9
)

var (
	kindNames   = [numKinds]string{"otherName", "email", "dns", "x400Address", "directoryName", "ediPartyName", "uri", "ip", "registeredID"}
	parsedKinds = [numKinds]bool{kindEmail: true, kindDNS: true, kindURI: true, kindIP: true}
)

// parseSANs reads the value of a subjectAltName extension into r.
func (p *Policy) parseSANs(value []byte, r *Request) error {
	var names cryptobyte.String
	if s := cryptobyte.String(value); !s.ReadASN1(&names, cbasn1.SEQUENCE) || !s.Empty() || names.Empty() {
		return refuseAnd("leave subjectAltName out where no name is asked for", ErrMalformed, "subjectAltName cannot be read or is empty")
	}
	seen := make(map[string]bool)
	for !names.Empty() {
		var name cryptobyte.String
		var tag cbasn1.Tag
		if !names.ReadAnyASN1(&name, &tag) {
			return refuseAnd("write each subject alternative name as RFC 5280, section 4.2.1.6, says", ErrMalformed, "a subject alternative name cannot be read")
		}
		kind := int(tag & 0x1f)
		if tag&0xc0 != 0x80 || kind >= numKinds {
			return refuseAnd("ask only for names of the kinds dns, ip, email and uri", ErrSAN, "a name of the unknown tag 0x%02x", uint8(tag))
		}
		if !p.sans[kind] {
			return refuseAnd("leave the "+kindNames[kind]+" name out of subjectAltName, or have the profile take or ignore it (asks: "+kindNames[kind]+")", ErrSAN, "a name of kind %s", kindNames[kind])
		}
		if tag&0x20 != 0 {
			return refuseAnd("write dns, email and uri names as plain IA5String, ip addresses as plain OCTET STRING", ErrMalformed, "a name of kind %s is constructed", kindNames[kind])
		}
		if key := string(rune(kind)) + strings.ToLower(string(name)); seen[key] {
			return refuseAnd("ask for each subject alternative name once", ErrDuplicate, "name %q", clip(name))
		} else {
			seen[key] = true
		}
		if len(seen) > maxSANs {
			return refuseAnd("ask for at most 64 subject alternative names", ErrSAN, "more than %d names", maxSANs)
		}
		to := r
		if p.ignores(kindNames[kind]) {
			to = new(Request)
		}
		if err := to.addSAN(kind, name); err != nil {
			return err
		}
		p.note(r, kindNames[kind], to.lastName(kind))
	}
	return nil
}

func (r *Request) addSAN(kind int, name []byte) error {
	if kind == kindIP {
		if len(name) != net.IPv4len && len(name) != net.IPv6len {
			return refuseAnd("write an IP address in 4 or 16 octets, without a mask", ErrSAN, "an ip address of %d octets", len(name))
		}
		r.ips = append(r.ips, net.IP(name))
		return nil
	}
	if len(name) == 0 || len(name) > maxSAN || !ascii(name) || strings.ContainsRune(string(name), ' ') {
		return refuseAnd("write names in ASCII without blanks; host names with other letters in their xn-- form", ErrSAN, "a name of kind %s is empty, too long or has characters outside printable ASCII", kindNames[kind])
	}
	s := string(name)
	switch kind {
	case kindDNS:
		if !CheckDNSName(s) {
			return refuseAnd("write a host name of letters, digits and inner hyphens, without a wildcard and without a final dot; an address is of kind ip", ErrSAN, "%q is not a host name", s)
		}
		r.dns = append(r.dns, s)
	case kindEmail:
		local, host, ok := strings.Cut(s, "@")
		if !ok || local == "" || strings.ContainsAny(local, `"(),:;<>@[\]`) || !CheckDNSName(host) {
			return refuseAnd("write a mail address as LOCAL@HOST", ErrSAN, "%q is not a mail address", s)
		}
		r.emails = append(r.emails, s)
	case kindURI:
		u, err := url.Parse(s)
		if err != nil || !u.IsAbs() || u.User != nil || u.String() != s {
			return refuseAnd("write an absolute URI in its canonical form, without user and password", ErrSAN, "%q is not an absolute URI in canonical form", s)
		}
		r.uris = append(r.uris, u)
	}
	return nil
}

// lastName is the name of a kind that was read last, as a text.
func (r *Request) lastName(kind int) string {
	switch kind {
	case kindDNS:
		return r.dns[len(r.dns)-1]
	case kindEmail:
		return r.emails[len(r.emails)-1]
	case kindIP:
		return r.ips[len(r.ips)-1].String()
	}
	return r.uris[len(r.uris)-1].String()
}

// CheckDNSName reports whether s is a host name: labels of letters, digits and inner hyphens, no wildcard, no final dot.
func CheckDNSName(s string) bool {
	if len(s) == 0 || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if len(label) == 0 || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			c := label[i]
			if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-') {
				return false
			}
		}
	}
	return net.ParseIP(s) == nil
}

// CheckSANs reads the value of a subjectAltName extension and refuses what Parse would refuse under every policy: names of
// a kind other than dns, ip, email and uri, malformed ones, and doubles.
func CheckSANs(value []byte) error { return anySAN.parseSANs(value, new(Request)) }
