// Package ca turns a profile and a request into a certificate or a CRL.
package ca

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"net/url"
	"time"
)

var errTODO = errors.New("ca: not written yet")

// Rule is one hierarchy or profile rule.
type Rule struct {
	ID   string // CA-001
	Text string
}

// RuleError says which rule which certificate or CRL breaks.
type RuleError struct {
	Rule    Rule
	Subject string // the certificate or CRL meant, e.g. `CN=Line 1`
	Detail  string
}

func (e *RuleError) Error() string { return e.Rule.ID + ": " + e.Subject + ": " + e.Detail }

// Rules lists every rule by id.
func Rules() []Rule { return nil }

// Violations collects every *RuleError in err (which may be an errors.Join of several).
func Violations(err error) []*RuleError { return nil }

// ProfileConfig is a certificate profile as data.
type ProfileConfig struct {
	Name string `yaml:"name"`
}

// Profile says what a kind of certificate holds.
type Profile struct{ name string }

// NewProfile checks the configuration.
func NewProfile(c ProfileConfig) (*Profile, error) { return nil, errTODO }

// ParseProfile reads a profile from strict YAML; name is used in errors.
func ParseProfile(name string, data []byte) (*Profile, error) { return nil, errTODO }

// Builtin returns a built-in profile.
func Builtin(name string) (*Profile, error) { return nil, errTODO }

// BuiltinConfig returns the data of a built-in profile, to be changed and given to NewProfile.
func BuiltinConfig(name string) (ProfileConfig, error) { return ProfileConfig{}, errTODO }

// Builtins lists the names of the built-in profiles.
func Builtins() []string { return nil }

// Name is the profile's name.
func (p *Profile) Name() string { return p.name }

// Warning is what a user of this profile must know, empty for most.
func (p *Profile) Warning() string { return "" }

// IsCA is true for a profile of CA certificates.
func (p *Profile) IsCA() bool { return false }

// Template is a request for a certificate.
type Template struct {
	Subject pkix.Name
	// RawSubject is the subject's DER and takes the place of Subject: for a cross-certificate, whose subject must be
	// that of the existing CA byte for byte.
	RawSubject     []byte
	PublicKey      crypto.PublicKey
	DNSNames       []string
	EmailAddresses []string
	IPs            []net.IP
	URIs           []*url.URL
	// NotBefore and NotAfter are cut to UTC seconds.
	NotBefore, NotAfter time.Time
	// Serial nil means a fresh random one of 20 octets.
	Serial *big.Int
	// PathLen, CRLURLs, OCSPURLs and IssuerURLs take the place of the profile's when not nil; a path length may only be shorter.
	PathLen                       *int
	CRLURLs, OCSPURLs, IssuerURLs []string
	// Constraints takes the place of the profile's name constraints.
	Constraints *NameConstraints
}

// NameConstraints are RFC 5280, section 4.2.1.10; always critical.
type NameConstraints struct {
	PermittedDNS   []string `yaml:"permitted_dns"`
	ExcludedDNS    []string `yaml:"excluded_dns"`
	PermittedIP    []string `yaml:"permitted_ip"` // CIDR
	ExcludedIP     []string `yaml:"excluded_ip"`
	PermittedEmail []string `yaml:"permitted_email"`
	ExcludedEmail  []string `yaml:"excluded_email"`
	PermittedURI   []string `yaml:"permitted_uri"` // host or .domain
	ExcludedURI    []string `yaml:"excluded_uri"`
}

// Issuer is a CA certificate and its key.
type Issuer struct {
	cert      *x509.Certificate
	key       crypto.Signer
	ancestors []*x509.Certificate
}

// NewIssuer checks that cert is a CA's and that key is its key. Ancestors, nearest first, are the certificates above
// cert, so that their constraints are held to as well.
func NewIssuer(cert *x509.Certificate, key crypto.Signer, ancestors ...*x509.Certificate) (*Issuer, error) {
	return nil, errTODO
}

// Certificate is the issuer's certificate.
func (i *Issuer) Certificate() *x509.Certificate { return i.cert }

// Prepare builds the certificate and holds it to every rule. Nothing is signed.
func (i *Issuer) Prepare(p *Profile, t Template, rand io.Reader) (*Prepared, error) {
	return nil, errTODO
}

// PrepareRoot is Prepare for a self-signed certificate; t.PublicKey may be nil.
func PrepareRoot(p *Profile, t Template, key crypto.Signer, rand io.Reader) (*Prepared, error) {
	return nil, errTODO
}

// Prepared is a certificate that met every rule and may be signed once.
type Prepared struct{ specimen *x509.Certificate }

// Serial is the serial number that the certificate will have.
func (p *Prepared) Serial() *big.Int { return nil }

// TBSDigest is the SHA-256 of the DER that will be signed.
func (p *Prepared) TBSDigest() [32]byte { return [32]byte{} }

// Specimen is the certificate with a signature that no key made.
func (p *Prepared) Specimen() *x509.Certificate { return p.specimen }

// Warnings are what a user must know, e.g. that common TLS software will refuse what is under this root.
func (p *Prepared) Warnings() []string { return nil }

// Sign signs once.
func (p *Prepared) Sign(rand io.Reader) (*x509.Certificate, error) { return nil, errTODO }

// CRLTemplate is a request for a CRL.
type CRLTemplate struct {
	Number                 *big.Int
	ThisUpdate, NextUpdate time.Time
	Entries                []x509.RevocationListEntry
	// Released are serials of the previous CRL that may be missing from this one.
	Released []*big.Int
	// Issued reports whether this issuer issued a serial; nil means not known.
	Issued func(serial *big.Int) bool
}

// PrepareCRL builds the CRL and holds it to every rule; previous is nil for the first.
func (i *Issuer) PrepareCRL(t CRLTemplate, previous *x509.RevocationList) (*PreparedCRL, error) {
	return nil, errTODO
}

// PreparedCRL is a CRL that met every rule and may be signed once.
type PreparedCRL struct{ specimen *x509.RevocationList }

// Number is the CRL number.
func (p *PreparedCRL) Number() *big.Int { return nil }

// TBSDigest is the SHA-256 of the DER that will be signed.
func (p *PreparedCRL) TBSDigest() [32]byte { return [32]byte{} }

// Specimen is the CRL with a signature that no key made.
func (p *PreparedCRL) Specimen() *x509.RevocationList { return p.specimen }

// Sign signs once.
func (p *PreparedCRL) Sign(rand io.Reader) (*x509.RevocationList, error) { return nil, errTODO }

// Waiver sets a rule aside for a stated case.
type Waiver int

// OTAConnect waives extended key usage nesting (and only that) under a root of the shape of profile ota-connect-root.
const OTAConnect Waiver = 1

// Lint holds one finished certificate to all rules that need no issuer.
func Lint(cert *x509.Certificate) error { return errTODO }

// LintCRL holds a finished CRL to all rules that need no issuer.
func LintCRL(crl *x509.RevocationList) error { return errTODO }

// CheckChild holds a finished certificate to every rule, Lint's and those between it and its issuer, the signature
// included. For a self-signed certificate child and issuer are the same.
func CheckChild(child, issuer *x509.Certificate, w ...Waiver) error { return errTODO }

// CheckCRL holds a finished CRL to every rule against its issuer and (unless nil) its predecessor.
func CheckCRL(crl *x509.RevocationList, issuer *x509.Certificate, previous *x509.RevocationList, released ...*big.Int) error {
	return errTODO
}

// Verify checks a chain, leaf first, up to one of roots, at time now, by every rule.
func Verify(chain, roots []*x509.Certificate, now time.Time, w ...Waiver) error { return errTODO }

// CheckKeyMatches returns a *RuleError unless pub is cert's key.
func CheckKeyMatches(cert *x509.Certificate, pub crypto.PublicKey) error { return errTODO }

// SameKey is true if both are the same public key.
func SameKey(a, b crypto.PublicKey) bool { return false }

// StationURI is urn:hanaper:station:NAME.
func StationURI(name string) *url.URL { return nil }

// OperatorURI is urn:hanaper:operator:NAME.
func OperatorURI(name string) *url.URL { return nil }

// The roles that RoleOf knows.
const (
	RoleStation  = "station"
	RoleOperator = "operator"
)

// RoleOf reads the one role in a certificate's URI SANs.
func RoleOf(cert *x509.Certificate) (role, name string, err error) { return "", "", errTODO }

// SpecimenKey returns a throw-away key for rehearsing a hierarchy whose real keys do not exist yet: the same for the
// same algorithm (P-256, P-384, P-521, Ed25519, RSA-2048, RSA-3072, RSA-4096) and name within the process.
func SpecimenKey(algorithm, name string) (crypto.Signer, error) { return nil, errTODO }
