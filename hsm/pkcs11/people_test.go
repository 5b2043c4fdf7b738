package pkcs11_test

import (
	"crypto"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/hsm"
	keys "github.com/hanaper/hanaper/hsm/open"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/hsm/pkcs11/shimtest"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/softhsm"
)

// Tokens as people have them: names and ids that are not unique, names that are padded, one session.

// stranger makes a key pair with another program.
func stranger(t testing.TB, b softhsm.Board, kind, label, id string, more ...string) {
	t.Helper()
	tool(t, "pkcs11-tool", append([]string{"--module", b.Module, "--token-label", b.Label, "--login", "--pin", string(b.PIN),
		"--keypairgen", "--key-type", kind, "--label", label, "--id", id}, more...)...)
}

// TestKeysOfOneID: two EC keys under one CKA_ID, as smart-card tools leave them, and a third whose public half was taken away. Each is
// found by its label, with its own public half.
func TestKeysOfOneID(t *testing.T) {
	b := board(t)
	for label, kind := range map[string]string{"one": "EC:secp256r1", "two": "EC:secp256r1", "three": "EC:secp384r1", "four": "EC:edwards25519", "bare": "EC:secp256r1"} {
		stranger(t, b, kind, label, "01")
	}
	tool(t, "pkcs11-tool", "--module", b.Module, "--token-label", b.Label, "--login", "--pin", string(b.PIN), "--delete-object", "--type", "pubkey", "--label", "bare")
	token := open(t, b)
	seen := map[string]bool{}
	for _, label := range []string{"one", "two", "three", "four"} {
		k, err := token.Key(t.Context(), hsm.Query{Label: label, ID: []byte{1}})
		if err != nil {
			t.Errorf("%s: %v", label, err)
			continue
		}
		text := fmt.Sprint(k.Public())
		if seen[text] {
			t.Errorf("%s has the public half of another", label)
		}
		seen[text] = true
		opts := crypto.SignerOpts(crypto.SHA256)
		if k.Attributes().Algorithm == hsm.Ed25519 {
			opts = crypto.Hash(0)
		}
		d := digest(opts, []byte("m"))
		sig, err := k.Sign(nil, d, opts)
		if err != nil {
			t.Fatal(err)
		}
		opensslVerify(t, k.Public(), mode{opts: opts}, []byte("m"), sig)
	}
	if k, err := token.Key(t.Context(), hsm.Query{Label: "bare"}); err == nil {
		t.Errorf("a key without its public half was given that of another: %+v", k.Attributes())
	}
	if _, err := token.Key(t.Context(), hsm.Query{ID: []byte{1}}); !errors.Is(err, hsm.ErrAmbiguous) || !strings.Contains(advice.Hint(err), "label and id") {
		t.Errorf("by the id alone: %v (hint %q)", err, advice.Hint(err))
	}
	// One goes, the others stay.
	if err := token.Destroy(t.Context(), hsm.Query{Label: "two"}); err != nil {
		t.Fatal(err)
	}
	keys, err := token.Keys(t.Context())
	if err != nil || len(keys) != 3 {
		t.Errorf("%d keys are left, %v", len(keys), err)
	}
}

// TestDestroyOneOfTwo: two pairs that share id and label; what is destroyed of one leaves the other whole.
func TestDestroyOneOfTwo(t *testing.T) {
	b := board(t)
	stranger(t, b, "EC:secp256r1", "same", "01")
	stranger(t, b, "EC:secp256r1", "same", "01")
	token := open(t, b)
	if err := token.Destroy(t.Context(), hsm.Query{Label: "same"}); !errors.Is(err, hsm.ErrAmbiguous) {
		t.Errorf("got %v", err)
	}
	if n := pkcs11.CountObjects(token); n != 4 {
		t.Errorf("%d objects are left", n)
	}
	if found, err := token.Remove(t.Context(), hsm.Query{Label: "same", ID: []byte{1}}); err != nil || !found {
		t.Error(found, err)
	}
	if n := pkcs11.CountObjects(token); n != 0 {
		t.Errorf("%d objects are left", n)
	}
}

// TestKeyObjects: every key is listed, and what cannot be used with the reason.
func TestKeyObjects(t *testing.T) {
	b := board(t)
	stranger(t, b, "EC:secp256k1", "koblitz", "01")
	stranger(t, b, "EC:secp521r1", "large", "02")
	stranger(t, b, "EC:secp256r1", "bare", "03")
	stranger(t, b, "EC:secp256r1", "headless", "04")
	stranger(t, b, "EC:secp256r1", "good", "05")
	at := []string{"--module", b.Module, "--token-label", b.Label, "--login", "--pin", string(b.PIN)}
	tool(t, "pkcs11-tool", append(at, "--delete-object", "--type", "pubkey", "--id", "03")...)
	tool(t, "pkcs11-tool", append(at, "--delete-object", "--type", "privkey", "--id", "04")...)
	tool(t, "pkcs11-tool", append(at, "--keygen", "--key-type", "AES:32", "--label", "wraps", "--usage-wrap")...)
	token := open(t, b)
	objects, err := token.KeyObjects(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][2]string{
		"koblitz": {"private key", "curve"}, "large": {"private key", "curve"}, "bare": {"private key", "no public key"},
		"headless": {"public key", "no private key"}, "good": {"private key", ""}, "wraps": {"secret key", "wraps others"},
	}
	for _, o := range objects {
		w, ok := want[o.Attributes.Label]
		if o.Kind == "public key" && (o.Attributes.Label == "koblitz" || o.Attributes.Label == "large") {
			continue // its private half is listed too
		}
		if !ok || o.Kind != w[0] || (w[1] == "") != (o.Key != nil) || (o.NotUsable == "") != (o.Key != nil) || !strings.Contains(o.NotUsable, w[1]) {
			t.Errorf("%+v", o)
		}
		delete(want, o.Attributes.Label)
	}
	if len(want) > 0 {
		t.Errorf("not listed: %v", want)
	}
	if keys, err := token.Keys(t.Context()); err != nil || len(keys) != 1 {
		t.Errorf("%d keys can be used, %v", len(keys), err)
	}
}

// TestPaddedNames: labels and serials that are filled up with NUL, or end at a NUL with anything after it.
func TestPaddedNames(t *testing.T) {
	s := shimtest.New(t)
	b := board(t)
	for _, how := range []string{"nul-padded", "nul-and-rest"} {
		s.Plan(t, "C_GetTokenInfo 1+ "+how, "C_GetAttributeValue 1+ nul-padded")
		token := openShim(t, s, b)
		if i := token.Info(); i.Label != b.Label || i.Serial != b.Serial || strings.Contains(i.Manufacturer+i.Model, "\x00") {
			t.Errorf("%s: %+v", how, i)
		}
		k := generate(t, token, how, hsm.P256)
		if k.Attributes().Label != how {
			t.Errorf("%s: label %q", how, k.Attributes().Label)
		}
		mustSign(t, k)
		if _, err := token.Key(t.Context(), hsm.Query{Label: how}); err != nil {
			t.Error(err)
		}
		if err := token.Close(); err != nil {
			t.Error(err)
		}
	}
	// A label that is padded in the token itself, which therefore finds nothing by the label without the padding.
	token := open(t, b)
	if _, err := pkcs11.GenerateWith(token, hsm.GenerateSpec{Label: "padded\x00\x00\x00", Algorithm: hsm.P256, Class: hsm.Sealed}, nil); err == nil {
		t.Error("a label with a NUL was taken as it is")
	}
	pkcs11.Relabel(token, "nul-padded", "nul-padded\x00\x00\x00\x00")
	k, err := token.Key(t.Context(), hsm.Query{Label: "nul-padded"})
	if err != nil {
		t.Fatal(err)
	}
	mustSign(t, k)
	if u := k.URI().String(); strings.Contains(u, "padded%00") {
		t.Error(u)
	}
	if _, err := token.Generate(t.Context(), hsm.GenerateSpec{Label: "nul-padded", Algorithm: hsm.P256}); !errors.Is(err, hsm.ErrExists) {
		t.Errorf("the label is taken, and: %v", err)
	}
}

// TestTellApart: the hint says what in a URI would tell tokens apart, and does not ask for a serial where that would not help.
func TestTellApart(t *testing.T) {
	s := shimtest.New(t)
	a := board(t)
	board(t)
	for _, c := range []struct{ rule, uri, hint string }{
		{"C_GetTokenInfo 1+ same-label", "pkcs11:token=token", "add serial="},
		{"C_GetTokenInfo 1+ same-all", "pkcs11:token=token", "one of them at a time"},
		{"C_GetTokenInfo 1+ no-serial", "pkcs11:model=SoftHSM%20v2;token=" + a.Label, ""},
		{"C_GetTokenInfo 1+ same-all", "pkcs11:token=token;model=SoftHSM%20v2", "one of them at a time"},
	} {
		s.Plan(t, c.rule)
		u := uri(t, c.uri)
		u.ModulePath, u.PINSource = s.Module, a.PINFile
		token, err := pkcs11.Open(t.Context(), pkcs11.Config{URI: u})
		if c.hint == "" {
			if err != nil {
				t.Fatalf("%s: %v", c.rule, err)
			}
			if n := token.Info().Name(); !strings.Contains(n, "no serial") {
				t.Error(n)
			}
			mustSign(t, generate(t, token, "k", hsm.P256))
			if err := token.Close(); err != nil {
				t.Error(err)
			}
			continue
		}
		if !errors.Is(err, hsm.ErrAmbiguous) || !strings.Contains(advice.Hint(err), c.hint) || (c.hint != "add serial=") == strings.Contains(advice.Hint(err), "add serial=") {
			t.Errorf("%s: %v (hint %q)", c.rule, err, advice.Hint(err))
		}
	}
}

// TestOneSession: a token that takes one session, whether it says so or not, does everything; a second user is told.
func TestOneSession(t *testing.T) {
	s := shimtest.New(t)
	for _, rule := range []string{"C_GetTokenInfo 1+ one-session", "C_OpenSession 1+ one-session"} {
		t.Run(rule, func(t *testing.T) {
			b := board(t)
			s.Plan(t, rule)
			token := openShim(t, s, b)
			for _, a := range []hsm.Algorithm{hsm.P256, hsm.Ed25519} {
				generate(t, token, "k-"+string(a), a)
			}
			k := generate(t, token, "k", hsm.P256)
			mustSign(t, k)
			if _, err := k.Sign(nil, make([]byte, 3), crypto.SHA256); err == nil {
				t.Error("a short digest was signed")
			}
			mustSign(t, k)
			pkcs11.ForgetHandles(k)
			mustSign(t, k)
			if _, err := token.Key(t.Context(), hsm.Query{Label: "nowhere"}); !errors.Is(err, hsm.ErrNoKey) {
				t.Error(err)
			}
			pkcs11.CloseSessions(token)
			mustSign(t, k)
			pkcs11.LogOut(token)
			mustSign(t, k)
			pkcs11.RestartLibrary(token)
			mustSign(t, k)
			if err := token.Renew(t.Context()); err != nil {
				t.Fatal(err)
			}
			mustSign(t, k)
			err := token.AsSecurityOfficer(t.Context(), b.SOPIN, func(so hsm.SecurityOfficer) error {
				return so.ImportWrappingKey("w", []byte{9}, make([]byte, 32))
			})
			if err != nil {
				t.Fatal(err)
			}
			mustSign(t, k)
			after := make([]byte, len(b.PIN))
			copy(after, b.PIN)
			after[0] ^= 1
			if err := token.SetPIN(t.Context(), b.PIN, after); err != nil {
				t.Fatal(err)
			}
			mustSign(t, k)
			if keys, err := token.Keys(t.Context()); err != nil || len(keys) != 3 {
				t.Errorf("%d keys, %v", len(keys), err)
			}
			if err := token.Destroy(t.Context(), hsm.Query{Label: "k"}); err != nil {
				t.Fatal(err)
			}
			u := uri(t, b.URI)
			u.ModulePath = s.Module
			if _, err := pkcs11.Open(t.Context(), pkcs11.Config{URI: u, PIN: hsm.PINBytes(after)}); err == nil || !strings.Contains(err.Error(), "SESSION_COUNT") || !strings.Contains(advice.Hint(err), "no further session") {
				t.Errorf("a second user: %v (hint %q)", err, advice.Hint(err))
			}
			if err := token.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestPlusInALabel: a token and a key whose labels have a plus and other characters that URIs treat in their own ways.
func TestPlusInALabel(t *testing.T) {
	b, err := softhsm.ForTest(t).Create("a+b")
	if err != nil {
		t.Fatal(err)
	}
	token := open(t, b)
	for _, label := range []string{"a+b", "a b", "a%2Bb", "a&b;c=d?e#f", "ä/ö", "x%"} {
		k := generate(t, token, label, hsm.P256)
		u := k.URI()
		u.PINSource = b.PINFile
		if text := u.String(); strings.ContainsAny(text, "+ ") {
			t.Errorf("%q became %s", label, text)
		}
		again, closer, err := keys.Key(t.Context(), u, nil)
		if err != nil {
			t.Errorf("%q: %v", label, err)
			continue
		}
		if again.Attributes().Label != label {
			t.Errorf("%q found %q", label, again.Attributes().Label)
		}
		closer.Close()
	}
	// Written by other tools, with a plus as it stands.
	plain, closer, err := keys.Key(t.Context(), uri(t, "pkcs11:token=a+b;object=a+b?module-path="+b.Module+"&pin-source="+b.PINFile), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer closer.Close()
	if plain.Attributes().Label != "a+b" {
		t.Error(plain.Attributes().Label)
	}
}
