// Package namepolicy holds the names of certification requests to lists of allowed and denied ones, with the engine of step-ca's name policy
// (github.com/smallstep/certificates/policy), so that lists that somebody has for step-ca mean the same here. It is a room of its own because
// that engine links net/http and much else: only hanaperd needs it.
//
// The engine alone would let through what these lists are there to stop: a CN that is denied passes if it could be a host name and no list
// of host names stands against it. Here each list is asked by itself.
//
// An attacker who can change the lists can have any name certified that the profile's other rules do not refuse.
package namepolicy

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"strings"

	"github.com/smallstep/certificates/policy"

	"github.com/hanaper/hanaper/factory"
)

// lists is a factory.NamePolicy.
type lists struct {
	// cn asks the lists of CNs, nil where there are none; sans those of all other names; deny only those of denied names that are no CNs.
	cn, sans, deny *policy.NamePolicyEngine
	// allowed are the kinds that have a list of allowed names.
	allowed map[string]bool
}

// nobody is a principal of SSH, which no certificate here has: with it on a list, whatever no other list allows is refused.
const nobody = "nobody"

// New makes a policy of lists; at least one must hold something.
func New(c factory.NamesConfig) (factory.NamePolicy, error) {
	a, d := c.Allow, c.Deny
	l := &lists{allowed: map[string]bool{"dns": len(a.DNS) > 0, "ip": len(a.IP) > 0, "email": len(a.Email) > 0, "uri": len(a.URI) > 0}}
	if len(a.CN)+len(a.DNS)+len(a.IP)+len(a.Email)+len(a.URI)+len(d.CN)+len(d.DNS)+len(d.IP)+len(d.Email)+len(d.URI) == 0 {
		return nil, errors.New("the lists are empty")
	}
	for _, list := range [][]string{a.CN, d.CN} {
		for _, cn := range list {
			if cn == "" || strings.ContainsAny(cn, "*/\\") {
				return nil, errors.New("a CN is written out in full, without wildcards; id (pattern, match) says what form ids have")
			}
		}
	}
	denied := []policy.NamePolicyOption{policy.WithExcludedDNSDomains(d.DNS...), policy.WithExcludedIPsOrCIDRs(d.IP...), policy.WithExcludedEmailAddresses(d.Email...), policy.WithExcludedURIDomains(d.URI...)}
	var err error
	if len(a.CN)+len(d.CN) > 0 {
		if l.cn, err = policy.New(policy.WithPermittedCommonNames(a.CN...), policy.WithExcludedCommonNames(d.CN...), policy.WithPermittedPrincipals(nobody), policy.WithSubjectCommonNameVerification()); err != nil {
			return nil, err
		}
	}
	if l.deny, err = policy.New(append([]policy.NamePolicyOption{policy.WithSubjectCommonNameVerification()}, denied...)...); err != nil {
		return nil, err
	}
	allowed := []policy.NamePolicyOption{policy.WithPermittedDNSDomains(a.DNS...), policy.WithPermittedIPsOrCIDRs(a.IP...), policy.WithPermittedEmailAddresses(a.Email...), policy.WithPermittedURIDomains(a.URI...),
		policy.WithPermittedPrincipals(nobody)}
	if l.sans, err = policy.New(append(allowed, denied...)...); err != nil {
		return nil, err
	}
	return l, nil
}

// Lists implements factory.NamePolicy.
func (l *lists) Lists(kind string) bool { return l.allowed[kind] }

// Check implements factory.NamePolicy.
func (l *lists) Check(n factory.Names) error {
	subject := pkix.Name{CommonName: n.CN}
	if l.cn != nil {
		if err := l.cn.IsX509CertificateAllowed(&x509.Certificate{Subject: subject}); err != nil {
			return err
		}
	}
	// A CN that is written like no name of the kind is none that is denied.
	var no *policy.NamePolicyError
	if err := l.deny.IsX509CertificateAllowed(&x509.Certificate{Subject: subject}); errors.As(err, &no) && no.Reason == policy.NotAllowed {
		return err
	}
	names := &x509.Certificate{DNSNames: n.DNS, IPAddresses: n.IPs, EmailAddresses: n.Emails, URIs: n.URIs}
	if err := l.deny.IsX509CertificateAllowed(names); err != nil {
		return err
	}
	// Of a kind without a list of allowed names there is only the CN again, which the profile's other rules have let through.
	for kind, drop := range map[string]func(){"dns": func() { names.DNSNames = nil }, "ip": func() { names.IPAddresses = nil }, "email": func() { names.EmailAddresses = nil }, "uri": func() { names.URIs = nil }} {
		if !l.allowed[kind] {
			drop()
		}
	}
	return l.sans.IsX509CertificateAllowed(names)
}
