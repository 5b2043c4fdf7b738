package weakkey

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/internal/advice"
)

// TestPublished: the list is in order, and knows keys of RFCs and numbers that everybody tries; a fresh key is not on it.
func TestPublished(t *testing.T) {
	list := published()
	if len(list) < 180 || !slices.IsSortedFunc(list, func(a, b publishedKey) int { return slices.Compare(a.digest[:], b.digest[:]) }) {
		t.Fatalf("%d keys, or out of order", len(list))
	}
	one, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), append(make([]byte, 31), 1))
	if err != nil {
		t.Fatal(err)
	}
	// RFC 6979, appendix A.2.5, and RFC 8032, section 7.1, test 1.
	rfc6979, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), unhex("c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721"))
	if err != nil {
		t.Fatal(err)
	}
	rfc8032 := ed25519.PublicKey(unhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"))
	for want, pub := range map[string]any{"private key of 1": one.Public(), "RFC 6979": rfc6979.Public(), "RFC 8032": rfc8032} {
		if got := Published(pub); !strings.Contains(got, want) {
			t.Errorf("%s: %q", want, got)
		}
	}
	fresh, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil || Published(fresh) != "" || Published("no key") != "" {
		t.Errorf("a fresh key is published, %v", err)
	}
}

// TestBlacklist: the digest of a key is that which openssl and sha1sum make, as openssl-blacklist says; a key of another size, another key,
// and an EC key are not on the list.
func TestBlacklist(t *testing.T) {
	weak, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	der, err := x509.MarshalPKIXPublicKey(weak.Public())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "k.pem"), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("sh", "-c", "openssl rsa -pubin -noout -modulus -in "+filepath.Join(dir, "k.pem")+" | sha1sum | cut -d ' ' -f 1 | cut -c 21-").Output()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "blacklist.RSA-2048")
	write := func(path, text string) string {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	list, err := LoadBlacklists([]string{write(path, "# comment\n00005890bc78bcbee3ca\n"+string(out))})
	if err != nil || !list.Has(weak.Public()) || list.Has(other.Public()) || list.Has(ed25519.PublicKey(nil)) {
		t.Errorf("%v; has the key: %v", err, list.Has(weak.Public()))
	}
	if again := (&rsa.PublicKey{N: weak.N, E: 3}); !list.Has(again) {
		t.Error("the same modulus with another exponent is not on the list")
	}
	if list, err = LoadBlacklists([]string{write(filepath.Join(dir, "blacklist.RSA-4096"), string(out))}); err != nil || list.Has(weak.Public()) {
		t.Errorf("a list for another size: %v", err)
	}
	for name, text := range map[string]string{"blacklist.RSA-2048": "00005890bc78bcbee3\n", "x.RSA-2048": "00005890bc78bcbee3caff\n", "y.RSA-2048": "zz005890bc78bcbee3ca\n", "z.RSA-2048": "# nothing\n", "list": string(out), "w.RSA-x": string(out)} {
		if list, err := LoadBlacklists([]string{write(filepath.Join(dir, name), text)}); list != nil || advice.KindOf(err) != advice.Usage {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := LoadBlacklists([]string{filepath.Join(dir, "none.RSA-2048")}); err == nil {
		t.Error("a file that is not there")
	}
}

func FuzzBlacklist(f *testing.F) {
	f.Add([]byte("# a\n00005890bc78bcbee3ca\n"))
	f.Add([]byte("00005890bc78bcbee3ca"))
	f.Fuzz(func(t *testing.T, data []byte) {
		l := Blacklist{}
		if err := l.add(2048, data); err == nil && len(l[2048]) == 0 {
			t.Error("a list of nothing was taken")
		}
	})
}
