package ca

import (
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/hanaper/hanaper/csr"
	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// NameConstraints are those of RFC 5280, section 4.2.1.10, on the four kinds of name that Hanaper issues; always critical.
type NameConstraints struct {
	// DNS: example.com means itself and all below it.
	PermittedDNS []string `yaml:"permitted_dns"`
	ExcludedDNS  []string `yaml:"excluded_dns"`
	// IP: prefixes, 192.0.2.0/24 or 2001:db8::/32.
	PermittedIP []string `yaml:"permitted_ip"`
	ExcludedIP  []string `yaml:"excluded_ip"`
	// Email: a host, for all its mailboxes; .example.com for all hosts below; or one mailbox.
	PermittedEmail []string `yaml:"permitted_email"`
	ExcludedEmail  []string `yaml:"excluded_email"`
	// URI: a host, or .example.com for all hosts below. URIs without a host (urn:) are refused wherever one is given.
	PermittedURI []string `yaml:"permitted_uri"`
	ExcludedURI  []string `yaml:"excluded_uri"`
}

// The kinds of names that constraints bind.
const (
	onDNS = iota
	onIP
	onEmail
	onURI
	onKinds
)

var constraintNames = [onKinds]string{"dns", "ip", "email", "uri"}

// constraints hold, for each kind, subtrees in the form of their field of NameConstraints.
type constraints struct{ permitted, excluded [onKinds][]string }

func (n *NameConstraints) parse() (*constraints, error) {
	c := &constraints{
		permitted: [onKinds][]string{n.PermittedDNS, n.PermittedIP, n.PermittedEmail, n.PermittedURI},
		excluded:  [onKinds][]string{n.ExcludedDNS, n.ExcludedIP, n.ExcludedEmail, n.ExcludedURI},
	}
	if c.empty() {
		return nil, fmt.Errorf("they are empty")
	}
	for _, side := range [][onKinds][]string{c.permitted, c.excluded} {
		for kind, list := range side {
			for _, s := range list {
				if !goodSubtree(kind, s) {
					return nil, fmt.Errorf("%q is not a subtree of %s names", s, constraintNames[kind])
				}
			}
		}
	}
	return c, nil
}

func (c *constraints) empty() bool {
	for kind := range onKinds {
		if len(c.permitted[kind])+len(c.excluded[kind]) > 0 {
			return false
		}
	}
	return true
}

func goodSubtree(kind int, s string) bool {
	switch kind {
	case onIP:
		p, err := netip.ParsePrefix(s)
		return err == nil && p.Masked() == p
	case onDNS:
		return csr.CheckDNSName(s)
	case onEmail:
		if local, host, ok := strings.Cut(s, "@"); ok {
			return local != "" && csr.CheckDNSName(host)
		}
	}
	return csr.CheckDNSName(strings.TrimPrefix(s, "."))
}

// constraintsOf reads those of a parsed certificate; nil without any.
func constraintsOf(c *x509.Certificate) *constraints {
	prefixes := func(nets []*net.IPNet) []string {
		var out []string
		for _, n := range nets {
			out = append(out, n.String())
		}
		return out
	}
	n := &constraints{
		permitted: [onKinds][]string{c.PermittedDNSDomains, prefixes(c.PermittedIPRanges), c.PermittedEmailAddresses, c.PermittedURIDomains},
		excluded:  [onKinds][]string{c.ExcludedDNSDomains, prefixes(c.ExcludedIPRanges), c.ExcludedEmailAddresses, c.ExcludedURIDomains},
	}
	if n.empty() {
		return nil
	}
	return n
}

// marshal encodes the extension's value.
func (c *constraints) marshal() ([]byte, error) {
	tags := [onKinds]uint8{2, 7, 1, 6}
	var b cryptobyte.Builder
	side := func(tag uint8, lists [onKinds][]string) {
		any := false
		for _, l := range lists {
			any = any || len(l) > 0
		}
		if !any {
			return
		}
		b.AddASN1(cbasn1.Tag(tag).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
			for kind, list := range lists {
				for _, s := range list {
					b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
						b.AddASN1(cbasn1.Tag(tags[kind]).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes(subtreeBytes(kind, s)) })
					})
				}
			}
		})
	}
	var inner cryptobyte.Builder
	side(0, c.permitted)
	side(1, c.excluded)
	content, err := b.Bytes()
	if err != nil {
		return nil, err
	}
	inner.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(content) })
	return inner.Bytes()
}

func subtreeBytes(kind int, s string) []byte {
	if kind != onIP {
		return []byte(s)
	}
	_, n, err := net.ParseCIDR(s)
	if err != nil {
		return nil // parse refused it before
	}
	return append(append([]byte{}, n.IP...), n.Mask...)
}

// within reports whether name (or, for nested constraints, a subtree) lies within subtree.
func within(kind int, name, subtree string) bool {
	name, subtree = strings.ToLower(name), strings.ToLower(subtree)
	switch kind {
	case onDNS:
		if rest, ok := strings.CutPrefix(subtree, "."); ok {
			return strings.HasSuffix(name, "."+rest)
		}
		return subtree == "" || name == subtree || strings.HasSuffix(name, "."+subtree)
	case onIP:
		_, tree, err := net.ParseCIDR(subtree)
		if err != nil {
			return false
		}
		treeOnes, treeBits := tree.Mask.Size()
		if ip := net.ParseIP(name); ip != nil {
			return tree.Contains(ip)
		}
		ip, sub, err := net.ParseCIDR(name)
		if err != nil {
			return false
		}
		ones, bits := sub.Mask.Size()
		return bits == treeBits && ones >= treeOnes && tree.Contains(ip)
	case onEmail:
		if strings.Contains(subtree, "@") {
			return name == subtree
		}
		if i := strings.LastIndexByte(name, '@'); i >= 0 {
			name = name[i+1:]
		}
	}
	if strings.HasPrefix(subtree, ".") { // hosts below; a subtree with a dot lies within itself
		return strings.HasSuffix(name, subtree)
	}
	return name == subtree
}

func inAny(kind int, name string, subtrees []string) bool {
	for _, s := range subtrees {
		if within(kind, name, s) {
			return true
		}
	}
	return false
}

// check holds the names and constraints of cert to c.
func (c *constraints) check(f *findings, cert, holder *x509.Certificate) {
	for kind, names := range namesOf(cert) {
		for _, n := range names {
			if kind == onURI && n == "" && len(c.permitted[kind])+len(c.excluded[kind]) > 0 {
				f.add(ruleConstraints, "a URI without a host under the URI constraints of %s", describe(holder))
				continue
			}
			if inAny(kind, n, c.excluded[kind]) || len(c.permitted[kind]) > 0 && !inAny(kind, n, c.permitted[kind]) {
				f.add(ruleConstraints, "%s name %q lies outside the constraints of %s", constraintNames[kind], n, describe(holder))
			}
		}
	}
	own := constraintsOf(cert)
	if own == nil {
		return
	}
	for kind := range onKinds {
		for _, s := range own.permitted[kind] {
			if len(c.permitted[kind]) > 0 && !inAny(kind, s, c.permitted[kind]) || inAny(kind, s, c.excluded[kind]) {
				f.add(ruleConstraints, "permitted %s subtree %q lies outside the constraints of %s", constraintNames[kind], s, describe(holder))
			}
		}
	}
}

func namesOf(cert *x509.Certificate) [onKinds][]string {
	names := [onKinds][]string{onDNS: cert.DNSNames, onEmail: cert.EmailAddresses}
	for _, ip := range cert.IPAddresses {
		names[onIP] = append(names[onIP], ip.String())
	}
	for _, u := range cert.URIs {
		names[onURI] = append(names[onURI], u.Hostname())
	}
	return names
}
