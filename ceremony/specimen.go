package ceremony

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/hsm"
)

// specimenToken stands in for a token while a script is validated: its keys live in memory and are thrown away.
type specimenToken struct {
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

func (t *specimenToken) Close() error        { return nil }
func (t *specimenToken) Info() hsm.TokenInfo { return t.info }

func (t *specimenToken) Key(_ context.Context, q hsm.Query) (hsm.Key, error) {
	for _, k := range t.keys {
		if (q.Label == "" || q.Label == k.attrs.Label) && (q.ID == nil || bytes.Equal(q.ID, k.attrs.ID)) {
			return k, nil
		}
	}
	return nil, fmt.Errorf("key %s: %w", q, hsm.ErrNoKey)
}

func (t *specimenToken) Keys(context.Context) ([]hsm.Key, error) {
	var keys []hsm.Key
	for _, k := range t.keys {
		keys = append(keys, k)
	}
	return keys, nil
}

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

func (t *specimenToken) PutCertificate(context.Context, string, []byte, *x509.Certificate) error {
	return nil
}

func (t *specimenToken) Certificate(context.Context, []byte) (*x509.Certificate, error) {
	return nil, hsm.ErrNoKey
}

// stand makes a key of class restored that signs as live does; live is nil for a key of an earlier ceremony.
func (t *specimenToken) stand(spec hsm.RestoreSpec, live hsm.Key) hsm.Key {
	k := &specimenKey{nil, t, hsm.Attributes{Label: spec.Label, ID: spec.ID, Algorithm: AlgorithmOf(spec.Public), Token: true, Private: true,
		Sensitive: true, Sign: true}}
	if live != nil {
		k.Signer = live
	}
	t.keys = append(t.keys, k)
	return k
}

// What a vault does is stood in for by the steps themselves while a script is validated.
var errSpecimen = errors.New("ceremony: a specimen token does not wrap")

func (t *specimenToken) CanWrap(hsm.Algorithm) error { return nil }
func (t *specimenToken) WrapKey(context.Context, hsm.Query, hsm.Query) ([]byte, error) {
	return nil, errSpecimen
}
func (t *specimenToken) SealAfterBackup(context.Context, hsm.Query) (hsm.Attributes, error) {
	return hsm.Attributes{}, errSpecimen
}
func (t *specimenToken) UnwrapKey(context.Context, hsm.RestoreSpec) (hsm.Key, error) {
	return nil, errSpecimen
}
func (t *specimenToken) DestroyWrappingKey(context.Context, hsm.Query) error { return errSpecimen }
func (t *specimenToken) AsSecurityOfficer(context.Context, []byte, func(hsm.SecurityOfficer) error) error {
	return errSpecimen
}
