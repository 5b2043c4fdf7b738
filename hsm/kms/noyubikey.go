//go:build !cgo || noyubikey

package kms

import (
	"context"
	"fmt"

	"github.com/hanaper/hanaper/hsm"
)

func openYubiKey(context.Context, *Address, hsm.TokenInfo, hsm.PINSource) (manager, error) {
	return nil, fmt.Errorf("%w: this program was built without smart cards (libpcsclite-dev was not there)", hsm.ErrUnsupported)
}

func cardKind(error) error { return nil }
