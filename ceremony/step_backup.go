package ceremony

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/quorum"
)

// The kinds of leaves of backup and restoration.
const (
	kindBackupIntent  = "backup-intent"
	kindBackup        = "backup"
	kindSealed        = "sealed"
	kindRestoreIntent = "restore-intent"
)

var _ = register[backupIntentLeaf](kindBackupIntent) && register[backupLeaf](kindBackup) && register[sealedLeaf](kindSealed) &&
	register[keyIntentLeaf](kindRestoreIntent)

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

// RestoreKey unwraps a backup into another token, as class restored.
type RestoreKey struct {
	// Name of the restored key.
	Name string `yaml:"name"`
	// Backup of this ceremony or the earlier one.
	Backup string `yaml:"backup"`
	Token  string `yaml:"token"`
	// Label in the token; the name where it is left out.
	Label  string `yaml:"label"`
	Shares string `yaml:"shares"`
	// Class: restored (the default), or restored-backup for a key that is to be backed up again.
	Class string `yaml:"class"`
}

func (r *RestoreKey) class() hsm.Class {
	if r.Class == "" {
		return hsm.Restored
	}
	return hsm.Class(r.Class)
}

func (r *RestoreKey) label() string {
	if r.Label == "" {
		return r.Name
	}
	return r.Label
}

func (r *RestoreKey) people() people { return atWrapping }

func (r *RestoreKey) needs(*Plan) []need { return []need{{token: r.Token, label: r.label()}} }

func (r *RestoreKey) left(o *leftover, own []entry) { o.leaves(own) }

func (r *RestoreKey) describe(s *Session) string {
	of := ""
	if b, _ := s.backup(r.Backup); b != nil {
		of = ", of " + b.key.standsFor() + ","
	}
	return fmt.Sprintf("restore the backup %q%s as key %q in token %q, label %q, class %s, and prove it by its public key and a test signature", r.Backup, of, r.Name, r.Token, r.label(), r.class())
}

// backup finds a backup of this ceremony or, then before is true, of those that it carries on from.
func (s *Session) backup(name string) (b *backup, before bool) {
	if b := s.state.backups[name]; b != nil || s.script.earlier == nil {
		return b, false
	}
	b = s.script.earlier.left().backups[name]
	return b, b != nil
}

func (r *RestoreKey) perform(s *Session) error {
	if err := s.claimNew(r.Name); err != nil {
		return err
	}
	if !labelForm.MatchString(r.label()) {
		return malformed("label %q: use 1 to 64 letters, digits, spaces and . _ : -", r.label())
	}
	if c := r.class(); c != hsm.Restored && c != hsm.RestoredBackup {
		return malformed("class %q is none of restored and restored-backup", c)
	}
	b, before := s.backup(r.Backup)
	if b == nil {
		return refuse(RuleReference, "there is no backup %q at this step", r.Backup)
	}
	if _, ok := s.infos[r.Token]; !ok {
		return refuse(RuleReference, "there is no token %q at this step", r.Token)
	}
	if err := s.checkTPM(r.Token, hsm.P256, r.class()); err != nil {
		return err
	}
	for _, k := range s.state.keys {
		if k.token == r.Token && k.label == r.label() && !k.destroyed {
			return refuse(RuleLabel, "token %q holds the label %q already", r.Token, r.label())
		}
	}
	shares, err := s.shares(r.Shares, quorum.PurposeWrap)
	if err != nil {
		return err
	}
	if shares.Digest() != b.shares.Digest() {
		return refuse(RuleBackup, "backup %q was made with the wrapping key of other shares", r.Backup)
	}
	if before && s.how.marked() {
		return refuse(RuleRehearsal, "backup %q is of a real key: a rehearsal cannot restore it", r.Backup)
	}
	k, err := r.restore(s, b, shares, before)
	if err != nil {
		return err
	}
	s.state.keys[r.Name] = k
	return k.prove()
}

func (r *RestoreKey) restore(s *Session, b *backup, shares *quorum.Shares, before bool) (*key, error) {
	in, id := keyIntentLeaf{}, make([]byte, 20)
	if err := s.outcome(&in, kindRestoreIntent, func(bool) error {
		_, err := rand.Read(id)
		in.Name, in.Token, in.Label, in.Algorithm, in.Class, in.ID = r.Name, r.Token, r.label(), b.key.algorithm, r.class(), hex.EncodeToString(id)
		return err
	}, func() (err error) {
		want := keyIntentLeaf{Head: in.Head, Name: r.Name, Token: r.Token, Label: r.label(), Algorithm: b.key.algorithm, Class: r.class(), ID: in.ID}
		if id, err = hex.DecodeString(in.ID); err != nil || len(id) != 20 || in != want {
			return errors.New("is not what the script asks for")
		}
		return nil
	}); err != nil {
		return nil, err
	}
	k := &key{session: s, name: r.Name, token: r.Token, label: r.label(), id: id, algorithm: b.key.algorithm, class: r.class(),
		purpose: b.key.purpose, bornHere: b.key.bornHere, imported: before || b.key.imported, restoredFrom: b.key, of: b.key.original(), madeHere: true}
	var out keyLeaf
	if err := s.outcome(&out, kindKey, func(again bool) error {
		if again {
			// What was restored and not recorded is restored anew: so it is proven, and the wrapping key goes with it.
			if _, err := s.undo(abortedKey{k.name, r.Token, k.label, in.ID}); err != nil {
				return err
			}
		}
		spec := hsm.RestoreSpec{Class: k.class, Label: k.label, ID: id, Public: b.key.public, Wrapped: b.wrapped}
		if err := s.withWrappingKey(r.Token, shares, again, func(v vault, wrapping hsm.Query) (err error) {
			spec.Wrapping = wrapping
			k.live, err = v.UnwrapKey(s.ctx, spec)
			return err
		}); err != nil {
			return err
		}
		out.Name, out.Attributes = k.name, k.live.Attributes()
		out.SPKI, out.Fingerprint = b.key.spki, hexSHA256(b.key.spki)
		return nil
	}, func() error { return k.accept(out) }); err != nil {
		return nil, err
	}
	return k, nil
}

// proofText is what a restored key signs. It is part of the format of transcripts and never changes.
const proofText = "a signature to prove that a restored key is the one that was backed up\n"

// prove makes and journals a signature over a text that is nothing else.
func (k *key) prove() error {
	return k.signTest(proofText)
}

// signTest makes and journals a signature over a text.
func (k *key) signTest(text string) error {
	if k.session.how.lacks(k) {
		k.session.willSign(k, 1)
		return nil
	}
	if s := k.session; !s.how.acts() {
		list, err := s.signatures()
		if err != nil {
			return err
		}
		return s.match(list, []message{{what: "its test text", key: k, text: []byte(text)}})
	}
	hash := crypto.SHA256
	switch k.algorithm {
	case hsm.Ed25519:
		_, err := k.Sign(rand.Reader, []byte(text), crypto.Hash(0))
		return err
	case hsm.P384:
		hash = crypto.SHA384
	}
	h := hash.New()
	h.Write([]byte(text))
	_, err := k.Sign(rand.Reader, h.Sum(nil), hash)
	return err
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

func (r *RestoreKey) shows(s *Session, v *shown) { showCopy(s, v, r.Name) }

// showCopy says for which key a copy stands: its certificates are those of that one.
func showCopy(s *Session, v *shown, name string) {
	k := s.state.keys[name]
	if k == nil || k.of == "" {
		return
	}
	v.fact("stands for", "key "+k.of)
	for _, n := range sortedKeys(s.state.certificates) {
		if ca.SameKey(s.state.certificates[n].cert.PublicKey, k.public) {
			v.fact("key of certificate", n)
		}
	}
}

func (r *RestoreKey) asks(p *Plan) []string { return asksSO(p, r, r.Token) }
