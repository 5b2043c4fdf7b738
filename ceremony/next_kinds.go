package ceremony

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/quorum"
)

// certificateOf finds a certificate by its name among those that pass.
func (d *draft) certificateOf(name, what string, passes func(StatusCert) bool) (StatusCert, error) {
	var can []string
	for i := len(d.s.Certificates) - 1; i >= 0; i-- {
		if c := d.s.Certificates[i]; passes(c) {
			if c.Name == name {
				return c, nil
			}
			can = append(can, c.Name)
		}
	}
	slices.Reverse(can)
	return StatusCert{}, advice.New(advice.Usage, "name one of "+listed(can), "%s is no %s here", show.Text(name), show.Text(what))
}

// issuerNamed finds a CA whose key is in a token.
func (d *draft) issuerNamed(name string) (issuer, error) {
	var can []string
	for _, i := range d.issuers() {
		if i.cert.name == name {
			return i, nil
		}
		can = append(can, i.cert.name)
	}
	return issuer{}, advice.New(advice.Usage, "name one of "+listed(can), "%s is no CA whose key is in a token and which is valid then", show.Text(name))
}

// anchors are the Fleet Roots of today whose keys are in a token.
func (d *draft) anchors() []string {
	var list []string
	for _, i := range d.issuers() {
		if d.s.trust != nil && slices.Contains(d.s.trust.Anchors, i.cert.name) {
			list = append(list, i.cert.name)
		}
	}
	return list
}

// about is the one name that was given, or the only one that there is.
func (d *draft) about(what, flag string, only []string) (string, error) {
	if len(d.n.Names) == 0 && len(only) == 1 {
		return only[0], nil
	}
	if len(d.n.Names) == 0 && len(only) > 1 {
		return "", advice.New(advice.Usage, "give one of "+listed(only)+" with "+flag, "which %s?", show.Text(what))
	}
	return d.needed(what, flag)
}

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
	generate := &GenerateKey{Name: key, Token: d.tokens[copied.Serial], Label: d.label(copied.Serial, copied.Label), Algorithm: string(old.key.Algorithm)}
	if classFor(old.key) == hsm.Backup {
		generate.Class = string(hsm.Backup)
	}
	d.step("generate-key", generate, "The new root, born beside the old one.")
	subject := subjectOf(old)
	subject.CommonName = after(subject.CommonName, " ")
	d.step("root-certificate", &RootCertificate{Name: root, Key: key, Profile: rootProfile(d.s, name), Subject: subject, NotBefore: formatTime(d.from), NotAfter: d.as(old.cert.cert, nil)})
	cross := d.name(root + "-cross")
	zero := 1
	end := d.from.AddDate(10, 0, 0)
	if old.cert.cert.NotAfter.Before(end) {
		end = old.cert.cert.NotAfter
	}
	d.step("certificate", &Certificate{Name: cross, Issuer: name, Profile: "cross-certificate", Cross: root, PathLength: &zero, NotBefore: formatTime(d.from), NotAfter: formatTime(end)},
		"Who knows only the old root finds the way to what is under the new one by this cross-certificate.")
	crl := d.name(root + "-crl")
	d.step("crl", &CRL{Name: crl, Issuer: root, Number: 1, ThisUpdate: formatTime(d.from), NextUpdate: formatTime(d.ends)})
	if err := d.backUp(old.key, key); err != nil {
		return err
	}
	return d.renew(renewal{anchors: []string{root}, crls: []string{crl}})
}

// backUp backs a new key up under the shares that hold the old one's backup.
func (d *draft) backUp(old *StatusKey, key string) error {
	if classFor(old) != hsm.Backup {
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

func (d *draft) factory() error { return d.joined(UseFactory) }

func (d *draft) anchor() error { return d.joined(UseAnchor) }

// joined is a yearly ceremony in which something of this use must join.
func (d *draft) joined(use string) error {
	if !slices.ContainsFunc(d.n.Inputs, func(f NamedFile) bool { return f.Use == use }) {
		return advice.New(advice.Usage, "give NAME=FILE with --"+use+", NAME being that of its certificate", "which %s?", show.Text(use))
	}
	return d.renew(renewal{})
}

// lastOf keeps the last.
func lastOf(list []string) []string { return list[max(0, len(list)-1):] }

func (d *draft) trustKeys() error {
	if d.s.trust == nil {
		return advice.Wrap(advice.Refused, errNoTrust, "there are no keys to replace")
	}
	if d.n.Keys < 1 || d.n.Threshold < 1 || d.n.Threshold > d.n.Keys || d.n.Keys > 9 {
		return advice.New(advice.Usage, "give --keys and --threshold, such as 3 and 2", "%d keys of which %d must sign", d.n.Keys, d.n.Threshold)
	}
	c := renewal{threshold: d.n.Threshold}
	for _, role := range []struct {
		names *[]string
		old   []string
	}{{&c.rootKeys, d.s.trust.RootKeys}, {&c.targetsKeys, d.s.trust.TargetsKeys}} {
		k := d.keyOf(role.old[0])
		if k == nil || k.live(d.s) == nil {
			return advice.New(advice.Refused, "restore it first", "the trust key %s is in no token", show.Text(role.old[0]))
		}
		at := k.live(d.s)
		token, err := d.token(at.Serial)
		if err != nil {
			return err
		}
		label := at.Label
		for range d.n.Keys {
			name := d.next(k.Names[0])
			label = after(label, " ")
			label = d.label(at.Serial, label)
			g := &GenerateKey{Name: name, Token: token, Label: label, Algorithm: string(k.Algorithm)}
			if classFor(k) == hsm.Backup {
				g.Class = string(hsm.Backup)
			}
			d.step("generate-key", g)
			*role.names = append(*role.names, name)
			if err := d.backUp(k, name); err != nil {
				return err
			}
		}
	}
	if err := d.renew(c); err != nil {
		return err
	}
	for _, n := range slices.Concat(d.s.trust.RootKeys, d.s.trust.TargetsKeys) {
		if k := d.keyOf(n); k != nil && k.live(d.s) != nil {
			d.step("destroy-key", &DestroyKey{Key: k.live(d.s).Name}, "The old key has signed for the last time.")
		}
	}
	return nil
}

func (d *draft) officers() error {
	// A turnover that was aborted goes on with the roster that it began with.
	goesOn := d.n.Officers == nil && len(d.n.Approvals) == 0 && d.s.leaversHold()
	if !goesOn && (d.n.Officers == nil || len(d.n.Approvals) == 0) {
		return advice.New(advice.Usage, "give the new roster with --officers, and the approvals of the old one's officers with --approval, one for each", "which officers?")
	}
	next := d.s.last.roster
	if !goesOn {
		if sha256.Sum256(d.n.Officers.Data) == next.Digest() {
			return advice.New(advice.Usage, "to go on with a turnover that was aborted, leave --officers and --approval out; for other officers, make a roster that follows this one: hanaper roster new --previous", "%s is the roster of today", show.Text(d.n.Officers.File))
		}
		var err error
		if next, err = next.Succeed(d.n.Officers.Data, datas(d.n.Approvals)); err != nil {
			return err
		}
	}
	wrap := ""
	for _, t := range d.s.Tokens {
		if len(t.Keys) == 0 || t.User == nil && t.SO == nil || slices.Contains(d.s.without, t.Serial) {
			continue
		}
		if !slices.ContainsFunc(d.s.Keys, func(k StatusKey) bool { c := k.live(d.s); return c != nil && c.Serial == t.Serial }) {
			d.comment(fmt.Sprintf("The keys of %s were used in another token since. If it is dead, or destroyed, write this draft again with --without %s.", t.Label, t.Serial))
		}
		token, err := d.token(t.Serial)
		if err != nil {
			return err
		}
		wrap = token
		for _, p := range []struct {
			shares  *StatusShares
			purpose quorum.Purpose
		}{{t.User, quorum.PurposeUser}, {t.SO, quorum.PurposeSO}} {
			if p.shares == nil || goesOn && len(p.shares.Gone) == 0 {
				continue
			}
			input, err := d.pinEarlier(p.shares.Name, p.shares.SHA256)
			if err != nil {
				return err
			}
			d.step("hold-secret", &HoldSecret{Name: d.next(p.shares.Name), Token: token, Purpose: string(p.purpose), Threshold: fits(p.shares.Threshold, next), Previous: input},
				fmt.Sprintf("The %s PIN of %s is set anew, and held by all officers of the new roster who have a decryption key.", map[quorum.Purpose]string{quorum.PurposeUser: "user", quorum.PurposeSO: "SO"}[p.purpose], t.Label))
		}
	}
	return d.rewrap(wrap, next, goesOn)
}

// leaversHold says whether somebody who is not in the roster holds a share of what is used today.
func (s *Status) leaversHold() bool {
	gone := func(d *StatusShares) bool { return d != nil && len(d.Gone) > 0 }
	return slices.ContainsFunc(s.Tokens, func(t StatusToken) bool { return len(t.Keys) > 0 && (gone(t.User) || gone(t.SO)) }) ||
		slices.ContainsFunc(s.Keys, func(k StatusKey) bool {
			return k.State != KeyDestroyed && slices.ContainsFunc(k.Backups, func(b StatusBackup) bool { return b.ReplacedBy == "" && gone(&b.Shares) })
		})
}

// fits is a threshold that the holders of a roster can meet.
func fits(threshold int, r *quorum.Roster) int {
	holders := 0
	for _, o := range r.Officers() {
		if o.Role == quorum.RoleOfficer && o.DecryptionKey != nil {
			holders++
		}
	}
	return min(threshold, holders)
}

func datas(files []NamedFile) [][]byte {
	var list [][]byte
	for _, f := range files {
		list = append(list, f.Data)
	}
	return list
}

// restore brings the keys of a dead token into a new one.
func (d *draft) restore() error {
	name, err := d.needed("token", "--token")
	if err != nil {
		return err
	}
	i := slices.IndexFunc(d.s.Tokens, func(t StatusToken) bool { return t.Label == name || t.Serial == name })
	if i < 0 {
		var can []string
		for _, t := range d.s.Tokens {
			can = append(can, t.Label)
		}
		return advice.New(advice.Usage, "name one of "+listed(can), "no ceremony used a token %s", show.Text(name))
	}
	dead := d.s.Tokens[i]
	label := dead.Label
	for slices.ContainsFunc(d.s.Tokens, func(t StatusToken) bool { return t.Label == label }) {
		label = after(label, " ")
	}
	spare := d.blank(label)
	d.step("init-token", &InitToken{Token: spare}, "The new token must be blank. Its first PINs are typed by those who keep them, until the shares replace them.")
	for _, p := range []struct {
		shares  *StatusShares
		purpose quorum.Purpose
	}{{dead.User, quorum.PurposeUser}, {dead.SO, quorum.PurposeSO}} {
		if p.shares != nil {
			d.step("hold-secret", &HoldSecret{Name: d.name(spare + "-" + string(p.purpose)), Token: spare, Purpose: string(p.purpose), Threshold: fits(p.shares.Threshold, d.s.last.roster)})
		}
	}
	restored := 0
	for i := range d.s.Keys {
		k := &d.s.Keys[i]
		at := slices.IndexFunc(k.Copies, func(c StatusCopy) bool { return c.Serial == dead.Serial && !c.Left })
		if at < 0 || slices.ContainsFunc(k.Copies, func(c StatusCopy) bool { return c.Serial != dead.Serial && !c.Left }) {
			continue
		}
		done, err := d.restoreKey(k, k.Copies[at], spare)
		if err != nil {
			return err
		}
		restored += done
	}
	if restored == 0 {
		return advice.New(advice.Refused, "begin new keys: for a Fleet Root see the runbook", "of no key that was in token %s there is a backup that the officers of today can open", show.Text(dead.Label))
	}
	return nil
}

func (d *draft) restoreKey(k *StatusKey, was StatusCopy, spare string) (done int, err error) {
	shares := d.wrapFor(k)
	if shares == nil {
		d.comment(fmt.Sprintf("LOST: key %s (%s). No backup of it can be opened. What it signed stays good until it expires; begin a new key in its place.", was.Name, strings.Join(k.For, ", ")))
		return 0, nil
	}
	i := len(k.Backups) - 1
	for k.Backups[i].Shares.SHA256 != shares.SHA256 {
		i--
	}
	input, err := d.pinEarlier(shares.Name, shares.SHA256)
	if err != nil {
		return 0, err
	}
	name := d.next(k.Names[0])
	d.step("restore-key", &RestoreKey{Name: name, Backup: k.Backups[i].Name, Token: spare, Label: was.Label, Shares: input, Class: string(hsm.RestoredBackup)},
		fmt.Sprintf("%s: %s.", k.Names[0], strings.Join(k.For, ", ")))
	d.step("backup-key", &BackupKey{Name: d.next(k.Backups[i].Name), Key: name, Shares: input})
	return 1, nil
}
