package factory

import (
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// Which key a device renews with.
const (
	RenewSameKey = "same"
	RenewNewKey  = "new"
	RenewAnyKey  = "any"
)

// What vouches for a new key.
const (
	// NewKeyProof asks for a proof by the old key in the request.
	NewKeyProof = "proof"
	// NewKeyTrustGateway takes the gateway's word: one who takes a gateway over can then have certificates made for keys of his own, in the
	// name of every device whose certificate may be renewed.
	NewKeyTrustGateway = "trust_gateway"
)

const (
	year = 365 * 24 * time.Hour
	// maxGenerations bounds how many certificates of a device are looked at.
	maxGenerations = 1000
)

// RenewalPolicy says when a device gets its next certificate through a gateway, and for which key.
type RenewalPolicy struct {
	// FromDays is from how many days before its end a certificate is renewed, GraceDays until how many days after it.
	FromDays  int `yaml:"from_days"`
	GraceDays int `yaml:"grace_days"`
	// Interval lies between two renewals of a device at least, PerYear is how many certificates it gets at most within 365 days, the first not
	// counted.
	Interval time.Duration `yaml:"interval"`
	PerYear  int           `yaml:"per_year"`
	// Key is same, new or any; NewKey is proof or trust_gateway.
	Key    string `yaml:"key"`
	NewKey string `yaml:"new_key"`
}

// DefaultRenewal is what holds for what is left out.
func DefaultRenewal() RenewalPolicy {
	return RenewalPolicy{FromDays: 90, Interval: 24 * time.Hour, PerYear: 4, Key: RenewSameKey, NewKey: NewKeyProof}
}

func (p *RenewalPolicy) check() error {
	switch {
	case p.FromDays < 1 || p.FromDays > 36500:
		return errors.New("from_days is not 1 to 36500")
	case p.GraceDays < 0 || p.GraceDays > 366:
		return errors.New("grace_days is not 0 to 366")
	case p.Interval < 0 || p.Interval > year:
		return errors.New("interval is not 0s to 8760h")
	case p.PerYear < 1 || p.PerYear > 366:
		return errors.New("per_year is not 1 to 366")
	case p.Key != RenewSameKey && p.Key != RenewNewKey && p.Key != RenewAnyKey:
		return fmt.Errorf("key %.20q is none of same, new and any", p.Key)
	case p.NewKey != NewKeyProof && p.NewKey != NewKeyTrustGateway:
		return fmt.Errorf("new_key %.20q is none of proof and trust_gateway", p.NewKey)
	}
	return nil
}

// Renewal is how devices renew their certificates through gateways.
type Renewal struct {
	// Policy holds for every profile that Profiles does not name.
	Policy   RenewalPolicy
	Profiles map[string]RenewalPolicy
	// Overlap is how long the certificate before stays valid once a later one was issued, unless that is seen earlier.
	Overlap time.Duration
	// IssuedBy are further CAs whose certificates are renewed, each followed by those above it: the record has them, this hanaperd does not sign with
	// their keys.
	IssuedBy [][]*x509.Certificate
}

// of is the policy of a profile.
func (r *Renewal) of(profile string) RenewalPolicy {
	if p, ok := r.Profiles[profile]; ok {
		return p
	}
	return r.Policy
}

// takeRenewal keeps what Renewal needs to recognize certificates.
func (s *Service) takeRenewal() error {
	if s.c.Renewal == nil {
		return nil
	}
	for _, chain := range s.c.Renewal.IssuedBy {
		if len(chain) == 0 {
			return errors.New("factory: a CA whose certificates are renewed is missing")
		}
		by := &issuing{IssuerConfig: IssuerConfig{Chain: chain}}
		by.describe()
		if s.by(by.id) == nil {
			s.renewed = append(s.renewed, by)
		}
	}
	if s.c.Attestation != nil {
		for _, p := range append(policiesOf(s.c.Renewal.Profiles), s.c.Renewal.Policy) {
			if p.Key != RenewSameKey {
				return errors.New("factory: renewal.key must be same where attestation.policy is set: a gateway cannot hand on evidence of where a new key was born")
			}
		}
	}
	return nil
}

func policiesOf(m map[string]RenewalPolicy) (list []RenewalPolicy) {
	for _, p := range m {
		list = append(list, p)
	}
	return list
}
