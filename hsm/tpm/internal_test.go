package tpm

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/signature"
)

// TestPSSSalt: a signature of a TPM whose PSS salt is as long as it gets is not handed on: others refuse it.
func TestPSSSalt(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("message"))
	for salt, want := range map[int]error{32: nil, 222: hsm.ErrUnsupported, 0: hsm.ErrUnsupported, 20: hsm.ErrUnsupported} {
		sig, err := rsa.SignPSS(rand.Reader, key, crypto.SHA256, digest[:], &rsa.PSSOptions{SaltLength: max(salt, rsa.PSSSaltLengthAuto)})
		if salt == 0 {
			sig, err = rsa.SignPSS(rand.Reader, key, crypto.SHA256, digest[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthAuto})
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := checkSignature(key.Public(), digest[:], signature.PSS256, sig); !errors.Is(err, want) || want == nil && err != nil {
			t.Errorf("salt of %d bytes: %v", salt, err)
		}
	}
	if err := checkSignature(key.Public(), digest[:], crypto.SHA256, make([]byte, 256)); err == nil || errors.Is(err, hsm.ErrUnsupported) {
		t.Errorf("no signature: %v", err)
	}
}

// TestAttributes: a key that can be duplicated, or that was put in from outside, does not pass for a sealed one.
func TestAttributes(t *testing.T) {
	for name, change := range map[string]func(*tpm2.TPMAObject){
		"nothing":              func(*tpm2.TPMAObject) {},
		"not fixedTPM":         func(a *tpm2.TPMAObject) { a.FixedTPM = false },
		"not fixedParent":      func(a *tpm2.TPMAObject) { a.FixedParent = false },
		"from outside":         func(a *tpm2.TPMAObject) { a.SensitiveDataOrigin = false },
		"it decrypts too":      func(a *tpm2.TPMAObject) { a.Decrypt = true },
		"restricted":           func(a *tpm2.TPMAObject) { a.Restricted = true },
		"cleared with a start": func(a *tpm2.TPMAObject) { a.STClear = true },
	} {
		pub, err := template(hsm.GenerateSpec{Algorithm: hsm.P256, Use: hsm.Signing}, nil)
		if err != nil {
			t.Fatal(err)
		}
		change(&pub.ObjectAttributes)
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		f := &keyFile{label: "key", id: []byte{1}, use: hsm.Signing, public: &pub, key: key.Public()}
		err = f.check(hsm.GenerateSpec{Algorithm: hsm.P256, Use: hsm.Signing, Class: hsm.Sealed})
		if (err == nil) != (name == "nothing") || err != nil && !errors.Is(err, hsm.ErrAttributes) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// files of a store, for the seeds.
func seeds(f *testing.F, pattern string) {
	f.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil || len(names) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	for _, n := range names {
		data, err := os.ReadFile(n)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
}

// FuzzKeyFile: no bytes make the reader panic, and what it takes it writes again as it was.
func FuzzKeyFile(f *testing.F) {
	seeds(f, "testdata/*.pem")
	f.Fuzz(func(t *testing.T, data []byte) {
		if b, err := parseBlob(data); err == nil {
			if again, err := parseDER(b.der()); err != nil || string(again.public) != string(b.public) || again.parent != b.parent {
				t.Errorf("it reads back otherwise: %v", err)
			}
			_, _ = b.area()
		}
		k, err := parseKeyFile(data)
		if err != nil {
			return
		}
		if string(k.encode()) != string(data) {
			t.Error("it is written otherwise than it was read")
		}
		_ = k.attributes()
		if k.genuine([]byte("a key that nobody has")) {
			t.Error("its code is right for a key that nobody has")
		}
	})
}

// FuzzSealed: no bytes make the reader of sealed PINs panic.
func FuzzSealed(f *testing.F) {
	seeds(f, "testdata/*.json")
	f.Fuzz(func(t *testing.T, data []byte) {
		d, b, err := parseSealed("pin", data)
		if err == nil && (d == nil || b == nil || !b.sealed) {
			t.Error("taken, and empty")
		}
	})
}
