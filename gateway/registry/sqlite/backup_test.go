package sqlite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/gateway"
	"github.com/hanaper/hanaper/internal/advice"
)

func opened(t *testing.T, path string) *Registry {
	t.Helper()
	r, err := Open(Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func act(t *testing.T, r *Registry, verb gateway.Verb, device, why string) {
	t.Helper()
	if err := r.Do(context.Background(), gateway.Act{Verb: verb, Environment: "test", Device: device, By: gateway.By{Who: "olga", Why: why, At: time.Now()}}); err != nil {
		t.Fatal(err)
	}
}

func met(t *testing.T, r *Registry, device string) {
	t.Helper()
	m := gateway.Meeting{Environment: "test", Device: device, Key: [32]byte{1}, Certificate: [32]byte{1}, Serial: "1f", Issuer: "CN=F", NotBefore: time.Unix(1e9, 0), NotAfter: time.Now().Add(time.Hour), At: time.Now()}
	if _, err := r.Meet(context.Background(), m); err != nil {
		t.Fatal(err)
	}
}

// TestBackup: a backup that is made while devices come is whole, and is not put over another file.
func TestBackup(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	r := opened(t, filepath.Join(dir, "devices.db"))
	for i := range 50 {
		met(t, r, fmt.Sprint("d", i))
	}
	act(t, r, gateway.Block, "d7", "stolen")
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				_, _ = r.Meet(ctx, gateway.Meeting{Environment: "test", Device: fmt.Sprint("later", i), Certificate: [32]byte{2}, NotAfter: time.Now(), At: time.Now()})
			}
		}
	}()
	path := filepath.Join(dir, "backup.db")
	info, err := r.Backup(ctx, path)
	close(stop)
	<-done
	if err != nil || info.ID != r.ID() || info.Last != 1 || info.Devices < 50 {
		t.Fatalf("%+v, %v", info, err)
	}
	before, _ := os.ReadFile(path)
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Error(st, err)
	}
	if _, err := r.Backup(ctx, path); err == nil || !strings.Contains(err.Error(), "is there already") {
		t.Error(err)
	}
	// Where it cannot be seen whether something is there, nothing is said of it.
	if _, err := r.Backup(ctx, filepath.Join(path, "below")); err == nil || strings.Contains(err.Error(), "is there already") || advice.Hint(err) == "" {
		t.Error(err)
	}
	if again, err := Inspect(ctx, path); err != nil || again != info {
		t.Errorf("%+v, %v", again, err)
	}
	if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
		t.Error("to look at it has changed it")
	}
	if names, _ := filepath.Glob(filepath.Join(dir, ".backup-*")); len(names) != 0 {
		t.Error(names)
	}
	// A page that was changed, a text, nothing.
	bad := bytes.Clone(before)
	copy(bad[2*4096:], bytes.Repeat([]byte{0xff}, 2000))
	for name, data := range map[string][]byte{"damaged": bad, "text": []byte(strings.Repeat("no database\n", 500)), "empty": nil} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if info, err := Inspect(ctx, file); err == nil {
			t.Errorf("%s: %+v", name, info)
		}
	}
}

// TestRestore: who was blocked after the backup stays out where the registry that is replaced can be read; where it cannot, the loss is said, and
// nothing is changed until it is accepted. Numbers of lost acts are not given again.
func TestRestore(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	path, backup := filepath.Join(dir, "devices.db"), filepath.Join(dir, "backup.db")
	by := gateway.By{Who: "olga", Why: "disk died", At: time.Now()}
	r := opened(t, path)
	for _, d := range []string{"a", "b", "c", "d"} {
		met(t, r, d)
	}
	act(t, r, gateway.Block, "a", "before")
	if _, err := r.Backup(ctx, backup); err != nil {
		t.Fatal(err)
	}
	act(t, r, gateway.Block, "b", "after")
	act(t, r, gateway.Retire, "c", "after")
	act(t, r, gateway.Block, "never-met", "after")
	r.Close()

	// The registry that is there cannot be read: the gateway has seen four acts.
	away := filepath.Join(dir, "away.db")
	if err := os.Rename(path, away); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("ruins"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Restore(ctx, path, backup, 4, false, by); err == nil || !strings.Contains(err.Error(), "and 3 more were done") {
		t.Fatal(err)
	}
	if data, _ := os.ReadFile(path); string(data) != "ruins" {
		t.Error("it was changed")
	}
	done, err := Restore(ctx, path, backup, 4, true, by)
	if err != nil || done.Lost != 3 || done.Kept != 0 || done.Aside == "" || done.Last != 5 {
		t.Fatalf("%+v, %v", done, err)
	}
	r = opened(t, path)
	for device, out := range map[string]bool{"a": true, "b": false, "never-met": false} {
		if (r.Standing("test", device, [32]byte{}) != nil) != out {
			t.Errorf("%s is kept out: %v", device, !out)
		}
	}
	if log, err := r.Log(ctx, gateway.LogFilter{Limit: 10}); err != nil || len(log) != 5 || log[1].Detail != "act 2 is lost" || log[4].Why != "disk died" {
		t.Errorf("%+v, %v", log, err)
	}
	r.Close()

	// It can be read.
	if err := errors.Join(os.Remove(path), os.Rename(away, path)); err != nil {
		t.Fatal(err)
	}
	done, err = Restore(ctx, path, backup, 4, false, by)
	if err != nil || done.Lost != 3 || done.Kept != 3 || done.Last != 8 {
		t.Fatalf("%+v, %v", done, err)
	}
	r = opened(t, path)
	for device, want := range map[string]error{"a": gateway.ErrBlocked, "b": gateway.ErrBlocked, "c": gateway.ErrRetired, "d": nil, "never-met": gateway.ErrBlocked} {
		if got := r.Standing("test", device, [32]byte{}); !errors.Is(got, want) {
			t.Errorf("%s: %v, want %v", device, got, want)
		}
	}
	met(t, r, "d")
	if _, err := Inspect(ctx, done.Aside); err != nil {
		t.Errorf("what was there: %v", err)
	}
	r.Close()
	// Another registry's backup does not take over who is kept out here, and its loss is said.
	other := opened(t, filepath.Join(dir, "other.db"))
	if _, err := other.Backup(ctx, filepath.Join(dir, "other-backup.db")); err != nil {
		t.Fatal(err)
	}
	if _, err := Restore(ctx, path, filepath.Join(dir, "other-backup.db"), 8, false, by); err == nil || !strings.Contains(err.Error(), "another registry") {
		t.Error(err)
	}
}

// TestLogStays: not even a statement by hand changes the log.
func TestLogStays(t *testing.T) {
	r := opened(t, filepath.Join(t.TempDir(), "devices.db"))
	act(t, r, gateway.Block, "a", "stolen")
	for _, q := range []string{"UPDATE act SET who = 'nobody'", "DELETE FROM act"} {
		if _, err := r.store.write.Exec(q); err == nil || !strings.Contains(err.Error(), "only appended to") {
			t.Errorf("%s: %v", q, err)
		}
	}
	if log, err := r.Log(context.Background(), gateway.LogFilter{Limit: 10}); err != nil || len(log) != 1 || log[0].Who != "olga" {
		t.Errorf("%+v, %v", log, err)
	}
}
