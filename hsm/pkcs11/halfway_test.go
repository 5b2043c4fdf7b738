package pkcs11_test

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"testing"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/hsm/pkcs11/shimtest"
)

// TestOtherCurve: a key of another curve than was asked for is refused, and nothing is left of it.
func TestOtherCurve(t *testing.T) {
	s := shimtest.New(t)
	b := board(t)
	token := openShim(t, s, b)
	s.Plan(t, "C_GenerateKeyPair 1+ other-curve")
	if _, err := token.Generate(t.Context(), hsm.GenerateSpec{Label: "another curve", Algorithm: hsm.P256}); !errors.Is(err, hsm.ErrAttributes) {
		t.Errorf("a P-384 key for P-256: %v", err)
	}
	s.Plan(t)
	if n := left(t, b); n != 0 {
		t.Errorf("%d objects are left", n)
	}
}

// TestRefusedAtTheKey: a PIN that the token refuses where a key asks for it at each use is not sent again, however often a signature
// is asked for: the tries of the token are few.
func TestRefusedAtTheKey(t *testing.T) {
	s := shimtest.New(t)
	token := openShim(t, s, board(t))
	k, err := pkcs11.GenerateAlwaysAuthenticate(token, "9c", hsm.P256)
	if err != nil {
		t.Fatal(err)
	}
	mustSign(t, k)
	s.Plan(t, "C_Login 1+ ckr 0xA0") // CKR_PIN_INCORRECT
	digest := sha256.Sum256([]byte("to be signed"))
	for range 3 {
		if sig, err := k.Sign(nil, digest[:], crypto.SHA256); !errors.Is(err, hsm.ErrPIN) || sig != nil {
			t.Errorf("signed: %v", err)
		}
	}
	sent := 0
	for _, c := range s.Calls(t) {
		if c.Function == "C_Login" {
			sent++
		}
	}
	if sent != 1 {
		t.Errorf("the PIN was sent %d times", sent)
	}
}

// TestWrongPSS: a token whose own PSS padding comes out wrong is given what this package padded, and is not asked for its own again.
func TestWrongPSS(t *testing.T) {
	s := shimtest.New(t)
	token := openShim(t, s, board(t))
	key, err := token.Generate(t.Context(), hsm.GenerateSpec{Label: "pss", Algorithm: hsm.RSA2048})
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("to be signed"))
	opts := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}
	s.Plan(t, "C_Sign 1 wrong")
	var before []byte
	for n, calls := range []int{2, 3} {
		sig, err := key.Sign(nil, digest[:], opts)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(sig, before) {
			t.Error("two signatures have one salt")
		}
		before = sig
		if err := rsa.VerifyPSS(key.Public().(*rsa.PublicKey), crypto.SHA256, digest[:], sig, &rsa.PSSOptions{SaltLength: 32}); err != nil {
			t.Errorf("signature %d: %v", n+1, err)
		}
		if got := s.Count(t, "C_Sign"); got != calls {
			t.Errorf("signature %d: %d calls of C_Sign, want %d", n+1, got, calls)
		}
	}
	// A salt of another length than was asked for is as good as a wrong signature.
	short, err := token.Generate(t.Context(), hsm.GenerateSpec{Label: "pss, short", Algorithm: hsm.RSA2048})
	if err != nil {
		t.Fatal(err)
	}
	s.Plan(t, "C_SignInit 1+ short-salt")
	sig, err := short.Sign(nil, digest[:], opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := rsa.VerifyPSS(short.Public().(*rsa.PublicKey), crypto.SHA256, digest[:], sig, &rsa.PSSOptions{SaltLength: 32}); err != nil {
		t.Errorf("the salt has not 32 bytes: %v", err)
	}
	// Where what this package padded comes out wrong as well, nothing is signed.
	again, err := token.Generate(t.Context(), hsm.GenerateSpec{Label: "pss, never", Algorithm: hsm.RSA2048})
	if err != nil {
		t.Fatal(err)
	}
	s.Plan(t, "C_Sign 1+ wrong")
	if sig, err := again.Sign(nil, digest[:], opts); err == nil || sig != nil {
		t.Errorf("a wrong signature was handed out: %v", err)
	}
}
