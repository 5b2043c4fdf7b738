package journal

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

// The example of docs/spec/journal.md is what the code reads and writes.
func TestSpecExample(t *testing.T) {
	data, err := os.ReadFile("testdata/example.journal")
	if err != nil {
		t.Fatal(err)
	}
	r, err := Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	l, path := newLogOf(t, r.Origin(), r.Leaves())
	if !bytes.Equal(read(t, path), data) || l.Root() != r.Root() {
		t.Error("written otherwise")
	}
	cp, err := os.ReadFile("testdata/example.checkpoint")
	if err != nil {
		t.Fatal(err)
	}
	vkey, err := os.ReadFile("testdata/example.vkey")
	if err != nil {
		t.Fatal(err)
	}
	v, err := ParseVerifierKey(strings.TrimSpace(string(vkey)))
	if err != nil {
		t.Fatal(err)
	}
	c, err := VerifyCheckpoint(cp, v)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Check(c); err != nil {
		t.Error(err)
	}
	spec, err := os.ReadFile("../docs/spec/journal.md")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{"journal": data, "checkpoint": cp, "verifier key": vkey} {
		if !bytes.Contains(spec, text) {
			t.Errorf("the specification does not show this %s:\n%s", name, text)
		}
	}
}

func newLogOf(t *testing.T, origin string, leaves [][]byte) (*Log, string) {
	t.Helper()
	path := t.TempDir() + "/journal.log"
	l, err := Create(path, origin)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	if _, err := l.AppendAll(leaves); err != nil {
		t.Fatal(err)
	}
	return l, path
}
