package trust_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/hanaper/hanaper/trust"
)

// put writes files into a folder.
func put(t testing.TB, dir string, files trust.Files) {
	t.Helper()
	for name, data := range files {
		at := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
