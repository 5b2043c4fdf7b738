package main

import (
	"context"
	"crypto"
	"testing"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/uptane"
	"github.com/hanaper/hanaper/uptane/reposerver"
)

// tokenKeys is a SoftHSM token as the server's key store.
type tokenKeys struct{ token hsm.Token }

func newTokenKeys(t testing.TB) tokenKeys {
	t.Helper()
	board := newBoard(t)
	uri, err := hsm.ParseURI(board.URI)
	if err != nil {
		t.Fatal(err)
	}
	token, err := pkcs11.Open(t.Context(), pkcs11.Config{URI: uri, PIN: hsm.PINFile(board.PINFile)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { token.Close() })
	return tokenKeys{token}
}

func (k tokenKeys) Generate(ctx context.Context, label string) (crypto.Signer, error) {
	return k.token.Generate(ctx, hsm.GenerateSpec{Label: label, Algorithm: hsm.Ed25519})
}

func (k tokenKeys) Labelled(ctx context.Context, label string) (crypto.Signer, error) {
	return k.one(ctx, func(key hsm.Key) bool { return key.Attributes().Label == label })
}

func (k tokenKeys) Find(ctx context.Context, keyid string) (crypto.Signer, error) {
	return k.one(ctx, func(key hsm.Key) bool {
		pub, err := uptane.NewKey(key.Public())
		return err == nil && pub.ID() == keyid
	})
}

func (k tokenKeys) one(ctx context.Context, fits func(hsm.Key) bool) (hsm.Key, error) {
	list, err := k.token.Keys(ctx)
	if err != nil {
		return nil, err
	}
	for _, key := range list {
		if fits(key) {
			return key, nil
		}
	}
	return nil, reposerver.ErrNoKey
}

func (k tokenKeys) Destroy(ctx context.Context, keyid string) error {
	key, err := k.Find(ctx, keyid)
	if err != nil {
		return err
	}
	return k.token.Destroy(ctx, hsm.Query{ID: key.(hsm.Key).Attributes().ID})
}

// sealedFolder is a key store in a folder that, like a token, gives no key out.
type sealedFolder struct{ reposerver.KeyStore }
