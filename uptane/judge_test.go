package uptane

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/internal/format"
)

// openssl runs the independent judge; a machine without it fails, for its word is what the test is about.
func openssl(t *testing.T, stdin []byte, args ...string) ([]byte, error) {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Fatal("openssl is not installed: apt-get install openssl")
	}
	cmd := exec.Command("openssl", args...)
	cmd.Stdin = bytes.NewReader(stdin)
	return cmd.Output()
}

func TestOpenSSLAgrees(t *testing.T) {
	w, dir := newWorld(), t.TempDir()
	first := signed(t, must(NewRoot(w.rootConfig(t))), w.rootA, w.rootB)
	write := func(name string, b []byte) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	body := write("signed", first.Signed())
	checked := map[KeyType]bool{}
	for _, s := range first.Signatures() {
		k, _ := RootAuthority(nil, first).Key(s.KeyID)
		sig := write("sig", s.Sig)
		checked[k.Type()] = true
		if k.Type() == RSA {
			pub := write("pub.pem", []byte(k.Value()))
			der, err := openssl(t, nil, "pkey", "-pubin", "-in", pub, "-outform", "DER")
			if err != nil {
				t.Fatal(err)
			}
			sum, err := openssl(t, der, "dgst", "-sha256", "-r")
			if err != nil || !strings.HasPrefix(string(sum), k.ID()) {
				t.Errorf("openssl's key id is %s, ours %s", sum, k.ID())
			}
			again, err := openssl(t, nil, "pkey", "-pubin", "-in", pub)
			if err != nil || string(again) != k.Value() {
				t.Errorf("openssl writes the PEM as\n%s, we as\n%s", again, k.Value())
			}
			verify := func(salt string) bool {
				out, err := openssl(t, nil, "dgst", "-sha256", "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:"+salt, "-verify", pub, "-signature", sig, body)
				return err == nil && strings.Contains(string(out), "Verified OK")
			}
			if !verify("32") {
				t.Error("openssl refuses the signature with salt 32")
			}
			if verify("20") {
				t.Error("openssl takes the signature with salt 20")
			}
			continue
		}
		pub := write("pub.der", k.SPKI())
		if len(k.SPKI()) != 44 {
			t.Errorf("Ed25519 SubjectPublicKeyInfo of %d bytes, not the 44 of RFC 8410", len(k.SPKI()))
		}
		if out, err := openssl(t, nil, "pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-inkey", pub, "-rawin", "-in", body, "-sigfile", sig); err != nil {
			t.Errorf("openssl refuses the Ed25519 signature: %s", out)
		}
		sum, err := openssl(t, k.SPKI(), "dgst", "-sha256", "-r")
		if err != nil || !strings.HasPrefix(string(sum), k.ID()) {
			t.Errorf("openssl's key id is %s, ours %s", sum, k.ID())
		}
	}
	if !checked[RSA] || !checked[Ed25519] {
		t.Error("not both key types were judged")
	}
}

// TestWeTakeOpenSSL has the signatures made by the peer.
func TestWeTakeOpenSSL(t *testing.T) {
	dir := t.TempDir()
	file := func(n string) string { return filepath.Join(dir, n) }
	if _, err := openssl(t, nil, "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072", "-out", file("k.pem")); err != nil {
		t.Fatal(err)
	}
	pem, err := openssl(t, nil, "pkey", "-in", file("k.pem"), "-pubout")
	if err != nil {
		t.Fatal(err)
	}
	k, err := parseKeyValue(format.Version{}, RSA, string(pem))
	if err != nil {
		t.Fatal(err)
	}
	if k.Algorithm() != "RSA-3072" {
		t.Error(k.Algorithm())
	}
	message := []byte(`{"_type":"Root"}`)
	for salt, good := range map[string]bool{"32": true, "20": false, "max": false} {
		sig, err := openssl(t, message, "dgst", "-sha256", "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:"+salt, "-sign", file("k.pem"))
		if err != nil {
			t.Fatal(err)
		}
		if err := k.verify(message, Signature{k.ID(), RSASSAPSSSHA256, sig}); (err == nil) != good {
			t.Errorf("salt %s: %v", salt, err)
		}
	}
}

// The sizes that are allowed, through the encoder and back.
func TestKeySizes(t *testing.T) {
	for bits, good := range map[int]bool{1024: false, 2048: true, 3072: true, 4096: true} {
		if testing.Short() && bits > 3072 {
			continue
		}
		t.Setenv("GODEBUG", "rsa1024min=0")
		priv, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			t.Fatal(err)
		}
		k, err := NewKey(&priv.PublicKey)
		if (err == nil) != good {
			t.Errorf("%d bits: %v", bits, err)
			continue
		}
		if !good {
			continue
		}
		back, err := ParseKey(must(k.MarshalJSON()))
		if err != nil || back.ID() != k.ID() || back.Bits() != bits {
			t.Errorf("%d bits: read back as %v, %v", bits, back.ID(), err)
		}
	}
	k := key(t, edKey("x"))
	if b, err := hex.DecodeString(k.Value()); err != nil || len(b) != 32 {
		t.Errorf("Ed25519 is written as %q", k.Value())
	}
	if base64.StdEncoding.EncodeToString(k.SPKI()[:12]) != "MCowBQYDK2VwAyEA" {
		t.Error("not the RFC 8410 prefix")
	}
}
