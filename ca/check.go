package ca

import (
	"crypto/x509"
	"encoding/asn1"
	"slices"
	"time"

	"github.com/hanaper/hanaper/csr"
)

// check holds a specimen to the profile. The usages were written from the profile; they are read back all the same.
func (p *Profile) check(f *findings, c *content, specimen *x509.Certificate) {
	if days := int(specimen.NotAfter.Sub(specimen.NotBefore) / (24 * time.Hour)); specimen.NotAfter.Sub(specimen.NotBefore) > time.Duration(p.c.MaxValidityDays)*24*time.Hour {
		f.add(ruleMaxValidity, "%d days, the profile %q allows %d", days, p.c.Name, p.c.MaxValidityDays)
	}
	if name := csr.KeyAlgorithm(specimen.PublicKey); !slices.Contains(p.c.KeyAlgorithms, name) {
		f.add(ruleProfileKey, "%s, the profile %q allows %v", name, p.c.Name, p.c.KeyAlgorithms)
	}
	if p.sigAlg != x509.UnknownSignatureAlgorithm && c.alg != p.sigAlg {
		f.add(ruleAlgorithm, "the profile %q wants %v, the issuer's key makes %v", p.c.Name, p.sigAlg, c.alg)
	}
	p.checkName(f, specimen)
	p.checkSANs(f, specimen)
	if specimen.IsCA != p.c.CA || specimen.KeyUsage != p.usage || len(specimen.ExtKeyUsage)+len(specimen.UnknownExtKeyUsage) != len(p.eku) {
		f.add(ruleProfileExt, "it came out otherwise than profile %q says", p.c.Name)
	}
	if own := constraintsOf(specimen); p.constraints != nil && own != nil && own != p.constraints {
		inner := findings{subject: f.subject, edition: f.edition}
		p.constraints.check(&inner, specimen, specimen)
		for kind := range onKinds {
			if len(p.constraints.permitted[kind]) > 0 && len(own.permitted[kind]) == 0 {
				inner.add(ruleConstraints, "the profile's constraint on %s names is missing", constraintNames[kind])
			}
			for _, x := range p.constraints.excluded[kind] {
				if !inAny(kind, x, own.excluded[kind]) {
					inner.add(ruleConstraints, "the profile's excluded %s subtree %q is missing", constraintNames[kind], x)
				}
			}
		}
		f.list = append(f.list, inner.list...)
	}
}

func (p *Profile) checkName(f *findings, specimen *x509.Certificate) {
	attrs, err := csr.ParseName(specimen.RawSubject)
	if err != nil {
		return // lint said so
	}
	var seen []string
	for _, a := range attrs {
		seen = append(seen, a.Type)
		if a.Type == "CN" {
			if p.cn != nil && !p.cn.MatchString(a.Value) {
				f.add(ruleProfileName, "common name %q does not match %s", a.Value, p.cn)
			}
			continue
		}
		if !slices.Contains(p.c.AllowedAttributes, a.Type) && !slices.Contains(p.c.RequiredAttributes, a.Type) {
			f.add(ruleProfileName, "attribute %s is not allowed by profile %q", a.Type, p.c.Name)
		}
	}
	for _, want := range p.c.RequiredAttributes {
		if !slices.Contains(seen, want) {
			f.add(ruleProfileName, "attribute %s is missing", want)
		}
	}
	if !slices.Contains(seen, "CN") {
		f.add(ruleProfileName, "it has no common name")
	}
}

func (p *Profile) checkSANs(f *findings, specimen *x509.Certificate) {
	total := 0
	for kind, n := range map[string]int{"dns": len(specimen.DNSNames), "ip": len(specimen.IPAddresses),
		"email": len(specimen.EmailAddresses), "uri": len(specimen.URIs)} {
		total += n
		if n > 0 && !slices.Contains(p.c.SANs, kind) {
			f.add(ruleSAN, "names of kind %s are not allowed by profile %q", kind, p.c.Name)
		}
	}
	if p.c.RequireSAN && total == 0 {
		f.add(ruleSAN, "it has none, and profile %q demands one", p.c.Name)
	}
	role, _, err := RoleOf(specimen)
	switch {
	case p.c.Role != "" && (err != nil || role != p.c.Role):
		f.add(ruleRole, "profile %q wants the one URI urn:hanaper:%s:NAME", p.c.Name, p.c.Role)
	case p.c.Role == "" && slices.ContainsFunc(specimen.URIs, isRoleURI):
		f.add(ruleRole, "profile %q gives no role", p.c.Name)
	}
}

// usagesOf lists extended key usages as object identifiers.
func usagesOf(c *x509.Certificate) []asn1.ObjectIdentifier {
	for _, e := range c.Extensions {
		if e.Id.Equal(oidEKU) {
			var oids []asn1.ObjectIdentifier
			if rest, err := asn1.Unmarshal(e.Value, &oids); err == nil && len(rest) == 0 {
				return oids
			}
		}
	}
	return nil
}
