package quorum

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestKeyFile(t *testing.T) {
	pass := []byte("correct horse battery")
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Fatal("openssl is needed as a judge: apt-get install openssl")
	}
	dir := t.TempDir()
	passFile := filepath.Join(dir, "pass")
	if err := os.WriteFile(passFile, pass, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, list := range map[string][]crypto.Signer{"Ed25519": keys()["Ed25519"], "RSA": keys()["RSA"]} {
		data, err := SealKey(list[0], pass)
		if err != nil {
			t.Fatal(err)
		}
		want, _ := KeyID(list[0].Public())
		path := filepath.Join(dir, "key")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(openssl, "pkey", "-in", path, "-passin", "file:"+passFile, "-pubout", "-outform", "DER").Output()
		if err != nil || Sum(out).String() != want {
			t.Errorf("%s: openssl does not read it: %v", name, err)
		}
		out, err = exec.Command(openssl, "asn1parse", "-in", path).Output()
		if err != nil || !bytes.Contains(out, []byte("INTEGER           :0927C0")) || !bytes.Contains(out, []byte(":hmacWithSHA256")) || !bytes.Contains(out, []byte(":aes-256-cbc")) {
			t.Errorf("%s: not 600,000 rounds of PBKDF2 with HMAC-SHA256, and AES-256: %v\n%s", name, err, out)
		}
		// Under the race detector the rounds take eight seconds each time: one kind of key is opened too.
		if name == "Ed25519" {
			got, err := OpenKey(data, pass)
			if err != nil {
				t.Fatal(err)
			}
			if id, _ := KeyID(got.Public()); id != want {
				t.Errorf("%s: another key", name)
			}
		}
		// And openssl's way of writing one is read.
		der, err := x509.MarshalPKCS8PrivateKey(list[0])
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(openssl, "pkcs8", "-topk8", "-v2", "aes-256-cbc", "-passout", "file:"+passFile)
		plain := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
		cmd.Stdin = bytes.NewReader(plain)
		if out, err = cmd.Output(); err != nil {
			t.Fatal(err)
		}
		got, err := OpenKey(out, pass)
		if err != nil {
			t.Fatalf("%s: openssl's file: %v", name, err)
		}
		if id, _ := KeyID(got.Public()); id != want {
			t.Errorf("%s: openssl's file: another key", name)
		}
		if _, err := OpenKey(out, []byte("wrong passphrase")); err == nil || strings.Contains(err.Error(), "wrong passphrase") {
			t.Errorf("%s: wrong passphrase: %v", name, err)
		}
		if _, err := OpenKey(plain, pass); err == nil || !strings.Contains(err.Error(), `want "ENCRYPTED PRIVATE KEY"`) {
			t.Errorf("%s: a key in the clear: %v", name, err)
		}
	}
	if _, err := SealKey(keys()["P-256"][0], []byte("short")); err == nil {
		t.Error("short passphrase accepted")
	}
	for _, bad := range [][]byte{nil, []byte("x"), make([]byte, maxKeyFile+1), []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")} {
		if _, err := OpenKey(bad, pass); err == nil {
			t.Errorf("%.20q accepted", bad)
		}
	}
	if _, err := GenerateKey("DSA"); err == nil {
		t.Error("DSA accepted")
	}
}
