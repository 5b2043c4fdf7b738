package cardtest_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/hsm/pkcs11/cardtest"
)

func TestMain(m *testing.M) { os.Exit(cardtest.Main{Tests: m}.Run()) }

// run runs a tool of OpenSC; what it says of failures is for the caller to judge.
func run(name string, env []string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := run(name, nil, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

// managementKey is a file as piv-tool wants it.
func managementKey(t *testing.T, hexadecimal string) []string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "management-key")
	var bytes []string
	for i := 0; i < len(hexadecimal); i += 2 {
		bytes = append(bytes, hexadecimal[i:i+2])
	}
	if err := os.WriteFile(path, []byte(strings.Join(bytes, ":")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"PIV_EXT_AUTH_KEY=" + path}
}

// Two cards in two of the readers, through pcscd and OpenSC: they are told apart, and one that is pulled is gone for the others' eyes.
func TestReaders(t *testing.T) {
	r := cardtest.New(t)
	blank, ada := cardtest.NewCard(), cardtest.NewCard().WithSerial()
	ada.Put(t, cardtest.Signature, "P-256", "ada")
	r.Insert(t, 1, blank)
	r.Insert(t, 2, ada)
	list := tool(t, "pkcs11-tool", "--module", cardtest.Module(t), "-L")
	for _, want := range []string{r.Name(0) + "\n  (empty)", r.Name(1) + "\n  token label        : PIV_II", r.Name(2) + "\n  token label        : ada", r.Name(3) + "\n  (empty)"} {
		if !strings.Contains(list, want) {
			t.Errorf("no %q in\n%s", want, list)
		}
	}
	r.Pull(t, 2)
	if list := tool(t, "pkcs11-tool", "--module", cardtest.Module(t), "-L"); strings.Contains(list, "ada") || !strings.Contains(list, "PIV_II") {
		t.Errorf("pulled:\n%s", list)
	}
	r.Insert(t, 0, ada)
	if list := tool(t, "pkcs11-tool", "--module", cardtest.Module(t), "-L"); !strings.Contains(list, r.Name(0)+"\n  token label        : ada") {
		t.Errorf("in another reader:\n%s", list)
	}
}

// Every algorithm, and every slot that signs, signs for OpenSC; openssl judges.
func TestKeys(t *testing.T) {
	r := cardtest.New(t)
	for _, algorithm := range []string{"RSA-2048", "P-256", "P-384"} {
		c := cardtest.NewCard().WithSerial()
		ids := map[string]cardtest.Slot{"02": cardtest.Signature}
		if algorithm == "P-256" {
			ids["01"], ids["04"] = cardtest.Authentication, cardtest.CardAuthentication
		}
		for _, slot := range ids {
			c.Put(t, slot, algorithm, "ada")
		}
		r.Insert(t, 0, c)
		dir := t.TempDir()
		at := func(name string) string { return filepath.Join(dir, name) }
		if err := os.WriteFile(at("data"), bytes.Repeat([]byte("d"), 100), 0o600); err != nil {
			t.Fatal(err)
		}
		tool(t, "openssl", "dgst", "-sha256", "-binary", "-out", at("digest"), at("data"))
		for id, slot := range ids {
			mechanism, input := "ECDSA", at("digest")
			if algorithm == "RSA-2048" {
				mechanism, input = "SHA256-RSA-PKCS", at("data")
			}
			tool(t, "pkcs11-tool", "--module", cardtest.Module(t), "--slot-index", "0", "--login", "--pin", cardtest.DefaultPIN, "--sign", "--id", id,
				"--mechanism", mechanism, "--signature-format", "openssl", "--input-file", input, "--output-file", at("signature"))
			tool(t, "pkcs11-tool", "--module", cardtest.Module(t), "--slot-index", "0", "--read-object", "--type", "cert", "--id", id, "--output-file", at("cert"))
			tool(t, "openssl", "x509", "-inform", "DER", "-in", at("cert"), "-noout", "-pubkey", "-out", at("public"))
			tool(t, "openssl", "dgst", "-sha256", "-verify", at("public"), "-signature", at("signature"), at("data"))
			if c.Public(slot) == nil {
				t.Errorf("no key in %x", slot)
			}
		}
	}
}

// The PIN counts wrong tries and locks, the PUK unlocks it, and slot 9C signs once for each PIN.
func TestPIN(t *testing.T) {
	r := cardtest.New(t)
	c := cardtest.NewCard().WithSerial()
	c.Put(t, cardtest.Signature, "P-256", "ada")
	r.Insert(t, 0, c)
	login := func(pin string) error {
		_, err := run("pkcs11-tool", nil, "--module", cardtest.Module(t), "--slot-index", "0", "--login", "--pin", pin, "-O")
		return err
	}
	for left := cardtest.Tries - 1; left >= 0; left-- {
		if login("654321") == nil {
			t.Error("a wrong PIN")
		}
		if pin, puk := c.TriesLeft(); pin != left || puk != cardtest.Tries {
			t.Errorf("%d and %d tries left, not %d", pin, puk, left)
		}
	}
	if login(cardtest.DefaultPIN) == nil {
		t.Error("a locked PIN")
	}
	tool(t, "pkcs15-tool", "--reader", r.Name(0), "--unblock-pin", "--auth-id", "01", "--puk", cardtest.DefaultPUK, "--new-pin", "271828")
	if err := login("271828"); err != nil {
		t.Error(err)
	}
	if pin, puk := c.TriesLeft(); pin != cardtest.Tries || puk != cardtest.Tries {
		t.Errorf("%d and %d tries left", pin, puk)
	}
	// The log holds no PIN, and says that each signature had one of its own.
	c.Log()
	data := filepath.Join(t.TempDir(), "digest")
	if err := os.WriteFile(data, make([]byte, 32), 0o600); err != nil {
		t.Fatal(err)
	}
	tool(t, "pkcs11-tool", "--module", cardtest.Module(t), "--slot-index", "0", "--login", "--pin", "271828", "--sign", "--id", "02", "--mechanism", "ECDSA", "--input-file", data, "--output-file", data+".sig")
	log := c.Log()
	if n := len(log); n < 2 || log[n-1].Instruction != 0x87 || log[n-1].Status != 0x9000 || log[n-2].Instruction != 0x20 || log[n-2].Status != 0x9000 {
		t.Errorf("commands: %x", log)
	}
}

// A blank card makes a key for who has the management key; without it nothing is made or written. OpenSC's piv-tool sends the bare
// command, for its own way to make a key fails under OpenSSL 3 when it writes the public key.
func TestBlankCard(t *testing.T) {
	r := cardtest.New(t)
	c := cardtest.NewCard()
	r.Insert(t, 0, c)
	generate := func(key string) (string, error) {
		return run("piv-tool", managementKey(t, key), "-r", r.Name(0), "-A", "M:9B:03", "-s", "00:47:00:9A:05:AC:03:80:01:11")
	}
	if out, err := generate(strings.Repeat("42", 24)); err == nil || c.Public(cardtest.Authentication) != nil {
		t.Error("with a wrong management key:", out)
	}
	out, err := generate(cardtest.DefaultManagementKey)
	if err != nil || !strings.Contains(out, "7F 49 43 86 41 04") || c.Public(cardtest.Authentication) == nil {
		t.Fatal(out, err)
	}
}

// A card that is pulled while it works gives no answer, and has its key when it is back.
func TestPulled(t *testing.T) {
	r := cardtest.New(t)
	c := cardtest.NewCard().WithSerial()
	c.Put(t, cardtest.Signature, "P-256", "ada")
	r.Insert(t, 3, c)
	var failed error
	c.Before(func(k cardtest.Command) {
		if k.Instruction == 0x87 {
			r.Snatch(3)
		}
	})
	data := filepath.Join(t.TempDir(), "digest")
	if err := os.WriteFile(data, make([]byte, 32), 0o600); err != nil {
		t.Fatal(err)
	}
	sign := []string{"--module", cardtest.Module(t), "--slot-index", "3", "--login", "--pin", cardtest.DefaultPIN, "--sign", "--id", "02", "--mechanism", "ECDSA", "--input-file", data, "--output-file", data + ".sig"}
	begun := time.Now()
	if _, failed = run("pkcs11-tool", nil, sign...); failed == nil || time.Since(begun) > time.Minute {
		t.Errorf("pulled: %v after %s", failed, time.Since(begun))
	}
	c.Before(nil)
	r.Insert(t, 3, c)
	tool(t, "pkcs11-tool", sign...)
}
