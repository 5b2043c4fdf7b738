package ceremony

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"slices"

	"github.com/hanaper/hanaper/trust"
)

// ReleaseConfig names a revoked serial by its issuer's certificate.
type ReleaseConfig struct {
	Issuer string `yaml:"issuer"`
	Serial string `yaml:"serial"`
}

// CRLRuleConfig has the CRL of a CA used for some hours after its next update, or, where the CA's key is gone, its last one as long as the CA lasts.
type CRLRuleConfig struct {
	// CA is a certificate of this ceremony.
	CA         string `yaml:"ca"`
	GraceHours int    `yaml:"grace_hours"`
	// Frozen is the input that holds the last CRL, DER or PEM.
	Frozen string `yaml:"frozen"`
}

// gatewayPolicy is what a script of version 1 leaves out of the gateway policy. It is part of that version and never
// changes, whatever another release takes by default.
func gatewayPolicy(environment string) trust.Policy {
	return trust.Policy{Format: 1, Environment: environment, KeyTypes: []string{"P-256", "P-384", "P-521", "Ed25519", "RSA"}, MinRSABits: 2048}
}

func (t *TrustRepository) content(s *Session) (trust.Content, error) {
	c := trust.Content{Environment: s.script.config.Environment, Policy: gatewayPolicy(s.script.config.Environment)}
	c.Policy.RequireCRL = t.RequireCRL
	if s.held(RuleUsed) {
		c.UsedTargets = s.state.trustUsed
	}
	if t.KeyTypes != nil {
		c.Policy.KeyTypes = t.KeyTypes
	}
	if t.MinRSABits != 0 {
		c.Policy.MinRSABits = t.MinRSABits
	}
	if len(t.Anchors) == 0 {
		return c, malformed("anchors is empty: no device could be admitted")
	}
	var err error
	if c.Anchors, err = s.certificateList(t.Anchors); err != nil {
		return c, err
	}
	if c.Intermediates, err = s.certificateList(t.Intermediates); err != nil {
		return c, err
	}
	for _, n := range t.CRLs {
		crl, ok := s.state.crlNames[n]
		if !ok {
			return c, refuse(RuleReference, "there is no CRL %q at this step", n)
		}
		c.CRLs = append(c.CRLs, crl.Raw)
	}
	for _, r := range t.CRLRules {
		if err := t.crlRule(s, &c, r); err != nil {
			return c, err
		}
	}
	if err := t.environment(s, &c); err != nil {
		return c, err
	}
	for _, r := range t.Releases {
		issuer, err := s.certificate(r.Issuer)
		if err != nil {
			return c, err
		}
		n, err := parseSerial(r.Serial)
		if err != nil {
			return c, err
		}
		c.Releases = append(c.Releases, trust.Release{Issuer: trust.IssuerID(issuer.cert), Serial: n})
	}
	return c, nil
}

func (t *TrustRepository) crlRule(s *Session, c *trust.Content, r CRLRuleConfig) error {
	issuer, err := s.certificate(r.CA)
	if err != nil {
		return err
	}
	c.Policy.CRLs = append(c.Policy.CRLs, trust.CRLRule{CA: trust.IssuerID(issuer.cert).String(), GraceHours: r.GraceHours, Frozen: r.Frozen != ""})
	if r.Frozen == "" {
		return nil
	}
	data, err := s.input(r.Frozen)
	if err != nil {
		return err
	}
	list, err := x509.ParseRevocationList(derOf(data))
	if err != nil || list.CheckSignatureFrom(issuer.cert) != nil {
		return refuse(RuleReference, "input %q holds no CRL that %q signed", r.Frozen, r.CA)
	}
	c.CRLs = append(c.CRLs, list.Raw)
	return nil
}

// derOf takes the armour off a CRL that has some.
func derOf(data []byte) []byte {
	if block, rest := pem.Decode(data); block != nil && block.Type == "X509 CRL" && len(bytes.TrimSpace(rest)) == 0 {
		return block.Bytes
	}
	return data
}

// specimens is true where a script is validated and the content holds what an imported key would have signed.
func (t *TrustRepository) specimens(s *Session) bool {
	for _, n := range slices.Concat(t.Anchors, t.Intermediates) {
		if s.state.certificates[n].unsigned {
			return true
		}
	}
	return slices.ContainsFunc(t.CRLs, func(n string) bool { return s.state.unsignedCRLs[n] })
}

// unsigned are the specimens in the content, by their DER bytes.
func (t *TrustRepository) unsigned(s *Session) map[string]bool {
	list := map[string]bool{}
	for _, n := range slices.Concat(t.Anchors, t.Intermediates) {
		if c := s.state.certificates[n]; c.unsigned {
			list[string(c.cert.Raw)] = true
		}
	}
	for _, n := range t.CRLs {
		if s.state.unsignedCRLs[n] {
			list[string(s.state.crlNames[n].Raw)] = true
		}
	}
	return list
}

func (s *Session) certificateList(names []string) ([]*x509.Certificate, error) {
	var list []*x509.Certificate
	for _, n := range names {
		c, err := s.certificate(n)
		if err != nil {
			return nil, err
		}
		list = append(list, c.cert)
	}
	return list, nil
}
