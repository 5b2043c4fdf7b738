package ceremony

import (
	"context"
	"crypto"
	"fmt"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/hsm"
)

// specimenToken stands in for a token while a script is validated: its keys live in memory and are thrown away.
type specimenToken struct {
	// Token is nil: what no step asks of a specimen is not there.
	hsm.Token
	name string
	info hsm.TokenInfo
	keys []*specimenKey
}

type specimenKey struct {
	crypto.Signer
	token *specimenToken
	attrs hsm.Attributes
}

func newSpecimenToken(name string, uri hsm.URI) *specimenToken {
	return &specimenToken{name: name, info: hsm.TokenInfo{Label: uri.Token, Serial: uri.Serial, Manufacturer: uri.Manufacturer, Model: uri.Model, Initialized: true}}
}

func (k *specimenKey) Attributes() hsm.Attributes { return k.attrs }
func (k *specimenKey) Token() hsm.TokenInfo       { return k.token.info }
func (k *specimenKey) URI() hsm.URI {
	u := k.token.info.URI()
	u.Object, u.ID = k.attrs.Label, k.attrs.ID
	return u
}

func (t *specimenToken) Info() hsm.TokenInfo { return t.info }

func (t *specimenToken) Generate(_ context.Context, s hsm.GenerateSpec) (hsm.Key, error) {
	signer, err := ca.SpecimenKey(string(s.Algorithm), "ceremony "+t.name+" "+s.Label)
	if err != nil {
		return nil, err
	}
	backup := s.Class == hsm.Backup
	k := &specimenKey{signer, t, hsm.Attributes{Label: s.Label, ID: s.ID, Algorithm: s.Algorithm, Token: true, Private: true,
		Sensitive: true, AlwaysSensitive: true, Extractable: backup, NeverExtractable: !backup, WrapWithTrusted: backup,
		Local: true, Sign: true}}
	t.keys = append(t.keys, k)
	return k, nil
}

func (t *specimenToken) Destroy(_ context.Context, q hsm.Query) error {
	for i, k := range t.keys {
		if q.Label == k.attrs.Label {
			t.keys = append(t.keys[:i], t.keys[i+1:]...)
			return nil
		}
	}
	return fmt.Errorf("key %s: %w", q, hsm.ErrNoKey)
}

// stand makes a key of class restored that signs as live does; live is nil for a key of an earlier ceremony.
func (t *specimenToken) stand(spec hsm.RestoreSpec, live hsm.Key) hsm.Key {
	k := &specimenKey{nil, t, hsm.Attributes{Label: spec.Label, ID: spec.ID, Algorithm: hsm.AlgorithmOf(spec.Public), Token: true, Private: true,
		Sensitive: true, Sign: true}}
	if live != nil {
		k.Signer = live
	}
	t.keys = append(t.keys, k)
	return k
}
