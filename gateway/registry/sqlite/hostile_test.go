package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/gateway"
)

// TestSlippedIn: a registry or a backup whose tables, indexes and triggers are not exactly ours is neither restored nor opened, and nothing is written.
func TestSlippedIn(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	path, backup := filepath.Join(dir, "devices.db"), filepath.Join(dir, "backup.db")
	by := gateway.By{Who: "olga", Why: "disk died", At: time.Now()}
	r := opened(t, path)
	met(t, r, "a")
	act(t, r, gateway.Block, "a", "stolen")
	if _, err := r.Backup(ctx, backup); err != nil {
		t.Fatal(err)
	}
	r.Close()
	good, err := os.ReadFile(backup)
	if err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile(path)
	for name, statements := range map[string]string{
		"a trigger that lets a device in again": `CREATE TRIGGER t AFTER INSERT ON act BEGIN UPDATE device SET state = 1; END`,
		"a log that is not only appended to":    `DROP TRIGGER act_is_kept`,
		"a table more":                          `CREATE TABLE more (a)`,
		"a view in the place of a table":        `ALTER TABLE tally RENAME TO was; CREATE VIEW tally AS SELECT * FROM was`,
	} {
		bad := filepath.Join(dir, "bad.db")
		if err := os.WriteFile(bad, good, 0o600); err != nil {
			t.Fatal(err)
		}
		db, err := sql.Open("sqlite", "file:"+bad)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.Exec(statements); err != nil {
			t.Fatal(err)
		}
		db.Close()
		if _, err := Restore(ctx, path, bad, 1, true, by); err == nil || !strings.Contains(err.Error(), "not those of") {
			t.Errorf("%s: restored: %v", name, err)
		}
		if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
			t.Fatalf("%s: the registry was changed", name)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "devices.db.before-*")); len(left) != 0 {
			t.Errorf("%s: left: %v", name, left)
		}
		if r, err := Open(Config{Path: bad}); err == nil {
			r.Close()
			t.Errorf("%s: opened", name)
		}
	}
	if _, err := Restore(ctx, path, backup, 1, false, by); err != nil {
		t.Error(err)
	}
}

// TestBackupWithItsLog: of a copy that was made by hand, with its write-ahead log beside it, all acts count, also where it may not be written: what is
// looked at is what is restored, and the copy is left as it is.
func TestBackupWithItsLog(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	path, from := filepath.Join(dir, "devices.db"), filepath.Join(dir, "copy")
	if err := os.Mkdir(from, 0o700); err != nil {
		t.Fatal(err)
	}
	r := opened(t, path)
	met(t, r, "a")
	if _, err := r.store.write.Exec("PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
		t.Fatal(err)
	}
	act(t, r, gateway.Block, "a", "stolen") // is in the log alone
	contents := map[string][]byte{}
	for _, end := range []string{"", "-wal"} {
		data, err := os.ReadFile(path + end)
		if err != nil {
			t.Fatal(err)
		}
		contents[end] = data
		if err := os.WriteFile(filepath.Join(from, "devices.db"+end), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r.Close()
	there := filepath.Join(dir, "new.db")
	done, err := Restore(ctx, there, filepath.Join(from, "devices.db"), 1, false, gateway.By{Who: "olga", Why: "disk died", At: time.Now()})
	if err != nil || done.Lost != 0 {
		t.Fatalf("%+v, %v", done, err)
	}
	for end, was := range contents {
		if now, _ := os.ReadFile(filepath.Join(from, "devices.db"+end)); !bytes.Equal(now, was) {
			t.Errorf("the copy's devices.db%s was changed", end)
		}
	}
	r = opened(t, there)
	if r.Standing("test", "a", [32]byte{}) == nil {
		t.Error("who was blocked comes in")
	}
}
