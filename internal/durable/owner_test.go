package durable

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/internal/advice"
)

// TestOwn: root does not work on the stores of another user, found or to be made; that user does, and so does root on its own.
func TestOwn(t *testing.T) {
	dir := t.TempDir()
	if os.Geteuid() == 0 {
		if err := os.Chown(dir, 4711, 4711); err != nil {
			t.Fatal(err)
		}
	}
	inside := filepath.Join(dir, "store")
	if err := os.WriteFile(inside, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(inside, 4711, 4711); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		euid    int
		stores  []string
		refused bool
	}{
		{0, []string{dir}, true},
		{0, []string{inside}, true},
		{0, []string{"", filepath.Join(dir, "new", "store.db")}, true},
		{0, []string{"/etc/new", dir}, true},
		{0, []string{"/etc", "", "/none/at/all"}, false},
		{0, nil, false},
		{4711, []string{dir}, false},
		{815, []string{"/etc"}, false}, // the file system refuses what it has to
	} {
		err := own(c.euid, c.stores)
		if (err != nil) != c.refused {
			t.Errorf("%d %q: %v", c.euid, c.stores, err)
		}
		if err != nil && (advice.KindOf(err) != advice.Usage || !strings.Contains(err.Error(), "this is root") || !strings.Contains(err.Error(), dir)) {
			t.Errorf("%d %q: %v", c.euid, c.stores, err)
		}
	}
}
