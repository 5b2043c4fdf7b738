package attest

import (
	"crypto/x509"
	"errors"
	"time"

	"github.com/hanaper/hanaper/internal/format"
	"github.com/hanaper/hanaper/internal/show"
)

// ManufacturerConfig is one maker of chips of one kind.
type ManufacturerConfig struct {
	// Name stands in verdicts.
	Name string
	Kind Kind
	// Roots are the certificates that chains end at: the maker's root, or an intermediate to narrow what is accepted.
	Roots []*x509.Certificate
	// Intermediates help to build chains and are not trusted by themselves.
	Intermediates []*x509.Certificate
}

// Manufacturers are the pinned roots, each for its kind of chip.
type Manufacturers struct {
	roots, between map[Kind]*x509.CertPool
	names          map[Kind]map[string]string // by the SHA-256 of the root
	subjects       map[Kind]map[string]bool
	// asOf says by what was known of weak keys a TPM's keys are judged; the zero value is today.
	asOf format.Version
}

// AsOf gives the same manufacturers for evidence that an old transcript holds: keys are judged by what was known in the time of its
// format.
func (m *Manufacturers) AsOf(v format.Version) *Manufacturers {
	old := *m
	old.asOf = v
	return &old
}

// NewManufacturers checks the roots: each is a CA, and pinned once for a kind.
func NewManufacturers(makers ...ManufacturerConfig) (*Manufacturers, error) {
	m := &Manufacturers{roots: map[Kind]*x509.CertPool{}, between: map[Kind]*x509.CertPool{}, names: map[Kind]map[string]string{}, subjects: map[Kind]map[string]bool{}}
	for _, c := range makers {
		switch {
		case c.Name == "" || c.Kind == "":
			return nil, refuse(ErrPolicy, "a manufacturer has no name or no kind")
		case len(c.Roots) == 0:
			return nil, refuse(ErrPolicy, "manufacturer %s has no root", show.Text(c.Name))
		case len(c.Roots) > maxRoots || len(c.Intermediates) > maxRoots:
			return nil, refuse(ErrPolicy, "manufacturer %s has more than %d certificates", show.Text(c.Name), maxRoots)
		}
		if m.roots[c.Kind] == nil {
			m.roots[c.Kind], m.between[c.Kind] = x509.NewCertPool(), x509.NewCertPool()
			m.names[c.Kind], m.subjects[c.Kind] = map[string]string{}, map[string]bool{}
		}
		for _, r := range c.Roots {
			if !r.BasicConstraintsValid || !r.IsCA {
				return nil, refuse(ErrPolicy, "root %s of manufacturer %s is no CA certificate", show.Text(r.Subject.String()), show.Text(c.Name))
			}
			if other, ok := m.names[c.Kind][digest(r.Raw)]; ok {
				return nil, refuse(ErrPolicy, "root %s is pinned twice, for %s and %s", show.Text(r.Subject.String()), show.Text(other), show.Text(c.Name))
			}
			m.names[c.Kind][digest(r.Raw)] = c.Name
			m.subjects[c.Kind][string(r.RawSubject)] = true
			m.roots[c.Kind].AddCert(r)
		}
		for _, i := range c.Intermediates {
			m.between[c.Kind].AddCert(i)
		}
	}
	return m, nil
}

// Has says whether any root is pinned for a kind.
func (m *Manufacturers) Has(kind Kind) bool { return m != nil && len(m.names[kind]) > 0 }

// anchor is where a chain ended.
type anchor struct{ name, root string }

// verify builds a chain from the first certificate to a root pinned for the kind. The caller has looked at the leaf's
// extensions; every other certificate must have no critical one that is not understood.
func (m *Manufacturers) verify(kind Kind, chain []*x509.Certificate, at time.Time) (anchor, error) {
	if !m.Has(kind) {
		return anchor{}, refuse(ErrManufacturer, "no manufacturer of kind %s is pinned", kind)
	}
	between := m.between[kind].Clone()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	paths, err := chain[0].Verify(x509.VerifyOptions{Roots: m.roots[kind], Intermediates: between, CurrentTime: at,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil {
		return anchor{}, m.whyNot(kind, chain, at, err)
	}
	for _, p := range paths {
		root := digest(p[len(p)-1].Raw)
		if name, ok := m.names[kind][root]; ok && len(p) > 1 { // a pinned certificate does not vouch for itself as a chip
			return anchor{name, root}, nil
		}
	}
	return anchor{}, refuse(ErrManufacturer, "the chain is the pinned certificate itself")
}

// whyNot says where a chain that does not verify ends.
func (m *Manufacturers) whyNot(kind Kind, chain []*x509.Certificate, at time.Time, err error) error {
	for _, c := range chain {
		if at.Before(c.NotBefore) || at.After(c.NotAfter) {
			return refuse(ErrExpired, "%s is valid from %s to %s, and it is %s", show.Text(c.Subject.String()), c.NotBefore.UTC().Format(time.RFC3339),
				c.NotAfter.UTC().Format(time.RFC3339), at.UTC().Format(time.RFC3339))
		}
	}
	var unknown x509.UnknownAuthorityError
	if !errors.As(err, &unknown) {
		return refuse(ErrManufacturer, "%s", show.Line(err.Error()))
	}
	last := chain[0]
	for range chain {
		for _, c := range chain[1:] {
			if string(c.RawSubject) == string(last.RawIssuer) && c != last {
				last = c
				break
			}
		}
	}
	issuer := show.Text(last.Issuer.String())
	switch {
	case m.subjects[kind][string(last.RawIssuer)]:
		return refuse(ErrManufacturer, "it names %s as issuer, of which a root is pinned, but that root's key did not sign it", issuer)
	case string(last.RawIssuer) == string(last.RawSubject):
		return refuse(ErrManufacturer, "the chain ends at %s, which is not pinned for kind %s", issuer, kind)
	}
	return refuse(ErrManufacturer, "the chain is cut short: the certificate of %s is neither sent nor pinned for kind %s", issuer, kind)
}

// parseChain reads the certificates of evidence.
func parseChain(ders [][]byte) ([]*x509.Certificate, error) {
	if len(ders) == 0 {
		return nil, refuse(ErrMalformed, "there is no certificate")
	}
	if len(ders) > maxChain {
		return nil, refuse(ErrTooLarge, "%d certificates, more than %d", len(ders), maxChain)
	}
	var chain []*x509.Certificate
	for i, der := range ders {
		if len(der) > maxCertificate {
			return nil, refuse(ErrTooLarge, "certificate %d has %d octets", i+1, len(der))
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, refuse(ErrMalformed, "certificate %d: %s", i+1, show.Line(err.Error()))
		}
		chain = append(chain, c)
	}
	return chain, nil
}
