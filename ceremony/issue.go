package ceremony

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
)

const kindProfile = "profile"

var _ = register[profileLeaf](kindProfile)

// profileLeaf: all that the profile of a certificate says, so that a later release, whose built-in profiles may say
// something else, holds the certificate to what was meant.
type profileLeaf struct {
	Head
	For                 string            `json:"for"`
	Profile             string            `json:"profile"`
	CA                  bool              `json:"ca"`
	SelfSigned          bool              `json:"self_signed"`
	KeyUsage            []string          `json:"key_usage"`
	ExtKeyUsage         []string          `json:"ext_key_usage,omitempty"`
	ExtKeyUsageCritical bool              `json:"ext_key_usage_critical,omitempty"`
	Policies            []string          `json:"policies,omitempty"`
	CPS                 map[string]string `json:"cps,omitempty"`
	CRLURLs             []string          `json:"crl_urls,omitempty"`
	OCSPURLs            []string          `json:"ocsp_urls,omitempty"`
	IssuerURLs          []string          `json:"issuer_urls,omitempty"`
	MaxValidityDays     int               `json:"max_validity_days"`
	PathLen             *int              `json:"path_length,omitempty"`
	NameConstraints     *nameConstraints  `json:"name_constraints,omitempty"`
	RequiredAttributes  []string          `json:"required_attributes,omitempty"`
	AllowedAttributes   []string          `json:"allowed_attributes,omitempty"`
	CommonName          string            `json:"common_name,omitempty"`
	SANs                []string          `json:"sans,omitempty"`
	RequireSAN          bool              `json:"require_san,omitempty"`
	Role                string            `json:"role,omitempty"`
	KeyAlgorithms       []string          `json:"key_algorithms"`
	SignatureAlgorithm  string            `json:"signature_algorithm,omitempty"`
	OTAConnect          bool              `json:"ota_connect,omitempty"`
}

type nameConstraints struct {
	PermittedDNS   []string `json:"permitted_dns,omitempty"`
	ExcludedDNS    []string `json:"excluded_dns,omitempty"`
	PermittedIP    []string `json:"permitted_ip,omitempty"`
	ExcludedIP     []string `json:"excluded_ip,omitempty"`
	PermittedEmail []string `json:"permitted_email,omitempty"`
	ExcludedEmail  []string `json:"excluded_email,omitempty"`
	PermittedURI   []string `json:"permitted_uri,omitempty"`
	ExcludedURI    []string `json:"excluded_uri,omitempty"`
}

func (l *profileLeaf) fill(c ca.ProfileConfig) {
	*l = profileLeaf{Head: l.Head, For: l.For, Profile: c.Name, CA: c.CA, SelfSigned: c.SelfSigned, KeyUsage: c.KeyUsage, ExtKeyUsage: c.ExtKeyUsage,
		ExtKeyUsageCritical: c.ExtKeyUsageCritical, Policies: c.Policies, CPS: c.CPS, CRLURLs: c.CRLURLs, OCSPURLs: c.OCSPURLs, IssuerURLs: c.IssuerURLs,
		MaxValidityDays: c.MaxValidityDays, PathLen: c.PathLen, NameConstraints: (*nameConstraints)(c.NameConstraints),
		RequiredAttributes: c.RequiredAttributes, AllowedAttributes: c.AllowedAttributes, CommonName: c.CommonName, SANs: c.SANs,
		RequireSAN: c.RequireSAN, Role: c.Role, KeyAlgorithms: c.KeyAlgorithms, SignatureAlgorithm: c.SignatureAlgorithm, OTAConnect: c.OTAConnect}
}

func (l *profileLeaf) config() ca.ProfileConfig {
	return ca.ProfileConfig{Name: l.Profile, CA: l.CA, SelfSigned: l.SelfSigned, KeyUsage: l.KeyUsage, ExtKeyUsage: l.ExtKeyUsage,
		ExtKeyUsageCritical: l.ExtKeyUsageCritical, Policies: l.Policies, CPS: l.CPS, CRLURLs: l.CRLURLs, OCSPURLs: l.OCSPURLs, IssuerURLs: l.IssuerURLs,
		MaxValidityDays: l.MaxValidityDays, PathLen: l.PathLen, NameConstraints: (*ca.NameConstraints)(l.NameConstraints),
		RequiredAttributes: l.RequiredAttributes, AllowedAttributes: l.AllowedAttributes, CommonName: l.CommonName, SANs: l.SANs,
		RequireSAN: l.RequireSAN, Role: l.Role, KeyAlgorithms: l.KeyAlgorithms, SignatureAlgorithm: l.SignatureAlgorithm, OTAConnect: l.OTAConnect}
}

// same says whether two profiles say the same of certificates.
func (l *profileLeaf) same(c ca.ProfileConfig) bool {
	other := &profileLeaf{Head: l.Head, For: l.For}
	other.fill(c)
	return bytes.Equal(encodeLeaf(other), encodeLeaf(l))
}

// profile gives a built-in profile, or one that an input of this name holds as YAML.
func (s *Session) profile(name string) (*ca.Profile, error) {
	if name == "" {
		return nil, malformed("profile is missing")
	}
	if data, ok := s.script.inputs[name]; ok {
		p, err := ca.ParseProfile(name, data)
		if err != nil {
			return nil, malformed("profile %q: %w", name, err)
		}
		return p, nil
	}
	p, err := ca.Builtin(name)
	if err != nil {
		return nil, refuse(RuleReference, "profile %q: %w", name, err)
	}
	return p, nil
}

// effective records all that the profile says of a certificate. A finished ceremony is held to what was recorded: the
// built-in profile of that name may say something else today.
func (s *Session) effective(what, name string, p *ca.Profile) (*ca.Profile, error) {
	l := profileLeaf{}
	if err := s.outcome(&l, kindProfile, func(bool) error {
		l.For = what
		l.fill(p.Config())
		return nil
	}, func() error {
		if l.For != what {
			return fmt.Errorf("is about %q, not %q", l.For, what)
		}
		return nil
	}); err != nil {
		return nil, err
	}
	if l.same(p.Config()) {
		return p, nil
	}
	if _, own := s.script.inputs[name]; own || l.Profile != name {
		return nil, s.fail(s.entryError(fmt.Errorf("(profile) is not the profile %q that the script names", name)))
	}
	if s.how.acts() {
		return nil, s.fail(s.entryError(fmt.Errorf("(profile) is not the profile %q of this release", name)))
	}
	was, err := ca.NewProfile(l.config())
	if err != nil {
		return nil, s.fail(s.entryError(err))
	}
	s.note("the profile %q, of certificate %q, says something else today", name, what)
	return was, nil
}

func (s *Session) template(from, until string) (t ca.Template, err error) {
	t.NotBefore, t.NotAfter, err = s.period(from, until)
	return t, err
}

// issuance is a certificate that is about to be made, or was.
type issuance struct {
	made *certificate
	// key signs.
	key *key
	// prepare builds it; confirm holds a finished one to the same.
	prepare func() (*ca.Prepared, error)
	confirm func(e ca.Edition, cert *x509.Certificate) error
}

// issue has the certificate signed, holds it to what was prepared, and takes it into the state.
func (s *Session) issue(i issuance) error {
	if s.finished() {
		return s.confirmed(i)
	}
	prepared, err := i.prepare()
	if err != nil {
		return caError(err)
	}
	for _, w := range prepared.Warnings() {
		s.warn("%s", show.Line(w))
	}
	if s.how.lacks(i.key) {
		s.willSign(i.key, 1)
		i.made.cert, i.made.unsigned = prepared.Specimen(), true
		return s.addCertificate(i.made)
	}
	cert, err := prepared.Sign(context.Background(), rand.Reader) // what is journalled as begun is waited for
	if s.aborted() {
		ok, err := s.rebuilt("certificate "+i.made.name, err)
		if err != nil {
			return err
		}
		if !ok {
			cert, i.made.unsigned = prepared.Specimen(), true
		}
	} else if err != nil {
		return err
	}
	if !bytes.Equal(cert.RawTBSCertificate, prepared.Specimen().RawTBSCertificate) {
		return fmt.Errorf("certificate %q is not the one that was checked", i.made.name)
	}
	i.made.cert = cert
	return s.addCertificate(i.made)
}

// confirmed takes the certificate from the folder of a finished ceremony.
func (s *Session) confirmed(i issuance) error {
	path := i.made.path()
	data, err := s.fromFolder(path)
	if err != nil {
		return err
	}
	cert, err := oneCertificate(data)
	if err != nil {
		return s.notAsAsked(path, err) // addCertificate compares the file with it
	}
	i.made.cert = cert
	if s.how.lacks(i.key) {
		i.made.unsigned = true // a rehearsal's, which nobody signed
		return s.addCertificate(i.made)
	}
	if err := i.confirm(s.edition(), cert); err != nil {
		return s.notAsAsked(path, err)
	}
	s.today(func(e ca.Edition) error { return i.confirm(e, cert) })
	list, err := s.signatures()
	if err != nil {
		return err
	}
	if err := s.match(list, []message{{"certificate " + i.made.name, i.key, cert.RawTBSCertificate, cert.Signature}}); err != nil {
		return err
	}
	return s.addCertificate(i.made)
}

// oneCertificate reads a file that holds exactly one certificate in PEM.
func oneCertificate(data []byte) (*x509.Certificate, error) {
	block, rest := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE" || len(rest) != 0 {
		return nil, errors.New("it is not one PEM block CERTIFICATE")
	}
	return x509.ParseCertificate(block.Bytes)
}

// caError makes a broken rule of package ca a refusal, and says which field is meant where a rule does not; what else the
// package refuses is a field that does not fit.
func caError(err error) error {
	broken := ca.Violations(err)
	if len(broken) == 0 {
		return malformed("%w", err)
	}
	hint := "rule " + broken[0].Rule.ID + ": " + broken[0].Rule.Text
	if ca.Breaks(err, "CA-003") {
		hint = "give the step a path_length that is smaller than the issuer's"
	}
	return advice.Wrap(advice.Refused, err, hint)
}
