package pkcs11_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/hsm/pkcs11/shimtest"
	"github.com/hanaper/hanaper/softhsm"
)

// openShim opens a board through the module that lies.
func openShim(t testing.TB, s *shimtest.Shim, b softhsm.Board, change ...func(c *pkcs11.Config)) *pkcs11.Token {
	t.Helper()
	u := uri(t, b.URI)
	u.ModulePath = s.Module
	c := pkcs11.Config{URI: u}
	for _, f := range change {
		f(&c)
	}
	token, err := pkcs11.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = token.Close() })
	return token
}

// left counts what is really in a board's token, by SoftHSM itself.
func left(t testing.TB, b softhsm.Board) int {
	t.Helper()
	token, err := pkcs11.Open(t.Context(), pkcs11.Config{URI: uri(t, b.URI)})
	if err != nil {
		t.Fatal(err)
	}
	defer token.Close()
	return pkcs11.CountObjects(token)
}

// TestLyingGeneration: a module that makes a key otherwise than it says. Each such key is destroyed and refused, and nothing
// is left in the token.
func TestLyingGeneration(t *testing.T) {
	s := shimtest.New(t)
	b := board(t)
	token := openShim(t, s, b)
	for _, c := range []struct {
		name  string
		rule  string
		class hsm.Class
		is    error
		says  string
	}{
		{name: "extractable, and says that it is not", rule: "C_GenerateKeyPair 1 extractable", is: hsm.ErrAttributes, says: "wrap"},
		{name: "readable, and says that it is not", rule: "C_GenerateKeyPair 1 readable", is: hsm.ErrAttributes, says: "can be read"},
		{name: "backup, extractable under any key", rule: "C_GenerateKeyPair 1 untrusted", class: hsm.Backup, is: hsm.ErrAttributes, says: "wrap"},
		{name: "backup, readable", rule: "C_GenerateKeyPair 1 readable", class: hsm.Backup, is: hsm.ErrAttributes},
		{name: "a session object that claims to be a token object", rule: "C_GenerateKeyPair 1 for-the-session", is: hsm.ErrAttributes, says: "session"},
		{name: "the private half a session object", rule: "C_GenerateKeyPair 1 private-for-the-session", is: hsm.ErrAttributes, says: "session"},
		{name: "two pairs of one id", rule: "C_GenerateKeyPair 1 twice", is: hsm.ErrAmbiguous},
		{name: "another public key", rule: "C_GetAttributeValue 1+ other-point"},
		{name: "a point off its curve", rule: "C_GetAttributeValue 1+ bad-point"},
		{name: "a point that is cut", rule: "C_GetAttributeValue 1+ short-point"},
		{name: "another id", rule: "C_GetAttributeValue 1+ other-id", is: hsm.ErrAttributes},
		{name: "another label", rule: "C_GetAttributeValue 1+ other-label", is: hsm.ErrAttributes},
		{name: "a wrong signature", rule: "C_Sign 1+ wrong"},
		{name: "a short signature", rule: "C_Sign 1+ short"},
		{name: "an empty signature", rule: "C_Sign 1+ empty"},
		{name: "a signature of zeros", rule: "C_Sign 1+ zero"},
		{name: "a signature over other data", rule: "C_Sign 1+ other-data"},
	} {
		for i, a := range []hsm.Algorithm{hsm.P256, hsm.P384, hsm.Ed25519, hsm.RSA2048} {
			if c.class == hsm.Backup && a == hsm.Ed25519 || testing.Short() && a == hsm.RSA2048 {
				continue
			}
			t.Run(fmt.Sprintf("%s/%s", c.name, a), func(t *testing.T) {
				s.Plan(t, c.rule)
				k, err := token.Generate(t.Context(), hsm.GenerateSpec{Label: "k", ID: []byte{7, byte(i)}, Algorithm: a, Class: c.class})
				if err == nil || k != nil {
					t.Errorf("the key was taken: %+v", k.Attributes())
				} else {
					if c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), b.Serial) {
						t.Errorf("got %v", err)
					}
				}
				s.Plan(t)
				if n := left(t, b); n != 0 {
					t.Fatalf("%d objects are left in the token", n)
				}
			})
		}
	}
}
