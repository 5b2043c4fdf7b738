package trust

import (
	"regexp"
	"slices"
	"time"

	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/journal"
)

// What the officers say of an environment as a whole: its stage, its gateways' names, its logs. Somebody who could change this part would
// have test benches admitted to production, or devices sent to another environment's rules: so it is the officers', and no online role's.

// The formats of policy.json.
const (
	policyFormatFirst       = 1
	policyFormatCRLs        = 2
	policyFormatEnvironment = 3
)

// The stages of an environment.
const (
	Production  = "production"
	Development = "development"
)

// SharedCredentials is the officers' leave for credentials that several test benches share.
type SharedCredentials struct {
	// CA is the one that issues them: the SHA-256 of its SubjectPublicKeyInfo, 64 hex digits. The repository names it.
	CA string `json:"ca"`
	// Until is when the leave ends, in whole seconds UTC.
	Until time.Time `json:"until"`
}

// IssuedBy says whether the leave is for credentials of this CA.
func (s *SharedCredentials) IssuedBy(ca ID) bool { return s != nil && s.CA == ca.String() }

// PolicyLog names a factory's issuance log and the key that signs its checkpoints.
type PolicyLog struct {
	// Origin is the log's.
	Origin string `json:"origin"`
	// Key is its verifier key (C2SP signed-note), of Ed25519 or ECDSA; its name is the origin.
	Key string `json:"key"`
}

// Bounds of the lists.
const (
	MaxGatewayNames = 64
	MaxPolicyLogs   = MaxLogs
)

// Production says whether the environment holds devices that are sold. What is not said to be development is.
func (p Policy) Production() bool { return p.Stage != Development }

// SharedAt is the leave for shared credentials that holds at now; nil if there is none.
func (p Policy) SharedAt(now time.Time) *SharedCredentials {
	if p.Production() || p.SharedCredentials == nil || !now.Before(p.SharedCredentials.Until) {
		return nil
	}
	shared := *p.SharedCredentials
	return &shared
}

// WithFormat is the policy with the format that what it says has.
func (p Policy) WithFormat() Policy {
	p.Format = policyFormatFirst
	if len(p.CRLs) > 0 {
		p.Format = policyFormatCRLs
	}
	if p.Stage != "" || len(p.GatewayNames) > 0 || p.RegisteredOnly || p.SharedCredentials != nil || len(p.Logs) > 0 {
		p.Format = policyFormatEnvironment
	}
	return p
}

func (p Policy) checkEnvironment() error {
	if p.Stage != "" && p.Stage != Production && p.Stage != Development {
		return usage("production or development", "%s: stage %s is unknown", policyTarget, show.Text(p.Stage))
	}
	if len(p.GatewayNames) > MaxGatewayNames {
		return usage("", "%s: more than %d gateway_names", policyTarget, MaxGatewayNames)
	}
	for i, n := range p.GatewayNames {
		if err := CheckGatewayName(n); err != nil {
			return err
		}
		if slices.Contains(p.GatewayNames[:i], n) {
			return usage("name each gateway once", "%s: gateway_names: %s stands twice", policyTarget, show.Text(n))
		}
	}
	if err := p.checkShared(); err != nil {
		return err
	}
	return p.checkLogs()
}

func (p Policy) checkShared() error {
	s := p.SharedCredentials
	if s == nil {
		return nil
	}
	if p.Production() {
		return usage(`only an environment with "stage": "development" may have them`, "%s: shared_credentials in a production environment", policyTarget)
	}
	if _, ok := parseID(s.CA); !ok {
		return usage("name a CA by the SHA-256 of its SubjectPublicKeyInfo, 64 hex digits", "%s: shared_credentials: %s is no CA's id", policyTarget, show.Text(s.CA))
	}
	if s.Until.IsZero() || s.Until.Location() != time.UTC || s.Until.Nanosecond() != 0 {
		return usage("for example 2027-01-31T00:00:00Z", "%s: shared_credentials: until is not a time in whole seconds UTC", policyTarget)
	}
	return nil
}

func (p Policy) checkLogs() error {
	if len(p.Logs) > MaxPolicyLogs {
		return usage("", "%s: more than %d logs", policyTarget, MaxPolicyLogs)
	}
	for i, l := range p.Logs {
		v, err := journal.ParseVerifierKey(l.Key)
		if err != nil {
			return usage("give the log.vkey that hanaperd prints", "%s: logs: %w", policyTarget, err)
		}
		if v.Name() != l.Origin {
			return usage("a log's key has the log's origin as its name", "%s: logs: the key of %s is named %s", policyTarget, show.Text(l.Origin), show.Text(v.Name()))
		}
		if slices.ContainsFunc(p.Logs[:i], func(o PolicyLog) bool { return o.Origin == l.Origin }) {
			return usage("give each log one key", "%s: logs: %s stands twice", policyTarget, show.Text(l.Origin))
		}
	}
	return nil
}

// gatewayName is a host name in lower case (RFC 1123, section 2.1): labels of letters, digits and inner hyphens, the last of which has a letter, so
// that no IP address is one.
var gatewayName = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z]([a-z0-9-]{0,61}[a-z0-9])?$`)

// CheckGatewayName refuses what is no DNS name in lower case, without a dot at its end, as a device says it in SNI (RFC 6066, section 3).
func CheckGatewayName(name string) error {
	if len(name) > 253 || !gatewayName.MatchString(name) {
		return usage("a DNS name in lower case, without wildcards, for example gateway.example.com", "%s: gateway_names: %s is no such name", policyTarget, show.Text(name))
	}
	return nil
}

// logKeyOf is the key that signs the checkpoints of a log; false if the policy names logs, and not this one. It is empty where the policy names none.
func (p Policy) logKeyOf(origin string) (key string, ok bool) {
	for _, l := range p.Logs {
		if l.Origin == origin {
			return l.Key, true
		}
	}
	return "", len(p.Logs) == 0
}
