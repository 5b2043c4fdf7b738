package ceremony

import (
	"crypto"
	"slices"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/trust"
)

func (t *TrustRepository) keys(s *Session) (k trust.Keys, signers []crypto.Signer, err error) {
	offline := func(role string, names []string, threshold int) (r trust.Role, err error) {
		held, err := s.roleKeys("trust "+role, names, threshold)
		for _, key := range held {
			r.Keys = append(r.Keys, key.public)
			if err == nil {
				if cerr := trust.CheckKeyAsOf(s.format, key.public); cerr != nil {
					err = refuse(RuleAlgorithm, "key %q: %w", key.name, cerr)
				}
			}
			signers = append(signers, key)
		}
		r.Threshold = threshold
		return r, err
	}
	online := func(role, name string) (trust.Role, error) {
		if name == "" {
			return trust.Role{}, malformed("%s is missing: name the input that holds the role's public key", role)
		}
		pub, err := s.publicFor(name, "trust "+role)
		if err != nil {
			return trust.Role{}, err
		}
		if err := trust.CheckKeyAsOf(s.format, pub); err != nil {
			return trust.Role{}, refuse(RuleAlgorithm, "%s: %w", show.Text(name), err)
		}
		return trust.One(pub), nil
	}
	if k.Root, err = offline("root", t.RootKeys, t.RootThreshold); err != nil {
		return
	}
	if k.Targets, err = offline("targets", t.TargetsKeys, t.TargetsThreshold); err != nil {
		return
	}
	for i, n := range t.AlsoSignedBy {
		if slices.Contains(t.RootKeys, n) || slices.Contains(t.AlsoSignedBy[:i], n) {
			return k, nil, refuse(RuleThreshold, "trust root: key %q stands twice", n)
		}
		key, kerr := s.keyFor(n, "trust root")
		if kerr != nil {
			return k, nil, kerr
		}
		signers = append(signers, key)
	}
	if k.Snapshot, err = online("snapshot", t.Snapshot); err != nil {
		return
	}
	if k.Timestamp, err = online("timestamp", t.Timestamp); err != nil {
		return
	}
	k.CRL, err = online("crl", t.CRL)
	return
}

// roleKeys gives the keys of a role that the ceremony holds, at least as many distinct ones as the threshold.
func (s *Session) roleKeys(purpose string, names []string, threshold int) ([]*key, error) {
	if threshold < 1 || threshold > len(names) {
		return nil, refuse(RuleThreshold, "%s: threshold %d with %d keys", purpose, threshold, len(names))
	}
	var keys []*key
	for i, n := range names {
		for _, other := range names[:i] {
			if other == n {
				return nil, refuse(RuleThreshold, "%s: key %q stands twice", purpose, n)
			}
		}
		k, err := s.keyFor(n, purpose)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// trustWillSign counts the signatures that no specimen makes: each targets key signs, and each root key where the root changes.
func (s *Session) trustWillSign(c trust.Content, k trust.Keys, v trust.Validity, signers []crypto.Signer) {
	changes, err := trust.RootChanges(s.state.trust, c.Environment, k, v.RootExpires)
	for _, signer := range signers {
		own := signer.(*key)
		isRoot := slices.ContainsFunc(k.Root.Keys, func(pub crypto.PublicKey) bool { return ca.SameKey(pub, own.public) })
		if err == nil && (!isRoot || changes) {
			s.willSign(own, 1)
		}
	}
}
