package office

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/uptane"
	"github.com/hanaper/hanaper/uptane/repo"
	"github.com/hanaper/hanaper/uptane/reposerver"
)

// cosign has the server's old keys sign the next root, and the server accept it. It returns the root that is then in force.
func (m *move) cosign(next *uptane.Root) (*uptane.Root, error) {
	own := uptane.RootAuthority(nil, next)
	if err := own.Verify(next); err != nil {
		m.o.tellStanding(own.Standing(next))
		return nil, advice.Wrap(advice.Refused, err, "have the missing keys sign (root sign, or hanaper uptane), then run move-offline again; the server is untouched")
	}
	both := uptane.RootAuthority(m.current, next)
	sealed := false
	for _, old := range m.oldKeys() {
		if both.Verify(next) == nil {
			break
		}
		if slices.ContainsFunc(next.Signatures(), func(s uptane.Signature) bool { return s.KeyID == old.ID() }) {
			continue
		}
		signed, err := m.oldSignature(next, old)
		if errors.Is(err, reposerver.ErrKeySealed) {
			sealed = true
			continue
		}
		if errors.Is(err, reposerver.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		next = signed
		m.o.reached("signed by an old key")
	}
	if both.Verify(next) != nil && sealed {
		return m.cosignInToken(next, both)
	}
	if err := both.Verify(next); err != nil {
		m.o.tellStanding(both.Standing(next))
		return nil, advice.Wrap(advice.Refused, err, "the server does not hold the old root key: sign with it (root sign), then run move-offline again")
	}
	if err := m.o.PushRoot(m.ctx, next); err != nil {
		return nil, err
	}
	m.o.reached("accepted")
	return next, nil
}

// cosignInToken is for a server whose keys never leave its token: it signs, checks and stores in one step.
func (m *move) cosignInToken(next *uptane.Root, both uptane.Authority) (*uptane.Root, error) {
	b, err := m.o.server.CosignRoot(m.ctx, next.Bytes())
	if err != nil {
		return nil, err
	}
	m.o.reached("accepted")
	got, err := uptane.ParseRoot(b)
	if err != nil {
		return nil, err
	}
	if !uptane.SameContent(got, next) {
		return nil, advice.New(advice.Unverified, "ask who else changes this repository", "the server stored another root than it was given")
	}
	if err := both.Verify(got); err != nil {
		return nil, err
	}
	return got, m.o.r.StoreRoot(got)
}

// oldKeys lists the root keys in force: the one that was named first, then the last.
func (m *move) oldKeys() []uptane.Key {
	keys := m.current.Keys(uptane.RoleRoot).Keys
	slices.Reverse(keys)
	first := m.config.OldKeyID
	slices.SortStableFunc(keys, func(a, b uptane.Key) int {
		switch {
		case a.ID() == first && b.ID() != first:
			return -1
		case b.ID() == first && a.ID() != first:
			return 1
		}
		return 0
	})
	return keys
}

// oldSignature adds the signature of an old key: of one that is here, or of the server's, whose private half is in
// memory for as long as it takes and touches no disk.
func (m *move) oldSignature(next *uptane.Root, old uptane.Key) (*uptane.Root, error) {
	names, err := m.o.r.Keys().Names()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if k, err := m.o.r.Keys().Public(name); err != nil || k.ID() != old.ID() {
			continue
		}
		signer, closer, err := m.o.r.Keys().Signer(m.ctx, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // the public half alone
		}
		if err != nil {
			return nil, err
		}
		defer closer.Close()
		return m.keep(next, old, name, func() (*uptane.Root, error) { return uptane.AddSignatures(next, signer) })
	}
	alias := m.config.OldRootAlias
	if alias == "" {
		alias = "old-root"
	}
	if k, err := m.o.r.Keys().Public(alias); err == nil && k.ID() != old.ID() {
		alias += "-" + old.ID()[:8]
	}
	signer, err := m.o.server.FetchPrivateKey(m.ctx, old.ID())
	if err != nil {
		return nil, err
	}
	m.o.reached("fetched the old key")
	if err := m.o.r.Keys().Import(alias, old); err != nil {
		return nil, err
	}
	return m.keep(next, old, alias, func() (*uptane.Root, error) { return uptane.AddSignatures(next, signer) })
}

// keep stores a root to which a signature was added.
func (m *move) keep(next *uptane.Root, old uptane.Key, name string, add func() (*uptane.Root, error)) (*uptane.Root, error) {
	signed, err := add()
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(signed.Signatures(), func(s uptane.Signature) bool { return s.KeyID == old.ID() })
	if at < 0 {
		return nil, fmt.Errorf("key %s did not sign", old.ID())
	}
	out, err := m.o.r.SignRoot(repo.SignOptions{Context: m.ctx, Now: m.o.now(), Signatures: map[string][]byte{name: signed.Signatures()[at].Sig}})
	if err != nil {
		return nil, err
	}
	return out.Document.(*uptane.Root), nil
}

// finish deletes the old keys from the server, once its root is seen not to need them.
func (m *move) finish() error {
	data, err := m.o.server.Root(m.ctx)
	if err != nil {
		return err
	}
	inForce, err := uptane.ParseRoot(data)
	if err != nil {
		return err
	}
	if !uptane.SameContent(inForce, m.current) {
		return advice.New(advice.Unverified, "run move-offline again", "the server's root is not the one that it accepted")
	}
	if err := m.o.r.StoreRoot(m.current); err != nil {
		return err
	}
	m.o.reached("stored the new root")
	b, err := m.o.server.RootVersion(m.ctx, m.current.Version()-1)
	if err != nil {
		return err
	}
	old, err := uptane.ParseRoot(b)
	if err != nil {
		return err
	}
	for _, k := range m.obsolete(old, uptane.RoleRoot) {
		if err := m.o.server.DeletePrivateKey(m.ctx, k.ID()); err != nil && !errors.Is(err, reposerver.ErrNotFound) {
			return advice.Wrap(advice.Failed, fmt.Errorf("the new root is in force, but the old key %s could not be deleted: %w", k.ID(), err), "run move-offline again")
		}
		m.o.reached("deleted an old root key")
	}
	for _, k := range m.obsolete(old, uptane.RoleTargets) {
		// No root lists it any more: should a server not want to delete it, that costs nothing.
		if err := m.o.server.DeletePrivateKey(m.ctx, k.ID()); err != nil && !errors.Is(err, reposerver.ErrNotFound) {
			m.o.warn("the old targets key could not be deleted: %v", err)
		}
	}
	m.o.reached("deleted all old keys")
	m.o.say("root keys moved offline, root.json version %d saved to %s", m.current.Version(), show.Text(m.o.r.Path("roles/root.json")))
	if m.o.r.Kind() == uptane.Image {
		m.o.say("now sign the targets with their new key and push them: devices refuse the old ones from now on")
	}
	return nil
}

// obsolete are the keys of a role in an old root that the current root does not list for any role.
func (m *move) obsolete(old *uptane.Root, role uptane.Role) []uptane.Key {
	used := map[string]bool{}
	for _, r := range uptane.Roles() {
		for _, k := range m.current.Keys(r).Keys {
			used[k.ID()] = true
		}
	}
	var out []uptane.Key
	for _, k := range old.Keys(role).Keys {
		if !used[k.ID()] {
			out = append(out, k)
		}
	}
	return out
}
