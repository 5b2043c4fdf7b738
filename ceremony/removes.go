package ceremony

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/trust"
)

// What a new version removes against the last one is what reviewers overlook, for it stands nowhere: a trust version without its
// factory CA closes the factory. So a script names what a version of trust removes, and nothing else; for a CRL `released` does.

// removal is something that the last version had and the new one has not.
type removal struct {
	// name by which the script names it.
	name string
	// digest names a certificate or key where its name is that of something else which is removed, or could be; empty for what has no
	// other name.
	digest string
	// what it is, and what comes of it, for people.
	what string
}

// removed compares the trust repository that was signed last with what the step asks for.
func (t *TrustRepository) removed(s *Session, prev *trust.Repository, c trust.Content, k trust.Keys) (gone []removal, added []string) {
	if prev == nil {
		return nil, nil
	}
	for _, list := range []struct {
		kind, effect string
		was, is      []*x509.Certificate
		names        []string
	}{
		{"anchor", "no device below it is admitted any more", prev.Anchors(), c.Anchors, t.Anchors},
		{"intermediate", "its devices are not admitted any more", prev.Intermediates(), c.Intermediates, t.Intermediates},
	} {
		for _, was := range list.was {
			if !slices.ContainsFunc(list.is, was.Equal) {
				gone = append(gone, removal{s.nameOf(was), "sha256:" + hexSHA256(was.Raw), fmt.Sprintf("%s %s, %s: %s", list.kind, show.Text(s.nameOf(was)), show.Text(was.Subject.String()), list.effect)})
			}
		}
		for i, is := range list.is {
			if !slices.ContainsFunc(list.was, is.Equal) {
				added = append(added, fmt.Sprintf("%s %s, %s", list.kind, show.Text(list.names[i]), show.Text(is.Subject.String())))
			}
		}
	}
	was := prev.Keys()
	for _, role := range []struct {
		name    string
		was, is trust.Role
	}{{"root", was.Root, k.Root}, {"targets", was.Targets, k.Targets}} {
		for _, key := range role.was.Keys {
			if !slices.ContainsFunc(role.is.Keys, func(o crypto.PublicKey) bool { return ca.SameKey(o, key) }) {
				_, sum, _ := marshalSPKI(key)
				gone = append(gone, removal{s.keyNamed(key), "sha256:" + sum, fmt.Sprintf("key %s of the role %s", show.Text(s.keyNamed(key)), show.Text(role.name))})
			}
		}
		if role.is.Threshold < role.was.Threshold {
			gone = append(gone, removal{role.name + "_threshold", "", fmt.Sprintf("the threshold %d of the role %s: %d are enough from now on", role.was.Threshold, show.Text(role.name), role.is.Threshold)})
		}
	}
	for _, role := range []struct {
		name    string
		was, is trust.Role
	}{{"snapshot", was.Snapshot, k.Snapshot}, {"timestamp", was.Timestamp, k.Timestamp}, {"crl", was.CRL, k.CRL}} {
		if !ca.SameKey(role.was.Keys[0], role.is.Keys[0]) {
			gone = append(gone, removal{role.name, "", fmt.Sprintf("the key of the online role %s", show.Text(role.name))})
		}
	}
	for _, rule := range prev.Policy().CRLs {
		if !slices.ContainsFunc(c.Policy.CRLs, func(o trust.CRLRule) bool { return o.CA == rule.CA }) {
			name := s.caNamed(prev, rule.CA)
			gone = append(gone, removal{"crl_rules." + name, "", fmt.Sprintf("the rule for the CRL of %s: its devices are refused from its next update on", show.Text(name))})
		}
	}
	gone = append(gone, environmentRemoved(prev.Policy(), c.Policy)...)
	return toldApart(append(gone, policyRemoved(prev.Policy(), c.Policy)...)), added
}

// caNamed is the name of a CA of the repository, by its id.
func (s *Session) caNamed(rep *trust.Repository, id string) string {
	for _, c := range slices.Concat(rep.Anchors(), rep.Intermediates()) {
		if trust.IssuerID(c).String() == id {
			return s.nameOf(c)
		}
	}
	return id
}

// toldApart gives a certificate or key the name of its digest where its own is that of an online role, or of something else that is
// removed: one word of the script must not stand for two things.
func toldApart(gone []removal) []removal {
	own := slices.Clone(gone)
	for i, g := range own {
		same := func(o removal) bool { return o.name == g.name && o.digest != g.digest }
		if g.digest != "" && (slices.Contains([]string{"snapshot", "timestamp", "crl"}, g.name) || slices.ContainsFunc(own, same)) {
			gone[i].name = g.digest
		}
	}
	return gone
}

// policyRemoved is what a gateway policy no longer asks for, or no longer admits.
func policyRemoved(was, is trust.Policy) (gone []removal) {
	if was.RequireCRL && !is.RequireCRL {
		gone = append(gone, removal{"require_crl", "", "require_crl: gateways admit devices whose CA has no CRL from now on"})
	}
	if was.MinRSABits != is.MinRSABits {
		gone = append(gone, removal{"min_rsa_bits", "", fmt.Sprintf("min_rsa_bits %d: it is %d from now on", was.MinRSABits, is.MinRSABits)})
	}
	for _, kind := range was.KeyTypes {
		if !slices.Contains(is.KeyTypes, kind) {
			gone = append(gone, removal{"key_types." + kind, "", fmt.Sprintf("key_types %s: devices with such keys are not admitted any more", show.Text(kind))})
		}
	}
	return gone
}

// namesRemovals holds what a script says that a version removes to what it removes.
func (s *Session) namesRemovals(removes []string, gone []removal) error {
	var unnamed, idle []string
	for _, g := range gone {
		if !slices.Contains(removes, g.name) {
			unnamed = append(unnamed, g.name)
		}
	}
	for i, n := range removes {
		if slices.Contains(removes[:i], n) || !slices.ContainsFunc(gone, func(g removal) bool { return g.name == n }) {
			idle = append(idle, n)
		}
	}
	if err := s.hold(RuleRemoves, len(unnamed) == 0, "the last version of trust has what this one has not: %s. If that is meant, name it: removes: [%s]. Otherwise list it again", show.List(unnamed), strings.Join(unnamed, ", ")); err != nil {
		return err
	}
	return s.hold(RuleRemoves, len(idle) == 0, "removes names %s, which this version does not remove against the last one, or names it twice", show.List(idle))
}

// nameOf is the name of a certificate in this ceremony or one before it; its SHA-256 where it has none.
func (s *Session) nameOf(c *x509.Certificate) string {
	for _, st := range s.states() {
		for _, n := range sortedKeys(st.certificates) {
			if st.certificates[n].cert.Equal(c) {
				return n
			}
		}
	}
	return "sha256:" + hexSHA256(c.Raw)
}

// keyNamed is the name of a key in this ceremony or one before it; the SHA-256 of its public half where it has none.
func (s *Session) keyNamed(pub crypto.PublicKey) string {
	for _, st := range s.states() {
		for _, n := range sortedKeys(st.keys) {
			if st.keys[n].of == "" && ca.SameKey(st.keys[n].public, pub) {
				return n
			}
		}
	}
	_, sum, _ := marshalSPKI(pub)
	return "sha256:" + sum
}

// states are what is there now, and what the ceremonies before left.
func (s *Session) states() []*state {
	if s.script.earlier == nil {
		return []*state{s.state}
	}
	return []*state{s.script.earlier.left(), s.state}
}

// keepsRevoked asks of every CA that stays that its CRL stays too, and keeps what it revoked. trust.Prepare asks the same; but where a key
// of an earlier ceremony signs, that is asked only when the CRL was signed.
func (t *TrustRepository) keepsRevoked(s *Session, prev *trust.Repository, c trust.Content) error {
	for _, issuer := range slices.Concat(c.Anchors, c.Intermediates) {
		var now *x509.RevocationList
		for _, n := range t.CRLs {
			if crl := s.state.crlNames[n]; string(crl.RawIssuer) == string(issuer.RawSubject) && string(crl.AuthorityKeyId) == string(issuer.SubjectKeyId) {
				now = crl
			}
		}
		for _, r := range t.CRLRules {
			data, err := s.input(r.Frozen)
			if r.Frozen == "" || err != nil {
				continue
			}
			if list, err := x509.ParseRevocationList(derOf(data)); err == nil && list.CheckSignatureFrom(issuer) == nil {
				now = list
			}
		}
		if err := prev.KeepsRevoked(issuer, now, c.Releases); err != nil {
			return refuse(RuleVersion, "%w", err)
		}
	}
	return nil
}

// change is what a step changes against the last version, for people.
type change struct {
	// last names the version that it is compared with.
	last        string
	gone, added []string
}

func (c *change) show(v *shown) {
	if c == nil {
		return
	}
	v.fact("compared with", c.last)
	v.fact("adds", show.Line(orNone(c.added)))
	v.fact("removes", show.Line(orNone(c.gone)))
	for _, g := range c.gone {
		v.remark("REMOVES %s", show.Line(g))
	}
}
