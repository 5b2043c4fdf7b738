package ceremony

import (
	"crypto"
	"fmt"
	"slices"

	"github.com/hanaper/hanaper/internal/format"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/uptane"
)

// UptaneRole is the keys of a role: keys of this ceremony, or inputs that hold a public key.
type UptaneRole struct {
	Keys      []string `yaml:"keys"`
	Threshold int      `yaml:"threshold"`
}

// UptaneRoot builds and signs a repository's root.json.
type UptaneRoot struct {
	// Repository is image or director.
	Repository string `yaml:"repository"`
	// Version is 1 for the first root, and one more than the last after that.
	Version   int        `yaml:"version"`
	Expires   string     `yaml:"expires"`
	Root      UptaneRole `yaml:"root"`
	Targets   UptaneRole `yaml:"targets"`
	Snapshot  UptaneRole `yaml:"snapshot"`
	Timestamp UptaneRole `yaml:"timestamp"`
	// SignedBy are the keys that sign, of this root and of the one before it; by default all root keys.
	SignedBy []string `yaml:"signed_by"`
}

// UptaneTargets signs an empty targets.json with the targets keys of the repository's root.
type UptaneTargets struct {
	Repository string `yaml:"repository"`
	Version    int    `yaml:"version"`
	Expires    string `yaml:"expires"`
}

// uptaneState is a repository as it was last signed.
type uptaneState struct {
	root *uptane.Root
	// before is the root that root replaced; nil for the first.
	before         *uptane.Root
	targetsKeys    []string
	targetsVersion int
	// targetsUsed is the highest version of targets that an aborted ceremony signed, or may have signed.
	targetsUsed int
}

// carry keeps what a later ceremony may not go behind.
func (u *uptaneState) carry() *uptaneState {
	return &uptaneState{root: u.root, targetsVersion: u.targetsVersion, targetsUsed: u.targetsUsed}
}

func (u *UptaneRoot) people() people { return byProgram }

func (u *UptaneRoot) needs(*Plan) []need { return nil }

func (u *UptaneRoot) left(o *leftover, own []entry) { o.numbered(own) }

func (u *UptaneRoot) describe(*Session) string {
	return fmt.Sprintf("sign root.json version %d of the Uptane %s repository, good until %s: root %s, targets %s, snapshot %s, timestamp %s",
		u.Version, u.Repository, u.Expires, u.Root, u.Targets, u.Snapshot, u.Timestamp)
}

func (r UptaneRole) String() string { return fmt.Sprintf("%d of %v", r.Threshold, r.Keys) }

func (u *UptaneRoot) perform(s *Session) error {
	if err := checkRepository(u.Repository); err != nil {
		return err
	}
	old := s.state.uptane[u.Repository]
	want := 1
	if old != nil {
		want = old.root.Version() + 1
	}
	if u.Version != want {
		return refuse(RuleVersion, "root version %d of the %s repository: it must be %d", u.Version, show.Text(u.Repository), want)
	}
	c := uptane.RootConfig{Version: u.Version, Roles: map[uptane.Role]uptane.RoleKeys{}}
	var err error
	if c.Expires, err = s.expiry("expires", u.Expires); err != nil {
		return err
	}
	for _, role := range []struct {
		name uptane.Role
		r    UptaneRole
	}{{uptane.RoleRoot, u.Root}, {uptane.RoleTargets, u.Targets}, {uptane.RoleSnapshot, u.Snapshot}, {uptane.RoleTimestamp, u.Timestamp}} {
		if c.Roles[role.name], err = u.role(s, role.name, role.r); err != nil {
			return err
		}
	}
	if err := distinct(c.Roles); err != nil {
		return err
	}
	root, err := uptane.NewRoot(c)
	if err != nil {
		return refuse(RuleThreshold, "%w", err)
	}
	if err := u.sign(s, root, old); err != nil {
		return err
	}
	return nil
}

// sign signs the root to its own threshold and to that of the root before it.
func (u *UptaneRoot) sign(s *Session, root *uptane.Root, old *uptaneState) error {
	names := u.SignedBy
	if names == nil {
		names = u.Root.Keys
	}
	signers, err := s.uptaneSigners(u.Repository, uptane.RoleRoot, names)
	if err != nil {
		return err
	}
	if err := enough(root.Keys(uptane.RoleRoot), signers); err != nil {
		return refuse(RuleThreshold, "root version %d: %w", u.Version, err)
	}
	if old != nil {
		if err := enough(old.root.Keys(uptane.RoleRoot), signers); err != nil {
			return refuse(RuleThreshold, "root version %d, by the root before it: %w", u.Version, err)
		}
	}
	dir := "uptane/" + u.Repository + "/"
	data, err := s.uptaneSign(uptaneFile{path: dir + "root.json", document: root, parse: func(data []byte) (uptane.Document, error) { return uptane.ParseRoot(data, uptane.AsOf(s.format)) }, same: sameRoot}, signers)
	if err != nil {
		return err
	}
	next := &uptaneState{root: root, targetsKeys: u.Targets.Keys}
	if old != nil {
		next.before, next.targetsVersion, next.targetsUsed = old.root, old.targetsVersion, old.targetsUsed
	}
	s.state.uptane[u.Repository] = next
	if err := s.artefact(fmt.Sprintf("%s%d.root.json", dir, u.Version), data, nil); err != nil {
		return err
	}
	return s.artefact(dir+"root.json", data, nil)
}

// enough asks that as many signers are keys of the role as its threshold says.
func enough(role uptane.RoleKeys, signers []crypto.Signer) error {
	n := 0
	for _, k := range role.Keys {
		for _, signer := range signers {
			if s, err := uptane.NewKeyAsOf(format.First, signer.Public()); err == nil && s.ID() == k.ID() {
				n++
			}
		}
	}
	if n < role.Threshold {
		return fmt.Errorf("%d of its keys sign, and its threshold is %d", n, role.Threshold)
	}
	return nil
}

func uptanePurpose(repository string, role uptane.Role) string {
	return "the " + string(role) + " role of the Uptane " + repository + " repository"
}

func (u *UptaneRoot) role(s *Session, name uptane.Role, r UptaneRole) (uptane.RoleKeys, error) {
	rk := uptane.RoleKeys{Threshold: r.Threshold}
	if r.Threshold < 1 || r.Threshold > len(r.Keys) {
		return rk, refuse(RuleThreshold, "%s: threshold %d with %d keys", name, r.Threshold, len(r.Keys))
	}
	for i, n := range r.Keys {
		if slices.Contains(r.Keys[:i], n) {
			return rk, refuse(RuleThreshold, "%s: key %q stands twice", name, n)
		}
		pub, err := s.publicFor(n, uptanePurpose(u.Repository, name))
		if err != nil {
			return rk, err
		}
		k, err := uptane.NewKeyAsOf(s.format, pub)
		if err != nil {
			return rk, refuse(RuleAlgorithm, "%q: %w", n, err)
		}
		rk.Keys = append(rk.Keys, k)
	}
	return rk, nil
}

// distinct asks for keys that no two roles share, as the Uptane deployment guide does.
func distinct(roles map[uptane.Role]uptane.RoleKeys) error {
	seen := map[string]uptane.Role{}
	for _, name := range uptane.Roles() {
		for _, k := range roles[name].Keys {
			if other, ok := seen[k.ID()]; ok {
				return refuse(RulePurpose, "roles %s and %s share the key %s", other, name, k.ID())
			}
			seen[k.ID()] = name
		}
	}
	return nil
}

func checkRepository(name string) error {
	if name != "image" && name != "director" {
		return malformed("repository %q is neither image nor director", name)
	}
	return nil
}

// uptaneSigners gives keys that the ceremony holds, each found to sign as devices want before it is committed to.
func (s *Session) uptaneSigners(repository string, role uptane.Role, names []string) ([]crypto.Signer, error) {
	var signers []crypto.Signer
	for i, n := range names {
		if _, ok := s.script.inputs[n]; ok {
			return nil, refuse(RuleReference, "%q is a public key: the ceremony cannot sign with it", n)
		}
		if slices.Contains(names[:i], n) {
			return nil, refuse(RuleThreshold, "key %q stands twice", n)
		}
		k, err := s.keyFor(n, uptanePurpose(repository, role))
		if err != nil {
			return nil, err
		}
		signers = append(signers, k)
		if s.how.lacks(k) {
			s.willSign(k, 1) // the text by which a key is tried
		}
		if s.how.lacks(k) || s.finished() {
			continue // uptaneSign finds what it signed
		}
		if err := uptane.CheckSigner(k); err != nil && !s.aborted() {
			return nil, refuse(RuleAlgorithm, "key %q: %w", n, err)
		}
	}
	return signers, nil
}

func (u *UptaneTargets) people() people { return byProgram }

func (u *UptaneTargets) needs(*Plan) []need { return nil }

func (u *UptaneTargets) left(o *leftover, own []entry) { o.numbered(own) }

func (u *UptaneTargets) used(s *Session) {
	if st := s.state.uptane[u.Repository]; st != nil {
		st.targetsUsed = max(st.targetsUsed, u.Version)
	}
}

func (u *UptaneTargets) describe(*Session) string {
	return fmt.Sprintf("sign an empty targets.json, version %d, of the Uptane %s repository, good until %s", u.Version, u.Repository, u.Expires)
}

func (u *UptaneTargets) perform(s *Session) error {
	if err := checkRepository(u.Repository); err != nil {
		return err
	}
	st := s.state.uptane[u.Repository]
	if st == nil || st.targetsKeys == nil {
		return refuse(RuleReference, "there is no root of the %s repository at this step", show.Text(u.Repository))
	}
	want := st.targetsVersion + 1
	if want <= st.targetsUsed {
		if err := s.hold(RuleUsed, u.Version > st.targetsUsed, "targets version %d of the %s repository was signed by a ceremony that was aborted: it must be %d", u.Version, show.Text(u.Repository), st.targetsUsed+1); err != nil {
			return err
		}
		if s.held(RuleUsed) {
			want = st.targetsUsed + 1
		}
	}
	if u.Version != want {
		return refuse(RuleVersion, "targets version %d of the %s repository: it must be %d", u.Version, show.Text(u.Repository), want)
	}
	expires, err := s.expiry("expires", u.Expires)
	if err != nil {
		return err
	}
	c := uptane.TargetsConfig{Repository: uptane.Image, Version: u.Version, Expires: expires}
	if u.Repository == "director" {
		c.Repository = uptane.Director
	}
	targets, err := uptane.NewTargets(c)
	if err != nil {
		return refuse(RuleField, "%w", err)
	}
	signers, err := s.uptaneSigners(u.Repository, uptane.RoleTargets, st.targetsKeys)
	if err != nil {
		return err
	}
	path := "uptane/" + u.Repository + "/targets.json"
	data, err := s.uptaneSign(uptaneFile{path: path, document: targets, same: sameTargets,
		parse: func(data []byte) (uptane.Document, error) { return uptane.ParseTargets(c.Repository, data) }}, signers)
	if err != nil {
		return err
	}
	st.targetsVersion = u.Version
	return s.artefact(path, data, nil)
}

func (u *UptaneRoot) shows(s *Session, v *shown) {
	for _, r := range []struct {
		name string
		role UptaneRole
	}{{"root", u.Root}, {"targets", u.Targets}, {"snapshot", u.Snapshot}, {"timestamp", u.Timestamp}} {
		s.showRole(v, r.name, r.role.Threshold, r.role.Keys)
	}
	if st := s.state.uptane[u.Repository]; st != nil && st.before != nil {
		s.showReplaced(v, st.before, st.root)
	}
}

// showReplaced says what devices no longer believe once they have the next root.
func (s *Session) showReplaced(v *shown, old, next *uptane.Root) {
	for _, role := range uptane.Roles() {
		was, is := old.Keys(role), next.Keys(role)
		for _, k := range was.Keys {
			if !slices.ContainsFunc(is.Keys, func(other uptane.Key) bool { return other.ID() == k.ID() }) {
				v.remark("REMOVES the key %s from the role %s", s.uptaneKeyName(k), role)
			}
		}
		for _, k := range is.Keys {
			if !slices.ContainsFunc(was.Keys, func(other uptane.Key) bool { return other.ID() == k.ID() }) {
				v.remark("ADDS the key %s to the role %s", s.uptaneKeyName(k), role)
			}
		}
		if is.Threshold < was.Threshold {
			v.remark("the threshold of the role %s falls from %d to %d", role, was.Threshold, is.Threshold)
		}
	}
}

// uptaneKeyName is the name that the ceremonies have for a key, and its id; of others the id.
func (s *Session) uptaneKeyName(k uptane.Key) string {
	for _, n := range sortedKeys(s.state.keys) {
		if own, err := uptane.NewKeyAsOf(format.First, s.state.keys[n].public); err == nil && own.ID() == k.ID() {
			return show.Text(n) + " (" + k.ID() + ")"
		}
	}
	return k.ID()
}

// uptaneRoles are the roles that a public key has by the roots in force, such as "root of the Uptane image repository".
func (s *Session) uptaneRoles(pub crypto.PublicKey) (list []string) {
	own, err := uptane.NewKeyAsOf(format.First, pub)
	if err != nil {
		return nil
	}
	for _, repository := range sortedKeys(s.state.uptane) {
		root := s.state.uptane[repository].root
		for _, role := range uptane.Roles() {
			keys := root.Keys(role)
			if slices.ContainsFunc(keys.Keys, func(k uptane.Key) bool { return k.ID() == own.ID() }) {
				list = append(list, fmt.Sprintf("%s of the Uptane %s repository, where %d of %d keys must sign", role, repository, keys.Threshold, len(keys.Keys)))
			}
		}
	}
	return list
}
