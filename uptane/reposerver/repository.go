package reposerver

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/uptane"
)

// Lifetimes are how long what the server signs is good.
type Lifetimes struct {
	// Root and Targets are those of a new repository's first documents; default 365 and 31 days, as garage-sign has them.
	Root, Targets time.Duration
	// Snapshot, Timestamp and Director (a device's targets) are signed anew when half of them has passed; default 7
	// days, 1 day and 7 days.
	Snapshot, Timestamp, Director time.Duration
}

func (l *Lifetimes) fill() error {
	const day = 24 * time.Hour
	for _, v := range []struct {
		at   *time.Duration
		want time.Duration
		name string
	}{{&l.Root, 365 * day, "root"}, {&l.Targets, 31 * day, "targets"}, {&l.Snapshot, 7 * day, "snapshot"}, {&l.Timestamp, day, "timestamp"}, {&l.Director, 7 * day, "director"}} {
		if *v.at == 0 {
			*v.at = v.want
		}
		if *v.at < 2*time.Second || *v.at > 20*365*day {
			return advice.New(advice.Usage, "", "lifetime of %s: %v is not between 2s and 20 years", v.name, *v.at)
		}
	}
	return nil
}

// Config says where a repository is and who signs online.
type Config struct {
	// Dir is the server's folder; each repository has one of its own in it.
	Dir string
	// Kind is the Image repository or the Director's.
	Kind      uptane.Repository
	Keys      KeyStore
	Lifetimes Lifetimes
	// Now defaults to time.Now.
	Now func() time.Time
}

// Repository is the part that Image repository and Director share: the roots, and the keys that the server holds.
type Repository struct {
	kind   uptane.Repository
	files  *folder
	keys   KeyStore
	lives  Lifetimes
	now    func() time.Time
	labels string
}

func newRepository(c Config) (*Repository, error) {
	if c.Kind != uptane.Image && c.Kind != uptane.Director {
		return nil, advice.New(advice.Usage, "", "repository %q is neither image nor director", c.Kind)
	}
	if err := c.Lifetimes.fill(); err != nil {
		return nil, err
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Repository{kind: c.Kind, files: &folder{dir: filepath.Join(c.Dir, string(c.Kind))}, keys: c.Keys, lives: c.Lifetimes, now: c.Now,
		labels: "uptane-" + string(c.Kind) + "-"}, nil
}

// Start is what a new repository begins with. Empty: keys are made in the key store, and root and targets signed with
// them, so that there is something to move offline. Otherwise what a ceremony made.
type Start struct {
	// Roots are the first root and those that followed it, in order.
	Roots [][]byte
	// Targets is signed under the last of them; the Image repository needs it, the Director has none.
	Targets []byte
}

// OnlineRoles are the roles that only the server can sign for.
func OnlineRoles(kind uptane.Repository) []uptane.Role {
	if kind == uptane.Director {
		return []uptane.Role{uptane.RoleTargets, uptane.RoleSnapshot, uptane.RoleTimestamp}
	}
	return []uptane.Role{uptane.RoleSnapshot, uptane.RoleTimestamp}
}

// GenerateKeys makes the server's keys for these roles, one each, in the key store, or finds those made before, and
// returns their public halves. Each is tried before it is committed to.
func GenerateKeys(ctx context.Context, c Config, roles ...uptane.Role) (map[uptane.Role]uptane.Key, error) {
	r, err := newRepository(c)
	if err != nil {
		return nil, err
	}
	out := map[uptane.Role]uptane.Key{}
	for _, role := range roles {
		key, err := r.keys.Labelled(ctx, r.labels+string(role))
		if errors.Is(err, ErrNoKey) {
			key, err = r.keys.Generate(ctx, r.labels+string(role))
		}
		if err != nil {
			return nil, err
		}
		if err := uptane.CheckSigner(key); err != nil {
			return nil, fmt.Errorf("key %s: %w", r.labels+string(role), err)
		}
		if out[role], err = uptane.NewKey(key.Public()); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Create makes a repository.
func Create(ctx context.Context, c Config, s Start) error {
	r, err := newRepository(c)
	if err != nil {
		return err
	}
	if _, err := r.files.index(); err == nil {
		return advice.New(advice.Refused, "", "there is a repository in %s already", r.files.dir)
	}
	if len(s.Roots) == 0 && len(s.Targets) == 0 {
		if s, err = r.first(ctx, c); err != nil {
			return err
		}
	}
	roots, err := r.checkStart(s)
	if err != nil {
		return err
	}
	last := roots[len(roots)-1]
	if err := r.canSign(ctx, last); err != nil {
		return err
	}
	var targets *uptane.Targets
	if r.kind == uptane.Image {
		if targets, err = r.parseTargets(s.Targets); err != nil {
			return err
		}
		if err := r.checkTargets(last, nil, targets); err != nil {
			return err
		}
	}
	return r.files.create(ctx, &index{Repository: r.kind, First: roots[0].Version()}, func(t *change) error {
		for _, root := range roots {
			t.Roots = append(t.Roots, t.put(root.Bytes()))
		}
		if targets == nil {
			return nil
		}
		t.Targets = t.put(targets.Bytes())
		return r.dress(ctx, t, last)
	})
}

// first makes keys, a root and targets without entries.
func (r *Repository) first(ctx context.Context, c Config) (Start, error) {
	if _, err := GenerateKeys(ctx, c, uptane.Roles()...); err != nil {
		return Start{}, err
	}
	keys := map[uptane.Role]crypto.Signer{}
	roles := map[uptane.Role]uptane.RoleKeys{}
	for _, role := range uptane.Roles() {
		key, err := r.keys.Labelled(ctx, r.labels+string(role))
		if err != nil {
			return Start{}, err
		}
		pub, err := uptane.NewKey(key.Public())
		if err != nil {
			return Start{}, err
		}
		keys[role], roles[role] = key, uptane.RoleKeys{Keys: []uptane.Key{pub}, Threshold: 1}
	}
	now := r.now().UTC().Truncate(time.Second)
	root, err := uptane.NewRoot(uptane.RootConfig{Version: 1, Expires: now.Add(r.lives.Root).Truncate(time.Second), Roles: roles})
	if err != nil {
		return Start{}, err
	}
	if root, err = uptane.AddSignatures(root, keys[uptane.RoleRoot]); err != nil {
		return Start{}, err
	}
	s := Start{Roots: [][]byte{root.Bytes()}}
	if r.kind == uptane.Director {
		return s, nil
	}
	targets, err := uptane.NewTargets(uptane.TargetsConfig{Repository: r.kind, Version: 1, Expires: now.Add(r.lives.Targets).Truncate(time.Second)})
	if err != nil {
		return Start{}, err
	}
	s.Targets, err = uptane.Sign(targets, keys[uptane.RoleTargets])
	return s, err
}

func (r *Repository) checkStart(s Start) ([]*uptane.Root, error) {
	if len(s.Roots) == 0 || r.kind == uptane.Image && len(s.Targets) == 0 || r.kind == uptane.Director && len(s.Targets) > 0 {
		return nil, advice.New(advice.Usage, "the Director's targets are each device's own", "a repository starts with root.json, and the Image repository with targets.json too")
	}
	var out []*uptane.Root
	for i, data := range s.Roots {
		root, err := uptane.ParseRoot(data)
		if err != nil {
			return nil, err
		}
		var before *uptane.Root
		if i > 0 {
			before = out[i-1]
			if err := uptane.VerifyNextRoot(before, root); err != nil {
				return nil, err
			}
		}
		if _, err := uptane.Emit(root, uptane.RootAuthority(before, root)); err != nil {
			return nil, err
		}
		out = append(out, root)
	}
	return out, uptane.CheckExpiry(out[len(out)-1], r.now())
}

// held returns keys of a role that the server can sign with; enough of them, or an error.
func (r *Repository) held(ctx context.Context, root *uptane.Root, role uptane.Role) ([]crypto.Signer, error) {
	rk := root.Keys(role)
	var out []crypto.Signer
	for _, k := range rk.Keys {
		key, err := r.keys.Find(ctx, k.ID())
		if errors.Is(err, ErrNoKey) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if out = append(out, key); len(out) == rk.Threshold {
			return out, nil
		}
	}
	return nil, refuseHint(400, codeInvalidRoot, "keep the server's keys of the online roles in the root",
		"root version %d: role %s needs %d keys that the server can sign with, and it holds %d", root.Version(), role, rk.Threshold, len(out))
}

func (r *Repository) canSign(ctx context.Context, root *uptane.Root) error {
	for _, role := range OnlineRoles(r.kind) {
		if _, err := r.held(ctx, root, role); err != nil {
			return err
		}
	}
	return nil
}

// signOnline signs with the server's keys; what comes out is complete.
func signOnline[D uptane.Document](ctx context.Context, r *Repository, root *uptane.Root, doc D) (D, error) {
	keys, err := r.held(ctx, root, doc.Role())
	if err != nil {
		return doc, err
	}
	if doc, err = uptane.AddSignatures(doc, keys...); err != nil {
		return doc, err
	}
	_, err = uptane.Emit(doc, uptane.RoleAuthority(root, doc.Role()))
	return doc, err
}

// Root returns root.json for version 0, else N.root.json; found is false where there is none.
func (r *Repository) Root(version int) (data []byte, found bool, err error) {
	return r.files.read(func(ix *index) string {
		i := version - ix.First
		if version == 0 {
			i = len(ix.Roots) - 1
		}
		if i < 0 || i >= len(ix.Roots) {
			return ""
		}
		return ix.Roots[i]
	})
}

func (r *Repository) current(t *change) (*uptane.Root, error) {
	data, err := t.get(t.Roots[len(t.Roots)-1])
	if err != nil {
		return nil, err
	}
	return uptane.ParseRoot(data)
}

// PushRoot stores the root that follows the current one: exactly its form, version N+1, signed to the thresholds of both and
// by nobody else, not expired, and with online keys that the server holds. The current root again is no change.
func (r *Repository) PushRoot(ctx context.Context, data []byte) error {
	_, err := r.storeRoot(ctx, data, false)
	return err
}

// CosignRoot is PushRoot for a root that lacks signatures of root keys which the server holds: it adds them. It returns
// what is stored. At most one root of each version is ever signed so.
func (r *Repository) CosignRoot(ctx context.Context, data []byte) ([]byte, error) {
	return r.storeRoot(ctx, data, true)
}

func (r *Repository) storeRoot(ctx context.Context, data []byte, cosign bool) (stored []byte, err error) {
	next, err := uptane.ParseRoot(data)
	if err != nil {
		return nil, refuseWith(400, codeInvalidRoot, err)
	}
	err = r.files.update(ctx, func(t *change) error {
		current, err := r.current(t)
		if err != nil {
			return err
		}
		if next.Version() == current.Version() && next.Digest() == current.Digest() {
			stored = current.Bytes()
			return nil
		}
		if next.Version() != current.Version()+1 {
			return refuse(400, codeInvalidRoot, "the root after version %d must have version %d, not %d", current.Version(), current.Version()+1, next.Version())
		}
		if len(t.Roots) >= uptane.MaxRotations {
			return refuse(400, codeInvalidRoot, "%d roots are as many as devices follow", len(t.Roots))
		}
		if err := uptane.CheckExpiry(next, r.now()); err != nil {
			return refuseWith(400, codeInvalidRoot, err)
		}
		if err := r.canSign(ctx, next); err != nil {
			return err
		}
		if cosign {
			if next, err = r.cosign(ctx, current, next); err != nil {
				return err
			}
		}
		if stored, err = uptane.Emit(next, uptane.RootAuthority(current, next)); err != nil {
			return refuseWith(400, codeInvalidRoot, err)
		}
		t.Roots = append(t.Roots, t.put(stored))
		if r.kind == uptane.Image {
			return r.dress(ctx, t, next)
		}
		return nil
	})
	if err != nil {
		return nil, err // a signature that was not stored must not leave the process
	}
	return stored, nil
}

// cosign adds the server's root keys' signatures. The root must lack nothing else: its own threshold of keys that are
// not the server's to give must have signed already.
func (r *Repository) cosign(ctx context.Context, current, next *uptane.Root) (*uptane.Root, error) {
	mine := map[string]crypto.Signer{}
	for _, standing := range uptane.RootAuthority(current, next).Standing(next) {
		need := standing.Threshold - len(standing.Signed)
		for _, k := range standing.Missing {
			if need <= 0 {
				break
			}
			if mine[k.ID()] != nil {
				need--
				continue
			}
			key, err := r.keys.Find(ctx, k.ID())
			if errors.Is(err, ErrNoKey) {
				continue
			}
			if err != nil {
				return nil, err
			}
			mine[k.ID()] = key
			need--
		}
		if need > 0 {
			return nil, refuseHint(400, codeInvalidRoot, "sign it with the keys that are not the server's first",
				"%s lacks %d signatures that the server cannot make", standing.Rule, need)
		}
	}
	for _, key := range mine {
		var err error
		if next, err = uptane.AddSignatures(next, key); err != nil {
			return nil, err
		}
	}
	return next, nil
}

// listed says whether any root of the repository ever listed the key, and whether the current one does.
func (r *Repository) listed(t *change, keyid string) (ever, now bool, err error) {
	for i, d := range t.Roots {
		data, err := t.get(d)
		if err != nil {
			return false, false, err
		}
		root, err := uptane.ParseRoot(data)
		if err != nil {
			return false, false, err
		}
		for _, role := range uptane.Roles() {
			for _, k := range root.Keys(role).Keys {
				if k.ID() == keyid {
					ever, now = true, now || i == len(t.Roots)-1
				}
			}
		}
	}
	return ever, now, nil
}

// PrivateKey gives a key out where the key store can; a token refuses with ErrKeySealed. That it was given out is
// recorded first.
func (r *Repository) PrivateKey(ctx context.Context, keyid string) ([]byte, error) {
	var out []byte
	err := r.files.update(ctx, func(t *change) error {
		if err := r.mine(ctx, t, keyid); err != nil {
			return err
		}
		exporter, ok := r.keys.(Exporter)
		if !ok {
			return refuseHint(409, codeKeySealed, "POST root/cosign: the server signs the next root itself", "key %s is in a token that never gives it out", keyid)
		}
		key, err := exporter.Export(ctx, keyid)
		if err != nil {
			return err
		}
		if out, err = keyPairJSON(key); err != nil {
			return err
		}
		for _, id := range t.Given {
			if id == keyid {
				return nil
			}
		}
		t.Given = append(t.Given, keyid)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// mine refuses a key that is not this repository's, or not in the key store any more.
func (r *Repository) mine(ctx context.Context, t *change, keyid string) error {
	ever, _, err := r.listed(t, keyid)
	if err != nil {
		return err
	}
	if ever {
		_, err := r.keys.Find(ctx, keyid)
		if err == nil {
			return nil
		}
		if !errors.Is(err, ErrNoKey) {
			return err
		}
	}
	return refuse(404, codeNotFound, "the server holds no key %s of this repository", keyid)
}

// DeleteKey destroys a key that the server holds. One that the current root lists is refused, for the repository must
// never be without a root that somebody can sign with; where the key was given out, somebody can, and it is destroyed.
func (r *Repository) DeleteKey(ctx context.Context, keyid string) error {
	return r.files.update(ctx, func(t *change) error {
		if err := r.mine(ctx, t, keyid); err != nil {
			return err
		}
		_, now, err := r.listed(t, keyid)
		if err != nil {
			return err
		}
		given := false
		for _, id := range t.Given {
			given = given || id == keyid
		}
		if now && !given {
			return refuseHint(409, codeKeyInUse, "push a root without it first", "key %s is listed in the current root and only the server holds it", keyid)
		}
		if current, err := r.current(t); err != nil {
			return err
		} else if now {
			for _, role := range OnlineRoles(r.kind) {
				for _, k := range current.Keys(role).Keys {
					if k.ID() == keyid {
						return refuseHint(409, codeKeyInUse, "push a root without it first", "the server signs %s with key %s", role, keyid)
					}
				}
			}
		}
		return r.keys.Destroy(ctx, keyid)
	})
}
