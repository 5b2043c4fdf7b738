package ca

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/format"
)

// Rule is one rule that certificates or CRLs are held to.
type Rule struct {
	ID   string `json:"id"` // CA-001
	Text string `json:"text"`
	// Since is the format of ceremonies from which the rule holds: older ones are not held to it.
	Since format.Version `json:"-"`
}

// The rules. An id never changes its meaning, nor does a rule become stricter: what is asked besides is a new rule with
// the next minor format as its Since. A rule that goes leaves a gap.
var (
	ruleOutlives     = Rule{"CA-001", "no certificate outlives its issuer", format.First}
	rulePredates     = Rule{"CA-002", "no certificate predates its issuer", format.First}
	rulePathLen      = Rule{"CA-003", "path lengths hold and fall: a CA under a limited CA has a smaller limit of its own", format.First}
	ruleConstraints  = Rule{"CA-004", "names and name constraints lie within the name constraints of every CA above", format.First}
	ruleEKU          = Rule{"CA-005", "extended key usages lie within those of every CA above that has any", format.First}
	ruleSubject      = Rule{"CA-006", "no subject equals its issuer's unless the certificate is self-signed", format.First}
	ruleOwnKey       = Rule{"CA-007", "no key certifies itself as a child", format.First}
	ruleAlgorithm    = Rule{"CA-008", "the signature algorithm fits the issuer's key, with SHA-256 or better: P-256 with SHA-256, P-384 with SHA-384, P-521 with SHA-512", format.First}
	ruleSerial       = Rule{"CA-009", "serial numbers are positive and have 19 or 20 octets", format.First}
	ruleKey          = Rule{"CA-010", "keys are P-256, P-384, P-521, Ed25519 or RSA of at least 2048 bits (3072 in a CA), and not known to be weak", format.First}
	ruleVersion      = Rule{"CA-011", "certificates are X.509 v3 without unique identifiers", format.First}
	ruleSKI          = Rule{"CA-012", "a subject key identifier is present and made of the key (RFC 5280 4.2.1.2, RFC 7093)", format.First}
	ruleAKI          = Rule{"CA-013", "the authority key identifier equals the issuer's subject key identifier", format.First}
	ruleBasic        = Rule{"CA-014", "basicConstraints are critical in CAs, and only CAs have CA:TRUE or a path length", format.First}
	ruleKeyUsage     = Rule{"CA-015", "keyUsage is critical; CAs have keyCertSign and cRLSign, nobody else has either", format.First}
	ruleValidity     = Rule{"CA-016", "validity is in UTC whole seconds, encoded as RFC 5280 demands, and ends after it begins", format.First}
	ruleName         = Rule{"CA-017", "subjects are well-formed; leaves have exactly one common name", format.First}
	ruleIssuerCA     = Rule{"CA-018", "the issuer is a CA with keyCertSign", format.First}
	ruleIssuerKey    = Rule{"CA-019", "the issuing key is the key in the issuer's certificate", format.First}
	ruleSignature    = Rule{"CA-020", "the signature verifies under the issuer's key", format.First}
	ruleIssuerName   = Rule{"CA-021", "the issuer's name is the issuer's subject, octet for octet", format.First}
	ruleExtensions   = Rule{"CA-022", "extensions stand once, hold no explicit default, and critical ones are known", format.First}
	ruleMaxValidity  = Rule{"CA-023", "validity is no longer than the profile's maximum", format.First}
	ruleProfileName  = Rule{"CA-024", "the subject meets the profile's name rules", format.First}
	ruleSAN          = Rule{"CA-025", "subject alternative names are well-formed, of a kind that the profile allows, and present if it demands any", format.First}
	ruleProfileKey   = Rule{"CA-026", "the key is of an algorithm that the profile allows", format.First}
	ruleProfileExt   = Rule{"CA-027", "usages, path length and self-signing are those of the profile", format.First}
	ruleRoot         = Rule{"CA-028", "a self-signed certificate is a CA's", format.First}
	rulePolicies     = Rule{"CA-029", "certificate policies lie within the issuer's, if it has any", format.First}
	ruleLeafEKU      = Rule{"CA-030", "leaves name their extended key usages, and never anyExtendedKeyUsage", format.First}
	ruleRole         = Rule{"CA-031", "a certificate of a profile with a role has exactly one URI that names it, and no other certificate has one", format.First}
	ruleCRLIssuer    = Rule{"CA-040", "a CRL's issuer is a CA with cRLSign, named octet for octet, and its key signs with a fitting algorithm", format.First}
	ruleCRLNumber    = Rule{"CA-041", "CRL numbers are positive, of at most 20 octets, and only rise", format.First}
	ruleCRLNext      = Rule{"CA-042", "nextUpdate is present and ahead of thisUpdate, in UTC whole seconds", format.First}
	ruleCRLThis      = Rule{"CA-043", "thisUpdate is not before the previous CRL's (unless a wrong clock dated that one, and an operator said so) and lies within the issuer's validity", format.First}
	ruleCRLEntry     = Rule{"CA-044", "CRL entries stand once, with a positive serial of at most 20 octets and a known reason", format.First}
	ruleCRLTime      = Rule{"CA-045", "CRL entries were revoked at a time not after thisUpdate, in UTC whole seconds", format.First}
	ruleCRLBelongs   = Rule{"CA-046", "CRL entries belong to the issuer", format.First}
	ruleCRLDrop      = Rule{"CA-047", "no revoked entry is dropped or its revocation made later unless it is released by name", format.First}
	ruleCRLForm      = Rule{"CA-048", "a CRL is v2, complete (no delta, no partition), with the issuer's key identifier and a number", format.First}
	ruleCRLSignature = Rule{"CA-049", "a CRL's signature verifies under the issuer's key", format.First}
	ruleAnchor       = Rule{"CA-050", "a chain ends at one of the anchors", format.First}
	ruleNow          = Rule{"CA-051", "every certificate of a chain is valid at the time of the check", format.First}
	ruleLength       = Rule{"CA-052", "a chain has at most 4 certificates, each once", format.First}
)

// Rules lists every rule in order of id.
func Rules() []Rule {
	return []Rule{ruleOutlives, rulePredates, rulePathLen, ruleConstraints, ruleEKU, ruleSubject, ruleOwnKey, ruleAlgorithm,
		ruleSerial, ruleKey, ruleVersion, ruleSKI, ruleAKI, ruleBasic, ruleKeyUsage, ruleValidity, ruleName, ruleIssuerCA,
		ruleIssuerKey, ruleSignature, ruleIssuerName, ruleExtensions, ruleMaxValidity, ruleProfileName, ruleSAN, ruleProfileKey,
		ruleProfileExt, ruleRoot, rulePolicies, ruleLeafEKU, ruleRole, ruleCRLIssuer, ruleCRLNumber, ruleCRLNext, ruleCRLThis,
		ruleCRLEntry, ruleCRLTime, ruleCRLBelongs, ruleCRLDrop, ruleCRLForm, ruleCRLSignature, ruleAnchor, ruleNow, ruleLength}
}

// RuleError says which rule which certificate or CRL breaks.
type RuleError struct {
	Rule    Rule
	Subject string // the certificate or CRL meant, e.g. `CN=Line 1`
	Detail  string // what was found
}

func (e *RuleError) Error() string {
	return fmt.Sprintf("%s: %s: %s (rule: %s)", e.Rule.ID, e.Subject, e.Detail, e.Rule.Text)
}

// Violations lists every *RuleError in err.
func Violations(err error) []*RuleError {
	switch e := err.(type) {
	case nil:
		return nil
	case *RuleError:
		return []*RuleError{e}
	case interface{ Unwrap() []error }:
		var all []*RuleError
		for _, u := range e.Unwrap() {
			all = append(all, Violations(u)...)
		}
		return all
	}
	return Violations(errors.Unwrap(err))
}

// Breaks reports whether err has a violation of the rule with this id.
func Breaks(err error, id string) bool {
	return slices.ContainsFunc(Violations(err), func(e *RuleError) bool { return e.Rule.ID == id })
}

// findings collects violations, so that an officer sees all of them at once.
type findings struct {
	subject string
	// edition leaves out the rules that are newer.
	edition Edition
	list    []error
}

func (f *findings) add(r Rule, detail string, args ...any) {
	if f.edition.format.Before(r.Since) {
		return
	}
	f.list = append(f.list, &RuleError{Rule: r, Subject: f.subject, Detail: fmt.Sprintf(detail, args...)})
}

// err is nil without findings; kind is Refused where something was asked for, Unverified where something exists.
func (f *findings) err(kind advice.Kind) error {
	switch len(f.list) {
	case 0:
		return nil
	case 1:
		return advice.Wrap(kind, f.list[0], ruleHint)
	}
	return advice.Wrap(kind, violations(f.list), ruleHint)
}

const ruleHint = "the rules stand in ASSURANCE.md by their ids; change the request or the profile, never the rule"

type violations []error

func (v violations) Error() string {
	texts := make([]string, len(v))
	for i, e := range v {
		texts[i] = e.Error()
	}
	return strings.Join(texts, "; ")
}

func (v violations) Unwrap() []error { return v }
