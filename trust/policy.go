package trust

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/strict"
)

// Policy is what the officers ask of the gateways of an environment (policy.json).
type Policy struct {
	// Format is the lowest that has a word for all that the policy says: 1; 2 with rules for CRLs; 3 with any of the fields below them. Who
	// knows only a lower format refuses such a policy. WithFormat works it out.
	Format int `json:"format"`
	// Environment repeats the repository's.
	Environment string `json:"environment"`
	// KeyTypes are the device key types admitted: "P-256", "P-384", "P-521", "Ed25519", "RSA".
	KeyTypes []string `json:"key_types"`
	// MinRSABits is the least RSA modulus, 2048 to 4096.
	MinRSABits int `json:"min_rsa_bits"`
	// RequireCRL refuses a device unless every CA above its certificate, its own issuer included, has a CRL in the view.
	RequireCRL bool `json:"require_crl"`
	// CRLs are the CAs whose CRL is used beyond its nextUpdate.
	CRLs []CRLRule `json:"crls,omitempty"`

	// Stage is "production" or "development"; left out it is production. See Production.
	Stage string `json:"stage,omitempty"`
	// GatewayNames are the DNS names under which devices reach the environment's gateways (SNI); without any, all of them.
	GatewayNames []string `json:"gateway_names,omitempty"`
	// RegisteredOnly admits only devices that an operator registered before they connected.
	RegisteredOnly bool `json:"registered_only,omitempty"`
	// SharedCredentials lets test benches begin with a credential that they share; nil does not. Only in development.
	SharedCredentials *SharedCredentials `json:"shared_credentials,omitempty"`
	// Logs are the environment's issuance logs. Where there are any, the online role publishes checkpoints of these, signed by their keys,
	// and of no others.
	Logs []PolicyLog `json:"logs,omitempty"`
}

// CRLRule says how long the CRL of a CA is used: for GraceHours after its nextUpdate, or, if it is frozen, until its CA ends. The officers freeze
// the CRL of a CA whose key is gone, and carry it in their part.
type CRLRule struct {
	// CA is the SHA-256 of the CA's SubjectPublicKeyInfo, 64 hex digits.
	CA string `json:"ca"`
	// GraceHours are 1 to MaxGraceHours.
	GraceHours int  `json:"grace_hours,omitempty"`
	Frozen     bool `json:"frozen,omitempty"`
}

// MaxGraceHours bounds a grace: what is revoked meanwhile is not known for as long.
const MaxGraceHours = 90 * 24

// CRLUntil is until when a CRL may be used, by its nextUpdate and the rules.
func (p Policy) CRLUntil(info CRLInfo) time.Time {
	for _, r := range p.CRLs {
		switch id, _ := parseID(r.CA); {
		case id != info.Issuer:
		case r.Frozen:
			return time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
		default:
			return info.NextUpdate.Add(time.Duration(r.GraceHours) * time.Hour)
		}
	}
	return info.NextUpdate
}

func (p Policy) checkCRLs() error {
	for i, r := range p.CRLs {
		if _, ok := parseID(r.CA); !ok {
			return usage("name a CA by the SHA-256 of its SubjectPublicKeyInfo, 64 hex digits", "%s: crls: %s is no CA's id", policyTarget, show.Text(r.CA))
		}
		if slices.ContainsFunc(p.CRLs[:i], func(o CRLRule) bool { return o.CA == r.CA }) {
			return usage("give each CA one rule", "%s: crls: %s stands twice", policyTarget, show.Text(r.CA))
		}
		if r.GraceHours < 0 || r.GraceHours > MaxGraceHours {
			return usage(fmt.Sprintf("1 to %d", MaxGraceHours), "%s: crls: grace_hours is %d", policyTarget, r.GraceHours)
		}
		if (r.GraceHours > 0) == r.Frozen {
			return usage("", "%s: crls: give %s either grace_hours or frozen", policyTarget, show.Text(r.CA))
		}
	}
	return nil
}

// checkRules holds the rules to the CAs, and to the CRLs that the officers' part carries.
func (p Policy) checkRules(named func(ID) bool, carried func(ID) bool) error {
	for _, r := range p.CRLs {
		id, _ := parseID(r.CA)
		if !named(id) {
			return fmt.Errorf("%s: crls: the CA %s is not named", policyTarget, show.Text(r.CA))
		}
		if r.Frozen && !carried(id) {
			return fmt.Errorf("%s: crls: %s is frozen, and has no CRL here", policyTarget, show.Text(r.CA))
		}
	}
	if s := p.SharedCredentials; s != nil {
		if id, _ := parseID(s.CA); !named(id) {
			return fmt.Errorf("%s: shared_credentials: the CA %s is not named", policyTarget, show.Text(s.CA))
		}
	}
	return nil
}

var keyTypes = []string{"P-256", "P-384", "P-521", "Ed25519", "RSA"}

// DefaultPolicy admits every key type, RSA from 2048 bits, and does not ask for a CRL of every CA.
func DefaultPolicy(environment string) Policy {
	return Policy{Format: 1, Environment: environment, KeyTypes: slices.Clone(keyTypes), MinRSABits: 2048}
}

// ParsePolicy reads policy.json: unknown or duplicate keys, unknown key types and repeated ones are refused.
func ParsePolicy(data []byte) (Policy, error) {
	if len(data) > MaxPolicySize {
		return Policy{}, usage("", "%s is larger than %d bytes", policyTarget, MaxPolicySize)
	}
	var p Policy
	if err := strict.JSON(policyTarget, data, &p); err != nil {
		return Policy{}, err
	}
	return p, p.check()
}

func (p Policy) check() error {
	if p.Format < 1 || p.Format > policyFormatEnvironment {
		return usage("use a release that knows this format", "%s: format %d is unknown", policyTarget, p.Format)
	}
	if want := p.WithFormat().Format; p.Format != want {
		return usage("rules for CRLs are format 2; stage, gateway_names, registered_only, shared_credentials and logs are format 3",
			"%s: what it says is format %d, and it names format %d", policyTarget, want, p.Format)
	}
	if err := CheckEnvironment(p.Environment); err != nil {
		return err
	}
	if len(p.KeyTypes) == 0 {
		return usage("list the key types that devices may have", "%s: key_types is empty: no device could be admitted", policyTarget)
	}
	for i, t := range p.KeyTypes {
		if !slices.Contains(keyTypes, t) {
			return usage("known are P-256, P-384, P-521, Ed25519 and RSA", "%s: key type %q is unknown", policyTarget, t)
		}
		if slices.Contains(p.KeyTypes[:i], t) {
			return usage("name each key type once", "%s: key type %q stands twice", policyTarget, t)
		}
	}
	if p.MinRSABits < 2048 || p.MinRSABits > 4096 {
		return usage("2048 to 4096", "%s: min_rsa_bits is %d", policyTarget, p.MinRSABits)
	}
	if err := p.checkCRLs(); err != nil {
		return err
	}
	return p.checkEnvironment()
}

// AllowsKey says whether the policy admits a device with this public key.
func (p Policy) AllowsKey(pub crypto.PublicKey) bool {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		return slices.Contains(p.KeyTypes, k.Curve.Params().Name)
	case ed25519.PublicKey:
		return slices.Contains(p.KeyTypes, "Ed25519")
	case *rsa.PublicKey:
		return slices.Contains(p.KeyTypes, "RSA") && k.N.BitLen() >= p.MinRSABits
	}
	return false
}

func (p Policy) marshal() ([]byte, error) { return json.MarshalIndent(p, "", "  ") }

func (p Policy) clone() Policy {
	p.KeyTypes, p.CRLs = slices.Clone(p.KeyTypes), slices.Clone(p.CRLs)
	p.GatewayNames, p.Logs = slices.Clone(p.GatewayNames), slices.Clone(p.Logs)
	if p.SharedCredentials != nil {
		shared := *p.SharedCredentials
		p.SharedCredentials = &shared
	}
	return p
}
