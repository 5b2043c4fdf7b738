package hsm

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCredential: a pin-source that names a credential is a file of the service's own folder, and at a terminal the PIN is asked for.
func TestCredential(t *testing.T) {
	u, err := ParseURI("pkcs11:token=a?pin-source=credential:factory.pin")
	if err != nil {
		t.Fatal(err)
	}
	asked := func(context.Context, TokenInfo) ([]byte, error) { return []byte("asked"), nil }
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	if pin, err := PINFromURI(u, asked)(t.Context(), TokenInfo{}); err != nil || string(pin) != "asked" {
		t.Errorf("at a terminal: %q, %v", pin, err)
	}
	if _, err := PINFromURI(u, nil)(t.Context(), TokenInfo{}); err == nil || !strings.Contains(err.Error(), "no folder of credentials") {
		t.Errorf("without both: %v", err)
	}
	folder := t.TempDir()
	t.Setenv("CREDENTIALS_DIRECTORY", folder)
	if _, err := PINFromURI(u, asked)(t.Context(), TokenInfo{}); err == nil || !strings.Contains(err.Error(), "factory.pin") {
		t.Errorf("a service without its credential must not ask: %v", err)
	}
	if err := os.WriteFile(filepath.Join(folder, "factory.pin"), []byte("123456\n"), 0o400); err != nil {
		t.Fatal(err)
	}
	if pin, err := PINFromURI(u, asked)(t.Context(), TokenInfo{}); err != nil || string(pin) != "123456" {
		t.Errorf("in a service: %q, %v", pin, err)
	}
	for _, name := range []string{"", "../etc/pin", "a/b", ".hidden", "a b", strings.Repeat("a", 256)} {
		if _, err := ParseURI("pkcs11:token=a?pin-source=credential:" + strings.ReplaceAll(name, " ", "%20")); err == nil {
			t.Errorf("the credential %q was taken", name)
		}
	}
}
