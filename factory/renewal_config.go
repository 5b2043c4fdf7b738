package factory

import (
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
)

// RenewalConfig is the section about renewal of devices' certificates through gateways.
type RenewalConfig struct {
	RenewalPolicy `yaml:",inline"`
	Overlap       time.Duration `yaml:"overlap"`
	// IssuedBy are files of further CAs whose certificates are renewed: each its certificate and those above it.
	IssuedBy []string `yaml:"issued_by"`
	// Profiles have policies of their own; what one leaves out is as above.
	Profiles map[string]RenewalPolicy `yaml:"profiles"`
}

// defaultOverlap is how long the certificate before stays valid where the configuration does not say.
const defaultOverlap = 14 * 24 * time.Hour

// over is p with what it leaves out taken from what is above it.
func (p RenewalPolicy) over(above RenewalPolicy) RenewalPolicy {
	return RenewalPolicy{FromDays: cmp.Or(p.FromDays, above.FromDays), GraceDays: cmp.Or(p.GraceDays, above.GraceDays), Interval: cmp.Or(p.Interval, above.Interval),
		PerYear: cmp.Or(p.PerYear, above.PerYear), Key: cmp.Or(p.Key, above.Key), NewKey: cmp.Or(p.NewKey, above.NewKey)}
}

// check fills in what is left out, and refuses what makes no sense.
func (c *RenewalConfig) check() error {
	c.RenewalPolicy = c.RenewalPolicy.over(DefaultRenewal())
	if err := c.RenewalPolicy.check(); err != nil {
		return fmt.Errorf("renewal: %w", err)
	}
	for name, p := range c.Profiles {
		p = p.over(c.RenewalPolicy)
		if err := p.check(); err != nil {
			return fmt.Errorf("renewal.profiles, %s: %w", show.Text(name), err)
		}
		c.Profiles[name] = p
	}
	if c.Overlap = cmp.Or(c.Overlap, defaultOverlap); c.Overlap < 0 || c.Overlap > year {
		return errors.New("renewal.overlap is not 0s to 8760h")
	}
	return nil
}

// LoadRenewal reads the files that the section names; nil where there is none. A CA that is not under a Fleet Root is refused.
func (c *Config) LoadRenewal(fleet []*x509.Certificate) (*Renewal, error) {
	if c.Renewal == nil {
		return nil, nil
	}
	r := &Renewal{Policy: c.Renewal.RenewalPolicy, Profiles: c.Renewal.Profiles, Overlap: c.Renewal.Overlap}
	for _, path := range c.Renewal.IssuedBy {
		chain, err := LoadCertificates(path)
		if err != nil {
			return nil, err
		}
		if err := ca.Verify(chain, fleet, time.Now()); err != nil {
			return nil, advice.New(advice.Unverified, "name the file of a CA under issuing.fleet_root, its certificate first", "renewal.issued_by %s: %w", show.Text(path), err)
		}
		r.IssuedBy = append(r.IssuedBy, chain)
	}
	return r, nil
}
