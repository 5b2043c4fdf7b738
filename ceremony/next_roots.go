package ceremony

import (
	"slices"
	"strings"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
)

func (d *draft) rollover() error {
	name, err := d.about("root", "--root", d.anchors())
	if err != nil {
		return err
	}
	old, err := d.issuerNamed(name)
	if err != nil {
		return err
	}
	if d.s.trust == nil {
		return advice.Wrap(advice.Refused, errNoTrust, "gateways must be told of the new anchor: make a trust repository first")
	}
	if err := d.take(old); err != nil {
		return err
	}
	keyName := old.key.Names[0]
	key, root := d.next(keyName), d.next(name)
	copied := old.key.live(d.s)
	d.successor(old.key, key, d.tokens[copied.Serial], d.label(copied.Serial, copied.Label), "The new root, born beside the old one.")
	subject := subjectOf(old)
	subject.CommonName = after(subject.CommonName, " ")
	d.step("root-certificate", &RootCertificate{Name: root, Key: key, Profile: rootProfile(d.s, name), Subject: subject, NotBefore: formatTime(d.from), NotAfter: d.as(old.cert.cert, nil)})
	cross := d.name(root + "-cross")
	one := 1
	end := d.from.AddDate(10, 0, 0)
	if old.cert.cert.NotAfter.Before(end) {
		end = old.cert.cert.NotAfter
	}
	d.step("certificate", &Certificate{Name: cross, Issuer: name, Profile: "cross-certificate", Cross: root, PathLength: &one, NotBefore: formatTime(d.from), NotAfter: formatTime(end)},
		"Who knows only the old root finds the way to what is under the new one by this cross-certificate.")
	crl := d.name(root + "-crl")
	d.step("crl", &CRL{Name: crl, Issuer: root, Number: 1, ThisUpdate: formatTime(d.from), NextUpdate: formatTime(d.ends)})
	if err := d.backUp(old.key, key); err != nil {
		return err
	}
	return d.renew(renewal{anchors: []string{root}, crls: []string{crl}})
}

// successor generates a key that takes the place of another: of its algorithm, and of class backup if that one was backed up.
func (d *draft) successor(old *StatusKey, name, token, label string, comments ...string) {
	g := &GenerateKey{Name: name, Token: token, Label: label, Algorithm: string(old.Algorithm)}
	if len(old.Backups) > 0 {
		g.Class = string(hsm.Backup)
	}
	d.step("generate-key", g, comments...)
}

// backUp backs a new key up under the shares that hold the old one's backup.
func (d *draft) backUp(old *StatusKey, key string) error {
	if len(old.Backups) == 0 {
		return nil
	}
	shares := d.wrapFor(old)
	if shares == nil {
		return advice.New(advice.Refused, "share a wrapping key anew in a ceremony of kind officers", "no backup of key %s can be opened by the officers of today", show.Text(old.Names[0]))
	}
	input, err := d.pinEarlier(shares.Name, shares.SHA256)
	if err != nil {
		return err
	}
	d.step("backup-key", &BackupKey{Name: d.name(strings.TrimSuffix(key, "-key") + "-backup"), Key: key, Shares: input})
	return nil
}

// label gives a label that no key of the token has.
func (d *draft) label(serial, label string) string {
	taken := func(l string) bool {
		for _, k := range d.s.Keys {
			for _, c := range slices.Concat(k.Copies, k.Destroyed) {
				if c.Serial == serial && c.Label == l {
					return true
				}
			}
		}
		return false
	}
	for taken(label) {
		label = after(label, " ")
	}
	return label
}

// subjectOf is the subject of a CA as a script writes it.
func subjectOf(i issuer) SubjectConfig {
	first := func(list []string) string {
		if len(list) == 0 {
			return ""
		}
		return list[0]
	}
	n := i.cert.cert.Subject
	return SubjectConfig{CommonName: n.CommonName, Organization: first(n.Organization), OrganizationalUnit: first(n.OrganizationalUnit), Country: first(n.Country), Province: first(n.Province), Locality: first(n.Locality)}
}

// rootProfile is the profile of a root, as the script that made it has it.
func rootProfile(s *Status, name string) string {
	for _, v := range s.last.chain() {
		for _, st := range v.script.steps {
			if r, ok := st.step.(*RootCertificate); ok && r.Name == name {
				return r.Profile
			}
		}
	}
	return "fleet-root"
}

func (d *draft) retire() error {
	if d.s.trust == nil {
		return advice.Wrap(advice.Refused, errNoTrust, "there is nothing to retire from")
	}
	name, err := d.needed("anchor", "--root")
	if err != nil {
		return err
	}
	if !slices.Contains(d.s.trust.Anchors, name) || len(d.s.trust.Anchors) == 1 {
		return advice.New(advice.Usage, "see 'hanaper ceremony status'", "%s is no anchor, or the only one: the anchors are %s", show.Text(name), listed(d.s.trust.Anchors))
	}
	c := renewal{drop: []string{name}}
	old := d.s.left.certificates[name]
	for _, n := range d.s.trust.Intermediates {
		if up := d.s.left.certificates[n]; up != nil && old != nil && string(up.cert.RawIssuer) == string(old.cert.RawSubject) {
			c.drop = append(c.drop, n)
		}
	}
	if err := d.renew(c); err != nil {
		return err
	}
	for i, k := range d.s.Keys {
		if old == nil || k.Fingerprint != keyOf(old.cert) || k.live(d.s) == nil {
			continue
		}
		key, err := d.importKey(&d.s.Keys[i])
		if err != nil {
			return err
		}
		comment := "Devices under the old root are admitted no more, and nothing signs under it again."
		if len(k.Backups) > 0 {
			comment += " Backups of the key stay in the folders, and open with their shares: destroy the shares too."
		}
		d.step("destroy-key", &DestroyKey{Key: key}, comment)
	}
	return nil
}
