package pkcs11_test

import (
	"context"
	"crypto"
	"crypto/rsa"
	"errors"
	"strings"
	"testing"
	"time"

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
			if algorithm == "RSA-2048" { // as older OpenSC has it: the padding is looked at here
				pkcs11.ForgetOAEP(token)
				if err := quorum.ProbeDecryption(scheme, decrypt); err != nil {
					t.Error(err)
				}
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

// A card is pulled between two signatures, and in the middle of one: the call waits, says which card it waits for and which one was put in
// instead, and makes the signature when the card is back, in another reader. No PIN is sent to the wrong card.
func TestPIVPulled(t *testing.T) {
	for _, algorithm := range []string{"P-256", "RSA-2048"} {
		t.Run(algorithm, func(t *testing.T) { pulled(t, algorithm) })
	}
}

func pulled(t *testing.T, algorithm string) {
	r := cardtest.New(t)
	ada, grace := officerCard(t, "ada", algorithm), officerCard(t, "grace", "P-256")
	r.Insert(t, 0, ada)
	var told said
	token := openCard(t, "ada", func(c *pkcs11.Config) { c.Patience, c.Within, c.Tell = -1, t.Context(), told.tell })
	key, err := token.Key(t.Context(), hsm.Query{Label: "SIGN key"})
	if err != nil {
		t.Fatal(err)
	}
	digest := make([]byte, 32)
	sign := func() chan error {
		done := make(chan error, 1)
		go func() {
			sig, err := key.Sign(nil, digest, crypto.SHA256)
			if err == nil && !signature.Verify(ada.Public(cardtest.Signature), digest, crypto.SHA256, sig) {
				err = errors.New("another signature")
			}
			done <- err
		}()
		return done
	}
	waitsFor := func(text string) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); !strings.Contains(told.all(), text); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("nobody was told %q, but %q", text, told.all())
			}
		}
	}
	name := token.Info().Name()
	t.Run("between", func(t *testing.T) {
		r.Pull(t, 0)
		done := sign()
		waitsFor("waiting for " + name)
		r.Insert(t, 1, grace)
		waitsFor(`present: "grace"`)
		r.Insert(t, 2, ada)
		if err := <-done; err != nil {
			t.Error(err)
		}
		waitsFor(name + " is back")
		if pin, _ := grace.TriesLeft(); pin != cardtest.Tries {
			t.Errorf("grace: %d tries left", pin)
		}
		for _, c := range grace.Log() {
			if c.Instruction == 0x20 && c.Status == 0x9000 {
				t.Error("the PIN was sent to another card")
			}
		}
	})
	t.Run("in the middle", func(t *testing.T) {
		told.mu.Lock()
		told.text = nil
		told.mu.Unlock()
		ada.Before(func(c cardtest.Command) {
			if c.Instruction == 0x87 {
				ada.Before(nil)
				r.Snatch(2)
			}
		})
		done := sign()
		waitsFor("waiting for " + name)
		r.Insert(t, 0, ada)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Run("for good", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		r.Pull(t, 0)
		time.AfterFunc(500*time.Millisecond, cancel)
		begun := time.Now()
		_, err := key.SignContext(ctx, digest, crypto.SHA256)
		if !errors.Is(err, hsm.ErrGone) || !strings.Contains(err.Error(), name) || time.Since(begun) > 30*time.Second {
			t.Errorf("%v after %s", err, time.Since(begun))
		}
	})
	if pin, _ := ada.TriesLeft(); pin != cardtest.Tries {
		t.Errorf("%d tries left", pin)
	}
}

// A PIN that is not kept is asked for at the login and at each signature, and the question says which.
func TestAskEach(t *testing.T) {
	r := cardtest.New(t)
	r.Insert(t, 0, officerCard(t, "ada", "P-256"))
	var prompts []string
	token := openCard(t, "ada", func(c *pkcs11.Config) {
		c.AskAgain, c.PIN = true, hsm.PINPrompt(func(prompt string) ([]byte, error) {
			prompts = append(prompts, prompt)
			return []byte(cardtest.DefaultPIN), nil
		})
	})
	key, err := token.Key(t.Context(), hsm.Query{Label: "SIGN key"})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := key.Sign(nil, make([]byte, 32), crypto.SHA256); err != nil {
			t.Error(err)
		}
	}
	name := token.Info().Name()
	once, again := "PIN of "+name+": ", "PIN of "+name+", once more for the next signature: "
	if len(prompts) != 3 || prompts[0] != once || prompts[1] != again || prompts[2] != again {
		t.Errorf("%q", prompts)
	}
}
