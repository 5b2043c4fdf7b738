package ceremony

import (
	"slices"
	"strings"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
)

func (d *draft) revoke() error {
	if len(d.n.Names) == 0 {
		return advice.New(advice.Usage, "give one with --certificate", "which certificate?")
	}
	if _, ok := reasons[d.n.Reason]; !ok || d.n.Reason == "" {
		var known []string
		for _, n := range sortedKeys(reasons) {
			if n != "" {
				known = append(known, n)
			}
		}
		return advice.New(advice.Usage, "give one of "+strings.Join(known, ", ")+" with --reason", "the reason %q is unknown", d.n.Reason)
	}
	if d.n.At.IsZero() {
		d.n.At = d.from
	}
	var c renewal
	for _, n := range d.n.Names {
		cert, err := d.certificateOf(n, "certificate that can be revoked", func(c StatusCert) bool { return c.Kind != "root" && !c.Revoked })
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(d.issuers(), func(i issuer) bool { return string(d.held(cert).RawIssuer) == string(i.cert.cert.RawSubject) }) {
			return advice.New(advice.Refused, "ask its CA to revoke it; to have gateways admit nothing under it, take it out of trust (retire)", "certificate %s was not issued by a CA whose key is in a token here", show.Text(n))
		}
		c.revoked, c.drop = append(c.revoked, cert), append(c.drop, n)
	}
	c.revoked = append(c.revoked, d.ofSameKey(c.revoked)...)
	return d.renew(c)
}

// ofSameKey are the further certificates of services that are good still and for the keys of those that are revoked: a station is not
// revoked while one of last year, or of this one, lets it in.
func (d *draft) ofSameKey(revoked []StatusCert) (more []StatusCert) {
	for _, c := range d.s.Certificates {
		held := d.held(c)
		if c.Revoked || held.IsCA || !held.NotAfter.After(d.from) {
			continue
		}
		same := func(o StatusCert) bool {
			is := d.held(o)
			return ca.SameKey(is.PublicKey, held.PublicKey) && string(is.RawIssuer) == string(held.RawIssuer)
		}
		if slices.ContainsFunc(revoked, same) && !slices.ContainsFunc(revoked, func(o StatusCert) bool { return o.Serial == c.Serial }) {
			more = append(more, c)
		}
	}
	return more
}
