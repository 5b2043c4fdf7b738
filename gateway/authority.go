package gateway

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/hanaper/hanaper/trust"
)

// authorities are the CAs of one trust view with all paths from each to a Fleet Root, found once a view: a device's
// certificate then costs one signature check.
type authorities struct {
	bySubject map[string][]*authority
}

// authority is one CA certificate.
type authority struct {
	cert *x509.Certificate
	// sum is the SHA-256 of the certificate.
	sum   [32]byte
	fault string // why it may not stand in a path; "" if it may
	// paths lead from this CA (first) to a root (last).
	paths []path
	// tooLong: there is a path, but longer than allowed.
	tooLong bool
}

// path is a chain of CAs, the device's issuer first, the root last.
type path struct {
	certs []*x509.Certificate
	// crls are the CRLs of each.
	crls []pathCRL
	// constrained: a CA in it has name constraints, which x509.Verify weighs.
	constrained bool
}

// pathCRL is what the view has of a CA's CRL, and until when the officers let it be used.
type pathCRL struct {
	there bool
	info  trust.CRLInfo
	ends  time.Time
}

func findAuthorities(view View) *authorities {
	set := &authorities{bySubject: map[string][]*authority{}}
	byCert := map[string]*authority{}
	add := func(c *x509.Certificate) *authority {
		if a := byCert[string(c.Raw)]; a != nil {
			return a
		}
		a := &authority{cert: c, sum: sha256.Sum256(c.Raw), fault: checkAuthority(c)}
		byCert[string(c.Raw)] = a
		set.bySubject[string(c.RawSubject)] = append(set.bySubject[string(c.RawSubject)], a)
		return a
	}
	roots := map[*authority]bool{}
	for _, c := range view.Anchors() {
		roots[add(c)] = true
	}
	for _, c := range view.Intermediates() {
		add(c)
	}
	policy := view.Policy()
	crl := func(c *x509.Certificate) (p pathCRL) {
		if p.info, p.there = view.CRL(c); p.there {
			p.ends = policy.CRLUntil(p.info)
		}
		return p
	}
	s := search{crl: crl, set: set, roots: roots, signed: map[[2]*authority]bool{}}
	for _, sameName := range set.bySubject {
		for _, a := range sameName {
			if a.fault == "" {
				s.from = a
				s.walk([]*authority{a})
			}
		}
	}
	return set
}

// search walks from a CA up to the roots, bounded in depth, in paths a CA, and in signatures checked.
type search struct {
	crl    func(*x509.Certificate) pathCRL
	set    *authorities
	roots  map[*authority]bool
	signed map[[2]*authority]bool // child, parent: is the signature good?
	from   *authority
}

func (s *search) walk(trail []*authority) {
	top := trail[len(trail)-1]
	if len(s.from.paths) >= maxPaths {
		return
	}
	if s.roots[top] {
		p := path{}
		for _, a := range trail {
			p.certs, p.crls = append(p.certs, a.cert), append(p.crls, s.crl(a.cert))
			p.constrained = p.constrained || extension(a.cert, oidNameConstraints) != nil
		}
		s.from.paths = append(s.from.paths, p)
		return
	}
	for _, parent := range s.set.bySubject[string(top.cert.RawIssuer)] {
		if parent.fault != "" || slices.Contains(trail, parent) || !s.issued(top, parent) || !lengthAllowed(trail, parent) {
			continue
		}
		// One place of the chain is the device's.
		if len(trail)+2 > maxChain {
			s.from.tooLong = true
			continue
		}
		s.walk(append(slices.Clip(trail), parent))
	}
}

func (s *search) issued(child, parent *authority) bool {
	edge := [2]*authority{child, parent}
	good, known := s.signed[edge]
	if !known && len(s.signed) < maxEdges {
		c, p := child.cert, parent.cert
		good = bytes.Equal(c.AuthorityKeyId, p.SubjectKeyId) && c.CheckSignatureFrom(p) == nil
		s.signed[edge] = good
	}
	return good
}

// lengthAllowed weighs parent's path length constraint: the CAs below it that are not self-issued.
func lengthAllowed(trail []*authority, parent *authority) bool {
	limit := parent.cert.MaxPathLen
	if limit < 0 || limit == 0 && !parent.cert.MaxPathLenZero {
		return true
	}
	below := 0
	for _, a := range trail {
		if !selfIssued(a.cert) {
			below++
		}
	}
	return below <= limit
}

// checkAuthority holds a CA's certificate to what RFC 5280 and the field ask of it; dates are looked at later.
func checkAuthority(c *x509.Certificate) (fault string) {
	switch {
	case c.Version != 3:
		return fmt.Sprintf("it is of version %d", c.Version)
	case !goodSerial(c.SerialNumber):
		return "its serial number is not positive and of 1 to 20 octets"
	case !c.BasicConstraintsValid || !c.IsCA:
		return "its basic constraints do not say CA"
	case !critical(c, oidBasic):
		return "its basic constraints are not critical"
	case c.KeyUsage&x509.KeyUsageCertSign == 0:
		return "its key usage lacks keyCertSign"
	case len(c.SubjectKeyId) == 0:
		return "it has no subject key identifier"
	case emptyName(c.RawSubject):
		return "its subject is empty"
	}
	if oid := unprocessed(c, caCritical); oid != "" {
		return "it has the critical extension " + oid + ", which is not processed here"
	}
	if detail := checkKey(c.PublicKey); detail != "" {
		return "its key: " + detail
	}
	if extension(c, oidExtKeyUsage) != nil && !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageClientAuth) &&
		!slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny) {
		return "its extended key usage excludes clientAuth"
	}
	if detail := checkAuthorityKeyID(c); detail != "" {
		return detail
	}
	return checkConstraints(c)
}

func emptyName(subject []byte) bool { return len(subject) <= 2 }

// checkAuthorityKeyID: present, but for self-signed certificates; a key identifier and nothing else, so that two readers
// cannot find two issuers by it.
func checkAuthorityKeyID(c *x509.Certificate) (fault string) {
	ext := extension(c, oidAuthorityKey)
	if ext == nil {
		if selfIssued(c) {
			return ""
		}
		return "it has no authority key identifier"
	}
	in := cryptobyte.String(ext)
	var seq, id cryptobyte.String
	if !in.ReadASN1(&seq, cbasn1.SEQUENCE) || !seq.ReadASN1(&id, cbasn1.Tag(0).ContextSpecific()) || !seq.Empty() {
		return "its authority key identifier holds something else than a key identifier"
	}
	return ""
}

// checkConstraints: critical, not empty, and few; x509.Verify weighs what they say.
func checkConstraints(c *x509.Certificate) (fault string) {
	ext := extension(c, oidNameConstraints)
	if ext == nil {
		return ""
	}
	if !critical(c, oidNameConstraints) {
		return "its name constraints are not critical"
	}
	n := len(c.PermittedDNSDomains) + len(c.ExcludedDNSDomains) + len(c.PermittedIPRanges) + len(c.ExcludedIPRanges) +
		len(c.PermittedEmailAddresses) + len(c.ExcludedEmailAddresses) + len(c.PermittedURIDomains) + len(c.ExcludedURIDomains)
	if n == 0 {
		return "its name constraints are empty"
	}
	if n > maxConstraints {
		return fmt.Sprintf("it has more than %d name constraints", maxConstraints)
	}
	return ""
}

// valid says whether c is valid at now, to the second.
func valid(c *x509.Certificate, now time.Time) bool {
	now = now.Truncate(time.Second)
	return !now.Before(c.NotBefore) && !now.After(c.NotAfter)
}
