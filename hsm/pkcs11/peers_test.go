package pkcs11_test

import (
	"crypto"
	"errors"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/hsm/pkcs11/peertest"
)

// exercise does with a token what every token must do with the keys that are in it, in the algorithms that it has.
func exercise(t *testing.T, token *pkcs11.Token, algorithms ...hsm.Algorithm) {
	t.Helper()
	for _, a := range algorithms {
		pkcs11.GenerateUnproven(token, "k-"+string(a), a)
		k, err := token.Key(t.Context(), hsm.Query{Label: "k-" + string(a)})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range modes(a) {
			sig, err := k.Sign(nil, digest(m.opts, []byte("m")), m.opts)
			if err != nil {
				t.Errorf("%s, %s: %v", a, m.name, err)
				continue
			}
			opensslVerify(t, k.Public(), m, []byte("m"), sig)
		}
		found, err := token.Key(t.Context(), hsm.Query{Label: "k-" + string(a)})
		if err != nil {
			t.Fatal(err)
		}
		if !found.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(k.Public()) {
			t.Errorf("%s: found another key", a)
		}
		if err := token.Destroy(t.Context(), hsm.Query{Label: "k-" + string(a)}); err != nil {
			t.Error(err)
		}
		if _, err := k.Sign(nil, digest(modes(a)[0].opts, nil), modes(a)[0].opts); !errors.Is(err, hsm.ErrNoKey) {
			t.Errorf("%s: destroyed, and: %v", a, err)
		}
	}
}

// TestNSS: the softokn of Firefox, which wants its folder in its start-up string and calls a dead handle 0x60. It wraps any private
// key, also one that says that it is not extractable, so no key is generated there; keys that are there are used.
func TestNSS(t *testing.T) {
	p := peertest.NSS(t)
	wrong := p.Config()
	wrong.PIN = hsm.PINBytes([]byte("not-the-pin"))
	if _, err := pkcs11.Open(t.Context(), wrong); !errors.Is(err, hsm.ErrPIN) {
		t.Errorf("wrong PIN: %v", err)
	}
	token := p.Open(t)
	for _, a := range []hsm.Algorithm{hsm.P256, hsm.RSA2048} {
		if _, err := token.Generate(t.Context(), hsm.GenerateSpec{Label: "k", Algorithm: a}); !errors.Is(err, hsm.ErrAttributes) || !strings.Contains(err.Error(), "can be wrapped") {
			t.Errorf("%s: %v", a, err)
		}
		if n := pkcs11.CountObjects(token); n != 0 {
			t.Errorf("%s: %d objects are left", a, n)
		}
	}
	exercise(t, token, hsm.P256, hsm.P384, hsm.RSA2048)
	if err := token.CanGenerate(hsm.Ed25519); !errors.Is(err, hsm.ErrUnsupported) {
		t.Errorf("Ed25519: %v", err)
	}
}

// TestTPM: tpm2-pkcs11 on swtpm. Its signing keys may decrypt too, whatever one asks for, so a key generated there is refused; keys
// made by others are used, RSA-PSS by host padding, for it has no PSS of its own.
func TestTPM(t *testing.T) {
	p := peertest.TPM2(t)
	token := p.Open(t, func(c *pkcs11.Config) { c.Sessions = 1 })
	if k, err := token.Generate(t.Context(), hsm.GenerateSpec{Label: "fresh", Algorithm: hsm.P256}); !errors.Is(err, hsm.ErrAttributes) {
		t.Errorf("%v, %v", k, err)
	}
	if n := pkcs11.CountObjects(token); n != 0 {
		t.Errorf("%d objects are left", n)
	}
	if err := token.Close(); err != nil {
		t.Error(err)
	}
	for label, a := range map[string]hsm.Algorithm{"EC:secp256r1": hsm.P256, "rsa:2048": hsm.RSA2048} {
		p.Tidy()
		tool(t, "pkcs11-tool", "--module", p.Token.ModulePath, "--token-label", p.Token.Token, "--login", "--pin", string(p.PIN), "--keypairgen", "--key-type", label, "--label", label)
		token := p.Open(t, func(c *pkcs11.Config) { c.Sessions = 1 })
		k, err := token.Key(t.Context(), hsm.Query{Label: label})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range modes(a) {
			sig, err := k.Sign(nil, digest(m.opts, []byte("m")), m.opts)
			if err != nil {
				t.Errorf("%s, %s: %v", label, m.name, err)
				continue
			}
			opensslVerify(t, k.Public(), m, []byte("m"), sig)
		}
		if err := token.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestOpenCryptoki: it says that it takes 2^64-2 sessions.
func TestOpenCryptoki(t *testing.T) {
	exercise(t, peertest.OpenCryptoki(t).Open(t), hsm.RSA2048)
}

// TestProxy: SoftHSM behind p11-kit's proxy.
func TestProxy(t *testing.T) {
	exercise(t, peertest.Proxy(t).Open(t), hsm.P256, hsm.P384, hsm.RSA2048, hsm.Ed25519)
}
