package tpm_test

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/tpm"
	"github.com/hanaper/hanaper/hsm/tpm/tpmtest"
	"github.com/hanaper/hanaper/internal/signature"
)

// run runs a judge with the TPM.
func run(t testing.TB, c *tpmtest.Chip, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "TPM2TOOLS_TCTI=swtpm:path="+c.Socket, "TPM2OPENSSL_TCTI=swtpm:path="+c.Socket)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// TestJudges: openssl with its tpm2 provider signs with our key files, and tpm2-tools load them; the attributes that it prints are ours.
func TestJudges(t *testing.T) {
	c := tpmtest.New(t)
	u, _ := newStore(t, c, tpm.NewStore{})
	tok := open(t, u)
	dir := t.TempDir()
	message := filepath.Join(dir, "message")
	text := make([]byte, 100)
	rand.Read(text)
	if err := os.WriteFile(message, text, 0o600); err != nil {
		t.Fatal(err)
	}
	pinFile := filepath.Join(dir, "pin")
	if err := os.WriteFile(pinFile, []byte(pin), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, a := range []hsm.Algorithm{hsm.P256, hsm.P384, hsm.RSA2048} {
		k, err := tok.Generate(bg, hsm.GenerateSpec{Label: string(a), Algorithm: a})
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(u.Store, "keys", hexOf(k.Attributes().ID)+".pem")
		sig := filepath.Join(dir, "sig")
		run(t, c, "openssl", "pkeyutl", "-provider", "tpm2", "-provider", "default", "-propquery", "?provider=tpm2,tpm2.digest!=yes", "-sign", "-rawin", "-digest", "sha256",
			"-inkey", file, "-passin", "file:"+pinFile, "-in", message, "-out", sig)
		got, err := os.ReadFile(sig)
		if err != nil {
			t.Fatal(err)
		}
		digest := sha256.Sum256(text)
		if !signature.Verify(k.Public(), digest[:], crypto.SHA256, got) {
			t.Errorf("%s: openssl's signature with our file does not verify", a)
		}
		pub, err := x509.MarshalPKIXPublicKey(k.Public())
		if err != nil {
			t.Fatal(err)
		}
		read := run(t, c, "openssl", "pkey", "-provider", "tpm2", "-provider", "default", "-propquery", "?provider=tpm2", "-in", file, "-passin", "file:"+pinFile, "-pubout")
		if read != string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pub})) {
			t.Errorf("%s: openssl reads another public key:\n%s", a, read)
		}
		// tpm2-tools take the two parts of the file.
		raw, private, public := parts(t, file), filepath.Join(dir, "private"), filepath.Join(dir, "public")
		if err := os.WriteFile(private, raw.private, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(public, raw.public, 0o600); err != nil {
			t.Fatal(err)
		}
		parent, loaded := filepath.Join(dir, "parent"), filepath.Join(dir, "loaded")
		run(t, c, "tpm2_createprimary", "-C", "o", "-G", "ecc", "-a", "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|decrypt", "-c", parent)
		run(t, c, "tpm2_flushcontext", "-t")
		run(t, c, "tpm2_load", "-C", parent, "-u", public, "-r", private, "-c", loaded)
		run(t, c, "tpm2_flushcontext", "-t")
		shown := run(t, c, "tpm2_readpublic", "-c", loaded)
		run(t, c, "tpm2_flushcontext", "-t")
		if !strings.Contains(shown, "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|sign") {
			t.Errorf("%s: tpm2_readpublic shows other attributes:\n%s", a, shown)
		}
		out := run(t, c, "tpm2_sign", "-c", loaded, "-p", "file:"+pinFile, "-g", "sha256", "-f", "plain", "-o", sig, message)
		run(t, c, "tpm2_flushcontext", "-t")
		got, err = os.ReadFile(sig)
		if err != nil {
			t.Fatal(err)
		}
		if !signature.Verify(k.Public(), digest[:], crypto.SHA256, got) {
			t.Errorf("%s: the signature of tpm2_sign does not verify\n%s", a, out)
		}
	}
}

type rawKey struct{ public, private []byte }

func parts(t testing.TB, file string) rawKey {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	public, private, err := tpm.Parts(data)
	if err != nil {
		t.Fatal(err)
	}
	return rawKey{public, private}
}

func hexOf(id []byte) string { return hex.EncodeToString(id) }
