package repo

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/uptane"
)

// Root is roles/root.json. Its signatures are as complete as they are: see PreviousRoot and uptane.RootAuthority.
func (r *Repository) Root() (*uptane.Root, error) {
	return r.readRoot("roles/root.json")
}

func (r *Repository) readRoot(name string) (*uptane.Root, error) {
	b, err := readFile(r.Path(name), maxRole)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, advice.Wrap(advice.Usage, fmt.Errorf("missing role root at %s: %w", show.Text(r.Path(name)), err), "run root pull first")
	}
	if err != nil {
		return nil, err
	}
	root, err := uptane.ParseRoot(b, uptane.Local())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", show.Text(r.Path(name)), err)
	}
	return root, nil
}

// PreviousRoot is the complete root whose version is one lower than root's, nil if the repository never saw it. It may be
// one that was signed here and is not on the server yet.
func (r *Repository) PreviousRoot(root *uptane.Root) (*uptane.Root, error) {
	if root.Version() <= 1 {
		return nil, nil
	}
	for _, name := range []string{fmt.Sprintf("roles/%d.root.json", root.Version()-1), pending(root.Version() - 1)} {
		prev, err := r.readRoot(name)
		if !errors.Is(err, fs.ErrNotExist) {
			return prev, err
		}
	}
	return nil, nil
}

// EarlierRoots are the roots before a version that the repository kept, the newest first.
func (r *Repository) EarlierRoots(version int) ([]*uptane.Root, error) {
	var out []*uptane.Root
	for v := version - 1; v >= 1; v-- {
		root, err := r.readRoot(fmt.Sprintf("roles/%d.root.json", v))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, root)
	}
	return out, nil
}

// TrustedRoot is the root in force: roles/root.json while it is the one that was pulled, and the version before it once
// the next one is being signed. Documents other than roots are checked against it.
func (r *Repository) TrustedRoot() (*uptane.Root, error) {
	root, err := r.Root()
	if err != nil {
		return nil, err
	}
	for v := root.Version(); v >= 1; v-- {
		kept, err := r.readRoot(fmt.Sprintf("roles/%d.root.json", v))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		return kept, err
	}
	return root, nil
}

// RootAuthority is whose signatures roles/root.json needs, as far as the repository knows the root before it.
func (r *Repository) RootAuthority(root *uptane.Root) (uptane.Authority, error) {
	prev, err := r.PreviousRoot(root)
	if err != nil {
		return uptane.Authority{}, err
	}
	return uptane.RootAuthority(prev, root), nil
}

// StoreRoot keeps a root that the caller has pulled and verified (uptane.VerifyRootChain from TrustedRoot, or, where
// there is none yet, uptane.VerifyRoot), as roles/root.json and as what the next change starts from. It also keeps a
// root that was pushed and accepted.
func (r *Repository) StoreRoot(root *uptane.Root) error {
	return r.locked(func() error {
		if err := durable.WriteFile(r.Path(versioned(root)), root.Bytes(), 0o600); err != nil {
			return err
		}
		if _, err := r.writeUnsigned(uptane.RoleRoot, root.Signed()); err != nil {
			return err
		}
		if err := durable.WriteFile(r.Path("roles/root.json"), root.Bytes(), 0o600); err != nil {
			return err
		}
		return r.dropPending()
	})
}

// RootDraft is what roles/unsigned/root.json holds.
func (r *Repository) RootDraft() (uptane.RootConfig, error) {
	b, p, err := r.readUnsigned(uptane.RoleRoot)
	if err != nil {
		return uptane.RootConfig{}, err
	}
	c, err := uptane.ReadRootDraft(b)
	if err != nil {
		return c, fmt.Errorf("%s: %w", show.Text(p), err)
	}
	return c, nil
}

// EditRoot changes roles/unsigned/root.json and returns its path.
func (r *Repository) EditRoot(change func(*uptane.RootConfig) error) (path string, err error) {
	err = r.locked(func() error {
		c, err := r.RootDraft()
		if err != nil {
			return err
		}
		if err := change(&c); err != nil {
			return err
		}
		b, err := uptane.WriteRootDraft(c)
		if err != nil {
			return err
		}
		path, err = r.writeUnsigned(uptane.RoleRoot, b)
		return err
	})
	return path, err
}

// AddKeys lets keys sign for a role (RoleRoot or RoleTargets). A key that the role has already is no error.
func (r *Repository) AddKeys(role uptane.Role, names ...string) (path string, err error) {
	var keys []uptane.Key
	for _, n := range names {
		k, err := r.keys.Public(n)
		if err != nil {
			return "", err
		}
		keys = append(keys, k)
	}
	return r.EditRoot(func(c *uptane.RootConfig) error {
		rk := c.Roles[role]
		for _, k := range keys {
			if !slices.ContainsFunc(rk.Keys, func(have uptane.Key) bool { return have.ID() == k.ID() }) {
				rk.Keys = append(rk.Keys, k)
			}
		}
		c.Roles[role] = rk
		return nil
	})
}

// RemoveKeys takes keys away from a role, by id or by name, and says how many there were.
func (r *Repository) RemoveKeys(role uptane.Role, ids, names []string) (path string, removed int, err error) {
	ids = slices.Clone(ids)
	for _, n := range names {
		k, err := r.keys.Public(n)
		if err != nil {
			return "", 0, err
		}
		ids = append(ids, k.ID())
	}
	path, err = r.EditRoot(func(c *uptane.RootConfig) error {
		rk := c.Roles[role]
		before := len(rk.Keys)
		rk.Keys = slices.DeleteFunc(rk.Keys, func(k uptane.Key) bool { return slices.Contains(ids, k.ID()) })
		removed, c.Roles[role] = before-len(rk.Keys), rk
		return nil
	})
	return path, removed, err
}

// SetThreshold changes how many keys must sign for a role.
func (r *Repository) SetThreshold(role uptane.Role, threshold int) (path string, err error) {
	return r.EditRoot(func(c *uptane.RootConfig) error {
		rk := c.Roles[role]
		rk.Threshold = threshold
		c.Roles[role] = rk
		return nil
	})
}

// IncrementRootVersion raises the version of roles/unsigned/root.json by one, for those who sign it elsewhere.
func (r *Repository) IncrementRootVersion() (path string, err error) {
	return r.EditRoot(func(c *uptane.RootConfig) error { c.Version++; return nil })
}

// UnsignedRoot is the canonical form of roles/unsigned/root.json: the bytes to sign elsewhere.
func (r *Repository) UnsignedRoot() ([]byte, error) {
	c, err := r.RootDraft()
	if err != nil {
		return nil, err
	}
	root, err := uptane.NewRoot(c)
	if err != nil {
		return nil, err
	}
	return root.Signed(), nil
}

// SignRoot signs roles/unsigned/root.json as the next version into roles/root.json: see SignOptions. Signatures that
// roles/root.json has over the same content stay.
func (r *Repository) SignRoot(o SignOptions) (result *Signed, err error) {
	err = r.locked(func() error {
		c, err := r.RootDraft()
		if err != nil {
			return err
		}
		build := func(version int, expires time.Time) (uptane.Document, error) {
			next := c
			next.Version, next.Expires = version, expires
			root, err := uptane.NewRoot(next)
			return root, err
		}
		j := job{r: r, o: o, role: uptane.RoleRoot, build: build, version: c.Version, expires: c.Expires}
		if have, err := r.Root(); err == nil {
			j.have = have
			if err := r.keepRoot(have, c.Version); err != nil {
				return err
			}
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		j.authority = func(doc uptane.Document) (uptane.Authority, uptane.Document, error) {
			root := doc.(*uptane.Root)
			prev, err := r.PreviousRoot(root)
			if err != nil {
				return uptane.Authority{}, nil, err
			}
			if prev == nil {
				return uptane.RootAuthority(nil, root), nil, nil
			}
			return uptane.RootAuthority(prev, root), prev, nil
		}
		result, err = j.run()
		return err
	})
	return result, err
}

// keepRoot puts aside the complete root that is about to be replaced, for the next one must be checked against it. One
// that follows a root in force was signed here. With no root in force, garage-sign pulled it, which keeps none.
func (r *Repository) keepRoot(have *uptane.Root, unsigned int) error {
	if have.Version() > unsigned {
		return nil // the one that is being signed
	}
	a, err := r.RootAuthority(have)
	if err != nil || a.Verify(have) != nil {
		return err
	}
	if kept, err := r.readRoot(versioned(have)); !errors.Is(err, fs.ErrNotExist) {
		if err == nil && !uptane.SameContent(kept, have) {
			err = advice.New(advice.Refused, "pull the root, and begin again from it", "%s is another root than %s", show.Text(r.Path(versioned(have))), show.Text(r.Path("roles/root.json")))
		}
		return err
	}
	if inForce, err := r.TrustedRoot(); err != nil {
		return err
	} else if inForce.Version() < have.Version() {
		return r.keepPending(have)
	}
	return durable.Create(r.Path(versioned(have)), have.Bytes(), 0o600)
}
