package factory

import (
	"crypto"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/csr"
	"github.com/hanaper/hanaper/factory/record"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/weakkey"
)

// Asked is what a request asked for beyond its CN, as it is kept with the enrolment (JSON): Taken went into the certificate, or stands in it
// anyway; Ignored was left out. A challengePassword has no value here.
type Asked struct {
	Taken   []csr.Ask `json:"taken,omitempty"`
	Ignored []csr.Ask `json:"ignored,omitempty"`
}

// NamePolicy holds the names of a request to lists of what is allowed and denied.
type NamePolicy interface {
	// Check refuses a name that the lists do not allow. The CN is held to the lists of CNs, and is refused where it is the same as a denied
	// name of another kind.
	Check(n Names) error
	// Lists says whether names of a kind (dns, ip, email, uri) are on a list of allowed ones: others may only be the CN again.
	Lists(kind string) bool
}

// Names are what a request would have certified.
type Names struct {
	CN          string
	DNS, Emails []string
	IPs         []net.IP
	URIs        []*url.URL
}

// read parses a request and holds it to the profile. asked is what is to be kept of it, nil for nothing. Where the profile refuses a request
// whose CN is known, r tells whose it would be.
func (p *Profile) read(text string) (r *csr.Request, asked []byte, err error) {
	r, err = csr.Parse([]byte(text), p.Policy)
	if err != nil {
		return nil, nil, &Fault{Code: CodePolicy, Text: "certification request: " + err.Error(), Hint: adviceOf(err)}
	}
	if f := p.checkID(r.CommonName()); f != nil {
		return r, nil, f
	}
	for _, check := range []func(*csr.Request) error{p.checkUsages, p.checkTwice, p.checkNames} {
		if err := check(r); err != nil {
			return r, nil, err
		}
	}
	a := Asked{Taken: r.Asks(), Ignored: r.Ignored()}
	if len(a.Taken)+len(a.Ignored) == 0 {
		return r, nil, nil
	}
	asked, err = json.Marshal(a)
	return r, asked, err
}

// checkKey refuses a key that others hold, or can compute.
func (s *Service) checkKey(pub crypto.PublicKey) error {
	if where := weakkey.Published(pub); where != "" {
		return fault(CodePolicy, "generate a key of the device's own, on the device: with this one everybody can sign", "the device's key is published (%s)", where)
	}
	if s.c.WeakKeys.Has(pub) {
		return fault(CodePolicy, "generate the key anew: its generator drew from a few thousand keys, as OpenSSL of Debian did from 2006 to 2008 (CVE-2008-0166)", "the device's key is on a list of weak keys")
	}
	return nil
}

// checkUsages refuses a request for usages that the certificate will not have.
func (p *Profile) checkUsages(r *csr.Request) error {
	c := p.Certificate.Config()
	for _, a := range r.Asks() {
		has := map[string][]string{"keyUsage": c.KeyUsage, "extKeyUsage": c.ExtKeyUsage}[a.Name]
		if a.Name != "keyUsage" && a.Name != "extKeyUsage" {
			continue
		}
		for usage := range strings.SplitSeq(a.Value, ",") {
			if !slices.Contains(has, usage) {
				return fault(CodePolicy, "ask for no other than "+strings.Join(has, ", ")+", or for none: the profile sets them", "the request asks for the %s %.60q, and the profile %q does not give it", show.Text(a.Name), usage, p.Name)
			}
		}
	}
	return nil
}

// checkTwice refuses an attribute that stands in the subject twice: readers differ in which they take. Units and domain components may.
func (p *Profile) checkTwice(r *csr.Request) error {
	var seen []string
	for _, a := range r.Attributes() {
		if slices.Contains(seen, a.Type) && a.Type != "OU" && a.Type != "DC" {
			return fault(CodePolicy, "let each attribute of the subject stand once", "the subject has %s twice", a.Type)
		}
		seen = append(seen, a.Type)
	}
	return nil
}

// checkNames holds the CN and the names that are taken to the name policy. A name of a kind that is on no list of allowed ones must be the CN.
func (p *Profile) checkNames(r *csr.Request) error {
	for _, a := range r.Asks() {
		switch a.Name {
		case "dns", "ip", "email", "uri":
			if (p.Names == nil || !p.Names.Lists(a.Name)) && !strings.EqualFold(a.Value, r.CommonName()) {
				return fault(CodePolicy, "ask for no name but the CN, or have the profile allow the name (names: allow)", "the request asks for the %s name %.80q, which is not its CN", show.Text(a.Name), a.Value)
			}
		}
	}
	if p.Names == nil {
		return nil
	}
	if err := p.Names.Check(Names{CN: r.CommonName(), DNS: r.DNSNames(), IPs: r.IPs(), Emails: r.EmailAddresses(), URIs: r.URIs()}); err != nil {
		return fault(CodePolicy, "ask for names that the profile's lists allow (names: allow, deny)", "the profile %q does not allow a name of the request: %v", p.Name, err)
	}
	return nil
}

// fill puts into a template what the profile sets and what was taken of a request, as it is on record.
func (p *Profile) fill(t *ca.Template, in *record.Intent) error {
	if p.Organization != "" {
		t.Subject.Organization = []string{p.Organization}
	}
	if p.unit != "" {
		t.Subject.OrganizationalUnit = []string{p.unit}
	}
	a, err := parseAsked(in.Asked)
	if err != nil {
		return err
	}
	for _, k := range a.Taken {
		switch k.Name {
		case "dns":
			t.DNSNames = append(t.DNSNames, k.Value)
		case "email":
			t.EmailAddresses = append(t.EmailAddresses, k.Value)
		case "ip":
			ip := net.ParseIP(k.Value)
			if ip == nil {
				return fmt.Errorf("%.60q, on record as asked for, is no IP address", k.Value)
			}
			t.IPs = append(t.IPs, ip)
		case "uri":
			u, err := url.Parse(k.Value)
			if err != nil {
				return err
			}
			t.URIs = append(t.URIs, u)
		case "keyUsage", "extKeyUsage", "basicConstraints": // the profile's own, which have what was asked for
		default:
			if err := csr.AppendAttribute(&t.Subject, k.Name, k.Value); err != nil {
				return err
			}
		}
	}
	return nil
}

// parseAsked reads what is kept of a request.
func parseAsked(kept []byte) (a Asked, err error) {
	if len(kept) == 0 {
		return a, nil
	}
	if err := json.Unmarshal(kept, &a); err != nil {
		return a, fmt.Errorf("what the request asked for is damaged in the record: %w", err)
	}
	return a, nil
}

// askWords are what was asked for, for the log.
func askWords(asks []csr.Ask) string {
	var out []string
	for _, a := range asks {
		out = append(out, strings.TrimSuffix(a.Name+"="+a.Value, "="))
	}
	return strings.Join(out, ", ")
}
