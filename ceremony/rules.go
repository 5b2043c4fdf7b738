package ceremony

import (
	"fmt"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/format"
)

// Rule is a rule of the ceremony itself; package ca has those of certificates and CRLs.
type Rule struct {
	ID   string
	Text string
	// Since is the format of transcripts from which the rule holds: an older ceremony is not held to it.
	Since format.Version
}

// The rules. docs/ASSURANCE.md has a line for each. A rule never becomes stricter: what is asked besides is a new rule,
// with the next minor format as its Since, and is held by Session.hold.
var (
	RuleField      = Rule{"CER-001", "every field of a step is there, and well formed", format.First}
	RuleName       = Rule{"CER-002", "a name means one thing: no key, certificate, CRL or input shares one", format.First}
	RuleReference  = Rule{"CER-003", "a step refers only to what the script, its inputs or an earlier step made", format.First}
	RuleLabel      = Rule{"CER-004", "no key label exists already, in the script or in the token", format.First}
	RuleOutput     = Rule{"CER-005", "no output exists already, and every output folder is writable", format.First}
	RuleDate       = Rule{"CER-006", "dates are absolute, and sane against the time in which the ceremony is held", format.First}
	RuleAsserted   = Rule{"CER-007", "the asserted time lies in the script's window and does not go back", format.First}
	RulePurpose    = Rule{"CER-008", "a key has one purpose", format.First}
	RuleAlgorithm  = Rule{"CER-009", "a key's algorithm is one that its purpose and its readers know", format.First}
	RuleToken      = Rule{"CER-010", "a token is the one that the script names, by label and serial, and can do what is asked", format.First}
	RuleAttributes = Rule{"CER-011", "a key's attributes, read back, are exactly those of its class", format.First}
	RuleOneKey     = Rule{"CER-012", "no two keys are the same key", format.First}
	RuleSerial     = Rule{"CER-013", "no serial number is used twice", format.First}
	RuleCRLNumber  = Rule{"CER-014", "CRL numbers only rise", format.First}
	RuleCRLEntry   = Rule{"CER-015", "a CRL lists what its issuer issued, once each, revoked by the time it is signed", format.First}
	RuleThreshold  = Rule{"CER-016", "a role has at least as many distinct keys as its threshold, and enough of them sign", format.First}
	RuleVersion    = Rule{"CER-017", "versions of metadata rise by one", format.First}
	RuleEarlier    = Rule{"CER-018", "an earlier transcript is verified, of the same environment, and not gone behind", format.First}
	RuleRequest    = Rule{"CER-019", "a certification request proves possession and holds only what its policy allows", format.First}
	RuleQuorum     = Rule{"CER-020", "M of N distinct officers approved this script and these inputs, for this tool, in time", format.First}
	RuleRehearsal  = Rule{"CER-021", "nothing of a rehearsal enters a ceremony", format.First}
	RuleMatch      = Rule{"CER-022", "an imported certificate is for the key that the script names", format.First}
	RuleBackup     = Rule{"CER-023", "only keys of class backup are wrapped, and only by what their token can wrap", format.First}
	RuleWitness    = Rule{"CER-024", "a key that people copy by hand is witnessed by somebody present, and proven to be the same key", format.First}
	RuleAnchor     = Rule{"CER-025", "an imported anchor is the company's own CA, never a public root", format.First}

	RuleIssuer     = Rule{"CER-026", "CRL numbers rise, and what is revoked stays revoked, for an issuer (subject and key), whatever its certificate is called", format.Must("1.1")}
	RuleHeld       = Rule{"CER-027", "what the ceremonies hold is not taken in, or made, a second time", format.Must("1.1")}
	RuleUsed       = Rule{"CER-028", "a number that a ceremony signed, or may have signed, before it was aborted is not used again; only versions of roots are, for clients follow them one by one", format.Must("1.1")}
	RuleRemoves    = Rule{"CER-030", "what a version of trust, or a CRL, removes against the last one is named in the script, and nothing else", format.Must("1.1")}
	RuleSuperseded = Rule{"CER-031", "no script opens a token with shares that others replaced", format.Must("1.1")}
	RuleOneName    = Rule{"CER-032", "the key of a CA has one subject in all ceremonies, compared as RFC 5280 does", format.Must("1.1")}
	RuleRoom       = Rule{"CER-033", "a CRL number leaves room for those to come: it rises by 10^12 at most", format.Must("1.1")}
	RuleLiving     = Rule{"CER-034", "a backup is made with shares whose holders are all in the roster", format.Must("1.1")}
	RuleBirth      = Rule{"CER-035", "a key that is to be born in a TPM is certified by it, and the TPM is of a pinned manufacturer and answered the challenges", format.Must("1.2")}
	RuleRelease    = Rule{"CER-036", "a version of a release is given to one manifest, also by a ceremony that was aborted", format.Must("1.4")}
	RuleRewrap     = Rule{"CER-029", "where shares of a wrapping key replace others, every backup that opens with those is wrapped anew in the same ceremony", format.Must("1.1")}
)

// Rules lists them by id.
func Rules() []Rule {
	return []Rule{
		RuleField, RuleName, RuleReference, RuleLabel, RuleOutput, RuleDate, RuleAsserted, RulePurpose, RuleAlgorithm, RuleToken,
		RuleAttributes, RuleOneKey, RuleSerial, RuleCRLNumber, RuleCRLEntry, RuleThreshold, RuleVersion, RuleEarlier,
		RuleRequest, RuleQuorum, RuleRehearsal, RuleMatch, RuleBackup, RuleWitness, RuleAnchor, RuleIssuer, RuleHeld, RuleUsed, RuleRewrap, RuleRemoves, RuleSuperseded, RuleOneName, RuleRoom, RuleLiving, RuleBirth, RuleRelease,
	}
}

// RuleError says which rule is broken, and how.
type RuleError struct {
	Rule   Rule
	Detail string
	err    error
}

func (e *RuleError) Error() string { return e.Rule.ID + ": " + e.Detail }
func (e *RuleError) Unwrap() error { return e.err }

// refuse makes a rule's error, of kind Refused; format may hold %w. Where what is wrapped says what to do, that is the hint: it helps more
// than the rule's words.
func refuse(r Rule, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	hint := advice.Hint(err)
	if hint == "" {
		hint = "rule " + r.ID + ": " + r.Text
	}
	return advice.Wrap(advice.Refused, &RuleError{r, err.Error(), err}, hint)
}

// malformed is refuse for a field that is missing or not well formed: a usage error.
func malformed(format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return advice.Wrap(advice.Usage, &RuleError{RuleField, err.Error(), err}, "see docs/spec/script.md")
}
