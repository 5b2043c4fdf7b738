package registry

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/gateway"
	"github.com/hanaper/hanaper/gateway/registry/registrytest"
)

func TestSQLite(t *testing.T) {
	registrytest.Run(t, func(t *testing.T) registrytest.Opener {
		// A name that a careless URI would take apart.
		path := filepath.Join(t.TempDir(), "devices #1?mode=ro.db")
		return func(t *testing.T) gateway.Registry {
			r, err := Open(path)
			if err != nil {
				t.Fatal(err)
			}
			info, err := os.Stat(path)
			if err != nil || info.Mode().Perm() != 0o600 {
				t.Fatalf("%v, %v: want mode 0600", info, err)
			}
			return r
		}
	})
}

func TestOpenRefusals(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text.db")
	if err := os.WriteFile(text, []byte(strings.Repeat("this is no database\n", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	newer := filepath.Join(dir, "newer.db")
	r, err := Open(newer)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.write.Exec("PRAGMA user_version = 99"); err != nil {
		t.Fatal(err)
	}
	r.Close()
	for path, want := range map[string]string{
		text: "not a database", newer: "newer release", filepath.Join(dir, "none", "x.db"): "no such file",
	} {
		if r, err := Open(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
			if r != nil {
				r.Close()
			}
		}
	}
}

// TestBlind: a registry that cannot see deletions says so.
func TestBlind(t *testing.T) {
	r, err := Open(filepath.Join(t.TempDir(), "devices.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.Err(); err != nil {
		t.Fatal(err)
	}
	r.looked.Store(int64(-maxBlind - time.Second)) // until the next look, in half a second
	if err := r.Err(); err == nil || !strings.Contains(err.Error(), "not answered") {
		t.Errorf("%v", err)
	}
	for end := time.Now().Add(time.Minute); r.Err() != nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(r.Err())
		}
	}
}
