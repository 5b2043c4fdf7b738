package reposerver

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
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
	// Mark remembers what devices have been shown; nil: nothing does.
	Mark *Mark
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
	mark   *Mark
	// signers are the keys that signOnline found last, by root and role: a token is slow to be searched.
	signers sync.Map
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
	r := &Repository{kind: c.Kind, files: &folder{dir: filepath.Join(c.Dir, string(c.Kind))}, keys: c.Keys, lives: c.Lifetimes, now: c.Now,
		labels: "uptane-" + string(c.Kind) + "-", mark: c.Mark}
	r.files.committed = r.note
	return r, nil
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

// signing is held, which looks once. What fails to sign is looked for anew.
func (r *Repository) signing(ctx context.Context, root *uptane.Root, role uptane.Role) ([]crypto.Signer, error) {
	name := fmt.Sprintf("%x %s", root.Digest(), role)
	if keys, ok := r.signers.Load(name); ok {
		return keys.([]crypto.Signer), nil
	}
	keys, err := r.held(ctx, root, role)
	if err == nil {
		r.signers.Store(name, keys)
	}
	return keys, err
}

// signOnline signs with the server's keys; what comes out is complete.
func signOnline[D uptane.Document](ctx context.Context, r *Repository, root *uptane.Root, doc D) (D, error) {
	keys, err := r.signing(ctx, root, doc.Role())
	if err != nil {
		return doc, err
	}
	if doc, err = uptane.AddSignatures(doc, keys...); err != nil {
		r.signers.Clear()
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
		before := len(t.Roots)
		if stored, err = r.addRoot(ctx, t, next, cosign); err != nil || len(t.Roots) == before || r.kind != uptane.Image {
			return err
		}
		return r.dress(ctx, t)
	})
	if err != nil {
		return nil, err // a signature that was not stored must not leave the process
	}
	return stored, nil
}

func (r *Repository) addRoot(ctx context.Context, t *change, next *uptane.Root, cosign bool) (stored []byte, err error) {
	current, err := r.current(t)
	if err != nil {
		return nil, err
	}
	if next.Version() == current.Version() && next.Digest() == current.Digest() {
		return current.Bytes(), nil
	}
	if next.Version() != current.Version()+1 {
		return nil, refuse(400, codeInvalidRoot, "the root after version %d must have version %d, not %d", current.Version(), current.Version()+1, next.Version())
	}
	if len(t.Roots) >= uptane.MaxRotations {
		return nil, refuse(400, codeInvalidRoot, "%d roots are as many as devices follow", len(t.Roots))
	}
	if err := uptane.CheckExpiry(next, r.now()); err != nil {
		return nil, refuseWith(400, codeInvalidRoot, err)
	}
	if err := r.canSign(ctx, next); err != nil {
		return nil, err
	}
	if cosign {
		if next, err = r.cosign(ctx, current, next); err != nil {
			return nil, err
		}
	}
	if stored, err = uptane.Emit(next, uptane.RootAuthority(current, next)); err != nil {
		return nil, refuseWith(400, codeInvalidRoot, err)
	}
	t.Roots = append(t.Roots, t.put(stored))
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
				"%s lacks %d signatures that the server cannot make", show.Text(standing.Rule), need)
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
