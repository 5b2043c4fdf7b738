package durable

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/internal/tracetest"
)

// TestOrderOfCalls sees what a power cut would: the bytes are synced before the name leads to them, and the directory after.
func TestOrderOfCalls(t *testing.T) {
	dir := os.Getenv(tracetest.Variable)
	if dir == "" {
		want := []string{
			"write TMP", "fsync TMP", "rename TMP a", "fsync .", // WriteFile
			"write TMP", "fsync TMP", "link TMP b", "unlink TMP", "fsync .", // Create
			"mkdir c", "fsync .", "mkdir c/d", "fsync c", // Mkdir
			"unlink a", "fsync .", // Remove
			"write c/TMP",             // what a killed writer left, made by the test
			"unlink c/TMP", "fsync c", // Sweep
		}
		dir := t.TempDir()
		got := tracetest.Files(t, dir, regexp.MustCompile(`\.hanaper-[^/]*\.tmp`))
		if !slices.Equal(got, want) {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		return
	}
	for _, err := range []error{
		WriteFile(filepath.Join(dir, "a"), []byte("one"), 0o600),
		Create(filepath.Join(dir, "b"), []byte("two"), 0o600),
		Mkdir(filepath.Join(dir, "c", "d"), 0o700),
		Remove(filepath.Join(dir, "a")),

		os.WriteFile(filepath.Join(dir, "c", ".hanaper-1.tmp"), nil, 0o600),
		Sweep(dir),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
}
