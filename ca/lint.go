package ca

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"math/big"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/hanaper/hanaper/csr"
	"github.com/hanaper/hanaper/internal/advice"
)

// Lint holds one finished certificate to all rules that need neither issuer nor profile.
func Lint(cert *x509.Certificate, w ...Waiver) error {
	f := findings{subject: describe(cert)}
	lint(&f, cert, w...)
	return f.err(advice.Unverified)
}

// describe names a certificate in messages: its subject, else its serial number.
func describe(c *x509.Certificate) string {
	if c == nil {
		return "no certificate"
	}
	if s := c.Subject.String(); s != "" {
		return s
	}
	return "serial " + c.SerialNumber.Text(16)
}

func lint(f *findings, c *x509.Certificate, w ...Waiver) {
	if c == nil || len(c.Raw) == 0 {
		f.add(ruleVersion, "there is no parsed certificate")
		return
	}
	imported := slices.Contains(w, Imported)
	if !goodSerial(c.SerialNumber, imported) {
		f.add(ruleSerial, "serial %x has %d octets", c.SerialNumber, serialOctets(c.SerialNumber))
	}
	lintRaw(f, c)
	lintKey(f, c)
	if !imported || !c.IsCA || len(c.Subject.Names) == 0 {
		lintName(f, c)
	}
	lintExtensions(f, c, imported)
	switch {
	case len(c.SubjectKeyId) == 0:
		f.add(ruleSKI, "it has none")
	case !imported && !madeOfKey(c.SubjectKeyId, c.RawSubjectPublicKeyInfo):
		f.add(ruleSKI, "%x is not made of the key", c.SubjectKeyId)
	}
	lintSANs(f, c)
	if isSelfIssued(c) && !c.IsCA {
		f.add(ruleRoot, "a self-signed certificate that is not a CA's")
	}
}

// isSelfIssued compares the two names in one certificate.
func isSelfIssued(c *x509.Certificate) bool { return bytes.Equal(c.RawSubject, c.RawIssuer) }

// lintRaw reads again what crypto/x509 does not hand on: octets of the serial, the form of the times, unique identifiers.
func lintRaw(f *findings, c *x509.Certificate) {
	if c.Version != 3 {
		f.add(ruleVersion, "version %d", c.Version)
	}
	if c.SignatureAlgorithm == x509.UnknownSignatureAlgorithm {
		f.add(ruleAlgorithm, "the signature algorithm is not known")
	}
	var tbs, skip, validity, rest cryptobyte.String
	s := cryptobyte.String(c.RawTBSCertificate)
	ok := s.ReadASN1(&tbs, cbasn1.SEQUENCE) && tbs.SkipOptionalASN1(cbasn1.Tag(0).ContextSpecific().Constructed()) &&
		tbs.SkipASN1(cbasn1.INTEGER) && tbs.ReadASN1Element(&skip, cbasn1.SEQUENCE) && tbs.SkipASN1(cbasn1.SEQUENCE) &&
		tbs.ReadASN1(&validity, cbasn1.SEQUENCE) && tbs.SkipASN1(cbasn1.SEQUENCE) && tbs.SkipASN1(cbasn1.SEQUENCE)
	if !ok {
		f.add(ruleVersion, "the certificate cannot be read")
		return
	}
	if csr.SignatureAlgorithm(skip) != c.SignatureAlgorithm {
		f.add(ruleAlgorithm, "the algorithm identifier %x is weak or not in its one encoding", []byte(skip))
	}
	if tbs.PeekASN1Tag(cbasn1.Tag(1).ContextSpecific()) || tbs.PeekASN1Tag(cbasn1.Tag(2).ContextSpecific()) {
		f.add(ruleVersion, "it has a unique identifier")
	}
	for _, t := range []time.Time{c.NotBefore, c.NotAfter} {
		var tag cbasn1.Tag
		if !validity.ReadAnyASN1(&rest, &tag) || (tag == cbasn1.UTCTime) != (t.Year() < 2050) || !bytes.HasSuffix(rest, []byte("Z")) || t.Nanosecond() != 0 {
			f.add(ruleValidity, "%s is not encoded as UTCTime through 2049 and GeneralizedTime after", t.Format(time.RFC3339))
		}
	}
	if !c.NotAfter.After(c.NotBefore) {
		f.add(ruleValidity, "it ends %s, not after it begins %s", c.NotAfter.Format(time.RFC3339), c.NotBefore.Format(time.RFC3339))
	}
	if c.NotBefore.Year() < 2000 {
		f.add(ruleValidity, "it begins %s, before the year 2000", c.NotBefore.Format(time.RFC3339))
	}
}

func serialOctets(n *big.Int) int {
	if n == nil {
		return 0
	}
	return n.BitLen()/8 + 1
}

func goodSerial(n *big.Int, imported bool) bool {
	octets := serialOctets(n)
	return n != nil && n.Sign() > 0 && octets <= 20 && (octets >= 19 || imported)
}

func lintKey(f *findings, c *x509.Certificate) {
	if err := csr.CheckKeyAsOf(f.edition.format, c.PublicKey); err != nil {
		f.add(ruleKey, "%s", strings.TrimPrefix(err.Error(), "csr: "))
	}
	if k, ok := c.PublicKey.(*rsa.PublicKey); ok && c.IsCA && k.N.BitLen() < 3072 {
		f.add(ruleKey, "a CA with an RSA key of %d bits", k.N.BitLen())
	}
	if canonical, err := csr.MarshalKey(c.PublicKey); err != nil || !bytes.Equal(canonical, c.RawSubjectPublicKeyInfo) {
		f.add(ruleKey, "the key is not in its one encoding")
	}
}

func lintName(f *findings, c *x509.Certificate) {
	attrs, err := csr.ParseName(c.RawSubject)
	if err != nil {
		f.add(ruleName, "%s", strings.TrimPrefix(err.Error(), "csr: "))
		return
	}
	if len(attrs) == 0 {
		f.add(ruleName, "the subject is empty")
	}
	names := 0
	for _, a := range attrs {
		if a.Type != "CN" {
			continue
		}
		names++
		if err := csr.CheckCommonName(a.Value); err != nil && !c.IsCA {
			f.add(ruleName, "%s", strings.TrimPrefix(err.Error(), "csr: "))
		}
	}
	if !c.IsCA && names != 1 || names > 1 {
		f.add(ruleName, "%d common names", names)
	}
}

// known are the extensions that Hanaper reads; a critical one of another kind is refused.
var known = []asn1.ObjectIdentifier{oidSKI, oidKeyUsage, oidSAN, oidBasic, oidConstraints, oidCRLDP, oidPolicies, oidAKI, oidEKU, oidAIA}

func lintExtensions(f *findings, c *x509.Certificate, imported bool) {
	critical := map[string]bool{}
	present := map[string]bool{}
	for _, e := range c.Extensions {
		id := e.Id.String()
		if present[id] {
			f.add(ruleExtensions, "extension %s stands twice", id)
		}
		present[id], critical[id] = true, e.Critical
		if e.Critical && !slices.ContainsFunc(known, e.Id.Equal) {
			f.add(ruleExtensions, "critical extension %s is not known", id)
		}
	}
	if len(c.UnhandledCriticalExtensions) > 0 {
		f.add(ruleExtensions, "critical extension %v has content that is not understood", c.UnhandledCriticalExtensions[0])
	}
	if n := bytes.Count(c.RawTBSCertificate, explicitFalse); n > 0 && hasExplicitFalse(c) {
		f.add(ruleExtensions, "an extension has an explicit criticality of false")
	}
	lintUsages(f, c, present, critical, imported)
	if len(c.AuthorityKeyId) == 0 && !isSelfIssued(c) {
		f.add(ruleAKI, "it has none")
	}
	if isSelfIssued(c) && len(c.AuthorityKeyId) > 0 && !bytes.Equal(c.AuthorityKeyId, c.SubjectKeyId) {
		f.add(ruleAKI, "a self-signed certificate with an authority key identifier that is not its own")
	}
}

func lintUsages(f *findings, c *x509.Certificate, present, critical map[string]bool, imported bool) {
	const signing = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	basic, usage := oidBasic.String(), oidKeyUsage.String()
	hasLength := c.MaxPathLen > 0 || c.MaxPathLen == 0 && c.MaxPathLenZero
	switch {
	case c.IsCA && !critical[basic]:
		f.add(ruleBasic, "a CA whose basicConstraints are not critical")
	case !c.IsCA && c.BasicConstraintsValid && hasLength:
		f.add(ruleBasic, "a path length in a certificate that is not a CA's")
	}
	switch {
	case !present[usage]:
		f.add(ruleKeyUsage, "it has none")
	case !critical[usage] && !imported: // RFC 5280, section 4.2.1.3: SHOULD
		f.add(ruleKeyUsage, "it is not critical")
	}
	if c.IsCA && c.KeyUsage&signing != signing {
		f.add(ruleKeyUsage, "a CA without keyCertSign and cRLSign")
	}
	if !c.IsCA && c.KeyUsage&signing != 0 {
		f.add(ruleKeyUsage, "keyCertSign or cRLSign in a certificate that is not a CA's")
	}
	if !c.IsCA {
		if len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) == 0 {
			f.add(ruleLeafEKU, "it has none")
		}
		if slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny) {
			f.add(ruleLeafEKU, "it has anyExtendedKeyUsage")
		}
		if constraintsOf(c) != nil {
			f.add(ruleConstraints, "name constraints in a certificate that is not a CA's")
		}
	}
	if c.IsCA && constraintsOf(c) != nil && !critical[oidConstraints.String()] {
		f.add(ruleExtensions, "name constraints that are not critical")
	}
}

var explicitFalse = []byte{1, 1, 0}

// hasExplicitFalse reads the extensions for a criticality that DER leaves out.
func hasExplicitFalse(c *x509.Certificate) bool {
	var tbs, wrapped, exts cryptobyte.String
	var tag cbasn1.Tag
	s := cryptobyte.String(c.RawTBSCertificate)
	if !s.ReadASN1(&tbs, cbasn1.SEQUENCE) {
		return false
	}
	for !tbs.Empty() {
		if !tbs.ReadAnyASN1(&wrapped, &tag) {
			return false
		}
	}
	if tag != cbasn1.Tag(3).ContextSpecific().Constructed() || !wrapped.ReadASN1(&exts, cbasn1.SEQUENCE) {
		return false
	}
	for !exts.Empty() {
		var ext cryptobyte.String
		if !exts.ReadASN1(&ext, cbasn1.SEQUENCE) || !ext.SkipASN1(cbasn1.OBJECT_IDENTIFIER) {
			return false
		}
		if bytes.HasPrefix(ext, explicitFalse) {
			return true
		}
	}
	return false
}

// lintSANs reads the names with csr's parser, which knows every kind that crypto/x509 drops.
func lintSANs(f *findings, c *x509.Certificate) {
	roles := 0
	for _, u := range c.URIs {
		if isRoleURI(u) {
			roles++
		}
	}
	if roles > 0 {
		if _, _, err := RoleOf(c); err != nil {
			f.add(ruleRole, "%s", strings.TrimPrefix(err.Error(), "ca: "))
		}
		if c.IsCA {
			f.add(ruleRole, "a CA with a role")
		}
	}
	for _, e := range c.Extensions {
		if !e.Id.Equal(oidSAN) {
			continue
		}
		if err := csr.CheckSANs(e.Value); err != nil {
			f.add(ruleSAN, "%s", strings.TrimPrefix(err.Error(), "csr: "))
		}
	}
}
