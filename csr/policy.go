package csr

import (
	"regexp"
	"slices"

	"github.com/hanaper/hanaper/internal/format"
)

// PolicyConfig is a Policy as data.
type PolicyConfig struct {
	// KeyAlgorithms that may be certified: P-256, P-384, P-521, Ed25519, RSA-2048, RSA-3072, RSA-4096. At least one.
	KeyAlgorithms []string `yaml:"key_algorithms"`
	// Attributes of the subject that may stand beside the one CN, by short name: C, O, OU, L, ST, DC, serialNumber,
	// emailAddress and the others of RFC 5280. None by default.
	Attributes []string `yaml:"attributes"`
	// CommonName is a regular expression (RE2) that the whole CN must match; empty means any. Whatever it says, a CN has
	// 1 to 64 printable characters and neither slash, backslash nor "..".
	CommonName string `yaml:"common_name"`
	// SANs are the kinds of subject alternative name that may be asked for: dns, ip, email, uri. None by default; other
	// kinds are never allowed.
	SANs []string `yaml:"sans"`
	// Extensions that may be asked for besides subjectAltName: basicConstraints, keyUsage, extKeyUsage,
	// subjectKeyIdentifier. They are read for form and otherwise ignored: the issuing profile sets the extensions.
	Extensions []string `yaml:"extensions"`
	// Ignored are what may be asked for, must be well-formed, and is left out of account; Request.Ignored lists what was: short names of subject
	// attributes, the kinds of subject alternative name, the extensions above, challengePassword, unstructuredName, and dotted object
	// identifiers of extensions and request attributes that Hanaper does not know.
	Ignored []string `yaml:"ignored"`
	// CA allows basicConstraints that ask for a CA.
	CA bool `yaml:"ca"`
	// OneExponent asks of RSA keys for the exponent 65537, so that a key has one SubjectPublicKeyInfo: the same modulus with another exponent is
	// the same key, for whoever holds the one holds the other, and would have another digest.
	OneExponent bool `yaml:"one_exponent"`
	// Evidence allows the attribute with evidence of where the key was born (draft-ietf-lamps-csr-attestation). Whoever allows it must
	// look at it, or say that it is ignored.
	Evidence bool `yaml:"evidence"`
}

// Policy says what a request may hold.
type Policy struct {
	algorithms, attributes, extensions, ignored map[string]bool
	sans                                        [numKinds]bool
	cn                                          *regexp.Regexp
	ca, evidence, ignoresAll, oneExponent       bool
	// renewal allows the proof by an old key; ForRenewal sets it.
	renewal bool
	// asOf leaves out what is known to be weak only since a newer format of ceremonies.
	asOf format.Version
}

// AsOf is the policy as it was when a format of ceremonies was the newest: keys that were found to be weak later pass.
func (p *Policy) AsOf(v format.Version) *Policy {
	old := *p
	old.asOf = v
	return &old
}

// KeyAlgorithms lists the keys that may be certified, in the order of PolicyConfig.
func (p *Policy) KeyAlgorithms() []string {
	return slices.DeleteFunc(slices.Clone(keyAlgorithms), func(name string) bool { return !p.algorithms[name] })
}

// TakesEvidence says that a request may hold evidence of where its key was born.
func (p *Policy) TakesEvidence() bool { return p.evidence }

// DeviceName is the pattern of common names in the default policies for devices, stations and operators.
const DeviceName = `[A-Za-z0-9][A-Za-z0-9._:@=+-]*`

var keyAlgorithms = []string{"P-256", "P-384", "P-521", "Ed25519", "RSA-2048", "RSA-3072", "RSA-4096"}

// NewPolicy checks the configuration.
func NewPolicy(c PolicyConfig) (*Policy, error) {
	p := &Policy{algorithms: set(c.KeyAlgorithms), attributes: set(c.Attributes), extensions: set(c.Extensions), ignored: set(c.Ignored), ca: c.CA,
		evidence: c.Evidence, oneExponent: c.OneExponent}
	if len(c.KeyAlgorithms) == 0 {
		return nil, refuse(ErrPolicy, "key_algorithms is empty")
	}
	for _, a := range c.KeyAlgorithms {
		if !slices.Contains(keyAlgorithms, a) {
			return nil, refuse(ErrPolicy, "key algorithm %q is not one of %v", a, keyAlgorithms)
		}
	}
	for _, a := range c.Attributes {
		if !KnownAttribute(a) || a == "CN" {
			return nil, refuse(ErrPolicy, "attributes: %q is not the short name of an attribute besides CN", a)
		}
	}
	for _, s := range c.SANs {
		kind := slices.Index(kindNames[:], s)
		if kind < 0 || !parsedKinds[kind] {
			return nil, refuse(ErrPolicy, "sans: %q is not dns, ip, email or uri", s)
		}
		p.sans[kind] = true
	}
	for _, e := range c.Extensions {
		if _, ok := extensionForms[e]; !ok {
			return nil, refuse(ErrPolicy, "extensions: %q is not basicConstraints, keyUsage, extKeyUsage or subjectKeyIdentifier", e)
		}
	}
	for _, i := range c.Ignored {
		if !Askable(i) {
			return nil, refuse(ErrPolicy, "ignored: %q is neither a name of what a request can ask for nor an object identifier", i)
		}
		if p.attributes[i] || p.extensions[i] || slices.Contains(c.SANs, i) {
			return nil, refuse(ErrPolicy, "%q is both allowed and ignored", i)
		}
		if kind := slices.Index(kindNames[:], i); kind >= 0 {
			p.sans[kind] = true
		}
	}
	if c.CommonName != "" {
		re, err := regexp.Compile(`\A(?:` + c.CommonName + `)\z`)
		if err != nil {
			return nil, refuse(ErrPolicy, "common_name: %w", err)
		}
		p.cn = re
	}
	return p, nil
}

// DevicePolicy is the strict default for devices: one CN and nothing else.
func DevicePolicy() *Policy {
	return builtin(PolicyConfig{KeyAlgorithms: keyAlgorithms, CommonName: DeviceName, OneExponent: true})
}

// AttestedDevicePolicy is DevicePolicy, and evidence of where the key was born may stand in the request.
func AttestedDevicePolicy() *Policy {
	return builtin(PolicyConfig{KeyAlgorithms: keyAlgorithms, CommonName: DeviceName, Evidence: true, OneExponent: true})
}

// KeptPolicy is for requests that were certified already, by whatever profile: it ignores whatever a profile can take or ignore. One CN, a
// key that is not weak, and the proof of possession are asked for all the same.
func KeptPolicy() *Policy {
	p := builtin(PolicyConfig{KeyAlgorithms: keyAlgorithms, Evidence: true})
	p.ignoresAll = true
	for kind := range p.sans {
		p.sans[kind] = parsedKinds[kind]
	}
	return p
}

// ClientPolicy is for stations and operators: one CN, organisation and unit; the role's URI comes from the ceremony.
func ClientPolicy() *Policy {
	return builtin(PolicyConfig{KeyAlgorithms: keyAlgorithms, CommonName: DeviceName, Attributes: []string{"C", "O", "OU"}})
}

// ServerPolicy is for TLS servers: one CN, organisation, DNS and IP names.
func ServerPolicy() *Policy {
	return builtin(PolicyConfig{KeyAlgorithms: keyAlgorithms, Attributes: []string{"C", "O", "OU", "L", "ST"}, SANs: []string{"dns", "ip"},
		Extensions: []string{"keyUsage", "extKeyUsage", "basicConstraints"}})
}

// CAPolicy is for subordinate CAs: one CN and the usual attributes; the extensions of a CA may be asked for.
func CAPolicy() *Policy {
	return builtin(PolicyConfig{KeyAlgorithms: []string{"P-256", "P-384", "P-521", "Ed25519", "RSA-3072", "RSA-4096"},
		Attributes: []string{"C", "O", "OU", "L", "ST", "DC", "serialNumber", "organizationIdentifier"},
		Extensions: []string{"keyUsage", "basicConstraints", "subjectKeyIdentifier"}, CA: true})
}

func builtin(c PolicyConfig) *Policy {
	p, err := NewPolicy(c)
	if err != nil {
		panic(err) // a constant of this file; TestBuiltinPolicies makes each
	}
	return p
}

func set(names []string) map[string]bool {
	m := make(map[string]bool, len(names))
	for _, n := range names {
		m[n] = true
	}
	return m
}

// checkName holds the subject to the policy and returns its CN.
func (p *Policy) checkName(r *Request) (cn string, err error) {
	attrs := r.attrs
	found := 0
	for _, a := range attrs {
		if a.Type == "CN" {
			cn = a.Value
			found++
		}
	}
	if found == 0 {
		return "", refuse(ErrNoCommonName, "%d other attributes", len(attrs))
	}
	if found > 1 {
		return "", refuse(ErrCommonNames, "%d of them", found)
	}
	for _, a := range attrs {
		switch {
		case a.Type == "CN":
		case !p.attributes[a.Type] && !p.ignores(a.Type):
			return "", refuseAnd("leave "+a.Type+" out of the subject (openssl: -subj /CN=ID), or have the profile take or ignore it (asks: "+a.Type+")", ErrSubject, "%s", a.Type)
		default:
			p.note(r, a.Type, a.Value)
		}
	}
	if err := CheckCommonName(cn); err != nil {
		return "", err
	}
	if p.cn != nil && !p.cn.MatchString(cn) {
		return "", refuseAnd("put an id of that form into the CN", ErrCommonName, "%q does not match %s", cn, p.cn)
	}
	return cn, nil
}
