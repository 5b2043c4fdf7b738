package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/tpm"
	"github.com/hanaper/hanaper/hsm/tpm/tpmtest"
	"github.com/hanaper/hanaper/internal/programtest"
)

// TestTPM: a release engineer's key is made in a TPM, signs Uptane metadata there, and the signature verifies; an Ed25519 key is refused, for no TPM has one.
func TestTPM(t *testing.T) {
	c, dir := tpmtest.New(t), t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	for name, text := range map[string]string{"pin": "secret-pin\n", "in.json": `{"a":1}`} {
		if err := os.WriteFile(path(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	info, err := tpm.Init(t.Context(), tpm.NewStore{Device: c.Socket, Folder: path("store"), Label: "release"}, []byte("secret-pin"))
	if err != nil {
		t.Fatal(err)
	}
	token := info.URI().OnMachine(hsm.URI{Device: c.Socket, Store: path("store"), PINSource: path("pin")}).String()
	run := func(args ...string) (string, error) {
		var out, errs strings.Builder
		cmd := exec.Command(programtest.Path(t, "hanaper-sign"), args...)
		cmd.Stdout, cmd.Stderr = &out, &errs
		err := cmd.Run()
		return out.String() + errs.String(), err
	}
	if out, err := run("user-keys", "-p", path("keys"), "gen", "--token", token, "-k", "small", "-t", "ed25519"); err == nil || !strings.Contains(out, "a TPM makes no keys of algorithm Ed25519") {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := run("user-keys", "-p", path("keys"), "gen", "--token", token, "-k", "supplier", "-t", "rsa", "--keysize", "2048"); err != nil {
		t.Fatal(out)
	}
	signed, err := run("sign-json", "--priv-key", path("keys/supplier.sec"), "--pub-key", path("keys/supplier.pub"), "--input", path("in.json"))
	if err != nil {
		t.Fatal(signed)
	}
	if err := os.WriteFile(path("out.json"), []byte(signed), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := run("verify-json", "--pub-key", path("keys/supplier.pub"), "--input", path("out.json")); err != nil {
		t.Fatal(out)
	}
}
