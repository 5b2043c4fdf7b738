package office

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/uptane"
	"github.com/hanaper/hanaper/uptane/repo"
)

// MoveConfig names the keys that replace the server's own. Keys are named as in the repository's folder, or by URI.
type MoveConfig struct {
	// NewRoot are the new root keys; empty: the root that is being signed in the repository has them already.
	NewRoot       []string
	RootThreshold int
	// NewTargets are the new targets keys; a director, which signs targets online, has none.
	NewTargets       []string
	TargetsThreshold int
	// OldRootAlias is the name under which the old root key's public half is kept; empty: old-root. If its private half
	// is in the repository, it signs.
	OldRootAlias string
	// OldKeyID is the old root key to sign with first; empty: the last of those in force.
	OldKeyID string
}

// check refuses keys that do not fit the kind of repository.
func (c MoveConfig) check(kind uptane.Repository) error {
	switch {
	case kind == uptane.Director && len(c.NewTargets) > 0:
		return badOptions("a director signs targets online: --new-targets is not for it")
	case len(c.NewRoot) == 0 && len(c.NewTargets) > 0:
		return badOptions("--new-targets needs --new-root")
	case len(c.NewRoot) > 0 && len(c.NewTargets) == 0 && kind != uptane.Director:
		return advice.New(advice.Usage, "add --new-targets NAME", "a targets key name is required to move an image repository offline")
	}
	for _, n := range c.roles() {
		if n.threshold < 1 || n.threshold > len(n.names) {
			return badOptions("%d of %d %s keys cannot sign", n.threshold, len(n.names), n.role)
		}
	}
	return nil
}

// newRole is a role that gets new keys.
type newRole struct {
	role      uptane.Role
	names     []string
	threshold int
}

func (c MoveConfig) roles() []newRole {
	all := []newRole{{uptane.RoleRoot, c.NewRoot, c.RootThreshold}, {uptane.RoleTargets, c.NewTargets, c.TargetsThreshold}}
	return slices.DeleteFunc(all, func(n newRole) bool { return len(n.names) == 0 })
}

// move is one run of MoveOffline.
type move struct {
	o      *Office
	ctx    context.Context
	config MoveConfig
	// current is the server's root, verified from the local one.
	current *uptane.Root
	// want are the new keys by role; nil: whatever the root that is being signed has.
	want map[uptane.Role]uptane.RoleKeys
	// signers are the names of the new root keys whose private half is at hand.
	signers []string
}

// MoveOffline replaces the server's root and targets keys by others. The order is: the new root is signed by the new
// keys; the server's old key signs it, in memory or in the server's own token; the server accepts it; only then are the
// old keys deleted from the server. At every moment somebody can sign the root in force, so that a run which ended
// anywhere in between is completed by another one with the same keys.
func (o *Office) MoveOffline(ctx context.Context, c MoveConfig) error {
	if err := c.check(o.r.Kind()); err != nil {
		return err
	}
	m := &move{o: o, ctx: ctx, config: c}
	if err := m.openKeys(); err != nil {
		return err
	}
	var err error
	if m.current, err = o.FetchRoot(ctx, false); err != nil {
		return err
	}
	o.reached("fetched root")
	mine, err := o.unpushed(m.current)
	if err != nil {
		return err
	}
	if mine == nil {
		moved, err := m.moved()
		if err != nil {
			return err
		}
		if moved {
			return m.finish()
		}
	}
	next, err := m.sign(mine)
	if err != nil {
		return err
	}
	o.reached("signed by new keys")
	if next, err = m.cosign(next); err != nil {
		return err
	}
	m.current = next
	return m.finish()
}

// openKeys reads the new keys and makes each whose private half is at hand prove that it can sign, before anything else.
func (m *move) openKeys() error {
	for _, n := range m.config.roles() {
		rk := uptane.RoleKeys{Threshold: n.threshold}
		for _, name := range n.names {
			key, here, err := m.newKey(name)
			if err != nil {
				return fmt.Errorf("key %s: %w", name, err)
			}
			rk.Keys = append(rk.Keys, key)
			if here && n.role == uptane.RoleRoot {
				m.signers = append(m.signers, name)
			}
		}
		if m.want == nil {
			m.want = map[uptane.Role]uptane.RoleKeys{}
		}
		m.want[n.role] = rk
	}
	return nil
}

// newKey opens a new key; here says whether its private half is at hand.
func (m *move) newKey(name string) (key uptane.Key, here bool, err error) {
	signer, closer, err := m.o.r.Keys().Signer(m.ctx, name)
	if errors.Is(err, fs.ErrNotExist) && !repo.IsURI(name) {
		key, err = m.o.r.Keys().Public(name)
		if err == nil {
			m.o.warn("the private half of %s is not here, so that it cannot prove that it signs", name)
		}
		return key, false, err
	}
	if err != nil {
		return key, false, err
	}
	defer closer.Close()
	if err := uptane.CheckSigner(signer); err != nil {
		return key, false, err
	}
	key, err = uptane.NewKey(signer.Public())
	return key, true, err
}

// matches reports whether a root has exactly the keys that are wanted.
func (m *move) matches(root *uptane.Root) bool {
	for role, rk := range m.want {
		have := root.Keys(role)
		if have.Threshold != rk.Threshold || !slices.Equal(ids(have.Keys), ids(rk.Keys)) {
			return false
		}
	}
	return true
}

// ids are the ids of keys, each once, sorted.
func ids(keys []uptane.Key) []string {
	var out []string
	for _, k := range keys {
		out = append(out, k.ID())
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// moved reports whether the server's root is already the one wanted: an earlier run may have ended after it was accepted.
func (m *move) moved() (bool, error) {
	if m.want != nil {
		return m.current.Version() > 1 && m.matches(m.current), nil
	}
	have, err := m.o.r.Root()
	if err != nil {
		return false, err
	}
	if m.current.Version() > 1 && uptane.SameContent(have, m.current) {
		return true, nil
	}
	return false, advice.New(advice.Usage, "name the new keys with --new-root, or sign a root with them first: root pull, root key add, root key remove, root sign",
		"there is no next root to move to")
}

// sign makes the next root and has those new keys sign it that are at hand and have not signed yet.
func (m *move) sign(mine *uptane.Root) (*uptane.Root, error) {
	if mine != nil && (mine.Version() != m.current.Version()+1 || !m.matches(mine)) {
		return nil, advice.New(advice.Refused, "push it, or give it up with root pull",
			"another root, version %d, is being signed in this repository, and the server's has version %d", mine.Version(), m.current.Version())
	}
	if mine == nil {
		if err := m.draft(); err != nil {
			return nil, err
		}
		m.o.reached("drafted")
	}
	var names []string
	for _, name := range m.signers {
		if mine == nil || !m.signedBy(mine, name) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		if mine == nil {
			return nil, m.leaveDraft()
		}
		return mine, nil
	}
	// The draft may have the next version already, for officers who sign it elsewhere.
	life, version := RootLifetime, m.current.Version()+1
	signed, err := m.o.r.SignRoot(repo.SignOptions{Context: m.ctx, Keys: names, Version: &version, ExpireAfter: &life, Now: m.o.now(),
		Confirm: func(d *uptane.Diff, _ []uptane.Finding) error {
			m.o.say("%s", strings.TrimRight(d.String(), "\n"))
			return nil
		}})
	if err != nil {
		return nil, err
	}
	return signed.Document.(*uptane.Root), nil
}

// leaveDraft makes the draft what officers are to sign, version and date included, and says how they do.
func (m *move) leaveDraft() error {
	path, err := m.o.r.EditRoot(func(c *uptane.RootConfig) error {
		c.Version, c.Expires = m.current.Version()+1, RootLifetime.After(m.o.now())
		return nil
	})
	if err != nil {
		return err
	}
	hint := fmt.Sprintf("hanaper uptane request --root %s --out request %s; the officers run hanaper uptane sign; hanaper uptane merge --partial --out new.json request RESPONSE...; "+
		"put new.json in place as %s, and run move-offline again", show.Text(m.o.r.Path("roles/root.json")), show.Text(path), show.Text(m.o.r.Path("roles/root.json")))
	return advice.New(advice.Refused, hint, "none of the new root keys is here; the draft of version %d is %s", m.current.Version()+1, show.Text(path))
}

func (m *move) signedBy(root *uptane.Root, name string) bool {
	key, _, err := m.newKey(name)
	return err == nil && slices.ContainsFunc(root.Signatures(), func(s uptane.Signature) bool { return s.KeyID == key.ID() })
}

// draft writes the next root's content, after the targets were fetched while their old signatures still count.
func (m *move) draft() error {
	if m.o.r.Kind() == uptane.Image {
		if _, err := m.o.r.UnsignedTargets(); err != nil {
			m.o.say("unsigned targets not available locally, pulling targets from server")
			if _, err := m.o.FetchTargets(m.ctx); err != nil {
				return err
			}
		}
	}
	if err := m.o.r.StoreRoot(m.current); err != nil {
		return err
	}
	m.o.reached("stored the old root")
	_, err := m.o.r.EditRoot(func(c *uptane.RootConfig) error {
		for role, rk := range m.want {
			c.Roles[role] = rk
		}
		return nil
	})
	return err
}

// keyIDs are the ids of keys for a message, in the order given.
func keyIDs(keys []uptane.Key) string {
	var out []string
	for _, k := range keys {
		out = append(out, k.ID())
	}
	return strings.Join(out, ", ")
}
