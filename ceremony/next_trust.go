package ceremony

import (
	"errors"
	"fmt"
	"slices"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
)

var errNoTrust = errors.New("no ceremony made a trust repository")

// trust signs the next version of the trust repository.
func (d *draft) trust(c renewal, lists []nextCRL) error {
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
	cas := slices.Concat(t.Anchors, t.Intermediates)
	t.CRLs = append(nextCRLs(t.CRLs, lists, cas), c.crls...)
	for _, n := range cas {
		d.importCertificate(n)
	}
	t.Removes = d.removes(slices.Concat(d.s.trust.Anchors, d.s.trust.Intermediates), cas)
	comments, err := d.policy(&t)
	if err != nil {
		return err
	}
	if err := d.trustSigners(&t); err != nil {
		return err
	}
	for _, role := range []*string{&t.Snapshot, &t.Timestamp, &t.CRL, &t.DirectorRoot, &t.ImageRoot} {
		data := d.trustInput(*role)
		if data == nil {
			continue // a key of the ceremony, or none
		}
		if *role, err = d.pinEarlier(*role, hexSHA256(data)); err != nil {
			return err
		}
	}
	if c.rootKeys != nil {
		d.replaceSigners(&t, c)
	}
	said := fmt.Sprintf("The next version, %d. What the last one had and this one has not stands under removes.", d.s.Trust.TargetsVersion+1)
	d.step("trust-repository", &t, append([]string{said}, comments...)...)
	return nil
}

// nextCRLs names the CRLs of the next version: those in the place of the last version's, and the first ones of CAs that gateways know.
func nextCRLs(were []string, lists []nextCRL, cas []string) (names []string) {
	for _, n := range were {
		if i := slices.IndexFunc(lists, func(l nextCRL) bool { return l.last == n }); i >= 0 {
			names = append(names, lists[i].name)
		}
	}
	for _, l := range lists {
		if l.last == "" && slices.Contains(cas, l.issuer) {
			names = append(names, l.name)
		}
	}
	return names
}

// trustSigners takes up the keys that signed the last version, as many as are in tokens.
func (d *draft) trustSigners(t *TrustRepository) error {
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

// trustInput is the input of the ceremony that signed trust last.
func (d *draft) trustInput(name string) []byte {
	return d.s.performed(d.s.Trust.Ceremony).script.inputs[name]
}

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
			label = d.label(at.Serial, after(label, " "))
			d.successor(k, name, token, label)
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

// replaceSigners puts new keys in the place of those that signed the last version, which sign this one, too.
func (d *draft) replaceSigners(t *TrustRepository, c renewal) {
	t.AlsoSignedBy = t.RootKeys
	for _, n := range slices.Concat(d.s.trust.RootKeys, d.s.trust.TargetsKeys) {
		if k := d.keyOf(n); k != nil && !slices.Contains(t.Removes, k.Names[0]) {
			t.Removes = append(t.Removes, k.Names[0])
		}
	}
	if c.threshold < t.RootThreshold {
		t.Removes = append(t.Removes, "root_threshold")
	}
	if c.threshold < t.TargetsThreshold {
		t.Removes = append(t.Removes, "targets_threshold")
	}
	t.RootKeys, t.RootThreshold, t.TargetsKeys, t.TargetsThreshold = c.rootKeys, c.threshold, c.targetsKeys, c.threshold
}
