package sqlite

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/hanaper/hanaper/factory/record"
	"github.com/hanaper/hanaper/factory/record/recordtest"
)

func opened(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := Open(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestSQLite is the suite, and how the file lies there.
func TestSQLite(t *testing.T) {
	base := t.TempDir()
	recordtest.Suite(t, func(t *testing.T) (record.Store, func() record.Store) {
		return opened(t, filepath.Join(base, t.Name(), "state with a space?#%")), nil
	})
	dir := filepath.Join(base, "one")
	s := opened(t, dir)
	defer s.Close()
	for path, want := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, File): 0o600} {
		st, err := os.Stat(path)
		if err != nil || st.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", path, st.Mode().Perm(), err)
		}
	}
}
