package main

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/journal"
	"github.com/hanaper/hanaper/softhsm"
	"github.com/hanaper/hanaper/uptane"
)

// TestUptaneKey: an officer makes a key in a token and gets its public half in the form that roots list.
func TestUptaneKey(t *testing.T) {
	board, err := softhsm.ForTest(t).Create("officer")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	tree := func() string {
		var all strings.Builder
		list, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			b, err := os.ReadFile(file(e.Name()))
			if err != nil {
				t.Fatal(err)
			}
			all.WriteString(e.Name() + string(b))
		}
		return all.String()
	}
	generate := func(label, algorithm, out string) (int, string, string) {
		return runUptane(t, "key", "generate", "--token", board.URI, "--label", label, "--algorithm", algorithm, "--out", file(out), "--transcript", file("log"))
	}
	key := func(label string) string { return strings.Replace(board.URI, "?", ";object="+label+"?", 1) }
	for _, c := range []struct{ label, algorithm, method string }{{"one", "Ed25519", "ed25519"}, {"two", "RSA-2048", "rsassa-pss-sha256"}} {
		code, out, errs := generate(c.label, c.algorithm, c.label+".pub")
		if code != 0 {
			t.Fatalf("%s: %d %s", c.algorithm, code, errs)
		}
		b, err := os.ReadFile(file(c.label + ".pub"))
		if err != nil {
			t.Fatal(err)
		}
		k, err := uptane.ParsePublic(b)
		if err != nil {
			t.Fatal(err)
		}
		// The key id is that of the wire notes: SHA-256 of the SubjectPublicKeyInfo.
		der, err := x509.MarshalPKIXPublicKey(k.Public())
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(der)
		if k.ID() != hex.EncodeToString(sum[:]) || !strings.Contains(out, k.ID()) || string(k.Method()) != c.method || strings.Contains(string(b), "private") {
			t.Errorf("%s\n%s", out, b)
		}
		// Exported again it is the same file.
		if code, _, errs := runUptane(t, "key", "export", "--key", key(c.label), "--out", file(c.label+".again"), "--transcript", file("log")); code != 0 {
			t.Fatalf("%d %s", code, errs)
		}
		if again, err := os.ReadFile(file(c.label + ".again")); err != nil || string(again) != string(b) {
			t.Errorf("%s: %v\n%s", c.label, err, again)
		}
	}
	log, err := journal.Open(file("log"))
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for i := range log.Size() {
		b, err := log.Leaf(i)
		if err != nil {
			t.Fatal(err)
		}
		kind, _, _ := strings.Cut(strings.TrimPrefix(string(b), `{"kind":"`), `"`)
		kinds = append(kinds, kind)
	}
	log.Close()
	once := "uptane-key-generate-intent uptane-key-generate uptane-key-check-intent uptane-key-check uptane-key-check-intent uptane-key-check"
	if got := strings.Join(kinds, " "); got != once+" "+once {
		t.Errorf("the log holds %s", got)
	}

	before := tree()
	for name, args := range map[string][]string{
		"a file in the way": {"key", "generate", "--token", board.URI, "--label", "new", "--out", file("one.pub"), "--transcript", file("log")},
		"P-256":             {"key", "generate", "--token", board.URI, "--label", "new", "--algorithm", "EC-P256", "--out", file("x"), "--transcript", file("log")},
		"a key's URI":       {"key", "generate", "--token", key("one"), "--label", "new", "--out", file("x"), "--transcript", file("log")},
		"a token's URI":     {"key", "export", "--key", board.URI, "--out", file("x"), "--transcript", file("log")},
		"no log":            {"key", "export", "--key", key("one"), "--out", file("x")},
		"over a file":       {"key", "export", "--key", key("one"), "--out", file("two.pub"), "--transcript", file("log")},
	} {
		if code, _, errs := runUptane(t, args...); code == 0 || errs == "" {
			t.Errorf("%s: %d %s", name, code, errs)
		}
		if tree() != before {
			t.Fatalf("%s: refused, but files changed", name)
		}
	}
	// A key of that name is never overwritten; the attempt stands in the log, and no public half is written.
	if code, _, errs := generate("one", "Ed25519", "x"); code == 0 || !strings.Contains(errs, "exists") {
		t.Errorf("%d %s", code, errs)
	}
	if _, err := os.Lstat(file("x")); err == nil {
		t.Error("a public half was written")
	}
}
