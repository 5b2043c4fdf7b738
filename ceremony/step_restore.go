package ceremony

import (
	"crypto"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/quorum"
)

// kindRestoreIntent is the leaf of a key that is about to be restored.
const kindRestoreIntent = "restore-intent"

var _ = register[keyIntentLeaf](kindRestoreIntent)

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
