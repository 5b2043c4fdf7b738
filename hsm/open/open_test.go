package open_test

import (
	"crypto"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/open"
	"github.com/hanaper/hanaper/hsm/tpm"
	"github.com/hanaper/hanaper/hsm/tpm/tpmtest"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/signature"
)

// TestOtherStores: a program that does not ask for other stores opens none, one that does says what to install, and neither starts
// anything that is not there.
func TestOtherStores(t *testing.T) {
	for _, scheme := range hsm.KMSSchemes() {
		u, err := hsm.ParseURI(scheme + ":name=x")
		if err != nil {
			t.Fatal(err)
		}
		if tok, err := open.Token(t.Context(), open.Config{URI: u}); tok != nil || advice.KindOf(err) != advice.Usage || !strings.Contains(err.Error(), "opens no "+scheme) {
			t.Errorf("%s: %v, %v", scheme, tok, err)
		}
		away := filepath.Join(t.TempDir(), "hanaper-kms")
		if tok, err := open.Token(t.Context(), open.Config{URI: u, Stores: away}); tok != nil || err == nil || !strings.Contains(advice.Hint(err), "install hanaper-kms") {
			t.Errorf("%s without the program: %v, %v", scheme, tok, err)
		}
	}
}

// TestTPM: a key in a TPM is opened by its URI, and signs.
func TestTPM(t *testing.T) {
	c := tpmtest.New(t)
	pin := filepath.Join(t.TempDir(), "pin")
	if err := os.WriteFile(pin, []byte("secret-pin\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	store := filepath.Join(t.TempDir(), "store")
	info, err := tpm.Init(t.Context(), tpm.NewStore{Device: c.Socket, Folder: store, Label: "service"}, []byte("secret-pin"))
	if err != nil {
		t.Fatal(err)
	}
	u := info.URI().OnMachine(hsm.URI{Device: c.Socket, Store: store, PINSource: pin})
	tok, err := open.Token(t.Context(), open.Config{URI: u})
	if err != nil {
		t.Fatal(err)
	}
	made, err := tok.Generate(t.Context(), hsm.GenerateSpec{Label: "tls", Algorithm: hsm.P256})
	if err != nil {
		t.Fatal(err)
	}
	_ = tok.Close()
	u.Object = "tls"
	k, closer, err := open.Key(t.Context(), u, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer closer.Close()
	digest := make([]byte, 32)
	sig, err := k.Sign(nil, digest, crypto.SHA256)
	if err != nil || !signature.Verify(made.Public(), digest, crypto.SHA256, sig) {
		t.Error(err)
	}
	u.Object = "other"
	if k, _, err := open.Key(t.Context(), u, nil); k != nil || !errors.Is(err, hsm.ErrNoKey) {
		t.Errorf("a key that is not there: %v", err)
	}
	u.Token = "another"
	if _, _, err := open.Key(t.Context(), u, nil); !errors.Is(err, hsm.ErrNoToken) {
		t.Errorf("a store of another label: %v", err)
	}
}
