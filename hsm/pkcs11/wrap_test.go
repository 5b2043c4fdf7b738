package pkcs11_test

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/softhsm"
)

func TestBackupAndRestore(t *testing.T) {
	from, to := board(t), board(t)
	source, target := open(t, from), open(t, to)
	secret := make([]byte, 32)
	rand.Read(secret)
	wrapping := hsm.Query{Label: "wrapping", ID: []byte{0xee}}
	for token, b := range map[*pkcs11.Token]softhsm.Board{source: from, target: to} {
		err := token.AsSecurityOfficer(t.Context(), b.SOPIN, func(so hsm.SecurityOfficer) error {
			return so.ImportWrappingKey(wrapping.Label, wrapping.ID, secret)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for i, a := range []hsm.Algorithm{hsm.P256, hsm.P384, hsm.RSA2048, hsm.RSA3072} {
		label := "root-" + string(a)
		k, err := source.Generate(t.Context(), hsm.GenerateSpec{Label: label, ID: []byte{byte(i + 1)}, Algorithm: a, Class: hsm.Backup})
		if err != nil {
			t.Fatal(err)
		}
		wrapped, err := source.WrapKey(t.Context(), wrapping, hsm.Query{Label: label})
		if err != nil {
			t.Fatal(err)
		}
		spec := hsm.RestoreSpec{Label: label, ID: []byte{byte(i + 1)}, Public: k.Public(), Wrapping: wrapping, Wrapped: wrapped}
		// Another public key, another wrapped key, no name: nothing may be left.
		other := generate(t, source, fmt.Sprintf("other-%d", i), a)
		for name, change := range map[string]func(s *hsm.RestoreSpec){
			"other public key":     func(s *hsm.RestoreSpec) { s.Public = other.Public() },
			"damaged":              func(s *hsm.RestoreSpec) { s.Wrapped = bytes.Clone(wrapped); s.Wrapped[20] ^= 1 },
			"cut":                  func(s *hsm.RestoreSpec) { s.Wrapped = wrapped[:len(wrapped)-8] },
			"empty":                func(s *hsm.RestoreSpec) { s.Wrapped = nil },
			"no id":                func(s *hsm.RestoreSpec) { s.ID = nil },
			"no such wrapping key": func(s *hsm.RestoreSpec) { s.Wrapping = hsm.Query{Label: "nowhere"} },
		} {
			bad := spec
			change(&bad)
			if _, err := target.UnwrapKey(t.Context(), bad); err == nil {
				t.Fatalf("%s, %s: restored", a, name)
			} else if !strings.Contains(err.Error(), to.Serial) {
				t.Errorf("%s, %s: %v", a, name, err)
			}
			if _, err := target.Key(t.Context(), hsm.Query{Label: label}); !errors.Is(err, hsm.ErrNoKey) {
				t.Fatalf("%s, %s: something is left: %v", a, name, err)
			}
		}
		restored, err := target.UnwrapKey(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		if at := restored.Attributes(); at.Extractable || at.Local || at.NeverExtractable || !at.Sensitive {
			t.Errorf("%+v", at)
		}
		found, err := target.Key(t.Context(), hsm.Query{Label: label})
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256([]byte("restored"))
		sig, err := found.Sign(nil, sum[:], crypto.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		opensslVerify(t, k.Public(), mode{"", crypto.SHA256, nil}, []byte("restored"), sig)
		if _, err := target.UnwrapKey(t.Context(), spec); !errors.Is(err, hsm.ErrExists) {
			t.Errorf("restored twice: %v", err)
		}
		// A restored key and a sealed one never leave.
		for token, label := range map[*pkcs11.Token]string{target: label, source: fmt.Sprintf("other-%d", i)} {
			if w, err := token.WrapKey(t.Context(), wrapping, hsm.Query{Label: label}); err == nil || w != nil {
				t.Errorf("%s: wrapped", label)
			}
		}
		// One of class restored-backup leaves under a trusted key until it is sealed, and what left is the key.
		again := spec
		again.Class, again.Label, again.ID = hsm.RestoredBackup, label+" again", []byte{byte(i + 100)}
		bad := again
		bad.Public = other.Public()
		if _, err := target.UnwrapKey(t.Context(), bad); err == nil {
			t.Fatalf("%s: another public key: restored", a)
		}
		if k, err := target.UnwrapKey(t.Context(), again); err != nil || k.Attributes().CheckFresh(hsm.RestoredBackup) != nil {
			t.Fatalf("%v: %v", a, err)
		}
		rewrapped, err := target.WrapKey(t.Context(), wrapping, hsm.Query{Label: again.Label})
		if err != nil {
			t.Fatal(err)
		}
		if at, err := target.SealAfterBackup(t.Context(), hsm.Query{Label: again.Label}); err != nil || at.Extractable {
			t.Errorf("%+v, %v", at, err)
		}
		if _, err := target.WrapKey(t.Context(), wrapping, hsm.Query{Label: again.Label}); err == nil {
			t.Error("wrapped after it was sealed")
		}
		third := spec
		third.Wrapped, third.Label, third.ID = rewrapped, label+" a third time", []byte{byte(i + 200)}
		if _, err := target.UnwrapKey(t.Context(), third); err != nil {
			t.Error(err)
		}
		at, err := source.SealAfterBackup(t.Context(), hsm.Query{Label: label})
		if err != nil || at.Extractable {
			t.Errorf("%+v, %v", at, err)
		}
		if _, err := source.WrapKey(t.Context(), wrapping, hsm.Query{Label: label}); err == nil {
			t.Error("wrapped after it was sealed")
		}
		if _, err := k.Sign(nil, sum[:], crypto.SHA256); err != nil {
			t.Error(err)
		}
	}
	if err := source.DestroyWrappingKey(t.Context(), wrapping); err != nil {
		t.Fatal(err)
	}
	if err := source.DestroyWrappingKey(t.Context(), wrapping); !errors.Is(err, hsm.ErrNoKey) {
		t.Errorf("twice: %v", err)
	}
	out := tool(t, "pkcs11-tool", "--module", from.Module, "--token-label", from.Label, "--login", "--pin", string(from.PIN), "-O")
	if strings.Contains(out, "Secret Key") || strings.Contains(out, ", extractable") {
		t.Errorf("after the backup:\n%s", out)
	}
}

// TestUntrustedWrap: a key of class backup does not leave under a wrapping key that the security officer did not mark.
func TestUntrustedWrap(t *testing.T) {
	b := board(t)
	token := open(t, b)
	if _, err := token.Generate(t.Context(), hsm.GenerateSpec{Label: "root", Algorithm: hsm.P256, Class: hsm.Backup}); err != nil {
		t.Fatal(err)
	}
	tool(t, "pkcs11-tool", "--module", b.Module, "--token-label", b.Label, "--login", "--pin", string(b.PIN),
		"--keygen", "--key-type", "AES:32", "--label", "mine", "--id", "77")
	if w, err := token.WrapKey(t.Context(), hsm.Query{Label: "mine"}, hsm.Query{Label: "root"}); err == nil || w != nil {
		t.Error("wrapped under an untrusted key")
	}
	// The token's own refusal, without ours before it.
	if err := pkcs11.WrapUnchecked(token, "mine", "root"); err == nil {
		t.Error("the token itself wrapped under an untrusted key")
	}
	// The user cannot make a trusted one.
	if err := pkcs11.CreateTrusted(token); err == nil {
		t.Error("the user marked a wrapping key trusted")
	}
}

func TestSecurityOfficer(t *testing.T) {
	b := board(t)
	token := open(t, b)
	k := generate(t, token, "k", hsm.P256)
	// A wrong SO PIN: one try, nothing done, the user is logged in again.
	called := false
	err := token.AsSecurityOfficer(t.Context(), []byte("wrong-so-pin"), func(hsm.SecurityOfficer) error { called = true; return nil })
	if !errors.Is(err, hsm.ErrPIN) || called || !strings.Contains(err.Error(), "SO PIN") || !strings.Contains(err.Error(), b.Serial) {
		t.Errorf("wrong SO PIN: %v", err)
	}
	mustSign(t, k)
	// New user PIN and new SO PIN; the token stays usable.
	var kept hsm.SecurityOfficer
	err = token.AsSecurityOfficer(t.Context(), b.SOPIN, func(so hsm.SecurityOfficer) error {
		kept = so
		if err := so.InitPIN([]byte("x")); err == nil {
			t.Error("a PIN of one byte was taken")
		}
		if err := so.ImportWrappingKey("w", []byte{1}, make([]byte, 16)); err == nil {
			t.Error("a short wrapping key was taken")
		}
		if err := so.SetPIN([]byte("wrong-so-pin"), []byte("new-so-pin")); !errors.Is(err, hsm.ErrPIN) {
			t.Errorf("wrong old SO PIN: %v", err)
		}
		return errors.Join(so.InitPIN([]byte("new-user-pin")), so.SetPIN(b.SOPIN, []byte("new-so-pin")))
	})
	if err != nil {
		t.Fatal(err)
	}
	mustSign(t, k)
	if err := kept.InitPIN([]byte("later-pin")); err == nil {
		t.Error("the security officer works after logout")
	}
	pkcs11.RestartLibrary(token) // a fresh login, with the new PIN
	mustSign(t, k)
	// The user's own change.
	if err := token.SetPIN(t.Context(), []byte("not-the-pin"), []byte("third-pin")); !errors.Is(err, hsm.ErrPIN) || !strings.Contains(err.Error(), "no try") {
		t.Errorf("wrong old PIN: %v", err)
	}
	if err := token.SetPIN(t.Context(), []byte("new-user-pin"), []byte("x")); err == nil {
		t.Error("a PIN of one byte was taken")
	}
	if err := token.SetPIN(t.Context(), []byte("new-user-pin"), []byte("third-pin")); err != nil {
		t.Fatal(err)
	}
	mustSign(t, k)
	tool(t, "pkcs11-tool", "--module", b.Module, "--token-label", b.Label, "--login", "--pin", "third-pin", "-O")
	// Refused while somebody else in the process has it open.
	u := uri(t, b.URI)
	second, err := pkcs11.Open(t.Context(), pkcs11.Config{URI: u, PIN: hsm.PINBytes([]byte("third-pin"))})
	if err != nil {
		t.Fatal(err)
	}
	if err := token.AsSecurityOfficer(t.Context(), []byte("new-so-pin"), func(hsm.SecurityOfficer) error { return nil }); err == nil {
		t.Error("logged another one out")
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	mustSign(t, k)
}

func TestOfficerDecryptionKeys(t *testing.T) {
	token := open(t, board(t))
	for _, c := range []struct {
		a   hsm.Algorithm
		kem hpke.KEM
	}{{hsm.P256, hpke.DHKEM(ecdh.P256())}, {hsm.P384, hpke.DHKEM(ecdh.P384())}} {
		k, err := token.Generate(t.Context(), hsm.GenerateSpec{Label: "agree-" + string(c.a), Algorithm: c.a, Use: hsm.Agreement})
		if err != nil {
			t.Fatal(err)
		}
		if at := k.Attributes(); at.Sign || at.Decrypt || !at.Derive || at.CheckFresh(hsm.Sealed) != nil {
			t.Errorf("%+v", at)
		}
		exchange, err := k.(*pkcs11.Key).KeyExchanger()
		if err != nil {
			t.Fatal(err)
		}
		private, err := hpke.NewDHKEMPrivateKey(exchange)
		if err != nil {
			t.Fatal(err)
		}
		info, share := []byte("hanaper share"), []byte("the share of officer 3")
		public, err := c.kem.NewPublicKey(exchange.PublicKey().Bytes()) // as the dealer has it
		if err != nil {
			t.Fatal(err)
		}
		sealed, err := hpke.Seal(public, hpke.HKDFSHA256(), hpke.AES256GCM(), info, share)
		if err != nil {
			t.Fatal(err)
		}
		got, err := hpke.Open(private, hpke.HKDFSHA256(), hpke.AES256GCM(), info, sealed)
		if err != nil || !bytes.Equal(got, share) {
			t.Errorf("%s: %q, %v", c.a, got, err)
		}
		sealed[len(sealed)-1] ^= 1
		if _, err := hpke.Open(private, hpke.HKDFSHA256(), hpke.AES256GCM(), info, sealed); err == nil {
			t.Error("a changed share opens")
		}
		for range 300 { // leading zeros in the secret come up once in 256
			other, _ := exchange.Curve().GenerateKey(rand.Reader)
			want, _ := other.ECDH(exchange.PublicKey())
			if got, err := exchange.ECDH(other.PublicKey()); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%x, want %x (%v)", got, want, err)
			}
		}
		x, _ := ecdh.X25519().GenerateKey(rand.Reader)
		if _, err := exchange.ECDH(x.PublicKey()); err == nil {
			t.Error("a key of another curve was taken")
		}
		if _, err := k.Sign(nil, make([]byte, 32), crypto.SHA256); err == nil {
			t.Error("a key for agreement signs")
		}
	}
	k, err := token.Generate(t.Context(), hsm.GenerateSpec{Label: "oaep", Algorithm: hsm.RSA2048, Use: hsm.Decryption})
	if err != nil {
		t.Fatal(err)
	}
	hash, err := k.(*pkcs11.Key).OAEPHash(t.Context())
	if err != nil || hash != crypto.SHA1 {
		t.Fatalf("SoftHSM's OAEP: %s, %v", hash, err)
	}
	d, err := k.(*pkcs11.Key).Decrypter()
	if err != nil {
		t.Fatal(err)
	}
	pub := d.Public().(*rsa.PublicKey)
	sealed, _ := rsa.EncryptOAEP(hash.New(), rand.Reader, pub, []byte("a key of 32 bytes"), nil)
	if got, err := d.Decrypt(nil, sealed, &rsa.OAEPOptions{Hash: hash}); err != nil || string(got) != "a key of 32 bytes" {
		t.Errorf("%q, %v", got, err)
	}
	sealed[9] ^= 1
	for name, c := range map[string]struct {
		text []byte
		opts crypto.DecrypterOpts
	}{"changed": {sealed, &rsa.OAEPOptions{Hash: hash}}, "cut": {sealed[1:], &rsa.OAEPOptions{Hash: hash}},
		"PKCS1": {sealed, nil}, "SHA-256": {sealed, &rsa.OAEPOptions{Hash: crypto.SHA256}}} {
		if got, err := d.Decrypt(nil, c.text, c.opts); err == nil || got != nil {
			t.Errorf("%s: %q", name, got)
		} else if !strings.Contains(err.Error(), token.Info().Serial) {
			t.Errorf("%s: %v", name, err)
		}
	}
	signer := generate(t, token, "signer", hsm.P256).(*pkcs11.Key)
	if _, err := signer.KeyExchanger(); err == nil {
		t.Error("a signing key agrees")
	}
	if _, err := signer.Decrypter(); err == nil {
		t.Error("a signing key decrypts")
	}
	if err := token.CanWrap(hsm.Ed25519); !errors.Is(err, hsm.ErrUnsupported) {
		t.Errorf("CanWrap(Ed25519): %v", err)
	}
}
