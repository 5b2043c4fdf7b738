package reposerver

import (
	"bytes"
	"crypto/sha256"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/internal/tracetest"
)

var tracedNames = regexp.MustCompile(`\.(hanaper|incoming)-[^/]*|[0-9a-f]{64}`)

// TestOrderOfCalls sees what a power cut would: a file is on the disk before a name leads to it.
func TestOrderOfCalls(t *testing.T) {
	dir := os.Getenv(tracetest.Variable)
	if dir == "" {
		want := []string{
			"mkdir blobs", "fsync .", "mkdir names", "fsync .", "mkdir pending", "fsync .", // newStorage
			"write blobs/TMP", "fsync blobs/TMP", "rename blobs/TMP blobs/TMP", "fsync blobs", // the file
			"write names/TMP", "fsync names/TMP", "rename names/TMP names/TMP.json", "fsync names", // its name
			"write pending/TMP", "fsync pending/TMP", "rename pending/TMP pending/part", "fsync pending", // a part of an upload
		}
		if got := tracetest.Files(t, t.TempDir(), tracedNames); !slices.Equal(got, want) {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		return
	}
	s, err := newStorage(StorageConfig{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.putWhole("image.bin", false, strings.NewReader("bytes"), 5, func(string, int64) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if err := receive(filepath.Join(dir, "pending", "part"), bytes.NewReader([]byte("part")), sha256.New(), func(int64) error { return nil }); err != nil {
		t.Fatal(err)
	}
}
