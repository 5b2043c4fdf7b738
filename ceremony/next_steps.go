package ceremony

import (
	"crypto/x509"
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"sort"
	"strings"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
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

// live gives the copy of a key that was used last, or nil where it is in no token, or only in tokens that are to be left out.
func (k StatusKey) live(s *Status) *StatusCopy {
	var best *StatusCopy
	at := -1
	for i, c := range k.Copies {
		left := s.left.keys[c.Name]
		if n := slices.Index(s.Ceremonies, c.Ceremony); !c.Left && !k.replaced(s, c) && !slices.Contains(s.without, c.Serial) && left != nil && !left.destroyed && (n > at || n == at && left.of != "") {
			best, at = &k.Copies[i], n
		}
	}
	return best
}

// replaced says whether a copy is in a token that was not used any more since the key was restored, or copied, into another one,
// whatever became of that copy: the token has died, or was put away.
func (k StatusKey) replaced(s *Status, c StatusCopy) bool {
	i := slices.IndexFunc(s.Tokens, func(t StatusToken) bool { return t.Serial == c.Serial })
	if i < 0 {
		return false
	}
	used := slices.Index(s.Ceremonies, s.Tokens[i].Ceremony)
	return slices.ContainsFunc(slices.Concat(k.Copies, k.Destroyed), func(o StatusCopy) bool {
		return o.Serial != c.Serial && slices.Index(s.Ceremonies, o.Ceremony) > used
	})
}

// keyOf finds a key by a name that it or a copy of it has had.
func (d *draft) keyOf(name string) *StatusKey {
	for i, k := range d.s.Keys {
		if slices.Contains(k.Names, name) {
			return &d.s.Keys[i]
		}
	}
	return nil
}

// importKey takes a key up, once, and gives the name of its copy; empty where it is in no token.
func (d *draft) importKey(k *StatusKey) (string, error) {
	c := k.live(d.s)
	if c == nil {
		return "", nil
	}
	if d.imported["key "+c.Name] {
		return c.Name, nil
	}
	token, err := d.token(c.Serial)
	if err != nil {
		return "", err
	}
	d.imported["key "+c.Name], d.here[c.Name] = true, true
	d.step("import-artefact", &ImportArtefact{Key: c.Name, Token: token})
	return c.Name, nil
}

// importCertificate takes a certificate up, once, those above it first.
func (d *draft) importCertificate(name string) {
	c := d.s.left.certificates[name]
	if c == nil || d.imported["certificate "+name] {
		return
	}
	if c.issuer != "" {
		d.importCertificate(c.issuer)
	}
	d.imported["certificate "+name], d.here[name] = true, true
	d.step("import-artefact", &ImportArtefact{Certificate: name})
}

// issuer is a CA whose key is in a token.
type issuer struct {
	cert *certificate
	key  *StatusKey
}

// issuers are the CAs that can sign, by the name of their certificate: of several certificates of one CA the root's.
func (d *draft) issuers() []issuer {
	var list []issuer
	for _, n := range sortedKeys(d.s.left.certificates) {
		c := d.s.left.certificates[n]
		i := slices.IndexFunc(d.s.Keys, func(k StatusKey) bool { return k.Fingerprint == keyOf(c.cert) })
		if !c.cert.IsCA || c.unsigned || i < 0 || d.s.Keys[i].live(d.s) == nil || !c.cert.NotAfter.After(d.until) {
			continue
		}
		same := slices.IndexFunc(list, func(o issuer) bool {
			return o.key.Fingerprint == d.s.Keys[i].Fingerprint && string(o.cert.cert.RawSubject) == string(c.cert.RawSubject)
		})
		switch {
		case same < 0:
			list = append(list, issuer{c, &d.s.Keys[i]})
		case c.issuer == "":
			list[same].cert = c
		}
	}
	sort.SliceStable(list, func(i, j int) bool { return list[i].cert.cert.NotBefore.Before(list[j].cert.cert.NotBefore) })
	return list
}

// take takes up a CA with its key.
func (d *draft) take(i issuer) error {
	if _, err := d.importKey(i.key); err != nil {
		return err
	}
	d.importCertificate(i.cert.name)
	return nil
}

func (d *draft) yearly() error { return d.renew(renewal{}) }

// renew renews all that ends within a year and a month, with what changes by the way.
func (d *draft) renew(c renewal) error {
	cas := d.issuers()
	lists := map[string]string{}
	for _, i := range cas {
		if slices.Contains(c.drop, i.cert.name) {
			continue
		}
		if err := d.services(i, c.revoked); err != nil {
			return err
		}
		old, now, err := d.list(i, c)
		if err != nil {
			return err
		}
		if now != "" {
			lists[old] = now
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

// list signs the next CRL of a CA that has had one, or that is to revoke something: it gives the last one's name and its own.
func (d *draft) list(i issuer, c renewal) (old, now string, err error) {
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
		old, step.Name = last.Name, trailing.FindStringSubmatch(last.Name)[1]
		for _, e := range last.crl.RevokedCertificateEntries {
			if held := d.heldBy(i.cert.cert, e.SerialNumber); held != nil && !held.NotAfter.After(d.from) {
				continue // it has expired
			}
			step.Revoked = append(step.Revoked, Revocation{Serial: fmt.Sprintf("%x", e.SerialNumber), Reason: reasonName(e.ReasonCode), At: formatTime(e.RevocationTime)})
		}
		for _, e := range last.crl.RevokedCertificateEntries {
			if held := d.heldBy(i.cert.cert, e.SerialNumber); held != nil && !held.NotAfter.After(d.from) {
				step.Released = append(step.Released, fmt.Sprintf("%x", e.SerialNumber))
			}
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
		return "", "", nil
	}
	if i.cert.cert.NotAfter.Before(d.ends) {
		step.NextUpdate = formatTime(i.cert.cert.NotAfter)
	}
	if step.Number > 1 {
		step.Name = fmt.Sprintf("%s-%d", strings.TrimSuffix(step.Name, "-"), step.Number)
	}
	if step.Name = d.name(step.Name); old == "" {
		old = step.Name
	}
	if err := d.take(i); err != nil {
		return "", "", err
	}
	d.step("crl", step, comments...)
	return old, step.Name, nil
}

// heldBy finds a certificate by its issuer and serial.
func (d *draft) heldBy(issuer *x509.Certificate, serial *big.Int) *x509.Certificate {
	for _, c := range d.s.held {
		if string(c.cert.RawIssuer) == string(issuer.RawSubject) && c.cert.SerialNumber.Cmp(serial) == 0 {
			return c.cert
		}
	}
	return nil
}

func (d *draft) held(c StatusCert) *x509.Certificate {
	for _, h := range d.s.held {
		if h.Name == c.Name && h.Serial == c.Serial {
			return h.cert
		}
	}
	return &x509.Certificate{}
}

// trust signs the next version of the trust repository.
func (d *draft) trust(c renewal, lists map[string]string) error {
	if d.s.trust == nil {
		d.comment("There is no trust repository yet: gateways learn nothing of this.")
		return nil
	}
	t := *d.s.trust
	t.AlsoSignedBy = nil
	t.RootExpires, t.TargetsExpires = formatTime(d.ends), formatTime(d.ends)
	keep := func(names []string) []string {
		return slices.DeleteFunc(slices.Clone(names), func(n string) bool {
			held := d.s.left.certificates[n]
			return slices.Contains(c.drop, n) || held != nil && !held.cert.NotAfter.After(d.until)
		})
	}
	t.Anchors, t.Intermediates = append(keep(t.Anchors), c.anchors...), append(keep(t.Intermediates), c.intermediates...)
	var crls []string
	for _, n := range t.CRLs {
		if now := lists[n]; now != "" {
			crls = append(crls, now)
			delete(lists, n)
		}
	}
	for _, old := range sortedKeys(lists) {
		// A CA that revokes for the first time.
		if now := lists[old]; old == now && slices.ContainsFunc(slices.Concat(t.Anchors, t.Intermediates), func(n string) bool { return d.issuedBy(now, n) }) {
			crls = append(crls, now)
		}
	}
	t.CRLs = append(crls, c.crls...)
	for _, n := range slices.Concat(t.Anchors, t.Intermediates) {
		d.importCertificate(n)
	}
	comments := []string{fmt.Sprintf("The next version, %d. What the last one had and this one has not stands under removes.", d.s.Trust.TargetsVersion+1)}
	t.Removes = d.removes(slices.Concat(d.s.trust.Anchors, d.s.trust.Intermediates), slices.Concat(t.Anchors, t.Intermediates))
	said, err := d.policy(&t)
	if err != nil {
		return err
	}
	comments = append(comments, said...)
	before := slices.Concat(t.RootKeys, t.TargetsKeys)
	for _, role := range []*[]string{&t.RootKeys, &t.TargetsKeys} {
		var names []string
		for _, n := range *role {
			k := d.keyOf(n)
			if k == nil {
				return fmt.Errorf("the trust key %q is of no ceremony", n)
			}
			copied, err := d.importKey(k)
			if err != nil {
				return err
			}
			if copied != "" {
				names = append(names, copied)
			}
		}
		*role = names
	}
	if len(t.RootKeys) < t.RootThreshold || len(t.TargetsKeys) < t.TargetsThreshold {
		return advice.New(advice.Refused, "restore them, or begin a new trust repository, whose first root the gateways must be given by hand", "of the trust keys %s too few are in a token", show.List(before))
	}
	for _, role := range []*string{&t.Snapshot, &t.Timestamp, &t.CRL, &t.DirectorRoot, &t.ImageRoot} {
		data := d.trustInput(*role)
		if data == nil {
			continue // a key of the ceremony, or none
		}
		n, err := d.pinEarlier(*role, hexSHA256(data))
		if err != nil {
			return err
		}
		*role = n
	}
	if c.rootKeys != nil {
		t.AlsoSignedBy = t.RootKeys
		for _, n := range before {
			if k := d.keyOf(n); k != nil && !slices.Contains(t.Removes, k.Names[0]) {
				t.Removes = append(t.Removes, k.Names[0])
			}
		}
		for _, lower := range []struct {
			name string
			was  int
		}{{"root_threshold", t.RootThreshold}, {"targets_threshold", t.TargetsThreshold}} {
			if c.threshold < lower.was {
				t.Removes = append(t.Removes, lower.name)
			}
		}
		t.RootKeys, t.RootThreshold, t.TargetsKeys, t.TargetsThreshold = c.rootKeys, c.threshold, c.targetsKeys, c.threshold
	}
	d.step("trust-repository", &t, comments...)
	return nil
}

// removes names what a list of certificates had before and has no longer, as the step is asked to.
func (d *draft) removes(was, is []string) []string {
	var gone []string
	for _, n := range was {
		c := d.s.left.certificates[n]
		if c == nil || slices.ContainsFunc(is, func(o string) bool {
			held := d.s.left.certificates[o]
			return held != nil && held.cert.Equal(c.cert)
		}) {
			continue
		}
		for _, o := range sortedKeys(d.s.left.certificates) {
			if d.s.left.certificates[o].cert.Equal(c.cert) {
				gone = append(gone, o)
				break
			}
		}
	}
	return gone
}

// issuedBy says whether a CRL, by the name that it will have, is of the issuer of that name.
func (d *draft) issuedBy(crl, issuer string) bool { return strings.HasPrefix(crl, issuer+"-crl") }

// trustInput is the input of the ceremony that signed trust last.
func (d *draft) trustInput(name string) []byte {
	chain := d.s.last.chain()
	for i := len(chain) - 1; i >= 0; i-- {
		if chain[i].script.config.Ceremony == d.s.Trust.Ceremony {
			return chain[i].script.inputs[name]
		}
	}
	return nil
}

// uptaneRoots renews the roots whose keys are in tokens.
func (d *draft) uptaneRoots() error {
	for _, u := range d.s.Uptane {
		step := *d.s.uptane[u.Repository]
		var v *verified
		for _, c := range d.s.last.chain() {
			if c.script.config.Ceremony == u.Ceremony {
				v = c
			}
		}
		step.Version, step.Expires, step.SignedBy = u.RootVersion+1, formatTime(d.ends), nil
		signs := 0
		for _, role := range []*UptaneRole{&step.Root, &step.Targets, &step.Snapshot, &step.Timestamp} {
			var names []string
			for _, n := range role.Keys {
				name := n
				var err error
				if data := v.script.inputs[n]; data != nil {
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

// classFor is the class that a key which takes another's place has.
func classFor(k *StatusKey) hsm.Class {
	if len(k.Backups) > 0 {
		return hsm.Backup
	}
	return hsm.Sealed
}

// wrapFor are the shares that backups of a token's keys are made with today: those of the newest backup that opens.
func (d *draft) wrapFor(k *StatusKey) *StatusShares {
	for i := len(k.Backups) - 1; i >= 0; i-- {
		if k.Backups[i].Shares.Opens {
			return &k.Backups[i].Shares
		}
	}
	return nil
}
