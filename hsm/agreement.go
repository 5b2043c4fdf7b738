package hsm

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"fmt"

	"github.com/hanaper/hanaper/internal/advice"
)

// ProveAgreement has a token agree on a secret with a throw-away key, and compares the answer with one computed here from the
// public half: that the private half belongs to it nothing else shows of a key that does not sign.
func ProveAgreement(public *ecdsa.PublicKey, agree func(remote *ecdh.PublicKey) ([]byte, error)) error {
	own, err := public.ECDH()
	if err != nil {
		return err
	}
	other, err := own.Curve().GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	want, err := other.ECDH(own)
	if err != nil {
		return err
	}
	got, err := agree(other.PublicKey())
	if err != nil {
		return fmt.Errorf("test agreement: %w", err)
	}
	if !bytes.Equal(got, want) {
		return advice.New(advice.Failed, "do not use this token until its vendor has explained it", "the token's agreement is not that of the key's public half")
	}
	return nil
}

// LeftPad fills a shared secret up to size bytes, of which a token may have cut leading zeros off, and wipes it. One of no bytes, or of
// more, is refused.
func LeftPad(secret []byte, size int) ([]byte, error) {
	if len(secret) == 0 || len(secret) > size {
		return nil, fmt.Errorf("the token answered with a shared secret of %d bytes, not %d", len(secret), size)
	}
	padded := make([]byte, size)
	copy(padded[size-len(secret):], secret)
	clear(secret)
	return padded, nil
}
