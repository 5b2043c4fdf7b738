package pkcs11_test

import (
	"context"
	"crypto"
	"crypto/rsa"
	"errors"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/hsm/pkcs11/cardtest"
	"github.com/hanaper/hanaper/internal/signature"
	"github.com/hanaper/hanaper/quorum"
)

// cardURI names a card by label.
func cardURI(t testing.TB, label string) hsm.URI {
	t.Helper()
	return hsm.URI{Scheme: hsm.SchemePKCS11, Token: label, ModulePath: cardtest.Module(t)}
}

// officerCard is a card with an officer's two keys, 9C to sign and 9D to decrypt.
func officerCard(t testing.TB, name, algorithm string) *cardtest.Card {
	t.Helper()
	c := cardtest.NewCard().WithSerial()
	c.Put(t, cardtest.Signature, algorithm, name)
	c.Put(t, cardtest.KeyManagement, algorithm, name)
	return c
}

func openCard(t testing.TB, label string, change ...func(*pkcs11.Config)) *pkcs11.Token {
	t.Helper()
	c := pkcs11.Config{URI: cardURI(t, label), PIN: hsm.PINBytes([]byte(cardtest.DefaultPIN))}
	for _, f := range change {
		f(&c)
	}
	token, err := pkcs11.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { token.Close() })
	return token
}

// The two keys of each kind of card, made by other tools, with certificates and no public key objects of their own: 9C signs with the PIN given
// at each signature, 9D opens what is encrypted to it. The PIN is asked for once.
func TestPIVCard(t *testing.T) {
	r := cardtest.New(t)
	for _, algorithm := range []string{"RSA-2048", "P-256", "P-384"} {
		t.Run(algorithm, func(t *testing.T) {
			c := officerCard(t, "ada "+algorithm, algorithm)
			r.Insert(t, 0, c)
			asked := 0
			token := openCard(t, "ada "+algorithm, func(c *pkcs11.Config) {
				c.PIN = func(ctx context.Context, i hsm.TokenInfo) ([]byte, error) {
					asked++
					return []byte(cardtest.DefaultPIN), nil
				}
			})
			sign, err := token.Key(t.Context(), hsm.Query{Label: "SIGN key"})
			if err != nil {
				t.Fatal(err)
			}
			if !sign.Attributes().AlwaysAuthenticate || string(sign.Attributes().Algorithm) != algorithm {
				t.Errorf("%+v", sign.Attributes())
			}
			d := make([]byte, 32)
			options := []crypto.SignerOpts{crypto.SHA256}
			if algorithm == "RSA-2048" {
				options = append(options, &rsa.PSSOptions{Hash: crypto.SHA256, SaltLength: 32})
			}
			for _, o := range options {
				for range 3 {
					sig, err := sign.Sign(nil, d, o)
					if err != nil || !signature.Verify(c.Public(cardtest.Signature), d, o, sig) {
						t.Errorf("%T: %v", o, err)
					}
				}
			}
			decrypt, err := token.Key(t.Context(), hsm.Query{Label: "KEY MAN key"})
			if err != nil {
				t.Fatal(err)
			}
			scheme, err := quorum.DecryptionOf(t.Context(), decrypt)
			t.Log(scheme)
			if err != nil {
				t.Fatal(err)
			}
			if err := quorum.ProbeDecryption(scheme, decrypt); err != nil {
				t.Error(err)
			}
			if asked != 1 {
				t.Errorf("the PIN was asked for %d times", asked)
			}
			if pin, puk := c.TriesLeft(); pin != cardtest.Tries || puk != cardtest.Tries {
				t.Errorf("%d and %d tries left", pin, puk)
			}
		})
	}
}

// A wrong PIN is sent once, and the refusal says whether more is known.
func TestPIVWrongPIN(t *testing.T) {
	r := cardtest.New(t)
	c := officerCard(t, "wrong", "P-256")
	r.Insert(t, 0, c)
	for left := 2; left >= 0; left-- {
		_, err := pkcs11.Open(t.Context(), pkcs11.Config{URI: cardURI(t, "wrong"), PIN: hsm.PINBytes([]byte("654321"))})
		t.Log(err)
		if !errors.Is(err, hsm.ErrPIN) && !errors.Is(err, hsm.ErrPINLocked) || !strings.Contains(err.Error(), "wrong") {
			t.Errorf("%v", err)
		}
		if pin, _ := c.TriesLeft(); pin != left {
			t.Errorf("%d tries left, not %d", pin, left)
		}
	}
	_, err := pkcs11.Open(t.Context(), pkcs11.Config{URI: cardURI(t, "wrong"), PIN: hsm.PINBytes([]byte(cardtest.DefaultPIN))})
	t.Log(err)
	if !errors.Is(err, hsm.ErrPINLocked) {
		t.Error(err)
	}
}
