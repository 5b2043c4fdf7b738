package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/uptane"
	"github.com/hanaper/hanaper/uptane/repo"
	"github.com/hanaper/hanaper/uptane/reposerver"
)

func moveOfflineCommand() *cli.Command {
	return &cli.Command{
		Name: "move-offline", Usage: "replace the server's root and targets keys by your own; run it again after any failure",
		Description: "The order is: the new root is signed by the new keys; the server's old key signs it, in memory or in the server's own token; " +
			"the server accepts it; only then are the old keys deleted from the server. Whenever it ends in between, the same command carries on. " +
			"Without --new-root, the next root is the one that is being signed in the repository.",
		Flags: []cli.Flag{
			repoFlag(),
			&cli.StringSliceFlag{Name: "new-root", Usage: "`NAME` or URI of a new root key; may be repeated"},
			&cli.StringSliceFlag{Name: "new-targets", Usage: "`NAME` or URI of a new targets key (not for a director); may be repeated"},
			&cli.StringFlag{Name: "old-root-alias", Usage: "`NAME` for the old root key's public half; if NAME.sec is there, it signs"},
			&cli.StringFlag{Name: "old-keyid", Usage: "`ID` of the old root key to sign with first"},
			&cli.IntFlag{Name: "root-threshold", Value: 1, Usage: "`NUMBER` of new root keys that must sign (not in garage-sign)"},
			&cli.IntFlag{Name: "targets-threshold", Value: 1, Usage: "`NUMBER` of new targets keys that must sign (not in garage-sign)"},
		},
		Action: moveOffline,
	}
}

// step is called where a crash would leave another state behind; tests end the process there.
var step = func(string) {}

// move is one run of move-offline.
type move struct {
	c      *cli.Context
	r      *repo.Repository
	server *reposerver.Client
	// current is the server's root, verified from the local one.
	current *uptane.Root
	// want are the new keys by role; nil: whatever the root that is being signed has.
	want map[uptane.Role]uptane.RoleKeys
	// signers are the names of the new root keys whose private half is at hand.
	signers []string
}

func moveOffline(c *cli.Context) error {
	m := &move{c: c}
	var err error
	if m.r, err = openRepo(c); err != nil {
		return err
	}
	if err := m.keys(); err != nil {
		return err
	}
	if m.server, err = openServer(c, m.r); err != nil {
		return err
	}
	if m.current, err = fetchRoot(c, m.r, m.server, false); err != nil {
		return err
	}
	step("fetched root")
	mine, err := ahead(m.r, m.current)
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
	step("signed by new keys")
	if next, err = m.cosign(next); err != nil {
		return err
	}
	m.current = next
	return m.finish()
}

// keys reads the new keys and makes each whose private half is at hand prove that it can sign, before anything else.
func (m *move) keys() error {
	roots, targets := m.c.StringSlice("new-root"), m.c.StringSlice("new-targets")
	director := m.r.Kind() == uptane.Director
	switch {
	case director && len(targets) > 0:
		return usagef("a director signs targets online: --new-targets is not for it")
	case len(roots) == 0 && len(targets) > 0:
		return usagef("--new-targets needs --new-root")
	case len(roots) == 0:
		return nil
	case !director && len(targets) == 0:
		return advice.New(advice.Usage, "add --new-targets NAME", "a targets key name is required to move an image repository offline")
	}
	m.want = map[uptane.Role]uptane.RoleKeys{}
	for _, role := range []struct {
		role      uptane.Role
		names     []string
		threshold int
	}{{uptane.RoleRoot, roots, m.c.Int("root-threshold")}, {uptane.RoleTargets, targets, m.c.Int("targets-threshold")}} {
		if len(role.names) == 0 {
			continue
		}
		rk := uptane.RoleKeys{Threshold: role.threshold}
		if role.threshold < 1 || role.threshold > len(role.names) {
			return usagef("%d of %d %s keys cannot sign", role.threshold, len(role.names), role.role)
		}
		for _, name := range role.names {
			key, here, err := m.newKey(name)
			if err != nil {
				return fmt.Errorf("key %s: %w", name, err)
			}
			rk.Keys = append(rk.Keys, key)
			if here && role.role == uptane.RoleRoot {
				m.signers = append(m.signers, name)
			}
		}
		m.want[role.role] = rk
	}
	return nil
}

func (m *move) newKey(name string) (key uptane.Key, here bool, err error) {
	signer, closer, err := m.r.Keys().Signer(m.c.Context, name)
	if errors.Is(err, fs.ErrNotExist) && !repo.IsURI(name) {
		key, err = m.r.Keys().Public(name)
		if err == nil {
			warn(m.c, "the private half of %s is not here, so that it cannot prove that it signs", name)
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
	have, err := m.r.Root()
	if err != nil {
		return false, err
	}
	if m.current.Version() > 1 && bytes.Equal(have.Signed(), m.current.Signed()) {
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
		step("drafted")
	}
	var names []string
	for _, name := range m.signers {
		if mine == nil || !m.signedBy(mine, name) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		if mine == nil {
			return nil, advice.New(advice.Refused, "have roles/unsigned/root.json signed with hanaper uptane, put the result in place as roles/root.json, and run move-offline again",
				"none of the new root keys is here; the draft is %s", m.r.Path("roles/unsigned/root.json"))
		}
		return mine, nil
	}
	signed, err := m.r.SignRoot(repo.SignOptions{Context: m.c.Context, Keys: names, ExpireAfter: &rootLifetime, Now: time.Now(),
		Confirm: func(d *uptane.Diff, _ []uptane.Finding) error {
			say(m.c, "%s", strings.TrimRight(d.String(), "\n"))
			return nil
		}})
	if err != nil {
		return nil, err
	}
	return signed.Document.(*uptane.Root), nil
}

func (m *move) signedBy(root *uptane.Root, name string) bool {
	key, _, err := m.newKey(name)
	return err == nil && slices.ContainsFunc(root.Signatures(), func(s uptane.Signature) bool { return s.KeyID == key.ID() })
}

// draft writes the next root's content, after the targets were fetched while their old signatures still count.
func (m *move) draft() error {
	if m.r.Kind() == uptane.Image {
		if _, err := m.r.UnsignedTargets(); err != nil {
			say(m.c, "unsigned targets not available locally, pulling targets from server")
			if _, err := fetchTargets(m.c, m.r, m.server); err != nil {
				return err
			}
		}
	}
	if err := m.r.StoreRoot(m.current); err != nil {
		return err
	}
	step("stored the old root")
	_, err := m.r.EditRoot(func(c *uptane.RootConfig) error {
		for role, rk := range m.want {
			c.Roles[role] = rk
		}
		return nil
	})
	return err
}

// cosign has the server's old keys sign the next root, and the server accept it. It returns the root that is then in force.
func (m *move) cosign(next *uptane.Root) (*uptane.Root, error) {
	own := uptane.RootAuthority(nil, next)
	if err := own.Verify(next); err != nil {
		tellStanding(m.c, own.Standing(next))
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
		step("signed by an old key")
	}
	if both.Verify(next) != nil && sealed {
		return m.cosignInToken(next, both)
	}
	if err := both.Verify(next); err != nil {
		tellStanding(m.c, both.Standing(next))
		return nil, advice.Wrap(advice.Refused, err, "the server does not hold the old root key: sign with it (root sign), then run move-offline again")
	}
	if err := sendRoot(m.c, m.r, m.server, next); err != nil {
		return nil, err
	}
	step("accepted")
	return next, nil
}

// cosignInToken is for a server whose keys never leave its token: it signs, checks and stores in one step.
func (m *move) cosignInToken(next *uptane.Root, both uptane.Authority) (*uptane.Root, error) {
	b, err := m.server.CosignRoot(m.c.Context, next.Bytes())
	if err != nil {
		return nil, err
	}
	step("accepted")
	got, err := uptane.ParseRoot(b)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(got.Signed(), next.Signed()) {
		return nil, advice.New(advice.Unverified, "ask who else changes this repository", "the server stored another root than it was given")
	}
	if err := both.Verify(got); err != nil {
		return nil, err
	}
	return got, m.r.StoreRoot(got)
}

// oldKeys lists the root keys in force: the one that was named first, then the last.
func (m *move) oldKeys() []uptane.Key {
	keys := m.current.Keys(uptane.RoleRoot).Keys
	slices.Reverse(keys)
	first := m.c.String("old-keyid")
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
	names, err := m.r.Keys().Names()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if k, err := m.r.Keys().Public(name); err != nil || k.ID() != old.ID() {
			continue
		}
		signer, closer, err := m.r.Keys().Signer(m.c.Context, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // the public half alone
		}
		if err != nil {
			return nil, err
		}
		defer closer.Close()
		return m.keep(next, old, name, func() (*uptane.Root, error) { return uptane.AddSignatures(next, signer) })
	}
	alias := m.c.String("old-root-alias")
	if alias == "" {
		alias = "old-root"
	}
	if k, err := m.r.Keys().Public(alias); err == nil && k.ID() != old.ID() {
		alias += "-" + old.ID()[:8]
	}
	signer, err := m.server.FetchPrivateKey(m.c.Context, old.ID())
	if err != nil {
		return nil, err
	}
	step("fetched the old key")
	if err := m.r.Keys().Import(alias, old); err != nil {
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
	out, err := m.r.SignRoot(repo.SignOptions{Context: m.c.Context, Now: time.Now(), Signatures: map[string][]byte{name: signed.Signatures()[at].Sig}})
	if err != nil {
		return nil, err
	}
	return out.Document.(*uptane.Root), nil
}

// finish deletes the old keys from the server, once its root is seen not to need them.
func (m *move) finish() error {
	data, err := m.server.Root(m.c.Context)
	if err != nil {
		return err
	}
	inForce, err := uptane.ParseRoot(data)
	if err != nil {
		return err
	}
	if !bytes.Equal(inForce.Signed(), m.current.Signed()) {
		return advice.New(advice.Unverified, "run move-offline again", "the server's root is not the one that it accepted")
	}
	if err := m.r.StoreRoot(m.current); err != nil {
		return err
	}
	step("stored the new root")
	b, err := m.server.RootVersion(m.c.Context, m.current.Version()-1)
	if err != nil {
		return err
	}
	old, err := uptane.ParseRoot(b)
	if err != nil {
		return err
	}
	for _, k := range m.obsolete(old, uptane.RoleRoot) {
		if err := m.server.DeletePrivateKey(m.c.Context, k.ID()); err != nil && !errors.Is(err, reposerver.ErrNotFound) {
			return advice.Wrap(advice.Failed, fmt.Errorf("the new root is in force, but the old key %s could not be deleted: %w", k.ID(), err), "run move-offline again")
		}
		step("deleted an old root key")
	}
	for _, k := range m.obsolete(old, uptane.RoleTargets) {
		// No root lists it any more: should a server not want to delete it, that costs nothing.
		if err := m.server.DeletePrivateKey(m.c.Context, k.ID()); err != nil && !errors.Is(err, reposerver.ErrNotFound) {
			warn(m.c, "the old targets key could not be deleted: %v", err)
		}
	}
	step("deleted all old keys")
	say(m.c, "root keys moved offline, root.json version %d saved to %s", m.current.Version(), m.r.Path("roles/root.json"))
	if m.r.Kind() == uptane.Image {
		say(m.c, "now sign the targets with their new key and push them: devices refuse the old ones from now on")
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
