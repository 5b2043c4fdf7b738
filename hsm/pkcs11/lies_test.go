package pkcs11_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
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
		all   bool // in every algorithm, also in a short run
	}{
		{name: "extractable, and says that it is not", rule: "C_GenerateKeyPair 1 extractable", is: hsm.ErrAttributes, says: "wrap", all: true},
		{name: "readable, and says that it is not", rule: "C_GenerateKeyPair 1 readable", is: hsm.ErrAttributes, says: "can be read", all: true},
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
			if c.class == hsm.Backup && a == hsm.Ed25519 {
				continue
			}
			if a != hsm.P256 && !c.all && os.Getenv("HANAPER_SOAK") == "" {
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

// TestLyingBackup: a module that restores a key otherwise than it says, or does not seal one after its backup.
func TestLyingBackup(t *testing.T) {
	s := shimtest.New(t)
	b := board(t)
	token := openShim(t, s, b)
	secret := make([]byte, 32)
	rand.Read(secret)
	wrapping := hsm.Query{Label: "wrapping", ID: []byte{0xee}}
	if err := token.AsSecurityOfficer(t.Context(), b.SOPIN, func(so hsm.SecurityOfficer) error {
		return so.ImportWrappingKey(wrapping.Label, wrapping.ID, secret)
	}); err != nil {
		t.Fatal(err)
	}
	k, err := token.Generate(t.Context(), hsm.GenerateSpec{Label: "root", ID: []byte{1}, Algorithm: hsm.P256, Class: hsm.Backup})
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := token.WrapKey(t.Context(), wrapping, hsm.Query{Label: "root"})
	if err != nil {
		t.Fatal(err)
	}
	for _, rule := range []string{"C_SetAttributeValue 1 nothing", "C_SetAttributeValue 1 nothing-but-says-so"} {
		s.Plan(t, rule)
		if _, err := token.SealAfterBackup(t.Context(), hsm.Query{Label: "root"}); !errors.Is(err, hsm.ErrAttributes) {
			t.Errorf("%s: %v", rule, err)
		}
	}
	s.Plan(t)
	if err := token.Destroy(t.Context(), hsm.Query{Label: "root"}); err != nil {
		t.Fatal(err)
	}
	before := left(t, b)
	spec := hsm.RestoreSpec{Label: "root", ID: []byte{1}, Public: k.Public(), Wrapping: wrapping, Wrapped: wrapped}
	for _, c := range []struct {
		rule string
		is   error
	}{
		{"C_UnwrapKey 1 extractable", hsm.ErrAttributes}, {"C_UnwrapKey 1 readable", hsm.ErrAttributes}, {"C_UnwrapKey 1 for-the-session", hsm.ErrAttributes},
		{"C_CreateObject 1 for-the-session", hsm.ErrAttributes}, {"C_GetAttributeValue 1+ other-point", nil}, {"C_GetAttributeValue 1+ other-id", hsm.ErrAttributes},
		{"C_Sign 1+ wrong", nil}, {"C_UnwrapKey 1 late-ckr 0x30", nil}, {"C_CreateObject 1 ckr 0x31", nil},
	} {
		s.Plan(t, c.rule)
		k, err := token.UnwrapKey(t.Context(), spec)
		if err == nil || k != nil || c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), b.Serial) {
			t.Errorf("%s: %v", c.rule, err)
		}
		s.Plan(t)
		if n := left(t, b); n != before {
			t.Fatalf("%s: %d objects are in the token, %d were before", c.rule, n, before)
		}
	}
	restored, err := token.UnwrapKey(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	mustSign(t, restored)
}

// TestLyingDestruction: a module that says that it destroyed a key and did not.
func TestLyingDestruction(t *testing.T) {
	s := shimtest.New(t)
	b := board(t)
	token := openShim(t, s, b)
	k := generate(t, token, "k", hsm.P256)
	q := hsm.Query{Label: "k", ID: k.Attributes().ID}
	for _, nth := range []string{"1", "2"} { // the private half, the public one
		s.Plan(t, "C_DestroyObject "+nth+" nothing")
		if err := token.Destroy(t.Context(), q); err == nil || !strings.Contains(err.Error(), "still there") {
			t.Errorf("half %s: %v", nth, err)
		}
		s.Plan(t)
		if found, err := token.Remove(t.Context(), q); err != nil || !found {
			t.Errorf("half %s: %v %v", nth, found, err)
		}
		if n := left(t, b); n != 0 {
			t.Fatalf("%d objects are left", n)
		}
		if found, err := token.Remove(t.Context(), q); err != nil || found {
			t.Errorf("removed twice: %v %v", found, err)
		}
		if _, err := token.Generate(t.Context(), hsm.GenerateSpec{Label: "k", ID: q.ID, Algorithm: hsm.P256}); err != nil {
			t.Fatal(err)
		}
	}
	for _, bad := range []hsm.Query{{Label: "k"}, {ID: q.ID}, {}} {
		if _, err := token.Remove(t.Context(), bad); err == nil {
			t.Errorf("removed by %s alone", bad)
		}
	}
	if n := left(t, b); n != 2 {
		t.Errorf("%d objects are left", n)
	}
}

// TestAdopt: what a generation leaves whose answer was lost is taken over if it is whole and as it should be, and removed if not.
func TestAdopt(t *testing.T) {
	s := shimtest.New(t)
	b := board(t)
	token := openShim(t, s, b)
	spec := hsm.GenerateSpec{Label: "k", ID: []byte("20 random octets ..."), Algorithm: hsm.P256}
	adopt := func() (hsm.Key, error) { return token.Adopt(t.Context(), spec) }
	if k, err := adopt(); k != nil || err != nil {
		t.Errorf("an empty token: %v, %v", k, err)
	}
	// The token generates, and goes away before it answers, for good: what it made stays.
	lose := func(rule string) {
		t.Helper()
		s.Plan(t, rule)
		if err := pkcs11.GenerateLost(token, spec); err != nil {
			t.Fatal(err)
		}
		s.Plan(t)
	}
	lose("C_Login 99 ckr 0x30")
	k, err := adopt()
	if err != nil || k == nil {
		t.Fatal(k, err)
	}
	mustSign(t, k)
	other := spec
	other.ID = []byte("another id")
	if k, err := token.Adopt(t.Context(), other); k != nil || !errors.Is(err, hsm.ErrExists) {
		t.Errorf("a label that is somebody else's: %v, %v", k, err)
	}
	if n := left(t, b); n != 2 {
		t.Errorf("somebody else's key was touched: %d objects", n)
	}
	if _, err := token.Remove(t.Context(), hsm.Query{Label: spec.Label, ID: spec.ID}); err != nil {
		t.Fatal(err)
	}
	// Refused and removed.
	for _, rule := range []string{"C_GenerateKeyPair 1 extractable", "C_GenerateKeyPair 1 readable"} {
		lose(rule)
		if k, err := adopt(); k != nil || !errors.Is(err, hsm.ErrAttributes) {
			t.Errorf("%s: %v, %v", rule, k, err)
		}
		if n := left(t, b); n != 0 {
			t.Fatalf("%s: %d objects are left", rule, n)
		}
	}
	// Removed, to be made anew.
	for _, rule := range []string{"C_GenerateKeyPair 1 twice", "C_GenerateKeyPair 1 private-for-the-session"} {
		lose(rule)
		if rule == "C_GenerateKeyPair 1 private-for-the-session" {
			if err := token.Renew(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if k, err := adopt(); k != nil || err != nil {
			t.Errorf("%s: %v, %v", rule, k, err)
		}
		if n := left(t, b); n != 0 {
			t.Fatalf("%s: %d objects are left", rule, n)
		}
	}
	// A fault in the middle removes nothing that a later try could take over.
	lose("C_Login 99 ckr 0x30")
	s.Plan(t, "C_WrapKey 1+ ckr 0x30")
	if k, err := adopt(); k != nil || err == nil {
		t.Errorf("with a token that fails: %v, %v", k, err)
	}
	s.Plan(t)
	if k, err := adopt(); k == nil || err != nil {
		t.Errorf("after it: %v, %v", k, err)
	}
	// A wrong signature: the key is removed, for nothing shows that it signs.
	s.Plan(t, "C_Sign 1+ wrong")
	if k, err := adopt(); k != nil || err == nil {
		t.Errorf("a wrong signature: %v, %v", k, err)
	}
	s.Plan(t)
	if n := left(t, b); n != 0 {
		t.Errorf("%d objects are left", n)
	}
	for _, bad := range []hsm.GenerateSpec{{Label: "k", Algorithm: hsm.P256}, {ID: spec.ID, Algorithm: hsm.P256}, {Label: "k", ID: spec.ID, Algorithm: "P-521"}} {
		if k, err := token.Adopt(t.Context(), bad); k != nil || err == nil {
			t.Errorf("%+v: %v, %v", bad, k, err)
		}
	}
}
