package ceremony

import (
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"slices"
	"strings"

	"github.com/hanaper/hanaper/internal/show"
)

// usageNames are the bits of a key usage, by their names in RFC 5280.
var usageNames = []string{"digitalSignature", "contentCommitment", "keyEncipherment", "dataEncipherment", "keyAgreement", "keyCertSign", "cRLSign",
	"encipherOnly", "decipherOnly"}

var extendedNames = map[string]string{
	"2.5.29.37.0": "any", "1.3.6.1.5.5.7.3.1": "serverAuth", "1.3.6.1.5.5.7.3.2": "clientAuth", "1.3.6.1.5.5.7.3.3": "codeSigning",
	"1.3.6.1.5.5.7.3.4": "emailProtection", "1.3.6.1.5.5.7.3.8": "timeStamping", "1.3.6.1.5.5.7.3.9": "OCSPSigning",
}

func usages(c *x509.Certificate) []string {
	var names []string
	for i, n := range usageNames {
		if c.KeyUsage&(1<<i) != 0 {
			names = append(names, n)
		}
	}
	return names
}

// extendedUsages reads them from the extension, for package x509 knows only some of them by a constant.
func extendedUsages(c *x509.Certificate) []string {
	var names []string
	for _, e := range c.Extensions {
		if !e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 37}) {
			continue
		}
		var oids []asn1.ObjectIdentifier
		if rest, err := asn1.Unmarshal(e.Value, &oids); err != nil || len(rest) > 0 {
			return []string{"not readable"}
		}
		for _, oid := range oids {
			n, ok := extendedNames[oid.String()]
			if !ok {
				n = oid.String()
			}
			names = append(names, n)
		}
	}
	return names
}

func pathLength(c *x509.Certificate) string {
	switch {
	case !c.IsCA:
		return "not a CA"
	case c.MaxPathLen > 0 || c.MaxPathLen == 0 && c.MaxPathLenZero:
		return fmt.Sprintf("%d (CAs that may stand between it and a leaf)", c.MaxPathLen)
	}
	return "without limit"
}

// constraintsOf are a CA's name constraints in words.
func constraintsOf(c *x509.Certificate) string {
	var parts []string
	add := func(what string, values []string) {
		if len(values) > 0 {
			parts = append(parts, what+" "+show.List(values))
		}
	}
	ranges := func(list []string, n int, at func(int) string) []string {
		for i := range n {
			list = append(list, at(i))
		}
		return list
	}
	add("only DNS", c.PermittedDNSDomains)
	add("no DNS", c.ExcludedDNSDomains)
	add("only IP", ranges(nil, len(c.PermittedIPRanges), func(i int) string { return c.PermittedIPRanges[i].String() }))
	add("no IP", ranges(nil, len(c.ExcludedIPRanges), func(i int) string { return c.ExcludedIPRanges[i].String() }))
	add("only email", c.PermittedEmailAddresses)
	add("no email", c.ExcludedEmailAddresses)
	add("only URI", c.PermittedURIDomains)
	add("no URI", c.ExcludedURIDomains)
	if parts == nil {
		return "none"
	}
	return strings.Join(parts, "; ")
}

func orNone(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ", ")
}

// certificateFacts says what a certificate holds, whatever profile it was made by.
func certificateFacts(v *shown, c *x509.Certificate) {
	v.fact("subject", show.Text(c.Subject.String()))
	v.fact("issuer", show.Text(c.Issuer.String()))
	v.fact("valid", formatTime(c.NotBefore)+" to "+formatTime(c.NotAfter))
	v.fact("usages", orNone(usages(c)))
	v.fact("extended usages", orNone(extendedUsages(c)))
	v.fact("path length", pathLength(c))
	var policies []string
	for _, p := range c.Policies {
		policies = append(policies, p.String())
	}
	v.fact("policies", orNone(policies))
	if c.IsCA {
		v.fact("name constraints", constraintsOf(c))
	}
	var names []string
	names = append(names, c.DNSNames...)
	names = append(names, c.EmailAddresses...)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	for _, u := range c.URIs {
		names = append(names, u.String())
	}
	if len(names) > 0 {
		v.fact("alternative names", show.List(names))
	}
	for _, u := range unusual(c) {
		v.remark("%s", u)
	}
}

// unusual says which usages of a certificate are not those of its kind.
func unusual(c *x509.Certificate) []string {
	var list []string
	more := func(have []string, usual ...string) []string {
		return slices.DeleteFunc(have, func(n string) bool { return slices.Contains(usual, n) })
	}
	if c.IsCA {
		if more := more(usages(c), "keyCertSign", "cRLSign"); len(more) > 0 {
			list = append(list, "a CA with the unusual usages "+strings.Join(more, ", "))
		}
		if root := string(c.RawSubject) == string(c.RawIssuer); root && len(extendedUsages(c)) > 0 {
			list = append(list, "a root with extended usages, which bind all below it: "+strings.Join(extendedUsages(c), ", "))
		} else if !root && pathLength(c) == "without limit" {
			list = append(list, "a CA below a root without a path length: it may make CAs of its own, without limit")
		}
		return list
	}
	if more := more(usages(c), "digitalSignature", "keyEncipherment", "keyAgreement"); len(more) > 0 {
		list = append(list, "a leaf with the unusual usages "+strings.Join(more, ", "))
	}
	if more := more(extendedUsages(c), "serverAuth", "clientAuth"); len(more) > 0 {
		list = append(list, "a leaf with the unusual extended usages "+strings.Join(more, ", "))
	}
	return list
}

// showCertificate shows a certificate of the ceremony by its name.
func showCertificate(s *Session, v *shown, name string) {
	if c := s.state.certificates[name]; c != nil {
		certificateFacts(v, c.cert)
	}
}
