//go:build cgo

package main

import (
	"context"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11"
)

func openToken(ctx context.Context, uri hsm.URI) (hsm.Token, error) {
	if uri.Scheme == hsm.SchemeTPM {
		return openTPM(ctx, uri)
	}
	t, err := pkcs11.Open(ctx, pkcs11.Config{URI: uri, PIN: hsm.PINFromURI(uri, nil), Sessions: 1})
	if err != nil {
		return nil, err
	}
	return t, nil
}
