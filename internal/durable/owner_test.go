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

// TestOwnNotLedElsewhere: whoever owns a link on the way to a store, or its folder, says what root would work on, whoever owns that.
func TestOwnNotLedElsewhere(t *testing.T) {
	dir, roots := t.TempDir(), t.TempDir()
	give := func(path string) {
		t.Helper()
		if os.Geteuid() == 0 {
			if err := os.Lchown(path, 4711, 4711); err != nil {
				t.Fatal(err)
			}
		}
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, err := range []error{
		os.Mkdir(at("made by root"), 0o700), os.WriteFile(at("made by root/store.db"), nil, 0o600), os.WriteFile(filepath.Join(roots, "store.db"), nil, 0o600),
		os.Symlink("/etc", at("state")), os.Symlink("/etc/passwd", at("store.db")), os.Symlink("/none", at("dangling")), os.Symlink("loop", at("loop")),
		os.Symlink(dir, filepath.Join(roots, "to")), os.Symlink("/etc", at("of root")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"", "state", "store.db", "dangling", "loop"} {
		give(at(name))
	}
	for _, store := range []string{at("state"), at("state/new/factory.db"), at("state/passwd"), at("store.db"), at("dangling"), at("dangling/new"), at("loop"), at("loop/new"),
		at("made by root"), at("new"), at("new/store.db"), at("of root"), at("of root/passwd"), filepath.Join(roots, "to", "made by root"), roots + "/to/../" + filepath.Base(dir) + "/new"} {
		if err := own(0, []string{store}); err == nil || !strings.Contains(err.Error(), "this is root") {
			t.Errorf("%s: %v", store, err)
		}
	}
	good := []string{"/etc/passwd/..", "/bin/sh", "/bin/none/at/all", "/var/run/none", "/etc/../etc/passwd"} // links of the system lead on
	if os.Geteuid() == 0 {
		good = append(good, at("made by root/store.db"), at("made by root/new"), roots, // the folder above may be anybody's
			filepath.Join(roots, "store.db"), filepath.Join(roots, "new", "store.db"))
	}
	for _, store := range good {
		if err := own(0, []string{store}); err != nil {
			t.Errorf("%s: %v", store, err)
		}
	}
	t.Chdir(dir)
	if err := own(0, []string{"new.db"}); err == nil {
		t.Error("a path without a folder is not looked at")
	}
}
