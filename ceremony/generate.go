package ceremony

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/hanaper/hanaper/hsm"
)

// The kinds of leaves of a key that is made.
const (
	kindKeyIntent = "key-intent"
	kindKey       = "key"
)

var _ = register[keyIntentLeaf](kindKeyIntent) && register[keyLeaf](kindKey)

// keyIntentLeaf: a key with this label and this random id is about to be generated; neither was in the token before.
type keyIntentLeaf struct {
	Head
	Name      string        `json:"name"`
	Token     string        `json:"token"`
	Label     string        `json:"label"`
	Algorithm hsm.Algorithm `json:"algorithm"`
	Class     hsm.Class     `json:"class"`
	ID        string        `json:"id"`
}

func (l *keyIntentLeaf) left(o *leftover) {
	o.destroys = append(o.destroys, abortedKey{l.Name, l.Token, l.Label, l.ID})
}

func (l *keyIntentLeaf) makes() place { return place{l.Token, l.Label} }

// keyLeaf: the key that was generated, as the token reads it back.
type keyLeaf struct {
	Head
	Name string `json:"name"`
	// SPKI is the DER SubjectPublicKeyInfo, base64.
	SPKI        []byte         `json:"spki"`
	Fingerprint string         `json:"spki_sha256"`
	Attributes  hsm.Attributes `json:"attributes"`
}

func (l *keyLeaf) show(s *shown) {
	s.box("SHA-256 of the public key (DER, SubjectPublicKeyInfo) of "+l.Name+ends, l.Fingerprint)
}

func (l *keyLeaf) record() string {
	return fmt.Sprintf("%s: SHA-256 of the public key %s; read back: %s", l.Name, l.Fingerprint, attributeWords(l.Attributes))
}

// generate makes a key as the script's name. Its id is random and journalled before, so that a session which resumes
// can tell a key that this ceremony made from any other.
func (s *Session) generate(name, token string, spec hsm.GenerateSpec) (*key, error) {
	in := keyIntentLeaf{Name: name, Token: token, Label: spec.Label, Algorithm: spec.Algorithm, Class: spec.Class}
	if err := s.outcome(&in, kindKeyIntent, func(bool) error {
		id := make([]byte, 20)
		if _, err := rand.Read(id); err != nil {
			return err
		}
		in.ID = hex.EncodeToString(id)
		return nil
	}, func() (err error) {
		want := keyIntentLeaf{Head: in.Head, Name: name, Token: token, Label: spec.Label, Algorithm: spec.Algorithm, Class: spec.Class, ID: in.ID}
		if spec.ID, err = hex.DecodeString(in.ID); err != nil || len(spec.ID) != 20 || in != want {
			return errors.New("is not what the script asks for, with an id of 20 octets")
		}
		return nil
	}); err != nil {
		return nil, err
	}
	k := &key{session: s, name: name, token: token, label: spec.Label, id: spec.ID, algorithm: spec.Algorithm, class: spec.Class, bornHere: true, madeHere: true}
	var out keyLeaf
	if err := s.outcome(&out, kindKey, func(again bool) error {
		t, err := s.token(token)
		if err != nil {
			return err
		}
		if again {
			k.live, err = adopt(s.ctx, t, spec)
		}
		if err == nil && k.live == nil {
			k.live, err = t.Generate(s.ctx, spec)
		}
		if err != nil {
			return err
		}
		out.Name, out.Attributes = name, k.live.Attributes()
		out.SPKI, out.Fingerprint, err = marshalSPKI(k.live.Public())
		return err
	}, func() error { return k.accept(out) }); err != nil {
		return nil, err
	}
	return k, s.born(k)
}

// adopter is a token that finds what a generation left whose answer was lost, proves it as it proves a fresh key, and removes what is not
// whole (package hsm/pkcs11 says it exactly). It gives nil where there is nothing to take over.
type adopter interface {
	Adopt(ctx context.Context, spec hsm.GenerateSpec) (hsm.Key, error)
}

// remover is a token that removes whatever has a label and an id, halves of pairs too, and proves its absence.
type remover interface {
	Remove(ctx context.Context, q hsm.Query) (found bool, err error)
}

// adopt finds the key that a session cut short may have generated: it has the intent's label and its random id.
func adopt(ctx context.Context, t hsm.Token, spec hsm.GenerateSpec) (hsm.Key, error) {
	if able, ok := t.(adopter); ok {
		k, err := able.Adopt(ctx, spec)
		if errors.Is(err, hsm.ErrExists) {
			err = refuse(RuleLabel, "a key that this ceremony did not make: %w", err)
		}
		return k, err
	}
	keys, err := t.Keys(ctx)
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		a := k.Attributes()
		if a.Label == spec.Label && bytes.Equal(a.ID, spec.ID) {
			return k, nil
		}
		if a.Label == spec.Label {
			return nil, refuse(RuleLabel, "a key %q that this ceremony did not make is in %s", spec.Label, t.Info().Name())
		}
	}
	return nil, nil
}

// undo destroys the key with this label and id, if it is there; a key with the label but another id is not ours.
func (s *Session) undo(k abortedKey) (bool, error) {
	if _, ok := s.infos[k.Token]; !ok && s.script.Initialises(k.Token) {
		return false, nil
	}
	t, err := s.token(k.Token)
	if err != nil {
		return false, err
	}
	id, err := hex.DecodeString(k.ID)
	if err != nil || len(id) == 0 {
		return false, fmt.Errorf("key %q has no id", k.Label)
	}
	if name, ok := s.script.inherited(id); ok {
		return false, fmt.Errorf("it has the id of key %q of an earlier ceremony, which is not this one's to remove", name)
	}
	if able, ok := t.(remover); ok {
		return able.Remove(s.ctx, hsm.Query{Label: k.Label, ID: id})
	}
	keys, err := t.Keys(s.ctx)
	if err != nil {
		return false, err
	}
	for _, found := range keys {
		a := found.Attributes()
		if a.Label == k.Label && hex.EncodeToString(a.ID) == k.ID {
			return true, t.Destroy(s.ctx, hsm.Query{Label: k.Label, ID: id})
		}
	}
	return false, nil
}

// inherited says which key of the ceremonies before this one has an id.
func (s *Script) inherited(id []byte) (name string, ok bool) {
	if s.earlier == nil {
		return "", false
	}
	for name, k := range s.earlier.left().keys {
		if bytes.Equal(k.id, id) {
			return name, true
		}
	}
	return "", false
}
