package pkcs11_test

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"testing"

	p11 "github.com/miekg/pkcs11"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11"
)

// TestReadBackRefuses: a key that came out otherwise than its class is destroyed, both halves, and refused.
func TestReadBackRefuses(t *testing.T) {
	token := open(t, board(t))
	for name, c := range map[string]struct {
		class    hsm.Class
		override map[uint]any
	}{
		"extractable":                {hsm.Sealed, map[uint]any{p11.CKA_EXTRACTABLE: true}},
		"not sensitive":              {hsm.Sealed, map[uint]any{p11.CKA_SENSITIVE: false}},
		"decrypts too":               {hsm.Sealed, map[uint]any{p11.CKA_DECRYPT: true}},
		"derives too":                {hsm.Sealed, map[uint]any{p11.CKA_DERIVE: true}},
		"unwraps too":                {hsm.Sealed, map[uint]any{p11.CKA_UNWRAP: true}},
		"does not sign":              {hsm.Sealed, map[uint]any{p11.CKA_SIGN: false}},
		"other label":                {hsm.Sealed, map[uint]any{p11.CKA_LABEL: "other"}},
		"public":                     {hsm.Sealed, map[uint]any{p11.CKA_PRIVATE: false}},
		"backup under any key":       {hsm.Backup, map[uint]any{p11.CKA_WRAP_WITH_TRUSTED: false}},
		"backup that is not to move": {hsm.Backup, map[uint]any{p11.CKA_EXTRACTABLE: false}},
		"agreement that signs":       {hsm.Sealed, map[uint]any{p11.CKA_SIGN: true, p11.CKA_DERIVE: true}},
	} {
		k, err := pkcs11.GenerateWith(token, hsm.GenerateSpec{Label: "k", Algorithm: hsm.P256, Class: c.class}, c.override)
		if !errors.Is(err, hsm.ErrAttributes) {
			t.Errorf("%s: %v, %v", name, k, err)
		}
		if n := pkcs11.CountObjects(token); n != 0 {
			t.Fatalf("%s: %d objects are left", name, n)
		}
	}
}

// TestPSSFallback: a token without CKM_RSA_PKCS_PSS, as tpm2-pkcs11's, gets host padding.
func TestPSSFallback(t *testing.T) {
	token := open(t, board(t))
	pkcs11.Drop(token, p11.CKM_RSA_PKCS_PSS)
	k := generate(t, token, "k", hsm.RSA2048)
	for _, m := range modes(hsm.RSA2048) {
		sig, err := k.Sign(nil, digest(m.opts, []byte("m")), m.opts)
		if err != nil {
			t.Fatalf("%s: %v", m.name, err)
		}
		opensslVerify(t, k.Public(), m, []byte("m"), sig)
	}
	pkcs11.Drop(token, p11.CKM_RSA_X_509)
	sum := sha256.Sum256(nil)
	again, err := token.Key(t.Context(), hsm.Query{Label: "k"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := again.Sign(nil, sum[:], &rsa.PSSOptions{Hash: crypto.SHA256, SaltLength: 32}); !errors.Is(err, hsm.ErrUnsupported) {
		t.Errorf("with neither mechanism: %v", err)
	}
}

func TestAlwaysAuthenticate(t *testing.T) {
	token := open(t, board(t))
	k, err := pkcs11.GenerateAlwaysAuthenticate(token, "9c", hsm.P256)
	if err != nil {
		t.Fatal(err)
	}
	if !k.Attributes().AlwaysAuthenticate {
		t.Fatal("the key does not ask each time")
	}
	for range 3 {
		mustSign(t, k)
	}
	plain := generate(t, token, "plain", hsm.P256)
	mustSign(t, plain)
}

func TestCanGenerate(t *testing.T) {
	token := open(t, board(t))
	for _, a := range hsm.Algorithms() {
		if err := token.CanGenerate(a); err != nil {
			t.Error(err)
		}
	}
	pkcs11.Drop(token, 0x1055)
	if _, err := token.Generate(t.Context(), hsm.GenerateSpec{Label: "x", Algorithm: hsm.Ed25519}); !errors.Is(err, hsm.ErrUnsupported) {
		t.Error(err)
	}
	if err := token.CanGenerate("P-521"); err == nil {
		t.Error("P-521")
	}
}
