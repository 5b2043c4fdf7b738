package quorum

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"fmt"
)

// ProbeDecryption proves that a key opens what is encrypted to its public half under this scheme: at enrolment, and when
// cards are checked, long before a share depends on it.
func ProbeDecryption(d Decryption, key Decrypter) error {
	pub, err := publicOf(key)
	if err != nil {
		return err
	}
	if err := checkDecryption(d, pub); err != nil {
		return err
	}
	probe, info := make([]byte, scalarSize), []byte("hanaper probe v1\x00")
	rand.Read(probe)
	s, err := seal(d, pub, info, probe)
	if err != nil {
		return err
	}
	got, err := unseal(d, key, info, s)
	if err != nil {
		return fmt.Errorf("key %.16s: test decryption: %w", keyID(pub), err)
	}
	if !bytes.Equal(got, probe) {
		return fmt.Errorf("key %.16s: test decryption: %w: another plaintext", keyID(pub), ErrDecrypt)
	}
	return nil
}

// DecryptionOf is the scheme that a key can do: its default, or OAEP with SHA-1 for a token's key that says it has no other.
func DecryptionOf(ctx context.Context, key Decrypter) (Decryption, error) {
	pub, err := publicOf(key)
	if err != nil {
		return "", err
	}
	d, err := DefaultDecryption(pub)
	if err != nil || d != OAEPSHA256 {
		return d, err
	}
	k, ok := key.(interface {
		OAEPHash(context.Context) (crypto.Hash, error)
	})
	if !ok {
		return d, nil
	}
	h, err := k.OAEPHash(ctx)
	if err != nil {
		return "", err
	}
	if h == crypto.SHA1 {
		return OAEPSHA1, nil
	}
	return d, nil
}
