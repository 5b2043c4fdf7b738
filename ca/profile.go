package ca

import (
	"crypto/x509"
	"encoding/asn1"
	"net/url"
	"regexp"
	"slices"
	"strconv"

	"github.com/hanaper/hanaper/csr"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/strict"
)

// ProfileConfig is a certificate profile as data.
type ProfileConfig struct {
	// Name of the profile, for messages and transcripts.
	Name string `yaml:"name"`
	// CA makes certificates of CAs. SelfSigned makes roots, which sign themselves; only CAs can.
	CA         bool `yaml:"ca"`
	SelfSigned bool `yaml:"self_signed"`
	// KeyUsage bits by their names in RFC 5280: digitalSignature, contentCommitment, keyEncipherment, dataEncipherment,
	// keyAgreement, keyCertSign, cRLSign. Always critical. CAs must have the last two, others may not.
	KeyUsage []string `yaml:"key_usage"`
	// ExtKeyUsage by name (serverAuth, clientAuth, codeSigning, emailProtection, timeStamping, OCSPSigning) or dotted
	// object identifier. Leaves must have at least one.
	ExtKeyUsage         []string `yaml:"ext_key_usage"`
	ExtKeyUsageCritical bool     `yaml:"ext_key_usage_critical"`
	// Policies are certificate policies as dotted object identifiers.
	Policies []string `yaml:"policies"`
	// CPS are URLs (http or https) of certification practice statements, by the policy that each is about.
	CPS map[string]string `yaml:"cps"`
	// CRLURLs, OCSPURLs and IssuerURLs (http or https) go into cRLDistributionPoints and authorityInfoAccess.
	CRLURLs    []string `yaml:"crl_urls"`
	OCSPURLs   []string `yaml:"ocsp_urls"`
	IssuerURLs []string `yaml:"issuer_urls"`
	// MaxValidityDays is the longest validity, in days of 24 hours. Required.
	MaxValidityDays int `yaml:"max_validity_days"`
	// PathLen is the number of CAs that may stand between this one and a leaf; absent means without limit.
	PathLen *int `yaml:"path_len,omitempty"`
	// NameConstraints of a CA; a Template may bring its own.
	NameConstraints *NameConstraints `yaml:"name_constraints,omitempty"`
	// RequiredAttributes and AllowedAttributes are those of the subject besides CN, by short name (O, OU, C, ...).
	RequiredAttributes []string `yaml:"required_attributes"`
	AllowedAttributes  []string `yaml:"allowed_attributes"`
	// CommonName is a regular expression (RE2) that the whole CN must match; empty means any well-formed one.
	CommonName string `yaml:"common_name"`
	// SANs are the kinds of subject alternative name allowed: dns, ip, email, uri. RequireSAN demands at least one.
	SANs       []string `yaml:"sans"`
	RequireSAN bool     `yaml:"require_san"`
	// Role is station or operator: the one URI then names the role, urn:hanaper:ROLE:NAME.
	Role string `yaml:"role"`
	// KeyAlgorithms that may be certified: P-256, P-384, P-521, Ed25519, RSA-2048 (not in CAs), RSA-3072, RSA-4096.
	KeyAlgorithms []string `yaml:"key_algorithms"`
	// SignatureAlgorithm to sign with when the issuer's key is RSA: SHA256-RSA (the default), SHA384-RSA, SHA512-RSA,
	// SHA256-RSAPSS, SHA384-RSAPSS or SHA512-RSAPSS. Other keys have one that fits.
	SignatureAlgorithm string `yaml:"signature_algorithm"`
	// OTAConnect allows this certificate under a root of profile ota-connect-root although its usages do not nest.
	OTAConnect bool `yaml:"ota_connect"`
	// Warning is shown to whoever uses the profile.
	Warning string `yaml:"warning"`
}

// Profile says what one kind of certificate holds.
type Profile struct {
	c           ProfileConfig
	usage       x509.KeyUsage
	eku         []asn1.ObjectIdentifier
	policies    []asn1.ObjectIdentifier
	constraints *constraints
	cn          *regexp.Regexp
	sigAlg      x509.SignatureAlgorithm
}

var keyUsageNames = []string{"digitalSignature", "contentCommitment", "keyEncipherment", "dataEncipherment", "keyAgreement", "keyCertSign", "cRLSign"}

var ekuNames = map[string]asn1.ObjectIdentifier{
	"any":             {2, 5, 29, 37, 0},
	"serverAuth":      {1, 3, 6, 1, 5, 5, 7, 3, 1},
	"clientAuth":      {1, 3, 6, 1, 5, 5, 7, 3, 2},
	"codeSigning":     {1, 3, 6, 1, 5, 5, 7, 3, 3},
	"emailProtection": {1, 3, 6, 1, 5, 5, 7, 3, 4},
	"timeStamping":    {1, 3, 6, 1, 5, 5, 7, 3, 8},
	"OCSPSigning":     {1, 3, 6, 1, 5, 5, 7, 3, 9},
}

var rsaSignatures = []x509.SignatureAlgorithm{x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA,
	x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS}

const maxDays = 100 * 366

func badProfile(name, format string, args ...any) error {
	return advice.New(advice.Usage, "mend the profile", "ca: profile %q: "+format, append([]any{name}, args...)...)
}

// ParseProfile reads a profile from strict YAML; name is used in errors.
func ParseProfile(name string, data []byte) (*Profile, error) {
	var c ProfileConfig
	if err := strict.Unmarshal(name, data, &c); err != nil {
		return nil, err
	}
	return NewProfile(c)
}

// NewProfile checks the configuration.
func NewProfile(c ProfileConfig) (*Profile, error) {
	p := &Profile{c: c}
	if c.Name == "" || len(c.Name) > 64 {
		return nil, badProfile(c.Name, "name is empty or longer than 64 characters")
	}
	for _, read := range []func(*Profile) error{readUsages, readShape, readNames, readKeys, readURLs} {
		if err := read(p); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func readUsages(p *Profile) error {
	c := p.c
	for _, u := range c.KeyUsage {
		bit := slices.Index(keyUsageNames, u)
		if bit < 0 {
			return badProfile(c.Name, "key_usage %q is not one of %v", u, keyUsageNames)
		}
		p.usage |= 1 << bit
	}
	const ca = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	switch {
	case p.usage == 0:
		return badProfile(c.Name, "key_usage is empty")
	case c.CA && p.usage&ca != ca:
		return badProfile(c.Name, "a ca needs key_usage keyCertSign and cRLSign")
	case !c.CA && p.usage&ca != 0:
		return badProfile(c.Name, "key_usage keyCertSign and cRLSign are for a ca only")
	case !c.CA && len(c.ExtKeyUsage) == 0:
		return badProfile(c.Name, "ext_key_usage is empty: a leaf names what it is for")
	}
	for _, name := range c.ExtKeyUsage {
		oid, ok := ekuNames[name]
		if !ok {
			var err error
			if oid, err = parseOID(name); err != nil {
				return badProfile(c.Name, "ext_key_usage %q is neither a known name nor an object identifier", name)
			}
		}
		if oid.Equal(ekuNames["any"]) {
			return badProfile(c.Name, "ext_key_usage any is never issued")
		}
		p.eku = append(p.eku, oid)
	}
	for _, s := range c.Policies {
		oid, err := parseOID(s)
		if err != nil {
			return badProfile(c.Name, "policy %q is not an object identifier", s)
		}
		p.policies = append(p.policies, oid)
	}
	for policy, u := range c.CPS {
		if !slices.Contains(c.Policies, policy) {
			return badProfile(c.Name, "cps is about %q, which is not one of the policies", policy)
		}
		if err := checkURL(u); err != nil {
			return badProfile(c.Name, "cps: %w", err)
		}
	}
	return nil
}

func readShape(p *Profile) error {
	c := p.c
	switch {
	case c.SelfSigned && !c.CA:
		return badProfile(c.Name, "self_signed is for a ca only")
	case c.PathLen != nil && (!c.CA || *c.PathLen < 0 || *c.PathLen > 8):
		return badProfile(c.Name, "path_len is for a ca only, 0 to 8")
	case c.MaxValidityDays <= 0 || c.MaxValidityDays > maxDays:
		return badProfile(c.Name, "max_validity_days is not 1 to %d", maxDays)
	case c.NameConstraints != nil && !c.CA:
		return badProfile(c.Name, "name_constraints are for a ca only")
	case c.Role != "" && !slices.Contains(Roles(), c.Role):
		return badProfile(c.Name, "role %q is none of %v", c.Role, show.List(Roles()))
	case c.Role != "" && (c.CA || !slices.Contains(c.SANs, "uri")):
		return badProfile(c.Name, "a role needs sans: [uri] and is not for a ca")
	}
	if c.NameConstraints != nil {
		nc, err := c.NameConstraints.parse()
		if err != nil {
			return badProfile(c.Name, "name_constraints: %w", err)
		}
		p.constraints = nc
	}
	return nil
}

func readNames(p *Profile) error {
	c := p.c
	for _, a := range slices.Concat(c.RequiredAttributes, c.AllowedAttributes) {
		if a == "CN" || !csr.KnownAttribute(a) {
			return badProfile(c.Name, "%q is not the short name of an attribute besides CN", a)
		}
	}
	for _, s := range c.SANs {
		if !slices.Contains([]string{"dns", "ip", "email", "uri"}, s) {
			return badProfile(c.Name, "sans: %q is not dns, ip, email or uri", s)
		}
	}
	if c.RequireSAN && len(c.SANs) == 0 {
		return badProfile(c.Name, "require_san without sans")
	}
	if c.CommonName != "" {
		re, err := regexp.Compile(`\A(?:` + c.CommonName + `)\z`)
		if err != nil {
			return badProfile(c.Name, "common_name: %w", err)
		}
		p.cn = re
	}
	return nil
}

var keyAlgorithms = []string{"P-256", "P-384", "P-521", "Ed25519", "RSA-2048", "RSA-3072", "RSA-4096"}

func readKeys(p *Profile) error {
	c := p.c
	if len(c.KeyAlgorithms) == 0 {
		return badProfile(c.Name, "key_algorithms is empty")
	}
	for _, a := range c.KeyAlgorithms {
		if !slices.Contains(keyAlgorithms, a) {
			return badProfile(c.Name, "key algorithm %q is not one of %v", a, keyAlgorithms)
		}
		if c.CA && a == "RSA-2048" {
			return badProfile(c.Name, "RSA-2048 is too weak for a ca")
		}
	}
	if c.SignatureAlgorithm != "" {
		i := slices.IndexFunc(rsaSignatures, func(a x509.SignatureAlgorithm) bool { return a.String() == c.SignatureAlgorithm })
		if i < 0 {
			return badProfile(c.Name, "signature_algorithm %q is not one of %v", c.SignatureAlgorithm, rsaSignatures)
		}
		p.sigAlg = rsaSignatures[i]
	}
	return nil
}

func readURLs(p *Profile) error {
	for _, s := range slices.Concat(p.c.CRLURLs, p.c.OCSPURLs, p.c.IssuerURLs) {
		if err := checkURL(s); err != nil {
			return badProfile(p.c.Name, "%w", err)
		}
	}
	return nil
}

func checkURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.String() != s || len(s) > 512 {
		return advice.New(advice.Usage, "give an absolute http or https URL in its canonical form", "%q is not an http or https URL", s)
	}
	return nil
}

// Name is the profile's name.
func (p *Profile) Name() string { return p.c.Name }

// String is the profile's name in messages.
func (p *Profile) String() string {
	if p == nil {
		return "(none)"
	}
	return strconv.Quote(p.c.Name)
}

// Warning is what a user of this profile must know, empty for most.
func (p *Profile) Warning() string { return p.c.Warning }

// IsCA is true for a profile of CA certificates.
func (p *Profile) IsCA() bool { return p.c.CA }

// SelfSigned is true for a profile of roots.
func (p *Profile) SelfSigned() bool { return p.c.SelfSigned }

// Role is station, operator or empty.
func (p *Profile) Role() string { return p.c.Role }

// MaxValidityDays is the longest validity in days.
func (p *Profile) MaxValidityDays() int { return p.c.MaxValidityDays }

// Config is the data that the profile was made of.
func (p *Profile) Config() ProfileConfig { return p.c }
