package pkcs11_test

import (
	"context"
	"crypto"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/hsm/pkcs11/shimtest"
)

// said collects what a person is told.
type said struct {
	mu   sync.Mutex
	text []string
}

func (s *said) tell(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text = append(s.text, text)
}

func (s *said) all() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.text, "\n")
}

// A token with keys of its own to type the PIN at: no program asks for it, C_Login and C_SetPIN get a null pointer, and a PIN that is wrong, or
// not typed, is not asked for again by itself.
func TestPINPad(t *testing.T) {
	s := shimtest.New(t)
	b := board(t)
	pad := []string{"C_GetTokenInfo 1+ pad", "C_Login 1+ pad", "C_SetPIN 1+ pad"}
	s.Plan(t, pad...)
	types := func(lines ...string) {
		t.Helper()
		if err := os.WriteFile(s.Pad(), []byte(strings.Join(lines, "\n")), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	types(string(b.PIN))
	var told said
	never := func(c *pkcs11.Config) {
		c.Tell, c.PIN = told.tell, func(context.Context, hsm.TokenInfo) ([]byte, error) {
			t.Error("the PIN was asked for")
			return nil, errors.New("asked")
		}
	}
	token := openShim(t, s, b, never)
	if !token.Info().PINPad || !strings.Contains(told.all(), "type the PIN of "+token.Info().Name()+" at its own keys") {
		t.Errorf("%+v, %q", token.Info(), told.all())
	}
	key, err := token.Generate(t.Context(), hsm.GenerateSpec{Label: "k", Algorithm: hsm.P256})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := key.Sign(nil, make([]byte, 32), crypto.SHA256); err != nil {
		t.Error(err)
	}
	types(string(b.PIN), "new-pin-4711")
	if err := token.SetPIN(t.Context(), nil, nil); err != nil {
		t.Error(err)
	}
	if err := token.Close(); err != nil {
		t.Error(err)
	}
	open := func() error {
		c := pkcs11.Config{URI: uri(t, b.URI)}
		c.URI.ModulePath = s.Module
		never(&c)
		token, err := pkcs11.Open(t.Context(), c)
		if err == nil {
			err = token.Close()
		}
		return err
	}
	types("new-pin-4711")
	if err := open(); err != nil {
		t.Error(err)
	}
	for _, c := range []struct{ typed, says string }{{string(b.PIN), "PIN refused"}, {"", "was not typed at the token's own keys"}} {
		types(c.typed)
		if c.typed == "" {
			if err := os.Remove(s.Pad()); err != nil {
				t.Fatal(err)
			}
		}
		s.Plan(t, pad...)
		if err := open(); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%q: %v", c.typed, err)
		}
		logins := 0
		for _, c := range s.Calls(t) {
			if c.Function == "C_Login" {
				logins++
			}
		}
		if logins != 1 {
			t.Errorf("%q: %d logins", c.typed, logins)
		}
	}
}
