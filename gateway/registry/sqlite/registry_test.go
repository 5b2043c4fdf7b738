package sqlite

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
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
			r, err := Open(Config{Path: path, Environment: "test"})
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
	r, err := Open(Config{Path: newer})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.store.write.Exec("PRAGMA user_version = 99"); err != nil {
		t.Fatal(err)
	}
	r.Close()
	for path, want := range map[string]string{
		text: "not a database", newer: "newer release", filepath.Join(dir, "none", "x.db"): "no such file",
	} {
		if r, err := Open(Config{Path: path, Environment: "test"}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
			if r != nil {
				r.Close()
			}
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
		if r, err := Open(Config{Path: path, Environment: "test"}); err == nil || !strings.Contains(err.Error(), "may be read or written by others") {
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
	r, err := Open(Config{Path: path, Environment: "test"})
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

// TestFull: a disk that is full is told, also where nobody comes, and so is its end.
func TestFull(t *testing.T) {
	r, err := Open(Config{Path: filepath.Join(t.TempDir(), "devices.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	limit := func(pages int) {
		if _, err := r.store.write.Exec(fmt.Sprintf("PRAGMA max_page_count = %d", pages)); err != nil {
			t.Fatal(err)
		}
	}
	limit(1) // SQLite takes the pages that are there
	var full error
	for i := 0; full == nil; i++ {
		_, full = r.Meet(context.Background(), gateway.Meeting{Environment: "test", Device: fmt.Sprint("d", i), Certificate: sha256.Sum256(fmt.Append(nil, i)), NotAfter: time.Now().Add(time.Hour), At: time.Now()})
	}
	if err := r.Trouble(); err == nil || !strings.Contains(err.Error(), "full") {
		t.Errorf("%v", err)
	}
	if _, err := r.Meet(context.Background(), gateway.Meeting{Environment: "test", Device: "d0", Certificate: sha256.Sum256([]byte("0")), NotAfter: time.Now().Add(time.Hour), At: time.Now()}); err != nil {
		t.Errorf("a device that is known: %v", err)
	}
	limit(1 << 20)
	for end := time.Now().Add(time.Minute); r.Trouble() != nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(r.Trouble())
		}
	}
}

// older makes a registry's file of an earlier release.
func older(t *testing.T, golden string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "devices.db")
	old, err := os.ReadFile(golden)
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
	return path
}

// TestFormat1: a registry of the first release is taken over as it is.
func TestFormat1(t *testing.T) {
	ctx := context.Background()
	r, err := Open(Config{Path: older(t, "testdata/format-1.sql"), Environment: "test"})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	d, err := r.Device(ctx, "test", "vin-0001")
	if err != nil || len(d.Certificates) != 1 || d.Certificates[0].Serial != "1f" || !blocked(r, "vin-0002") || len(r.ID()) != 32 || d.Key != strings.Repeat("02", 32) {
		t.Errorf("%+v, %v, id %q", d, err, r.ID())
	}
	// Two spellings of an id: the barred one stays.
	if list, err := r.Devices(ctx, gateway.Filter{Limit: 10}); err != nil || len(list) != 3 || !blocked(r, "VIN-0003") {
		t.Errorf("%+v, %v", list, err)
	}
	// Its key is bound from the time at which it was met with it.
	later := gateway.Meeting{Environment: "test", Device: "vin-0001", Key: [32]byte{9}, Certificate: [32]byte{9}, NotBefore: time.Unix(1790000000, 0), NotAfter: time.Unix(2000000000, 0), At: time.Unix(1800000000, 0)}
	if _, err := r.Meet(ctx, later); !errors.Is(err, gateway.ErrOtherKey) {
		t.Error(err)
	}
	later.NotBefore = later.NotBefore.Add(time.Second)
	if met, err := r.Meet(ctx, later); err != nil || !met.Rekeyed {
		t.Error(met, err)
	}
}

func blocked(r *Registry, device string) bool {
	return errors.Is(r.Standing("test", device, [32]byte{}), gateway.ErrBlocked)
}

// TestFormat3: a registry of the release before is taken over with all that it says, into the environment that it was of; where nobody says which, it is
// left as it was.
func TestFormat3(t *testing.T) {
	ctx, path := context.Background(), older(t, "testdata/format-3.sql")
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := Open(Config{Path: path}); err == nil || !strings.Contains(err.Error(), "of which environment") {
		t.Errorf("%v", err)
		if r != nil {
			r.Close()
		}
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(rows(t, path), rows(t, older(t, "testdata/format-3.sql"))) || len(after) != len(before) {
		t.Errorf("it was changed (%v)", err)
	}
	r, err := Open(Config{Path: path, Environment: "it's a test"})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	list, err := r.Devices(ctx, gateway.Filter{Limit: 10})
	if err != nil || len(list) != 3 {
		t.Fatal(list, err)
	}
	one, err := r.Device(ctx, "it's a test", "VIN-0001")
	if err != nil {
		t.Fatal(err)
	}
	at := func(n int64) time.Time { return time.Unix(n, 0).UTC() }
	want := gateway.Device{Environment: "it's a test", Name: "Vin-0001", State: gateway.Active, FirstSeen: at(1790000000), LastSeen: at(1790000100), Key: strings.Repeat("03", 32),
		RekeyAllowed: true, LiveKeys: 2, Flags: []string{gateway.FlagOldKey, gateway.FlagOtherKey}, Certificates: []gateway.DeviceCertificate{
			{Certificate: strings.Repeat("01", 32), Key: strings.Repeat("02", 32), Serial: "1f", Issuer: "CN=Factory", NotAfter: at(2000000000), FirstSeen: at(1790000000), LastSeen: at(1790000050)},
			{Certificate: strings.Repeat("05", 32), Key: strings.Repeat("03", 32), Serial: "20", Issuer: "CN=Factory", NotAfter: at(2000000000), FirstSeen: at(1790000060), LastSeen: at(1790000100)}}}
	if !reflect.DeepEqual(one, want) {
		t.Errorf("%+v\nwant %+v", one, want)
	}
	two, err := r.Device(ctx, "it's a test", "vin-0002")
	if err != nil || two.State != gateway.Blocked || two.Why != "stolen, it's said" || !two.Since.Equal(at(1790000200)) || !two.FirstSeen.IsZero() {
		t.Errorf("%+v, %v", two, err)
	}
	log, err := r.Log(ctx, gateway.LogFilter{Limit: 10})
	if err != nil || len(log) != 2 || log[1].Number != 2 || log[0].Device != "vin-0002" || log[0].Verb != gateway.Block || r.ID() != "000102030405060708090a0b0c0d0e0f" {
		t.Errorf("%+v, %v, %s", log, err, r.ID())
	}
	counts, err := r.Counts(ctx)
	if err != nil || !slices.Contains(counts, gateway.Count{Environment: "it's a test", State: gateway.Blocked, N: 2}) || !slices.Contains(counts, gateway.Count{Environment: "it's a test", State: gateway.Active, N: 1}) {
		t.Errorf("%+v, %v", counts, err)
	}
}

// rows are all rows of the devices of a file of format 3.
func rows(t *testing.T, path string) []byte {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var text []byte
	if err := db.QueryRow("SELECT group_concat(name || deleted || why || coalesce(hex(key), '')) FROM devices").Scan(&text); err != nil {
		t.Fatal(err)
	}
	return text
}
