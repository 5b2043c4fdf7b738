package cpio_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/hanaper/hanaper/internal/cpio"
)

// TestArchive: what is written, cpio itself unpacks, with modes and links; and twice the same bytes come out.
func TestArchive(t *testing.T) {
	outside := t.TempDir()
	for name, text := range map[string]string{"b/two": "2", "a": "one\n"} {
		path := filepath.Join(outside, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	write := func() []byte {
		var b bytes.Buffer
		w := cpio.NewWriter(&b)
		w.Dir("etc/empty", 0o700)
		w.File("etc/name", 0o600, []byte("abc"))
		w.Symlink("etc/link", "name")
		w.Tree("tree", outside)
		if err := w.End(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	archive := write()
	if !bytes.Equal(archive, write()) {
		t.Error("two archives of the same entries differ")
	}
	dir := t.TempDir()
	cmd := exec.Command("cpio", "-id", "--quiet")
	cmd.Dir, cmd.Stdin = dir, bytes.NewReader(archive)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("cpio: %v\n%s", err, out)
	}
	for name, want := range map[string]struct {
		mode os.FileMode
		text string
	}{"etc/empty": {0o700 | os.ModeDir, ""}, "etc/name": {0o600, "abc"}, "etc": {0o755 | os.ModeDir, ""}, "tree/a": {0o640, "one\n"}, "tree/b/two": {0o640, "2"}} {
		st, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
			continue
		}
		if st.Mode() != want.mode {
			t.Errorf("%s: mode %v, want %v", name, st.Mode(), want.mode)
		}
		if text, err := os.ReadFile(filepath.Join(dir, name)); !st.IsDir() && (err != nil || string(text) != want.text) {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
	if to, err := os.Readlink(filepath.Join(dir, "etc/link")); to != "name" {
		t.Errorf("link to %q, %v", to, err)
	}
	missing := cpio.NewWriter(&bytes.Buffer{})
	missing.Copy("x", filepath.Join(dir, "absent"))
	if missing.End() == nil {
		t.Error("a file that is absent was archived")
	}
}
