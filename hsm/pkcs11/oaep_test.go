package pkcs11

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"math/big"
	"testing"
)

// What the standard library encrypts is opened after the bare RSA operation, for each length, hash and label; whatever is changed in it is refused, with
// one and the same answer.
func TestUnpadOAEP(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	bare := func(c []byte) []byte { return new(big.Int).Exp(new(big.Int).SetBytes(c), key.D, key.N).Bytes() }
	for _, h := range []crypto.Hash{crypto.SHA256, crypto.SHA1} {
		for _, label := range [][]byte{nil, []byte("label")} {
			for _, size := range []int{0, 1, 32, 256 - 2*h.Size() - 2} {
				message := bytes.Repeat([]byte{0, 1, 2}, size)[:size]
				c, err := rsa.EncryptOAEP(h.New(), rand.Reader, &key.PublicKey, message, label)
				if err != nil {
					t.Fatal(err)
				}
				block := bare(c)
				got, err := unpadOAEP(bytes.Clone(block), 256, h, label)
				if err != nil || !bytes.Equal(got, message) {
					t.Errorf("%s, %q, %d bytes: %x, %v", h, label, size, got, err)
				}
				if _, err := unpadOAEP(bytes.Clone(block), 256, h, []byte("another")); err == nil || err.Error() != errPadding().Error() {
					t.Errorf("another label: %v", err)
				}
				for _, i := range []int{0, 20, 40, 100, len(block) - 1} {
					changed := bytes.Clone(block)
					changed[i] ^= 4
					if _, err := unpadOAEP(changed, 256, h, label); err == nil || err.Error() != errPadding().Error() {
						t.Errorf("byte %d changed: %v", i, err)
					}
				}
				high := append(make([]byte, 256-len(block)), block...)
				high[0] = 1
				if _, err := unpadOAEP(high, 256, h, label); err == nil {
					t.Error("a first byte that is not 0")
				}
				if _, err := unpadOAEP(append([]byte{0}, high...), 256, h, label); err == nil {
					t.Error("a block that is too long")
				}
			}
		}
	}
}
