package reposerver

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"time"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/uptane"
)

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
		return advice.New(advice.Refused, "", "there is a repository in %s already", show.Text(r.files.dir))
	}
	if r.mark != nil && r.mark.has.of(r.kind).Root > 0 {
		return advice.New(advice.Refused, "put the folder back from a backup and run 'hanaper-repo uptane restore'; to begin anew with devices that know nothing of it, move the mark away",
			"devices were served a %s repository from here, says %s", r.kind, show.Text(r.mark.path))
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
	return r.files.create(ctx, &index{Repository: r.kind, First: roots[0].Version(), Marked: r.mark != nil}, func(t *change) error {
		for _, root := range roots {
			t.Roots = append(t.Roots, t.put(root.Bytes()))
		}
		if targets == nil {
			return nil
		}
		t.Targets = t.put(targets.Bytes())
		return r.dress(ctx, t)
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
