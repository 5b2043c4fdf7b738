package ceremony

import (
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/show"
)

const kindDestroyIntent = "destroy-intent"

var _ = register[destroyIntentLeaf](kindDestroyIntent)

// DestroyKey destroys a key of the ceremony, or one that it imported, and proves its absence.
type DestroyKey struct {
	Key string `yaml:"key"`
}

// destroyIntentLeaf: the key with this label and id is about to be destroyed.
type destroyIntentLeaf struct {
	Head
	Name        string `json:"name"`
	Token       string `json:"token"`
	Label       string `json:"label"`
	ID          string `json:"id"`
	Fingerprint string `json:"spki_sha256"`
	// Agreed is what the people present answered to the question.
	Agreed string `json:"agreed"`
}

func (*destroyIntentLeaf) left(o *leftover) {
	o.remain(kindDestroyIntent, "the key was destroyed, or may have been")
}

func (d *DestroyKey) people() people {
	return people{act: "The officers present compare label, id and public key with the screen and agree aloud; the administrator types Yes"}
}

func (d *DestroyKey) needs(*Plan) []need { return nil }

func (d *DestroyKey) left(o *leftover, own []entry) { o.leaves(own) }

func (d *DestroyKey) describe(s *Session) string {
	if k, ok := s.state.keys[d.Key]; ok {
		return fmt.Sprintf("DESTROY the key %q, label %q, in token %q", d.Key, k.label, k.token)
	}
	return fmt.Sprintf("DESTROY the key %q", d.Key)
}

// shows names the roles that the key has still: without enough keys no next root can be signed, and devices believe the last one until it
// ends.
func (d *DestroyKey) shows(s *Session, v *shown) {
	k := s.state.keys[d.Key]
	if k == nil {
		return
	}
	for _, role := range s.uptaneRoles(k.public) {
		v.remark("the key still has the role %s", show.Line(role))
	}
}

func (d *DestroyKey) perform(s *Session) error {
	k, err := s.key(d.Key)
	if err != nil {
		return err
	}
	in := destroyIntentLeaf{}
	if err := s.outcome(&in, kindDestroyIntent, func(bool) error {
		in.Name, in.Token, in.Label, in.ID, in.Fingerprint = k.name, k.token, k.label, hex.EncodeToString(k.id), hexSHA256(k.spki)
		in.Agreed = "Yes"
		if !s.how.asks() {
			return nil
		}
		if err := k.revive(); err != nil {
			return err
		}
		return s.how.confirm(fmt.Sprintf("This DESTROYS the key %q (id %s, SHA-256 of its public key %s) in %s.", k.label, in.ID, in.Fingerprint, k.live.Token().Name()))
	}, func() error {
		if in.Name != k.name || in.ID != hex.EncodeToString(k.id) || in.Fingerprint != hexSHA256(k.spki) || in.Agreed != "Yes" || in.Token != k.token || in.Label != k.label {
			return errors.New("is about another key")
		}
		return nil
	}); err != nil {
		return err
	}
	out := destroyedLeaf{}
	if err := s.outcome(&out, kindDestroyed, func(again bool) error {
		t, err := s.token(k.token)
		if err != nil {
			return err
		}
		out.Name, out.Found = k.name, true
		if s.how.lacks(k) || k.standIn {
			return nil
		}
		q := hsm.Query{Label: k.label, ID: k.id}
		if able, ok := t.(remover); ok && again {
			// Some of it may be gone already.
			_, err := able.Remove(s.ctx, q)
			return err
		}
		return t.Destroy(s.ctx, q)
	}, func() error {
		if out.Name != k.name || !out.Found || out.Left {
			return errors.New("is about another key")
		}
		return nil
	}); err != nil {
		return err
	}
	k.destroyed = true
	return nil
}

func (d *DestroyKey) asks(*Plan) []string { return []string{AskYes} }
