package registry

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
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

// TestWideModes: a registry that others may read or write is refused, and left as it is.
func TestWideModes(t *testing.T) {
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o602, 0o666} {
		path := filepath.Join(t.TempDir(), "devices.db")
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if r, err := Open(path); err == nil || !strings.Contains(err.Error(), "may be read or written by others") {
			t.Errorf("%o: %v", mode, err)
			if r != nil {
				r.Close()
			}
		}
		if info, err := os.Stat(path); err != nil || info.Size() != 0 {
			t.Errorf("%o: it was written to (%v)", mode, err)
		}
	}
}

// TestLogGone: without the log of changes that it opened, a registry does not see what others bar.
func TestLogGone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "devices.db")
	r, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := os.Remove(path + "-wal"); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); r.Err() == nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("nothing is wrong")
		}
	}
}

// TestDeletionCostsOne: a tombstone takes its own device out of memory, and no other, which would all be written anew.
func TestDeletionCostsOne(t *testing.T) {
	ctx, path := context.Background(), filepath.Join(t.TempDir(), "devices.db")
	r, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	other, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	one := func(name string) gateway.Meeting {
		return gateway.Meeting{Device: name, Certificate: sha256.Sum256([]byte(name)), NotAfter: time.Now().Add(time.Hour), At: time.Now()}
	}
	for _, name := range []string{"a", "b", "c"} {
		if _, err := r.Meet(ctx, one(name)); err != nil {
			t.Fatal(err)
		}
	}
	wait := func(what string, ok func() bool) {
		t.Helper()
		for end := time.Now().Add(time.Minute); !ok(); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("never: ", what)
			}
		}
	}
	if err := other.Delete(ctx, "b", "", time.Now()); err != nil {
		t.Fatal(err)
	}
	wait("the deletion is seen", func() bool { return r.Deleted("b") })
	if r.recent.Contains("b") || r.recent.Len() != 2 {
		t.Errorf("%v are known", r.recent.Keys())
	}
	if err := other.Release(ctx, "b", time.Now()); err != nil {
		t.Fatal(err)
	}
	wait("the release is seen", func() bool { return !r.Deleted("b") })
	if met, err := r.Meet(ctx, one("b")); err != nil || !met.New || r.recent.Len() != 3 {
		t.Errorf("%+v, %v, %v", met, err, r.recent.Keys())
	}
	// What came and went unseen may have been anybody's.
	if err := other.alter(ctx, func(tx *sql.Tx) error { return nil }); err != nil {
		t.Fatal(err)
	}
	wait("all are forgotten", func() bool { return r.recent.Len() == 0 })
}

// TestFull: a disk that is full is told, also where nobody comes, and so is its end.
func TestFull(t *testing.T) {
	r, err := Open(filepath.Join(t.TempDir(), "devices.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	limit := func(pages int) {
		if _, err := r.write.Exec(fmt.Sprintf("PRAGMA max_page_count = %d", pages)); err != nil {
			t.Fatal(err)
		}
	}
	limit(1) // SQLite takes the pages that are there
	var full error
	for i := 0; full == nil; i++ {
		_, full = r.Meet(context.Background(), gateway.Meeting{Device: fmt.Sprint("d", i), Certificate: sha256.Sum256(fmt.Append(nil, i)), NotAfter: time.Now().Add(time.Hour), At: time.Now()})
	}
	if err := r.Trouble(); err == nil || !strings.Contains(err.Error(), "full") {
		t.Errorf("%v", err)
	}
	if _, err := r.Meet(context.Background(), gateway.Meeting{Device: "d0", Certificate: sha256.Sum256([]byte("0")), NotAfter: time.Now().Add(time.Hour), At: time.Now()}); err != nil {
		t.Errorf("a device that is known: %v", err)
	}
	limit(1 << 20)
	for end := time.Now().Add(time.Minute); r.Trouble() != nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(r.Trouble())
		}
	}
}

// TestFormat1: a registry of the first release is taken over as it is.
func TestFormat1(t *testing.T) {
	path := filepath.Join(t.TempDir(), "devices.db")
	old, err := os.ReadFile("testdata/format-1.sql")
	if err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(string(old)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Close(), os.Chmod(path, 0o600)); err != nil {
		t.Fatal(err)
	}
	r, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	d, err := r.Device(context.Background(), "vin-0001")
	if err != nil || len(d.Certificates) != 1 || d.Certificates[0].Serial != "1f" || !r.Deleted("vin-0002") || len(r.ID()) != 32 || d.Key != strings.Repeat("02", 32) {
		t.Errorf("%+v, %v, id %q", d, err, r.ID())
	}
	// Two spellings of an id: the barred one stays.
	if list, err := r.Devices(context.Background(), "", 10); err != nil || len(list) != 3 || !r.Deleted("VIN-0003") {
		t.Errorf("%+v, %v", list, err)
	}
	// Its key is bound from the time at which it was met with it.
	later := gateway.Meeting{Device: "vin-0001", Key: [32]byte{9}, Certificate: [32]byte{9}, NotBefore: time.Unix(1790000000, 0), NotAfter: time.Unix(2000000000, 0), At: time.Unix(1800000000, 0)}
	if _, err := r.Meet(context.Background(), later); !errors.Is(err, gateway.ErrOtherKey) {
		t.Error(err)
	}
	later.NotBefore = later.NotBefore.Add(time.Second)
	if met, err := r.Meet(context.Background(), later); err != nil || !met.Rekeyed {
		t.Error(met, err)
	}
}
