package ca

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hanaper/hanaper/csr"
	"github.com/hanaper/hanaper/internal/advice"
)

// Waiver sets a rule aside for a stated case.
type Waiver int

const (
	// OTAConnect waives CA-005 (and nothing else) against a root of exactly the shape of profile ota-connect-root:
	// self-signed, with the one critical extended key usage serverAuth. RFC 5280, section 6.1 would not look at it either,
	// for it is in the anchor, but Go and OpenSSL do.
	OTAConnect Waiver = 1
	// Imported is for a certificate that another company's CA issued: its serial may be shorter (RFC 5280 asks for 1 to 20
	// octets), its key identifier made in another way, its keyUsage not critical (it SHOULD be), and, in a CA, its subject hold attributes
	// that we do not issue.
	Imported Waiver = 2
)

// CheckChild holds a finished certificate to every rule that needs no profile: Lint's, and those between it and its issuer,
// the signature included. For a self-signed certificate child and issuer are the same.
func CheckChild(child, issuer *x509.Certificate, w ...Waiver) error {
	return Edition{}.CheckChild(child, issuer, w...)
}

// CheckChild is the function of that name, by the rules of the edition.
func (e Edition) CheckChild(child, issuer *x509.Certificate, w ...Waiver) error {
	f := findings{subject: describe(child), edition: e}
	lint(&f, child, w...)
	if child == nil || issuer == nil {
		f.add(ruleIssuerCA, "there is no issuer or no certificate")
		return f.err(advice.Unverified)
	}
	checkPair(&f, child, issuer, w)
	checkSignature(&f, child, issuer)
	return f.err(advice.Unverified)
}

func checkSignature(f *findings, child, issuer *x509.Certificate) {
	if err := csr.CheckSignature(issuer.PublicKey, child.SignatureAlgorithm, child.RawTBSCertificate, child.Signature); err != nil {
		f.add(ruleSignature, "%v", err)
	}
}

func checkIssuerRole(f *findings, issuer *x509.Certificate) {
	if !issuer.IsCA || !issuer.BasicConstraintsValid || issuer.KeyUsage&x509.KeyUsageCertSign == 0 {
		f.add(ruleIssuerCA, "%s is not a CA with keyCertSign", describe(issuer))
	}
}

// checkPair holds child to the rules between it and its direct issuer, all but the signature.
func checkPair(f *findings, child, issuer *x509.Certificate, w []Waiver) {
	checkIssuerRole(f, issuer)
	if !bytes.Equal(child.RawIssuer, issuer.RawSubject) {
		f.add(ruleIssuerName, "it names %q, the issuer is %q", child.Issuer, describe(issuer))
	}
	if !fits(issuer.PublicKey, child.SignatureAlgorithm) {
		f.add(ruleAlgorithm, "%v by a key of %s", child.SignatureAlgorithm, csr.KeyAlgorithm(issuer.PublicKey))
	}
	sameName, sameKey := sameSubject(child, issuer), SameKey(child.PublicKey, issuer.PublicKey)
	if sameName && sameKey && bytes.Equal(child.RawTBSCertificate, issuer.RawTBSCertificate) {
		return // self-signed: it is its own issuer, the rest compares two
	}
	if sameName {
		f.add(ruleSubject, "its subject is that of %s", describe(issuer))
	}
	if sameKey {
		f.add(ruleOwnKey, "its key is that of its issuer %s", describe(issuer))
	}
	if !bytes.Equal(child.AuthorityKeyId, issuer.SubjectKeyId) {
		f.add(ruleAKI, "%x, the issuer %s has %x", child.AuthorityKeyId, describe(issuer), issuer.SubjectKeyId)
	}
	if child.IsCA && limit(issuer) >= 0 && (limit(child) < 0 || limit(child) >= limit(issuer)) {
		f.add(rulePathLen, "a CA with path length %s under %s, which has %d", lengthText(child), describe(issuer), limit(issuer))
	}
	if mine, theirs := child.PolicyIdentifiers, issuer.PolicyIdentifiers; len(theirs) > 0 && !containsOID(theirs, anyPolicy) {
		for _, p := range mine {
			if !containsOID(theirs, p) {
				f.add(rulePolicies, "policy %v is not one of %s", p, describe(issuer))
			}
		}
	}
	checkAncestor(f, child, issuer, w)
}

var anyPolicy = asn1.ObjectIdentifier{2, 5, 29, 32, 0}

// checkAncestor holds cert to what binds it under any CA above it, however far.
func checkAncestor(f *findings, cert, above *x509.Certificate, w []Waiver) {
	if cert.NotAfter.After(above.NotAfter) {
		f.add(ruleOutlives, "it ends %s, %s ends %s", cert.NotAfter.Format(time.RFC3339), describe(above), above.NotAfter.Format(time.RFC3339))
	}
	if cert.NotBefore.Before(above.NotBefore) {
		f.add(rulePredates, "it begins %s, %s begins %s", cert.NotBefore.Format(time.RFC3339), describe(above), above.NotBefore.Format(time.RFC3339))
	}
	if n := constraintsOf(above); n != nil {
		n.check(f, cert, above)
	}
	checkUsages(f, cert, above, w)
}

func checkUsages(f *findings, cert, above *x509.Certificate, w []Waiver) {
	allowed := usagesOf(above)
	if len(allowed) == 0 || containsOID(allowed, ekuNames["any"]) || slices.Contains(w, OTAConnect) && otaShape(above) {
		return
	}
	mine := usagesOf(cert)
	if len(mine) == 0 {
		f.add(ruleEKU, "it has none, hence all, and %s is limited", describe(above))
	}
	for _, u := range mine {
		if !containsOID(allowed, u) {
			f.add(ruleEKU, "%s is not one of those of %s", usageName(u), describe(above))
		}
	}
}

func otaShape(c *x509.Certificate) bool {
	eku := usagesOf(c)
	critical := slices.ContainsFunc(c.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(oidEKU) && e.Critical })
	return isSelfIssued(c) && critical && len(eku) == 1 && eku[0].Equal(ekuNames["serverAuth"])
}

func containsOID(list []asn1.ObjectIdentifier, oid asn1.ObjectIdentifier) bool {
	return slices.ContainsFunc(list, oid.Equal)
}

func usageName(oid asn1.ObjectIdentifier) string {
	for name, o := range ekuNames {
		if o.Equal(oid) {
			return name
		}
	}
	return oid.String()
}

// limit is the path length, -1 without one.
func limit(c *x509.Certificate) int {
	if c.MaxPathLen == 0 && !c.MaxPathLenZero {
		return -1
	}
	return c.MaxPathLen
}

func lengthText(c *x509.Certificate) string {
	if limit(c) < 0 {
		return "without limit"
	}
	return strconv.Itoa(limit(c))
}

// sameSubject compares names as people read them: RFC 5280, section 7.1 folds case and spaces, and a string type makes no
// difference.
func sameSubject(a, b *x509.Certificate) bool {
	if bytes.Equal(a.RawSubject, b.RawSubject) {
		return true
	}
	x, errX := csr.ParseName(a.RawSubject)
	y, errY := csr.ParseName(b.RawSubject)
	if errX != nil || errY != nil || len(x) != len(y) {
		return false
	}
	for i := range x {
		if x[i].Type != y[i].Type || !strings.EqualFold(strings.Join(strings.Fields(x[i].Value), " "), strings.Join(strings.Fields(y[i].Value), " ")) {
			return false
		}
	}
	return true
}
