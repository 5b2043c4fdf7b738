package trust

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/cjson"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/hanaper/hanaper/internal/advice"
)

// Prepared is an offline half that has passed every check and lacks only its signatures.
type Prepared struct {
	prev *Repository
	// root is nil where the newest root stays as it is.
	root    *rootMetadata
	targets *targetsMetadata
	files   Files
	now     time.Time
	// unsigned are the certificates and CRLs, by their DER bytes, that are to be signed later.
	unsigned map[string]bool
}

// Prepare checks the content, the keys and the dates, and that they follow prev (nil for a new environment), and lays
// out the offline half. Nothing is signed and no token is touched. The result is a function of its arguments. A new root is
// laid out only where keys, thresholds or its expiry differ from prev's.
func Prepare(prev *Repository, c Content, k Keys, v Validity, now time.Time) (*Prepared, error) {
	return prepareNew(prev, c, k, v, now, nil)
}

// prepareNew is prepare for what does not exist yet.
func prepareNew(prev *Repository, c Content, k Keys, v Validity, now time.Time, unsigned map[string]bool) (*Prepared, error) {
	p, err := prepare(knownAt{}, prev, c, k, v, now, unsigned)
	if err != nil {
		return nil, err
	}
	if err := checkAdmits(c, now); err != nil {
		return nil, advice.New(advice.Refused, "leave it out, or have it made anew", "trust content: %w", err)
	}
	return p, nil
}

// CheckUnsigned refuses what Prepare would, before all of the content is signed: of the certificates and CRLs in unsigned, by their DER
// bytes, no signature is asked for. It returns Paths, in which digests of such content are not those of what will be signed.
func CheckUnsigned(prev *Repository, c Content, k Keys, v Validity, now time.Time, unsigned map[string]bool) ([]string, error) {
	p, err := prepareNew(prev, c, k, v, now, unsigned)
	if err != nil {
		return nil, err
	}
	return p.Paths(), nil
}

func prepare(asOf knownAt, prev *Repository, c Content, k Keys, v Validity, now time.Time, unsigned map[string]bool) (*Prepared, error) {
	v = Validity{v.RootExpires.UTC().Truncate(time.Second), v.TargetsExpires.UTC().Truncate(time.Second)}
	p := &Prepared{prev: prev, files: Files{}, now: now, unsigned: unsigned}
	if err := CheckEnvironment(c.Environment); err != nil {
		return nil, err
	}
	if prev != nil && prev.Environment() != c.Environment {
		return nil, advice.New(advice.Refused, hints[ErrEnvironment], "the previous repository is environment %q's, not %q's", prev.Environment(), c.Environment)
	}
	if err := k.CheckAsOf(asOf); err != nil {
		return nil, err
	}
	for _, e := range []struct {
		name string
		t    time.Time
	}{{"root", v.RootExpires}, {"targets", v.TargetsExpires}} {
		if !e.t.After(now) {
			return nil, usage("give a date after the ceremony's", "the trust repository's %s metadata would expire on %s, which is past", e.name, e.t.Format(time.RFC3339))
		}
	}
	var err error
	if p.root, err = layoutRoot(prev, c.Environment, k, v.RootExpires); err != nil {
		return nil, err
	}
	p.targets = metadata.Targets(v.TargetsExpires)
	p.targets.Signed.Version = c.version(prev)
	p.targets.Signed.UnrecognizedFields = ownFields(c.Environment)
	if p.targets.Signed.Delegations, err = delegate(k.CRL); err != nil {
		return nil, err
	}
	if err := p.layoutContent(c, k); err != nil {
		return nil, err
	}
	return p, nil
}

// version is that of the targets metadata with this content, after prev.
func (c Content) version(prev *Repository) int64 {
	if prev == nil {
		return c.UsedTargets + 1
	}
	return max(prev.TargetsVersion(), c.UsedTargets) + 1
}

// Check refuses keys that cannot sign, thresholds that cannot be met, and online keys that are officers' keys.
func (k Keys) Check() error { return k.CheckAsOf(knownAt{}) }

// CheckAsOf is Check by what was known of weak keys when a format of ceremonies was the newest.
func (k Keys) CheckAsOf(v knownAt) error {
	officers := map[string]string{}
	for _, r := range []struct {
		name   string
		role   Role
		online bool
	}{{"root", k.Root, false}, {"targets", k.Targets, false}, {"snapshot", k.Snapshot, true}, {"timestamp", k.Timestamp, true}, {crlRole, k.CRL, true}} {
		if n := len(r.role.Keys); n == 0 || n > MaxKeys || r.role.Threshold < 1 || r.role.Threshold > n {
			return usage("give each role at least one key, and a threshold that its keys can meet",
				"trust role %s has %d keys and a threshold of %d", r.name, n, r.role.Threshold)
		}
		seen := map[string]bool{}
		for _, pub := range r.role.Keys {
			_, id, err := tufKey(v, pub)
			if err != nil {
				return advice.Wrap(advice.Usage, fmt.Errorf("trust role %s: %w", r.name, err), advice.Hint(err))
			}
			if seen[id] {
				return usage("name each key once", "trust role %s names key %.16s twice", r.name, id)
			}
			seen[id] = true
			if !r.online {
				officers[id] = r.name
			} else if other, ok := officers[id]; ok {
				return usage("generate the online keys in the token of hanaper-repo", "online trust role %s uses the officers' %s key", r.name, other)
			}
		}
	}
	return nil
}

// CheckSuccession asks that as many of the signers are root keys of rep as must sign the root that replaces its root: a
// ceremony wants to know that before it signs.
func (rep *Repository) CheckSuccession(signers ...crypto.PublicKey) error {
	role := rep.roots.last.Signed.Roles[metadata.ROOT]
	found := map[string]bool{}
	for _, pub := range signers {
		_, id, err := tufKey(knownFirst, pub)
		if err != nil {
			return err
		}
		if slices.Contains(role.KeyIDs, id) {
			found[id] = true
		}
	}
	if len(found) < role.Threshold {
		return usage("name keys of the root before that sign too", "the next trust root: %d of the keys of root version %d sign, and its threshold is %d", len(found), rep.RootVersion(), role.Threshold)
	}
	return nil
}

func (k Keys) online() []crypto.PublicKey {
	return slices.Concat(k.Snapshot.Keys, k.Timestamp.Keys, k.CRL.Keys)
}

// listKeys adds the role's keys to keys and returns their ids, sorted.
func listKeys(keys map[string]*metadata.Key, r Role) ([]string, error) {
	var ids []string
	for _, pub := range r.Keys {
		key, id, err := tufKey(knownFirst, pub)
		if err != nil {
			return nil, err
		}
		keys[id] = key
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids, nil
}

func layoutRoot(prev *Repository, environment string, k Keys, expires time.Time) (*rootMetadata, error) {
	m := metadata.Root(expires)
	m.Signed.UnrecognizedFields = ownFields(environment)
	for name, role := range map[string]Role{metadata.ROOT: k.Root, metadata.TARGETS: k.Targets, metadata.SNAPSHOT: k.Snapshot, metadata.TIMESTAMP: k.Timestamp} {
		ids, err := listKeys(m.Signed.Keys, role)
		if err != nil {
			return nil, err
		}
		m.Signed.Roles[name] = &metadata.Role{KeyIDs: ids, Threshold: role.Threshold}
	}
	if prev == nil {
		return m, nil
	}
	old := prev.roots.last.Signed
	m.Signed.Version = old.Version
	is, err := cjson.EncodeCanonical(m.Signed)
	if err != nil {
		return nil, err
	}
	was, err := cjson.EncodeCanonical(old)
	if err != nil {
		return nil, err
	}
	if bytes.Equal(is, was) {
		return nil, nil
	}
	m.Signed.Version++
	return m, nil
}

func delegate(r Role) (*metadata.Delegations, error) {
	d := &metadata.Delegations{Keys: map[string]*metadata.Key{}}
	ids, err := listKeys(d.Keys, r)
	if err != nil {
		return nil, err
	}
	d.Roles = []metadata.DelegatedRole{{Name: crlRole, KeyIDs: ids, Threshold: r.Threshold, Terminating: true, Paths: []string{crlRolePath}}}
	return d, nil
}

// Digests are the SHA-256 of the bytes that each signature will be over (canonical JSON of "signed"), by path.
func (p *Prepared) Digests() map[string][32]byte {
	d := map[string][32]byte{}
	if p.root != nil {
		if b, err := cjson.EncodeCanonical(p.root.Signed); err == nil {
			d[metadataPath(metadata.ROOT, p.root.Signed.Version)] = sha256.Sum256(b)
		}
	}
	if b, err := cjson.EncodeCanonical(p.targets.Signed); err == nil {
		d[metadataPath(metadata.TARGETS, p.targets.Signed.Version)] = sha256.Sum256(b)
	}
	return d
}

// Paths are those of the files that Sign returns, sorted.
func (p *Prepared) Paths() []string {
	list := slices.Collect(maps.Keys(p.files))
	list = append(list, metadataPath(metadata.TARGETS, p.targets.Signed.Version))
	if p.root != nil {
		list = append(list, metadataPath(metadata.ROOT, p.root.Signed.Version))
	}
	if p.prev != nil {
		for i := range p.prev.roots.raw {
			list = append(list, metadataPath(metadata.ROOT, p.prev.roots.first+int64(i)))
		}
	}
	slices.Sort(list)
	return list
}

// Sign makes the signatures with those of the signers that a role names, checks each one and every threshold, reopens
// the result as OpenRepository would, and returns the files of the offline half by slash-separated path
// ("metadata/1.root.json", "targets/HASH.policy.json", ...), prev's roots included. A root that replaces another needs signers
// of both.
func (p *Prepared) Sign(signers ...crypto.Signer) (map[string][]byte, error) {
	files := maps.Clone(p.files)
	if p.prev != nil {
		for i, raw := range p.prev.roots.raw {
			files[metadataPath(metadata.ROOT, p.prev.roots.first+int64(i))] = raw
		}
	}
	roles := []map[string]*metadata.Role{}
	if p.prev != nil {
		roles = append(roles, p.prev.roots.last.Signed.Roles)
	}
	if p.root != nil {
		roles = append(roles, p.root.Signed.Roles)
		ids := map[string]bool{}
		for _, r := range roles {
			for _, id := range r[metadata.ROOT].KeyIDs {
				ids[id] = true
			}
		}
		if err := signInto(files, *p.root, metadata.ROOT, p.root.Signed.Version, ids, signers); err != nil {
			return nil, err
		}
	}
	ids := map[string]bool{}
	for _, id := range roles[len(roles)-1][metadata.TARGETS].KeyIDs {
		ids[id] = true
	}
	if err := signInto(files, *p.targets, metadata.TARGETS, p.targets.Signed.Version, ids, signers); err != nil {
		return nil, err
	}
	var first []byte
	if p.prev != nil {
		first = p.prev.roots.raw[0]
	} else {
		first = files[metadataPath(metadata.ROOT, 1)]
	}
	if _, err := OpenRepository(files, PinRoot(first), p.now); err != nil {
		return nil, fmt.Errorf("the trust repository does not verify after signing: %w", err)
	}
	return files, nil
}

// signInto signs a copy, so that a Prepared may be signed again after a failure.
func signInto[T metadata.Roles](files Files, m metadata.Metadata[T], role string, version int64, ids map[string]bool, signers []crypto.Signer) error {
	path := metadataPath(role, version)
	if role == metadata.TIMESTAMP {
		path = timestampPath
	}
	m.Signatures = []metadata.Signature{}
	if err := sign(&m, path, ids, signers); err != nil {
		return err
	}
	data, err := m.ToBytes(false)
	if err != nil {
		return err
	}
	files[path] = data
	return nil
}

// Build is Prepare and Sign in one.
func Build(prev *Repository, c Content, k Keys, v Validity, now time.Time, signers ...crypto.Signer) (map[string][]byte, error) {
	p, err := Prepare(prev, c, k, v, now)
	if err != nil {
		return nil, err
	}
	return p.Sign(signers...)
}
