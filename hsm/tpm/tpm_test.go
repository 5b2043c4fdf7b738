package tpm_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/tpm"
	"github.com/hanaper/hanaper/hsm/tpm/tpmtest"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/signature"
)

const pin = "correct-horse"

var bg = context.Background()

const hashSHA256 = crypto.SHA256

// newStore makes a store in a TPM.
func newStore(t testing.TB, c *tpmtest.Chip, n tpm.NewStore) (hsm.URI, hsm.TokenInfo) {
	t.Helper()
	n.Device, n.Label = c.Socket, "roots"
	if n.Folder == "" {
		n.Folder = filepath.Join(t.TempDir(), "store")
	}
	info, err := tpm.Init(bg, n, []byte(pin))
	if err != nil {
		t.Fatal(err)
	}
	u := info.URI()
	u.Device, u.Store = c.Socket, n.Folder
	return u, info
}

func open(t testing.TB, u hsm.URI) *tpm.Token {
	t.Helper()
	tok, err := tpm.Open(bg, tpm.Config{URI: u, PIN: hsm.PINBytes([]byte(pin))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tok.Close() })
	return tok
}

// TestKeys: keys of every algorithm that a TPM has are made, sign, are found again after the TPM was switched off and on, and are destroyed.
func TestKeys(t *testing.T) {
	c := tpmtest.New(t)
	for _, persistent := range []bool{false, true} {
		u, info := newStore(t, c, tpm.NewStore{Persistent: persistent})
		if info.Scheme != "tpm" || len(info.Serial) != 16 || info.MaxPIN != 32 {
			t.Fatalf("%+v", info)
		}
		tok := open(t, u)
		for _, a := range []hsm.Algorithm{hsm.P256, hsm.P384, hsm.RSA2048} {
			if err := tok.CanGenerate(a); err != nil {
				t.Fatal(err)
			}
			k, err := tok.Generate(bg, hsm.GenerateSpec{Label: "key " + string(a), Algorithm: a})
			if err != nil {
				t.Fatal(err)
			}
			if err := k.Attributes().CheckFresh(hsm.Sealed); err != nil {
				t.Fatal(err)
			}
			if _, err := tok.Generate(bg, hsm.GenerateSpec{Label: "key " + string(a), Algorithm: a}); !errors.Is(err, hsm.ErrExists) {
				t.Fatalf("a second key of this label: %v", err)
			}
		}
		_ = tok.Close()
		c.Stop()
		c.Start()
		tok = open(t, u)
		keys, err := tok.Keys(bg)
		if err != nil || len(keys) != 3 {
			t.Fatalf("%d keys: %v", len(keys), err)
		}
		for _, k := range keys {
			for _, h := range []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
				signs(t, k, h)
				if _, ok := k.Public().(*rsa.PublicKey); ok {
					signs(t, k, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: h})
				}
			}
			again, err := hsm.ParseURI(k.URI().String())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tok.Key(bg, again.Query()); err != nil {
				t.Fatal(err)
			}
			if err := tok.Destroy(bg, again.Query()); err != nil {
				t.Fatal(err)
			}
			if _, err := tok.Key(bg, again.Query()); !errors.Is(err, hsm.ErrNoKey) {
				t.Fatalf("a destroyed key: %v", err)
			}
		}
		_ = tok.Close()
		if _, err := keys[0].Sign(nil, make([]byte, 32), crypto.SHA256); !errors.Is(err, hsm.ErrClosed) {
			t.Fatalf("signing after Close: %v", err)
		}
	}
}

func signs(t testing.TB, k hsm.Key, opts crypto.SignerOpts) {
	t.Helper()
	digest := make([]byte, opts.HashFunc().Size())
	rand.Read(digest)
	sig, err := k.SignContext(bg, digest, opts)
	if err != nil {
		t.Fatalf("%s, %v: %v", k.Attributes().Algorithm, opts, err)
	}
	if !signature.Verify(k.Public(), digest, opts, sig) {
		t.Fatalf("%s, %v: does not verify", k.Attributes().Algorithm, opts)
	}
}

// TestRefusals: what a TPM cannot do is refused with words, and nothing is written.
func TestRefusals(t *testing.T) {
	c := tpmtest.New(t)
	u, _ := newStore(t, c, tpm.NewStore{})
	tok := open(t, u)
	before := files(t, u.Store)
	for _, tc := range []struct {
		spec hsm.GenerateSpec
		says string
	}{
		{hsm.GenerateSpec{Label: "a", Algorithm: hsm.RSA4096}, "RSA-4096"},
		{hsm.GenerateSpec{Label: "a", Algorithm: hsm.Ed25519}, "Ed25519"},
		{hsm.GenerateSpec{Label: "a", Algorithm: hsm.P256, Class: hsm.Backup}, "never leaves"},
		{hsm.GenerateSpec{Label: "a", Algorithm: hsm.P256, Class: hsm.Restored}, "born elsewhere"},
		{hsm.GenerateSpec{Label: "", Algorithm: hsm.P256}, "label"},
		{hsm.GenerateSpec{Label: "a\nb", Algorithm: hsm.P256}, "one line"},
		{hsm.GenerateSpec{Label: "a", Algorithm: hsm.P256, Use: hsm.Decryption}, "not for that"},
		{hsm.GenerateSpec{Label: "a", Algorithm: hsm.RSA2048, Use: hsm.Agreement}, "not for that"},
	} {
		if _, err := tok.Generate(bg, tc.spec); err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%+v: %v", tc.spec, err)
		}
	}
	if err := tok.CanGenerate(hsm.RSA4096); !errors.Is(err, hsm.ErrUnsupported) {
		t.Error(err)
	}
	if after := files(t, u.Store); after != before {
		t.Errorf("the store changed:\n%s\n%s", before, after)
	}
	if _, err := tpm.Init(bg, tpm.NewStore{Device: c.Socket, Folder: u.Store, Label: "other"}, []byte(pin)); !errors.Is(err, hsm.ErrExists) || advice.KindOf(err) != advice.Refused {
		t.Errorf("a store over a store: %v", err)
	}
}

// files lists a folder with the digests of its files.
func files(t testing.TB, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() || e.Name() == ".lock" {
			return err
		}
		data, err := os.ReadFile(path)
		sum := sha256.Sum256(data)
		b.WriteString(path + " " + string(sum[:]) + "\n")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestOfficersKeys: keys for decryption and for agreement do what an officer's card does, and nothing else.
func TestOfficersKeys(t *testing.T) {
	c := tpmtest.New(t)
	u, _ := newStore(t, c, tpm.NewStore{})
	tok := open(t, u)
	for _, a := range []hsm.Algorithm{hsm.P256, hsm.P384} {
		k, err := tok.Generate(bg, hsm.GenerateSpec{Label: string(a), Algorithm: a, Use: hsm.Agreement})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := k.Sign(nil, make([]byte, 32), crypto.SHA256); err == nil {
			t.Error("an agreement key signs")
		}
	}
	k, err := tok.Generate(bg, hsm.GenerateSpec{Label: "rsa", Algorithm: hsm.RSA2048, Use: hsm.Decryption})
	if err != nil {
		t.Fatal(err)
	}
	d, err := k.(*tpm.Key).Decrypter()
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, k.Public().(*rsa.PublicKey), []byte("share"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := d.Decrypt(nil, sealed, &rsa.OAEPOptions{Hash: crypto.SHA256}); err != nil || string(got) != "share" {
		t.Fatal(string(got), err)
	}
	sealed[5] ^= 1
	if _, err := d.Decrypt(nil, sealed, &rsa.OAEPOptions{Hash: crypto.SHA256}); err == nil || !strings.Contains(err.Error(), "ciphertext") {
		t.Fatal(err)
	}
	sealed[5] ^= 1
	if got, err := d.Decrypt(nil, sealed, &rsa.OAEPOptions{Hash: crypto.SHA256}); err != nil || string(got) != "share" {
		t.Fatal("after a bad ciphertext:", err)
	}
}

// TestPIN: a wrong PIN is counted once, the count is told before the next try, and the TPM's lock is told in words without a try.
func TestPIN(t *testing.T) {
	c := tpmtest.New(t)
	u, _ := newStore(t, c, tpm.NewStore{})
	wrong := func(t *testing.T) (told hsm.TokenInfo, err error) {
		_, err = tpm.Open(bg, tpm.Config{URI: u, PIN: func(_ context.Context, i hsm.TokenInfo) ([]byte, error) {
			told = i
			return []byte("not the PIN"), nil
		}})
		return told, err
	}
	for i, says := range []string{"", "counted 1 wrong PIN of 3", "FINAL"} {
		told, err := wrong(t)
		if !errors.Is(err, hsm.ErrPIN) {
			t.Fatalf("try %d: %v", i, err)
		}
		if w := told.PINWarning(); says == "" && w != "" || !strings.Contains(w, says) {
			t.Errorf("try %d: told %q", i, w)
		}
	}
	asked, err := wrong(t)
	if !errors.Is(err, hsm.ErrPINLocked) || asked.Label != "" || !strings.Contains(err.Error(), "LOCKED after 3") || !strings.Contains(advice.Hint(err), "dictionarylockout") {
		t.Errorf("locked: asked %v: %v", asked, err)
	}
	info, err := tpm.Describe(bg, c.Socket)
	if err != nil || !info.PINLocked {
		t.Errorf("%+v %v", info, err)
	}
}
