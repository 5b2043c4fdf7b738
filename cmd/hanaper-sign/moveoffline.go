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
