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
		return refuse(ErrMalformed, "subjectAltName cannot be read or is empty")
	}
	seen := make(map[string]bool)
	for !names.Empty() {
		var name cryptobyte.String
		var tag cbasn1.Tag
		if !names.ReadAnyASN1(&name, &tag) {
			return refuse(ErrMalformed, "a subject alternative name cannot be read")
		}
		kind := int(tag & 0x1f)
		if tag&0xc0 != 0x80 || kind >= numKinds {
			return refuse(ErrSAN, "a name of the unknown tag 0x%02x", uint8(tag))
		}
		if !p.sans[kind] {
			return refuse(ErrSAN, "a name of kind %s", kindNames[kind])
		}
		if tag&0x20 != 0 {
			return refuse(ErrMalformed, "a name of kind %s is constructed", kindNames[kind])
		}
		if key := string(rune(kind)) + strings.ToLower(string(name)); seen[key] {
			return refuse(ErrDuplicate, "name %q", clip(name))
		} else {
			seen[key] = true
		}
		if len(seen) > maxSANs {
			return refuse(ErrSAN, "more than %d names", maxSANs)
		}
		if err := r.addSAN(kind, name); err != nil {
			return err
		}
	}
	return nil
}

func (r *Request) addSAN(kind int, name []byte) error {
	if kind == kindIP {
		if len(name) != net.IPv4len && len(name) != net.IPv6len {
			return refuse(ErrSAN, "an ip address of %d octets", len(name))
		}
		r.ips = append(r.ips, net.IP(name))
		return nil
	}
	if len(name) == 0 || len(name) > maxSAN || !ascii(name) || strings.ContainsRune(string(name), ' ') {
		return refuse(ErrSAN, "a name of kind %s is empty, too long or has characters outside printable ASCII", kindNames[kind])
	}
	s := string(name)
	switch kind {
	case kindDNS:
		if !CheckDNSName(s) {
			return refuse(ErrSAN, "%q is not a host name", s)
		}
		r.dns = append(r.dns, s)
	case kindEmail:
		local, host, ok := strings.Cut(s, "@")
		if !ok || local == "" || strings.ContainsAny(local, `"(),:;<>@[\]`) || !CheckDNSName(host) {
			return refuse(ErrSAN, "%q is not a mail address", s)
		}
		r.emails = append(r.emails, s)
	case kindURI:
		u, err := url.Parse(s)
		if err != nil || !u.IsAbs() || u.User != nil || u.String() != s {
			return refuse(ErrSAN, "%q is not an absolute URI in canonical form", s)
		}
		r.uris = append(r.uris, u)
	}
	return nil
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
