package factory_test

import (
	"crypto"
	"encoding/hex"
	"errors"
	"io"
	"sync/atomic"

	"github.com/hanaper/hanaper/factory"
)

// awayKey is the token's key behind a plug that can be pulled.
type awayKey struct {
	crypto.Signer
	away atomic.Bool
}

func (k *awayKey) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if k.away.Load() {
		return nil, errors.New("unplugged")
	}
	return k.Signer.Sign(rand, digest, opts)
}

// revokeUnknown revokes a serial that no record knows.
func revokeUnknown(serial string) factory.RevokeRequest {
	return factory.RevokeRequest{Serial: serial, Unknown: true, Reason: "superseded"}
}

func hexOf(b []byte) string { return hex.EncodeToString(b) }
