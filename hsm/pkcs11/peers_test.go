package pkcs11_test

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11"
)

func firstFile(t *testing.T, paths ...string) string {
	t.Helper()
	for _, p := range paths {
		if _, err := os.Stat(p); err == nil {
			return p
		}
	}
	t.Fatalf("none of %v: install the packages of scripts/packages-test.txt", paths)
	return ""
}

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
		if _, err := k.Sign(nil, make([]byte, 32), crypto.SHA256); !errors.Is(err, hsm.ErrNoKey) {
			t.Errorf("%s: destroyed, and: %v", a, err)
		}
	}
}

// TestNSS: the softokn of Firefox, which wants its folder in the initialisation arguments and calls a dead handle 0x60. It wraps any private
// key, also one that says that it is not extractable, so no key is generated there; keys that are there are used.
func TestNSS(t *testing.T) {
	module := firstFile(t, "/usr/lib/x86_64-linux-gnu/nss/libsoftokn3.so", "/usr/lib/x86_64-linux-gnu/libsoftokn3.so", "/usr/lib/aarch64-linux-gnu/nss/libsoftokn3.so")
	dir := t.TempDir()
	pin := filepath.Join(dir, "pin")
	if err := os.WriteFile(pin, []byte("nss-pin-1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tool(t, "certutil", "-N", "-d", "sql:"+dir, "-f", pin)
	c := pkcs11.Config{Module: module, URI: uri(t, "pkcs11:token=NSS%20Certificate%20DB"), PIN: hsm.PINFile(pin),
		InitArgs: fmt.Sprintf("configdir='sql:%s' certPrefix='' keyPrefix='' secmod='secmod.db' flags=", dir)}
	wrong := c
	wrong.PIN = hsm.PINBytes([]byte("not-the-pin"))
	if _, err := pkcs11.Open(t.Context(), wrong); !errors.Is(err, hsm.ErrPIN) {
		t.Errorf("wrong PIN: %v", err)
	}
	token, err := pkcs11.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer token.Close()
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
	module := firstFile(t, "/usr/lib/x86_64-linux-gnu/pkcs11/libtpm2_pkcs11.so", "/usr/lib/aarch64-linux-gnu/pkcs11/libtpm2_pkcs11.so")
	dir := t.TempDir()
	port := startTPM(t, dir)
	t.Setenv("TPM2_PKCS11_TCTI", fmt.Sprintf("swtpm:host=127.0.0.1,port=%d", port))
	t.Setenv("TPM2_PKCS11_STORE", dir)
	t.Setenv("TSS2_LOG", "all+none")
	made, err := pkcs11.Init(t.Context(), module, "", "board", []byte("so-pin-1"), []byte("user-pin-1"))
	if err != nil {
		t.Fatal(err)
	}
	// A TPM has three slots for loaded objects, which the library does not give free: hence one key at a time.
	t.Setenv("TPM2TOOLS_TCTI", fmt.Sprintf("swtpm:host=127.0.0.1,port=%d", port))
	with := func(f func(token *pkcs11.Token)) {
		t.Helper()
		tool(t, "tpm2_flushcontext", "-t")
		token, err := pkcs11.Open(t.Context(), pkcs11.Config{Module: module, URI: made.URI(), PIN: hsm.PINBytes([]byte("user-pin-1")), Sessions: 1})
		if err != nil {
			t.Fatal(err)
		}
		f(token)
		if err := token.Close(); err != nil {
			t.Error(err)
		}
		tool(t, "tpm2_flushcontext", "-t")
	}
	with(func(token *pkcs11.Token) {
		if k, err := token.Generate(t.Context(), hsm.GenerateSpec{Label: "fresh", Algorithm: hsm.P256}); !errors.Is(err, hsm.ErrAttributes) {
			t.Errorf("%v, %v", k, err)
		}
		if n := pkcs11.CountObjects(token); n != 0 {
			t.Errorf("%d objects are left", n)
		}
	})
	for label, a := range map[string]hsm.Algorithm{"EC:secp256r1": hsm.P256, "rsa:2048": hsm.RSA2048} {
		tool(t, "tpm2_flushcontext", "-t")
		tool(t, "pkcs11-tool", "--module", module, "--token-label", "board", "--login", "--pin", "user-pin-1", "--keypairgen", "--key-type", label, "--label", label)
		with(func(token *pkcs11.Token) {
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
		})
	}
}

// startTPM runs a software TPM on two ports of its own.
func startTPM(t *testing.T, dir string) int {
	t.Helper()
	path, err := exec.LookPath("swtpm")
	if err != nil {
		t.Fatalf("%v: install the packages of scripts/packages-test.txt", err)
	}
	for range 20 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := l.Addr().(*net.TCPAddr).Port
		next, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port+1))
		l.Close()
		if err != nil {
			continue
		}
		next.Close()
		cmd := exec.CommandContext(context.Background(), path, "socket", "--tpm2", "--tpmstate", "dir="+dir,
			"--server", fmt.Sprintf("type=tcp,port=%d", port), "--ctrl", fmt.Sprintf("type=tcp,port=%d", port+1), "--flags", "not-need-init,startup-clear")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			_ = cmd.Wait()
		})
		for range 100 {
			// Only the control port: a connection to the other one and its end stop swtpm.
			if c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port+1)); err == nil {
				c.Close()
				return port
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	t.Fatal("swtpm did not start")
	return 0
}
