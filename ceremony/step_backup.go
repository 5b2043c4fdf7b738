package ceremony

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/quorum"
)

// The kinds of leaves of a backup.
const (
	kindBackupIntent = "backup-intent"
	kindBackup       = "backup"
	kindSealed       = "sealed"
)

var _ = register[backupIntentLeaf](kindBackupIntent) && register[backupLeaf](kindBackup) && register[sealedLeaf](kindSealed)

// atWrapping are the people whom the wrapping key needs.
var atWrapping = people{act: "The security officer of the token and the holders of the shares put in their cards when asked" + watch}

// BackupKey wraps a key of class backup under the custodians' wrapping key, and then makes it unextractable.
type BackupKey struct {
	// Name of the backup, by which restore-key finds it.
	Name string `yaml:"name"`
	Key  string `yaml:"key"`
	// Shares of purpose wrap: of a step, or an input.
	Shares string `yaml:"shares"`
}

// backupIntentLeaf: the security officer is about to import the wrapping key, and the key is about to be wrapped.
type backupIntentLeaf struct {
	Head
	Name   string `json:"name"`
	Key    string `json:"key"`
	Shares string `json:"shares_sha256"`
}

func (*backupIntentLeaf) left(o *leftover) {
	o.remain(kindBackupIntent, "the key was wrapped, or may have been; its wrapped form is in the transcript")
}

// backupLeaf: the wrapped key. With the wrapping key, which the custodians hold together, it is the key.
type backupLeaf struct {
	Head
	Name    string `json:"name"`
	Wrapped []byte `json:"wrapped"`
}

func (l *backupLeaf) record() string {
	return fmt.Sprintf("%s, %d bytes wrapped, SHA-256 %s", l.Name, len(l.Wrapped), hexSHA256(l.Wrapped))
}

// sealedLeaf: the key's attributes after its backup.
type sealedLeaf struct {
	Head
	Key        string         `json:"key"`
	Attributes hsm.Attributes `json:"attributes"`
}

func (l *sealedLeaf) record() string { return l.Key + ", read back: " + attributeWords(l.Attributes) }

// backup is a wrapped key.
type backup struct {
	key     *key
	wrapped []byte
	// shares are those of the wrapping key.
	shares *quorum.Shares
	// of is the name of the backup that was wrapped anew as this one; empty where a key was backed up.
	of string
}

func (b *BackupKey) people() people { return atWrapping }

func (b *BackupKey) needs(p *Plan) []need {
	k := p.state.keys[b.Key]
	return []need{{token: k.token, able: ableToWrap(k.algorithm)}}
}

// ableToWrap asks a token whether it can wrap a key.
func ableToWrap(a hsm.Algorithm) func(hsm.Token) error {
	return func(t hsm.Token) error {
		if able, ok := t.(interface{ CanWrap(hsm.Algorithm) error }); ok {
			if err := able.CanWrap(a); err != nil {
				return refuse(RuleBackup, "%w", err)
			}
		}
		return nil
	}
}

func (b *BackupKey) left(o *leftover, own []entry) { o.leaves(own) }

func (b *BackupKey) describe(*Session) string {
	return fmt.Sprintf("back up key %q as %q: the security officer imports the wrapping key of shares %q, the key is wrapped, made unextractable, and the wrapping key destroyed", b.Key, b.Name, b.Shares)
}

func (b *BackupKey) perform(s *Session) error {
	if err := s.claimNew(b.Name); err != nil {
		return err
	}
	if _, ok := s.state.backups[b.Name]; ok {
		return refuse(RuleName, "the name %q is taken", b.Name)
	}
	k, err := s.key(b.Key)
	if err != nil {
		return err
	}
	switch {
	case !k.class.Wrappable():
		return refuse(RuleBackup, "key %q is of class %s: only a key of class backup or restored-backup is wrapped", k.name, show.Text(k.class))
	case k.algorithm == hsm.Ed25519:
		return refuse(RuleBackup, "key %q is an Ed25519 key, which no token wraps", k.name)
	case k.backedUp:
		return refuse(RuleBackup, "key %q was backed up and made unextractable", k.name)
	}
	shares, err := s.shares(b.Shares, quorum.PurposeWrap)
	if err != nil {
		return err
	}
	roster, err := s.script.openRoster()
	if err != nil {
		return err
	}
	living := shares.Living(roster)
	if gone := slices.DeleteFunc(shares.Holders(), func(n string) bool { return slices.Contains(living, n) }); len(gone) > 0 {
		if err := s.hold(RuleLiving, false, "%s left the roster, or have another decryption key now, and would hold a share of backup %q: share the wrapping key anew (hold-secret) before it is backed up", show.List(gone), b.Name); err != nil {
			return err
		}
	}
	if err := s.emit(&backupIntentLeaf{Name: b.Name, Key: k.name, Shares: quorum.Digest(shares.Digest()).String()}, kindBackupIntent); err != nil {
		return err
	}
	q := hsm.Query{Label: k.label, ID: k.id}
	var l backupLeaf
	if err := s.outcome(&l, kindBackup, func(again bool) error {
		return s.withWrappingKey(k.token, shares, again, func(v vault, wrapping hsm.Query) (err error) {
			l.Name = b.Name
			if err = v.CanWrap(k.algorithm); err == nil {
				l.Wrapped, err = v.WrapKey(s.ctx, wrapping, q)
			}
			return err
		})
	}, func() error {
		if l.Name != b.Name || len(l.Wrapped) < 24 || len(l.Wrapped)%8 != 0 {
			return errors.New("holds no wrapped key")
		}
		return nil
	}); err != nil {
		return err
	}
	if err := b.seal(s, k, q); err != nil {
		return err
	}
	s.state.backups[b.Name] = &backup{key: k, wrapped: l.Wrapped, shares: shares}
	return s.artefact("backups/"+b.Name+".wrapped", l.Wrapped, nil)
}

// seal makes the key unextractable.
func (b *BackupKey) seal(s *Session, k *key, q hsm.Query) error {
	var l sealedLeaf
	if err := s.outcome(&l, kindSealed, func(again bool) error {
		l.Key = k.name
		v, err := s.vault(k.token)
		if err != nil {
			return err
		}
		if again {
			// Some tokens refuse to set what is set already.
			live, err := v.Key(s.ctx, q)
			if err != nil {
				return err
			}
			if l.Attributes = live.Attributes(); !l.Attributes.Extractable {
				return nil
			}
		}
		l.Attributes, err = v.SealAfterBackup(s.ctx, q)
		return err
	}, func() error {
		if a := l.Attributes; l.Key != k.name || a.Extractable || !a.Sensitive || a.Label != k.label || !bytes.Equal(a.ID, k.id) {
			return refuse(RuleAttributes, "key %q is not sealed after its backup", k.name)
		}
		return nil
	}); err != nil {
		return err
	}
	k.attrs, k.backedUp = l.Attributes, true
	return nil
}

// asksSO is the question for the security officer PIN of a token, if no quorum holds it when the step begins.
func asksSO(p *Plan, st Step, token string) []string {
	if token == "" || p.heldBefore(p.number(st), token, "so") || p.script.Initialises(token) {
		return nil
	}
	return []string{AskPIN(token, "so", p.script.tokens[token].Token)}
}

func (b *BackupKey) asks(p *Plan) []string {
	if k := p.state.keys[b.Key]; k != nil {
		return asksSO(p, b, k.token)
	}
	return nil
}
