package ca

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"net"
	"net/url"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/hanaper/hanaper/csr"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/format"
	"github.com/hanaper/hanaper/internal/show"
)

// Edition is the set of rules that held when a format of ceremonies was the newest. The zero value holds every rule.
// Somebody who verifies an old ceremony holds it to the rules of its time, and takes a newer rule that it breaks as a
// remark.
type Edition struct{ format format.Version }

// EditionOf is the edition of a format of ceremonies.
func EditionOf(v format.Version) Edition { return Edition{v} }

// Confirm holds a finished certificate to the profile, the template and every rule, as Prepare does before it is signed,
// and its signature to the issuer's key. It compares what the certificate says, not how it is encoded: another release may
// encode otherwise. t.Serial must be given.
func (i *Issuer) Confirm(p *Profile, t Template, cert *x509.Certificate) error {
	if p == nil || p.c.SelfSigned || t.Serial == nil {
		return advice.New(advice.Usage, "", "ca: profile %s is self-signed or absent, or no serial number is given", p)
	}
	c, err := newContent(i.edition, p, t, nil)
	if err != nil {
		return err
	}
	c.issuer, c.aki = i.cert.RawSubject, i.cert.SubjectKeyId
	return c.confirm(cert, i.cert.PublicKey, func(f *findings) {
		checkPair(f, cert, i.cert, waive(p))
		for _, a := range i.ancestors {
			checkAncestor(f, cert, a, waive(p))
		}
	})
}

// ConfirmRoot is Confirm for a self-signed certificate of the key pub.
func (e Edition) ConfirmRoot(p *Profile, t Template, pub crypto.PublicKey, cert *x509.Certificate) error {
	if p == nil || !p.c.SelfSigned || t.Serial == nil {
		return advice.New(advice.Usage, "", "ca: profile %s is not self-signed, or no serial number is given", p)
	}
	t.PublicKey = pub
	c, err := newContent(e, p, t, nil)
	if err != nil {
		return err
	}
	if cert != nil {
		c.issuer, c.aki = cert.RawSubject, cert.SubjectKeyId
	}
	return c.confirm(cert, pub, func(f *findings) { checkPair(f, cert, cert, nil) })
}

func (c *content) confirm(cert *x509.Certificate, pub crypto.PublicKey, relations func(*findings)) error {
	if cert == nil {
		return advice.New(advice.Unverified, "", "ca: there is no certificate")
	}
	f := findings{subject: describe(cert), edition: c.edition}
	lint(&f, cert)
	c.alg = cert.SignatureAlgorithm
	c.profile.check(&f, c, cert)
	relations(&f)
	if err := csr.CheckSignature(pub, cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature); err != nil {
		f.add(ruleSignature, "%v", err)
	}
	if what := c.differs(cert); what != "" {
		return advice.New(advice.Unverified, "", "ca: %s: its %s is not the one that was asked for", show.Line(describe(cert)), what)
	}
	return f.err(advice.Unverified)
}

// differs names what the certificate says otherwise than c; empty if nothing.
func (c *content) differs(cert *x509.Certificate) string {
	for _, fact := range []struct {
		name string
		same bool
	}{
		{"serial number", cert.SerialNumber.Cmp(c.serial) == 0},
		{"issuer", bytes.Equal(cert.RawIssuer, c.issuer)},
		{"subject", SameName(cert.RawSubject, c.subject)},
		{"validity", cert.NotBefore.Equal(c.notBefore) && cert.NotAfter.Equal(c.notAfter)},
		{"public key", bytes.Equal(cert.RawSubjectPublicKeyInfo, c.spki)},
		{"authority key identifier", bytes.Equal(cert.AuthorityKeyId, c.aki)},
		{"CA mark", cert.IsCA == c.profile.c.CA},
		{"path length", c.pathLen == nil && limit(cert) < 0 || c.pathLen != nil && limit(cert) == *c.pathLen},
		{"key usage", cert.KeyUsage == c.profile.usage},
		{"extended key usage", sameOIDs(usagesOf(cert), c.profile.eku) && critical(cert, oidEKU) == (c.profile.c.ExtKeyUsageCritical && len(c.profile.eku) > 0)},
		{"subject alternative names", c.names.same(namesIn(cert))},
		{"policies", c.samePolicies(cert)},
		{"CRL addresses", c.sameCRLURLs(cert)},
		{"OCSP or issuer addresses", c.sameAccess(cert)},
		{"generation", c.sameGeneration(cert)},
		{"name constraints", sameConstraints(constraintsOf(cert), c.constraints)},
		{"list of extensions", c.extensionsOf(cert)},
	} {
		if !fact.same {
			return fact.name
		}
	}
	return ""
}

// extensionsOf says whether the certificate has extensions of the known kinds only: what crypto/x509 does not read
// nobody compared.
func (c *content) extensionsOf(cert *x509.Certificate) bool {
	known := []asn1.ObjectIdentifier{oidSKI, oidKeyUsage, oidSAN, oidBasic, oidConstraints, oidCRLDP, oidPolicies, oidAKI, oidEKU, oidAIA, oidGeneration}
	for _, e := range cert.Extensions {
		if !containsOID(known, e.Id) {
			return false
		}
	}
	return true
}

func (c *content) sameGeneration(cert *x509.Certificate) bool {
	n, err := Generation(cert)
	return err == nil && n == c.generation
}

// valueOf is the value of an extension; nil without it.
func valueOf(cert *x509.Certificate, oid asn1.ObjectIdentifier) cryptobyte.String {
	for _, e := range cert.Extensions {
		if e.Id.Equal(oid) {
			return e.Value
		}
	}
	return nil
}

// eachIn gives the members of the one SEQUENCE in s to f, and says whether it could be read as f wants.
func eachIn(s cryptobyte.String, f func(member *cryptobyte.String) bool) bool {
	var list, member cryptobyte.String
	if !s.ReadASN1(&list, cbasn1.SEQUENCE) || !s.Empty() {
		return false
	}
	for !list.Empty() {
		if !list.ReadASN1(&member, cbasn1.SEQUENCE) || !f(&member) || !member.Empty() {
			return false
		}
	}
	return true
}

// samePolicies reads policies with their practice statements, which crypto/x509 does not hand on.
func (c *content) samePolicies(cert *x509.Certificate) bool {
	value, n := valueOf(cert, oidPolicies), 0
	if value == nil {
		return len(c.profile.policies) == 0
	}
	ok := eachIn(value, func(member *cryptobyte.String) bool {
		var policy, kind asn1.ObjectIdentifier
		var qualifiers, qualifier, cps cryptobyte.String
		if !member.ReadASN1ObjectIdentifier(&policy) || n >= len(c.profile.policies) || !policy.Equal(c.profile.policies[n]) {
			return false
		}
		n++
		want := c.profile.c.CPS[policy.String()]
		if want == "" {
			return true // and nothing follows
		}
		return member.ReadASN1(&qualifiers, cbasn1.SEQUENCE) && qualifiers.ReadASN1(&qualifier, cbasn1.SEQUENCE) && qualifiers.Empty() &&
			qualifier.ReadASN1ObjectIdentifier(&kind) && kind.Equal(oidCPS) && qualifier.ReadASN1(&cps, cbasn1.IA5String) && qualifier.Empty() && string(cps) == want
	})
	return ok && n == len(c.profile.policies)
}

// sameCRLURLs reads the places of the CRL: URLs, and nothing else that a place can have.
func (c *content) sameCRLURLs(cert *x509.Certificate) bool {
	value := valueOf(cert, oidCRLDP)
	if value == nil {
		return len(c.crl) == 0
	}
	ctx := func(n uint8) cbasn1.Tag { return cbasn1.Tag(n).ContextSpecific() }
	var urls []string
	ok := eachIn(value, func(member *cryptobyte.String) bool {
		var point, names, u cryptobyte.String
		if !member.ReadASN1(&point, ctx(0).Constructed()) || !point.ReadASN1(&names, ctx(0).Constructed()) || !point.Empty() {
			return false
		}
		for !names.Empty() {
			if !names.ReadASN1(&u, ctx(6)) {
				return false
			}
			urls = append(urls, string(u))
		}
		return true
	})
	return ok && slices.Equal(urls, c.crl)
}

// sameAccess reads authorityInfoAccess: OCSP and issuers by URL, and nothing else.
func (c *content) sameAccess(cert *x509.Certificate) bool {
	value := valueOf(cert, oidAIA)
	if value == nil {
		return len(c.ocsp)+len(c.aia) == 0
	}
	var ocsp, issuers []string
	ok := eachIn(value, func(member *cryptobyte.String) bool {
		var method asn1.ObjectIdentifier
		var u cryptobyte.String
		if !member.ReadASN1ObjectIdentifier(&method) || !member.ReadASN1(&u, cbasn1.Tag(6).ContextSpecific()) {
			return false
		}
		switch {
		case method.Equal(oidOCSP):
			ocsp = append(ocsp, string(u))
		case method.Equal(oidCAIssuers):
			issuers = append(issuers, string(u))
		default:
			return false
		}
		return true
	})
	return ok && slices.Equal(ocsp, c.ocsp) && slices.Equal(issuers, c.aia)
}

func critical(cert *x509.Certificate, oid asn1.ObjectIdentifier) bool {
	for _, e := range cert.Extensions {
		if e.Id.Equal(oid) {
			return e.Critical
		}
	}
	return false
}

func sameOIDs(a, b []asn1.ObjectIdentifier) bool {
	return slices.EqualFunc(a, b, asn1.ObjectIdentifier.Equal)
}

// SameName compares names by their attributes; how strings are encoded, and their order, is no fact.
func SameName(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	x, xerr := csr.ParseName(a)
	y, yerr := csr.ParseName(b)
	order := func(p, q csr.Attribute) int {
		return cmp.Or(cmp.Compare(p.Type, q.Type), cmp.Compare(p.Value, q.Value))
	}
	slices.SortFunc(x, order)
	slices.SortFunc(y, order)
	return xerr == nil && yerr == nil && slices.EqualFunc(x, y, func(p, q csr.Attribute) bool { return order(p, q) == 0 })
}

func sameConstraints(a, b *constraints) bool {
	if a == nil || b == nil {
		return a == b
	}
	for kind := range onKinds {
		if !slices.Equal(a.permitted[kind], b.permitted[kind]) || !slices.Equal(a.excluded[kind], b.excluded[kind]) {
			return false
		}
	}
	return true
}

// altNames are subject alternative names of the four kinds that Hanaper issues.
type altNames struct{ dns, email, ip, uri []string }

func (n altNames) same(o altNames) bool {
	return slices.Equal(n.dns, o.dns) && slices.Equal(n.email, o.email) && slices.Equal(n.ip, o.ip) && slices.Equal(n.uri, o.uri)
}

func namesIn(cert *x509.Certificate) altNames {
	return namesFrom(cert.DNSNames, cert.EmailAddresses, cert.IPAddresses, cert.URIs)
}

func namesFrom(dns, email []string, ips []net.IP, uris []*url.URL) altNames {
	n := altNames{dns: dns, email: email}
	for _, ip := range ips {
		n.ip = append(n.ip, ip.String())
	}
	for _, u := range uris {
		n.uri = append(n.uri, u.String())
	}
	return n
}

// ConfirmCRL holds a finished CRL to the template and every rule, as PrepareCRL does before it is signed, and its
// signature to the issuer's key. It compares what the CRL says, not how it is encoded.
func (i *Issuer) ConfirmCRL(t CRLTemplate, previous, crl *x509.RevocationList) error {
	if crl == nil {
		return advice.New(advice.Unverified, "", "ca: there is no CRL")
	}
	f := findings{subject: crlName(i.cert, crl.Number), edition: i.edition}
	for _, e := range t.Entries {
		if t.Issued != nil && !t.Issued(e.SerialNumber) {
			f.add(ruleCRLBelongs, "serial %x was not issued by %s", e.SerialNumber, describe(i.cert))
		}
	}
	lintCRL(&f, crl)
	checkCRLIssuer(&f, crl, i.cert)
	checkCRLSequence(&f, crl, i.cert, previous, t)
	if err := csr.CheckSignature(i.cert.PublicKey, crl.SignatureAlgorithm, crl.RawTBSRevocationList, crl.Signature); err != nil {
		f.add(ruleCRLSignature, "%v", err)
	}
	same := slices.EqualFunc(crl.RevokedCertificateEntries, t.Entries, func(a, b x509.RevocationListEntry) bool {
		return a.SerialNumber.Cmp(b.SerialNumber) == 0 && a.RevocationTime.Equal(b.RevocationTime.Truncate(time.Second)) && a.ReasonCode == b.ReasonCode
	})
	for _, fact := range []struct {
		name string
		same bool
	}{
		{"number", crl.Number != nil && crl.Number.Cmp(t.Number) == 0},
		{"thisUpdate", crl.ThisUpdate.Equal(seconds(t.ThisUpdate))},
		{"nextUpdate", crl.NextUpdate.Equal(seconds(t.NextUpdate))},
		{"list of entries", same},
	} {
		if !fact.same {
			return advice.New(advice.Unverified, "", "ca: %s: its %s is not the one that was asked for", show.Text(f.subject), fact.name)
		}
	}
	return f.err(advice.Unverified)
}
