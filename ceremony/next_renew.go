package ceremony

import (
	"crypto/x509"
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strings"

	"github.com/hanaper/hanaper/ca"
)

// renewal is in what a yearly ceremony differs from one that only renews.
type renewal struct {
	// anchors and intermediates are certificates that join trust, with the lists of new issuers.
	anchors, intermediates []string
	crls                   []string
	// drop are names of anchors and intermediates that leave it.
	drop []string
	// revoked are certificates to be revoked.
	revoked []StatusCert
	// rootKeys and targetsKeys take the place of the last ones.
	rootKeys, targetsKeys []string
	threshold             int
}

func (d *draft) yearly() error { return d.renew(renewal{}) }

// renew renews all that ends within a year and a month, with what changes by the way.
func (d *draft) renew(c renewal) error {
	cas := d.issuers()
	var lists []nextCRL
	for _, i := range cas {
		if slices.Contains(c.drop, i.cert.name) {
			continue
		}
		if err := d.services(i, c.revoked); err != nil {
			return err
		}
		list, err := d.list(i, c)
		if err != nil {
			return err
		}
		if list.name != "" {
			lists = append(lists, list)
		}
	}
	if err := d.join(&c); err != nil {
		return err
	}
	if err := d.trust(c, lists); err != nil {
		return err
	}
	return d.uptaneRoots()
}

// ofYear ends the name of a certificate that a draft renewed before.
var ofYear = regexp.MustCompile(`-20[0-9][0-9](-[0-9]+)?$`)

// services certifies stations, operators and servers anew whose certificates end soon, for the requests that they sent last. What is to be revoked, and
// what has a new request among those that join, is left out.
func (d *draft) services(i issuer, revoked []StatusCert) error {
	type made struct {
		cert *certificate
		step *Certificate
		v    *verified
	}
	newest := map[string]made{}
	var order []string
	for _, v := range d.s.last.chain() {
		if v.aborted {
			continue
		}
		for _, st := range v.script.steps {
			c, ok := st.step.(*Certificate)
			if !ok || c.Request == "" {
				continue
			}
			held := v.state().certificates[c.Name]
			if held == nil || held.cert.IsCA || string(held.cert.RawIssuer) != string(i.cert.cert.RawSubject) {
				continue
			}
			id := held.cert.Subject.String() + c.Profile + fmt.Sprint(c.roles())
			if c.role() == "" {
				// Servers of several plants, and gateways, may all have one name in their certificates.
				id += ofYear.ReplaceAllString(c.Name, "")
			}
			if _, ok := newest[id]; !ok {
				order = append(order, id)
			}
			newest[id] = made{held, c, v}
		}
	}
	for _, id := range order {
		m := newest[id]
		gone := slices.ContainsFunc(d.s.Certificates, func(c StatusCert) bool { return c.Name == m.cert.name && c.Revoked }) ||
			slices.ContainsFunc(revoked, func(c StatusCert) bool { return ca.SameKey(d.held(c).PublicKey, m.cert.cert.PublicKey) })
		if gone || m.cert.cert.NotAfter.After(d.ends) || slices.ContainsFunc(d.n.Inputs, func(in NamedFile) bool { return m.step.replacedBy(in) }) {
			continue
		}
		if err := d.take(i); err != nil {
			return err
		}
		request, err := d.pinEarlier(m.step.Request, hexSHA256(m.v.script.inputs[m.step.Request]))
		if err != nil {
			return err
		}
		again := *m.step
		again.Name, again.Issuer, again.Request = d.name(fmt.Sprintf("%s-%d", ofYear.ReplaceAllString(m.cert.name, ""), d.from.Year())), i.cert.name, request
		again.NotBefore, again.NotAfter = formatTime(d.from), d.as(m.cert.cert, i.cert.cert)
		d.step("certificate", &again, fmt.Sprintf("%s ends %s. This is for the request of %s, hence for the same key: pin a new one if the key is to change.",
			m.cert.name, formatTime(m.cert.cert.NotAfter), m.v.script.config.Ceremony))
	}
	return nil
}

// role is the name that the certificate's role has, empty for a server.
func (c *Certificate) role() string {
	for _, r := range c.roles() {
		if r.name != "" {
			return r.name
		}
	}
	return ""
}

// replacedBy says whether a request that joins is for what this certificate was for: the same role, or a server of the same name in the scripts.
func (c *Certificate) replacedBy(in NamedFile) bool {
	use := map[string]string{UseGatewayClient: ca.RoleGateway}[in.Use]
	if use == "" {
		use = in.Use
	}
	for _, r := range c.roles() {
		if r.name != "" {
			return r.role == use && r.name == in.Name
		}
	}
	return (in.Use == UseServer || in.Use == UseGateway) && ofYear.ReplaceAllString(c.Name, "") == in.Name
}

// as gives an end as far away as that of the certificate before was, and not after its issuer's.
func (d *draft) as(old, issuer *x509.Certificate) string {
	until := d.from.Add(old.NotAfter.Sub(old.NotBefore))
	if issuer != nil && until.After(issuer.NotAfter) {
		until = issuer.NotAfter
	}
	return formatTime(until)
}

// nextCRL is the name of a CRL that the draft has signed, those of its CA's certificate, and of the CRL whose place it takes: empty for a CA's first.
type nextCRL struct{ name, issuer, last string }

// list signs the next CRL of a CA that has had one, or that is to revoke something; of another it gives none.
func (d *draft) list(i issuer, c renewal) (next nextCRL, err error) {
	var last *heldCRL
	for _, l := range d.s.lists {
		if string(l.issuer.RawSubject) == string(i.cert.cert.RawSubject) && keyOf(l.issuer) == keyOf(i.cert.cert) {
			last = l
		}
	}
	step := &CRL{Name: i.cert.name + "-crl", Issuer: i.cert.name, Number: 1, ThisUpdate: formatTime(d.from), NextUpdate: formatTime(d.ends)}
	var comments []string
	if last != nil {
		step.Number = new(big.Int).Add(last.highest, big.NewInt(1)).Int64()
	}
	if last != nil && last.crl != nil {
		next.last, step.Name = last.Name, trailing.FindStringSubmatch(last.Name)[1]
		for _, e := range last.crl.RevokedCertificateEntries {
			serial := fmt.Sprintf("%x", e.SerialNumber)
			if held := d.heldBy(i.cert.cert, e.SerialNumber); held != nil && !held.NotAfter.After(d.from) {
				step.Released = append(step.Released, serial) // it has expired
				continue
			}
			step.Revoked = append(step.Revoked, Revocation{Serial: serial, Reason: reasonName(e.ReasonCode), At: formatTime(e.RevocationTime)})
		}
		comments = append(comments, fmt.Sprintf("The last CRL, number %s, ends %s. Everything on it stays on this one until it expires.", last.Number, formatTime(last.crl.NextUpdate)))
	}
	for _, r := range c.revoked {
		if string(d.held(r).RawIssuer) == string(i.cert.cert.RawSubject) && string(d.held(r).AuthorityKeyId) == string(i.cert.cert.SubjectKeyId) {
			step.Revoked = append(step.Revoked, Revocation{Serial: r.Serial, Reason: d.n.Reason, At: formatTime(d.n.At)})
			comments = append(comments, fmt.Sprintf("REVOKES %s, %s.", r.Name, r.Subject))
		}
	}
	if last == nil && len(step.Revoked) == 0 {
		return nextCRL{}, nil
	}
	if i.cert.cert.NotAfter.Before(d.ends) {
		step.NextUpdate = formatTime(i.cert.cert.NotAfter)
	}
	if step.Number > 1 {
		step.Name = fmt.Sprintf("%s-%d", strings.TrimSuffix(step.Name, "-"), step.Number)
	}
	step.Name = d.name(step.Name)
	if err := d.take(i); err != nil {
		return nextCRL{}, err
	}
	d.step("crl", step, comments...)
	next.name, next.issuer = step.Name, step.Issuer
	return next, nil
}

// uptaneRoots renews the roots whose keys are in tokens.
func (d *draft) uptaneRoots() error {
	for _, u := range d.s.Uptane {
		step := *d.s.uptane[u.Repository]
		inputs := d.s.performed(u.Ceremony).script.inputs
		step.Version, step.Expires, step.SignedBy = u.RootVersion+1, formatTime(d.ends), nil
		signs := 0
		for _, role := range []*UptaneRole{&step.Root, &step.Targets, &step.Snapshot, &step.Timestamp} {
			var names []string
			for _, n := range role.Keys {
				name := n
				var err error
				if data := inputs[n]; data != nil {
					name, err = d.pinEarlier(n, hexSHA256(data))
				} else if k := d.keyOf(n); k != nil && k.live(d.s) != nil {
					name, err = d.importKey(k)
					if role == &step.Root {
						signs++
						step.SignedBy = append(step.SignedBy, name)
					}
				}
				if err != nil {
					return err
				}
				names = append(names, name)
			}
			role.Keys = names
		}
		if signs < step.Root.Threshold {
			d.comment(fmt.Sprintf("The root of the Uptane %s repository ends %s: too few of its keys are in a token of these ceremonies.", u.Repository, formatTime(u.Expires)))
			continue
		}
		if len(step.SignedBy) == len(step.Root.Keys) {
			step.SignedBy = nil
		}
		d.step("uptane-root", &step, "targets.json is renewed by the release engineers, with `hanaper uptane`.")
	}
	return nil
}
