package ceremony

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"net/url"
	"strings"

	"crypto/rand"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/csr"
	"github.com/hanaper/hanaper/internal/show"
)

// SubjectConfig is a distinguished name.
type SubjectConfig struct {
	CommonName         string `yaml:"common_name"`
	Organization       string `yaml:"organization"`
	OrganizationalUnit string `yaml:"organizational_unit"`
	Country            string `yaml:"country"`
	Province           string `yaml:"province"`
	Locality           string `yaml:"locality"`
}

func (c SubjectConfig) name() pkix.Name {
	one := func(s string) []string {
		if s == "" {
			return nil
		}
		return []string{s}
	}
	return pkix.Name{CommonName: c.CommonName, Organization: one(c.Organization), OrganizationalUnit: one(c.OrganizationalUnit),
		Country: one(c.Country), Province: one(c.Province), Locality: one(c.Locality)}
}

// RootCertificate signs a key's certificate with the key itself.
type RootCertificate struct {
	Name    string        `yaml:"name"`
	Key     string        `yaml:"key"`
	Profile string        `yaml:"profile"`
	Subject SubjectConfig `yaml:"subject"`
	// NotBefore and NotAfter are absolute.
	NotBefore string `yaml:"not_before"`
	NotAfter  string `yaml:"not_after"`
	// PathLength and NameConstraints narrow the profile's.
	PathLength      *int                `yaml:"path_length"`
	NameConstraints *ca.NameConstraints `yaml:"name_constraints"`
}

func (r *RootCertificate) people() people { return byProgram }

func (r *RootCertificate) needs(*Plan) []need { return nil }

func (r *RootCertificate) left(o *leftover, own []entry) { o.leaves(own) }

func (r *RootCertificate) describe(*Session) string {
	return fmt.Sprintf("self-sign the root certificate %q, CN=%s, with key %q by profile %s, valid from %s to %s",
		r.Name, r.Subject.CommonName, r.Key, r.Profile, r.NotBefore, r.NotAfter)
}

func (r *RootCertificate) perform(s *Session) error {
	if err := s.claimNew(r.Name); err != nil {
		return err
	}
	p, err := s.profile(r.Profile)
	if err != nil {
		return err
	}
	t, err := s.template(r.NotBefore, r.NotAfter)
	if err != nil {
		return err
	}
	k, err := s.keyFor(r.Key, purposeCA)
	if err != nil {
		return err
	}
	for _, c := range s.state.certificates {
		if c.key == r.Key && c.issuer == "" {
			return refuse(RulePurpose, "key %q has the root certificate %q already", r.Key, c.name)
		}
	}
	t.Subject, t.PublicKey, t.PathLen, t.Constraints = r.Subject.name(), k.public, r.PathLength, r.NameConstraints
	if p, err = s.effective(r.Name, r.Profile, p); err != nil {
		return err
	}
	if t.Serial, err = s.serial(r.Name); err != nil {
		return err
	}
	return s.issue(issuance{made: &certificate{name: r.Name, key: r.Key}, key: k,
		prepare: func() (*ca.Prepared, error) { return s.edition().PrepareRoot(p, t, k, rand.Reader) },
		confirm: func(e ca.Edition, cert *x509.Certificate) error { return e.ConfirmRoot(p, t, k.public, cert) }})
}

// Certificate signs a certificate: for a request, for a key of this ceremony, or for a CA that has one already (a
// cross-certificate).
type Certificate struct {
	Name    string `yaml:"name"`
	Issuer  string `yaml:"issuer"`
	Profile string `yaml:"profile"`
	// Exactly one of the three: an input that holds a PKCS#10 request, a key, or another certificate.
	Request string `yaml:"request"`
	Key     string `yaml:"key"`
	Cross   string `yaml:"cross"`
	// Policy for the request: ca, client, server or device; by default that of the profile.
	Policy string `yaml:"policy"`
	// Subject takes the place of the request's.
	Subject *SubjectConfig `yaml:"subject"`
	// Station, Operator, Publisher, Viewer and Gateway give the certificate its role under the Operations Root, and its name there.
	Station   string `yaml:"station"`
	Operator  string `yaml:"operator"`
	Publisher string `yaml:"publisher"`
	Viewer    string `yaml:"viewer"`
	Gateway   string `yaml:"gateway"`
	// DNSNames and IPs take the place of the request's.
	DNSNames        []string            `yaml:"dns_names"`
	IPs             []string            `yaml:"ips"`
	NotBefore       string              `yaml:"not_before"`
	NotAfter        string              `yaml:"not_after"`
	PathLength      *int                `yaml:"path_length"`
	NameConstraints *ca.NameConstraints `yaml:"name_constraints"`
	CRLURLs         []string            `yaml:"crl_urls"`
}

func (c *Certificate) people() people { return byProgram }

func (c *Certificate) needs(*Plan) []need { return nil }

func (c *Certificate) left(o *leftover, own []entry) { o.leaves(own) }

func (c *Certificate) describe(*Session) string {
	what := "key " + fmt.Sprintf("%q", c.Key)
	switch {
	case c.Request != "":
		what = fmt.Sprintf("the request %q", c.Request)
	case c.Cross != "":
		what = fmt.Sprintf("the CA of %q (cross-certificate)", c.Cross)
	}
	return fmt.Sprintf("sign the certificate %q for %s under %q by profile %s, valid from %s to %s",
		c.Name, what, c.Issuer, c.Profile, c.NotBefore, c.NotAfter)
}

func (c *Certificate) perform(s *Session) error {
	if err := s.claimNew(c.Name); err != nil {
		return err
	}
	p, err := s.profile(c.Profile)
	if err != nil {
		return err
	}
	t, err := s.template(c.NotBefore, c.NotAfter)
	if err != nil {
		return err
	}
	made := &certificate{name: c.Name, issuer: c.Issuer}
	if err := c.subject(s, p, &t, made); err != nil {
		return err
	}
	if err := c.names(&t); err != nil {
		return err
	}
	issuer, _, k, err := s.issuer(c.Issuer)
	if err != nil {
		return err
	}
	t.PathLen, t.Constraints, t.CRLURLs = c.PathLength, c.NameConstraints, c.CRLURLs
	if p, err = s.effective(c.Name, c.Profile, p); err != nil {
		return err
	}
	if t.Serial, err = s.serial(c.Name); err != nil {
		return err
	}
	return s.issue(issuance{made: made, key: k,
		prepare: func() (*ca.Prepared, error) { return issuer.Prepare(p, t, rand.Reader) },
		confirm: func(e ca.Edition, cert *x509.Certificate) error { return issuer.By(e).Confirm(p, t, cert) }})
}

// subject takes name and key from the request, the key or the certificate that the step names.
func (c *Certificate) subject(s *Session, p *ca.Profile, t *ca.Template, made *certificate) error {
	given := 0
	for _, f := range []string{c.Request, c.Key, c.Cross} {
		if f != "" {
			given++
		}
	}
	if given != 1 {
		return malformed("exactly one of request, key and cross must be given")
	}
	switch {
	case c.Request != "":
		data, err := s.input(c.Request)
		if err != nil {
			return err
		}
		policy, err := c.policy(p)
		if err != nil {
			return err
		}
		r, err := csr.Parse(data, policy.AsOf(s.format))
		if err != nil {
			return refuse(RuleRequest, "request %q: %w", c.Request, err)
		}
		if _, err := csr.Parse(data, policy); err != nil {
			s.note("request %q would be refused today: %v", c.Request, err)
		}
		t.PublicKey, t.Subject, t.DNSNames, t.IPs, t.URIs = r.PublicKey(), r.Subject(), r.DNSNames(), r.IPs(), r.URIs()
		for _, k := range s.state.keys {
			if ca.SameKey(k.public, t.PublicKey) {
				return refuse(RulePurpose, "request %q is for key %q of this ceremony: name the key instead", c.Request, k.name)
			}
		}
	case c.Key != "":
		if c.Subject == nil {
			return malformed("subject is missing: a certificate for a key has no request to take it from")
		}
		k, err := s.keyFor(c.Key, purposeCA)
		if err != nil {
			return err
		}
		t.PublicKey, made.key = k.public, c.Key
	case c.Cross != "":
		if c.Subject != nil {
			return malformed("subject: a cross-certificate has the subject of the CA that it crosses to")
		}
		other, err := s.certificate(c.Cross)
		if err != nil {
			return err
		}
		t.PublicKey, t.RawSubject, made.key = other.cert.PublicKey, other.cert.RawSubject, other.key
	}
	if c.Subject != nil {
		t.Subject = c.Subject.name()
	}
	return nil
}

func (c *Certificate) policy(p *ca.Profile) (*csr.Policy, error) {
	kind := c.Policy
	if kind == "" {
		switch {
		case p.IsCA():
			kind = "ca"
		case p.Name() == "server" || p.Name() == "device":
			kind = p.Name()
		default:
			kind = "client"
		}
	}
	switch kind {
	case "ca":
		return csr.CAPolicy(), nil
	case "client":
		return csr.ClientPolicy(), nil
	case "server":
		return csr.ServerPolicy(), nil
	case "device":
		return csr.DevicePolicy(), nil
	}
	return nil, malformed("policy %q is none of ca, client, server and device", kind)
}

// namedRole is a role that a step gives, and the name in it.
type namedRole struct{ role, name string }

func (c *Certificate) roles() []namedRole {
	return []namedRole{{ca.RoleStation, c.Station}, {ca.RoleOperator, c.Operator}, {ca.RolePublisher, c.Publisher}, {ca.RoleViewer, c.Viewer}, {ca.RoleGateway, c.Gateway}}
}

// names sets the names that the script gives, in place of the request's.
func (c *Certificate) names(t *ca.Template) error {
	given := ""
	for _, role := range c.roles() {
		if role.name == "" {
			continue
		}
		if given != "" {
			return malformed("%s and %s: a certificate has one role", given, role.role)
		}
		given = role.role
		u := ca.RoleURI(role.role, role.name)
		if !nameForm.MatchString(role.name) {
			return malformed("%s name %q: use 1 to 64 of a-z, 0-9, '.' and '-'", role.role, role.name)
		}
		for _, asked := range t.URIs {
			if asked.String() != u.String() {
				return refuse(RuleRequest, "request %q asks for %s, the script for %s", c.Request, show.Text(asked.String()), show.Text(u.String()))
			}
		}
		t.URIs = []*url.URL{u}
	}
	if c.DNSNames != nil {
		t.DNSNames = c.DNSNames
	}
	if c.IPs != nil {
		t.IPs = nil
		for _, text := range c.IPs {
			ip := net.ParseIP(text)
			if ip == nil || strings.Contains(text, "%") {
				return malformed("ips: %q is no IP address", text)
			}
			t.IPs = append(t.IPs, ip)
		}
	}
	return nil
}

func (r *RootCertificate) shows(s *Session, v *shown) { showCertificate(s, v, r.Name) }

func (c *Certificate) shows(s *Session, v *shown) { showCertificate(s, v, c.Name) }
