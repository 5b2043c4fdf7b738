package ceremony

import (
	"context"
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/quorum"
)

// specimenKeys are the private keys of all specimen tokens, so that one can be restored from another.
type specimenKeys struct{ signers []crypto.Signer }

// of gives the private key of a public one; nil for a key of an earlier ceremony.
func (s *specimenKeys) of(pub crypto.PublicKey) crypto.Signer {
	for _, k := range s.signers {
		if ca.SameKey(k.Public(), pub) {
			return k
		}
	}
	return nil
}

// specimenToken stands in for a token while a script is validated: its keys live in memory and are thrown away.
type specimenToken struct {
	// Token is nil: what no step asks of a specimen is not there.
	hsm.Token
	name string
	info hsm.TokenInfo
	keys []*specimenKey
	made *specimenKeys
}

type specimenKey struct {
	// Signer is nil for a key that was taken up from an earlier ceremony: nothing has it sign.
	crypto.Signer
	token  *specimenToken
	attrs  hsm.Attributes
	public crypto.PublicKey
}

func newSpecimenToken(name string, uri hsm.URI, made *specimenKeys) *specimenToken {
	return &specimenToken{name: name, made: made,
		info: hsm.TokenInfo{Label: uri.Token, Serial: uri.Serial, Manufacturer: uri.Manufacturer, Model: uri.Model, Initialized: true}}
}

func (k *specimenKey) Public() crypto.PublicKey   { return k.public }
func (k *specimenKey) Attributes() hsm.Attributes { return k.attrs }
func (k *specimenKey) Token() hsm.TokenInfo       { return k.token.info }
func (k *specimenKey) SignContext(_ context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return k.Sign(rand.Reader, digest, opts)
}
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
	t.made.signers = append(t.made.signers, signer)
	backup := s.Class == hsm.Backup
	return t.add(signer, signer.Public(), hsm.Attributes{Label: s.Label, ID: s.ID, Algorithm: s.Algorithm, Token: true, Private: true,
		Sensitive: true, AlwaysSensitive: true, Extractable: backup, NeverExtractable: !backup, WrapWithTrusted: backup,
		Local: true, Sign: true}), nil
}

// add takes a key in, also one of an earlier ceremony, which cannot sign.
func (t *specimenToken) add(signer crypto.Signer, pub crypto.PublicKey, a hsm.Attributes) hsm.Key {
	k := &specimenKey{signer, t, a, pub}
	t.keys = append(t.keys, k)
	return k
}

func (t *specimenToken) Key(_ context.Context, q hsm.Query) (hsm.Key, error) {
	for _, k := range t.keys {
		if q.Label == k.attrs.Label {
			return k, nil
		}
	}
	return nil, fmt.Errorf("key %s: %w", q, hsm.ErrNoKey)
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

func (t *specimenToken) CanWrap(hsm.Algorithm) error { return nil }

func (t *specimenToken) WrapKey(context.Context, hsm.Query, hsm.Query) ([]byte, error) {
	return make([]byte, 40), nil
}

func (t *specimenToken) SealAfterBackup(ctx context.Context, q hsm.Query) (hsm.Attributes, error) {
	k, err := t.Key(ctx, q)
	if err != nil {
		return hsm.Attributes{}, err
	}
	own := k.(*specimenKey)
	own.attrs.Extractable = false
	return own.attrs, nil
}

// UnwrapKey makes a key of class restored that signs as the original does.
func (t *specimenToken) UnwrapKey(_ context.Context, s hsm.RestoreSpec) (hsm.Key, error) {
	return t.add(t.made.of(s.Public), s.Public, hsm.Attributes{Label: s.Label, ID: s.ID, Algorithm: hsm.AlgorithmOf(s.Public), Token: true,
		Private: true, Sensitive: true, Sign: true, Extractable: s.Class.Wrappable(), WrapWithTrusted: s.Class.Wrappable()}), nil
}

func (t *specimenToken) DestroyWrappingKey(context.Context, hsm.Query) error { return nil }

func (t *specimenToken) AsSecurityOfficer(_ context.Context, _ []byte, f func(hsm.SecurityOfficer) error) error {
	return f(specimenOfficer{})
}

// specimenOfficer is the security officer of a specimen.
type specimenOfficer struct{ hsm.SecurityOfficer }

func (specimenOfficer) ImportWrappingKey(string, []byte, []byte) error { return nil }

// specimenPeople hold the PINs of specimens.
type specimenPeople struct{}

func (specimenPeople) PIN(context.Context, string, string, hsm.TokenInfo) ([]byte, error) {
	return []byte("specimen"), nil
}

func (specimenPeople) Secret(context.Context, *quorum.Shares) (*quorum.Secret, error) {
	return nil, errors.New("ceremony: nobody holds a secret of a specimen")
}

func (specimenPeople) Test(context.Context, *quorum.Shares) error { return nil }
