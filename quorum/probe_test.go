package quorum

import (
	"crypto"
	"errors"
	"io"
	"testing"
)

// wrongRSA decrypts to something else than was encrypted.
type wrongRSA struct{ crypto.Signer }

func (wrongRSA) Decrypt(io.Reader, []byte, crypto.DecrypterOpts) ([]byte, error) {
	return make([]byte, 32), nil
}

func TestProbes(t *testing.T) {
	for _, p := range people(t)[:5] {
		if err := ProbeDecryption(p.Decryption, p.decrypt); err != nil {
			t.Errorf("%s: %v", p.Name, err)
		}
		if d, err := DecryptionOf(t.Context(), p.decrypt); err != nil || d != p.Decryption && p.Decryption != OAEPSHA1 {
			t.Errorf("%s: %s, %v", p.Name, d, err)
		}
	}
	k := keys()
	if err := ProbeDecryption(OAEPSHA256, wrongRSA{k["RSA"][0]}); !errors.Is(err, ErrDecrypt) {
		t.Errorf("a wrong decrypter: %v", err)
	}
	if err := ProbeDecryption(HPKEP384, k["P-256"][0]); !errors.Is(err, ErrKey) {
		t.Errorf("another curve: %v", err)
	}
	if _, err := DecryptionOf(t.Context(), k["Ed25519"][0]); !errors.Is(err, ErrKey) {
		t.Errorf("Ed25519: %v", err)
	}
}
