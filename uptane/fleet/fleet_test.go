package fleet

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hanaper/hanaper/internal/tracetest"
	"github.com/hanaper/hanaper/uptane"
	"github.com/hanaper/hanaper/uptane/reposerver"
)

const childVariable = "HANAPER_FLEET_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childVariable); dir != "" {
		fmt.Fprintln(os.Stderr, churn(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func opened(t *testing.T, dir string) *SQLite {
	t.Helper()
	s, err := Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func device(id string) *reposerver.Device {
	return &reposerver.Device{ID: id, Primary: "e", ECUs: map[string]reposerver.ECU{"e": {HardwareID: "board", Key: json.RawMessage(`{}`)}},
		Registered: "2026-01-02T03:04:05Z", Targets: []byte("t"), Versions: reposerver.Versions{Targets: 1}}
}

func list(t *testing.T, s *SQLite) string {
	t.Helper()
	var ids []string
	if err := s.Each(t.Context(), func(d *reposerver.Device) error { ids = append(ids, d.ID); return nil }); err != nil {
		t.Fatal(err)
	}
	slices.Sort(ids)
	n, err := s.Count(t.Context())
	if err != nil || n != len(ids) {
		t.Errorf("%d devices are counted, and %d listed (%v)", n, len(ids), err)
	}
	return strings.Join(ids, " ")
}

// TestOlderRelease takes over the devices of the release before this store, as that release wrote them.
func TestOlderRelease(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "with a space?#%")
	if err := os.CopyFS(filepath.Join(dir, "devices"), os.DirFS("testdata/folder-0")); err != nil {
		t.Fatal(err)
	}
	s := opened(t, dir)
	check := func(s *SQLite) {
		t.Helper()
		if got := list(t, s); got != "vin-1 vin-2 vin-3" {
			t.Fatalf("devices %s", got)
		}
		for id, want := range map[string]string{"vin-1": reposerver.StateNever, "vin-2": reposerver.StateAssigned, "vin-3": reposerver.StateUpToDate} {
			dev, err := s.Device(t.Context(), id)
			if err != nil || dev.State() != want {
				t.Errorf("%s: %s, %v", id, dev.State(), err)
			}
			doc, err := uptane.ParseTargets(uptane.Director, dev.Targets)
			if err != nil || doc.Version() != dev.Versions.Targets || dev.Versions.Snapshot == 0 || dev.Versions.Timestamp == 0 {
				t.Errorf("%s: versions %+v, %v", id, dev.Versions, err)
			}
		}
		if m, err := s.Manifest(t.Context(), "vin-3"); err != nil || !strings.Contains(string(m), "image-1") {
			t.Errorf("manifest %q, %v", m, err)
		}
	}
	check(s)
	s.Close()
	if _, err := os.Lstat(filepath.Join(dir, "devices")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the old folder is still in its place: %v", err)
	}
	// Killed between taking over and renaming: nothing is taken over twice.
	if err := os.Rename(filepath.Join(dir, "devices.taken-over"), filepath.Join(dir, "devices")); err != nil {
		t.Fatal(err)
	}
	s = opened(t, dir)
	check(s)
	s.Close()
	// The older release ran again meanwhile.
	if err := os.CopyFS(filepath.Join(dir, "devices"), os.DirFS("testdata/folder-0")); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "an older release has run") {
		t.Errorf("two sets of devices: %v", err)
	}
}

// TestDamagedOlderFile: nothing is taken over in part.
func TestDamagedOlderFile(t *testing.T) {
	for name, harm := range map[string]func(path string) error{
		"damaged": func(path string) error { return os.WriteFile(path, []byte("{"), 0o644) },
		"renamed": func(path string) error {
			return os.Rename(path, filepath.Join(filepath.Dir(path), strings.Repeat("0", 64)+".json"))
		},
	} {
		dir := t.TempDir()
		if err := os.CopyFS(filepath.Join(dir, "devices"), os.DirFS("testdata/folder-0")); err != nil {
			t.Fatal(err)
		}
		files, _ := filepath.Glob(filepath.Join(dir, "devices", "*.json"))
		if err := harm(files[1]); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), dir); err == nil {
			t.Errorf("%s: taken over", name)
		}
		s, err := open(t.Context(), filepath.Join(dir, "fleet.db"))
		if err != nil {
			t.Fatal(err)
		}
		if got := list(t, s); got != "" {
			t.Errorf("%s: in part: %s", name, got)
		}
		s.Close()
		if _, err := os.Lstat(filepath.Join(dir, "devices")); err != nil {
			t.Errorf("%s: the old folder is gone: %v", name, err)
		}
	}
}

// TestGolden opens a store that format 1 wrote. The file never changes.
func TestGolden(t *testing.T) {
	dir := t.TempDir()
	data, err := os.ReadFile("testdata/format-1.db")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "fleet.db"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	s := opened(t, dir)
	if got := list(t, s); got != "vin-1 vin-3" {
		t.Errorf("devices %s", got)
	}
	gone, err := s.Device(t.Context(), "vin-2")
	if err != nil || gone.Removed == "" || gone.Versions.Targets != 2 {
		t.Errorf("the removed device: %+v, %v", gone, err)
	}
	if told, err := s.Told(t.Context(), "vin-3"); err != nil || len(told) != 1 || told[0].Kind != reposerver.ToldNetwork {
		t.Errorf("told: %v, %v", told, err)
	}
	if events, err := s.Events(t.Context(), "vin-3"); err != nil || len(events) != 1 || events[0].ID != "event-1" {
		t.Errorf("events: %v, %v", events, err)
	}
	if err := s.Save(t.Context(), "vin-4", device("vin-4"), reposerver.With{}); err != nil {
		t.Error(err)
	}
}

func TestForeignFiles(t *testing.T) {
	for name, harm := range map[string]func(path string) error{
		"no database": func(path string) error { return os.WriteFile(path, []byte(strings.Repeat("text ", 1000)), 0o600) },
		"newer": func(path string) error {
			s, err := open(context.Background(), path)
			if err != nil {
				return err
			}
			_, err = s.write.Exec(fmt.Sprintf("PRAGMA user_version = %d", format+1))
			return errors.Join(err, s.Close())
		},
		"another program's": func(path string) error {
			s, err := open(context.Background(), path)
			if err != nil {
				return err
			}
			_, err = s.write.Exec("PRAGMA application_id = 7")
			return errors.Join(err, s.Close())
		},
		"with a trigger": func(path string) error {
			s, err := open(context.Background(), path)
			if err != nil {
				return err
			}
			_, err = s.write.Exec("CREATE TRIGGER t AFTER UPDATE ON device BEGIN DELETE FROM device WHERE key = new.key; END")
			return errors.Join(err, s.Close())
		},
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, "fleet.db")
		if err := harm(path); err != nil {
			t.Fatal(err)
		}
		before, _ := os.ReadFile(path)
		if _, err := Open(t.Context(), dir); err == nil {
			t.Errorf("%s: opened", name)
		}
		if after, _ := os.ReadFile(path); string(before) != string(after) {
			t.Errorf("%s: the file was written to", name)
		}
	}
}

// TestTwoProcesses: a change by one store is seen by the other, and neither overwrites what it has not seen.
func TestTwoProcesses(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	a, b := opened(t, dir), opened(t, dir)
	if dev, err := b.Device(ctx, "vin-1"); err != nil || dev != nil {
		t.Fatal(dev, err)
	}
	if err := a.Save(ctx, "vin-1", device("vin-1"), reposerver.With{}); err != nil {
		t.Fatal(err)
	}
	if err := b.Save(ctx, "vin-1", device("vin-1"), reposerver.With{}); !errors.Is(err, reposerver.ErrChanged) {
		t.Errorf("a second first record: %v", err)
	}
	time.Sleep(2 * LookEvery)
	old, err := b.Device(ctx, "vin-1")
	if err != nil || old == nil {
		t.Fatal(old, err)
	}
	mine, err := a.Device(ctx, "vin-1")
	if err != nil {
		t.Fatal(err)
	}
	next := mine.Clone()
	next.Versions.Targets = 2
	if err := a.Save(ctx, "vin-1", next, reposerver.With{}); err != nil {
		t.Fatal(err)
	}
	if err := b.Save(ctx, "vin-1", old.Clone(), reposerver.With{}); !errors.Is(err, reposerver.ErrChanged) {
		t.Errorf("a change over a newer one: %v", err)
	}
	// A conflict reads the record anew at once.
	if dev, err := b.Device(ctx, "vin-1"); err != nil || dev.Versions.Targets != 2 {
		t.Errorf("%+v %v", dev, err)
	}
}

// TestRacing: many writers of a few devices, in two stores, lose no change.
func TestRacing(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	stores := []*SQLite{opened(t, dir), opened(t, dir)}
	for i := range 3 {
		if err := stores[0].Save(ctx, fmt.Sprint("vin-", i), device(fmt.Sprint("vin-", i)), reposerver.With{}); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			s := stores[w%2]
			for i := range 15 {
				id := fmt.Sprint("vin-", i%3)
				for {
					dev, err := s.Device(ctx, id)
					if err != nil {
						t.Error(err)
						return
					}
					if dev == nil {
						time.Sleep(LookEvery)
						continue
					}
					next := dev.Clone()
					next.Versions.Targets++
					if err = s.Save(ctx, id, next, reposerver.With{}); err == nil {
						break
					}
					if !errors.Is(err, reposerver.ErrChanged) {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	for i := range 3 {
		time.Sleep(LookEvery)
		if dev, err := stores[0].Device(ctx, fmt.Sprint("vin-", i)); err != nil || dev.Versions.Targets != 1+8*5 {
			t.Errorf("%d changes arrived (%v)", dev.Versions.Targets-1, err)
		}
	}
}

// TestMovedAway: what is written to a file that has lost its name would be gone at the next start.
func TestMovedAway(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	s := opened(t, dir)
	path := filepath.Join(dir, "fleet.db")
	for what, harm := range map[string]func() error{
		"removed":  func() error { return os.Rename(path, path+".away") },
		"replaced": func() error { return errors.Join(os.Rename(path, path+".away"), os.WriteFile(path, nil, 0o600)) },
	} {
		if err := harm(); err != nil {
			t.Fatal(err)
		}
		if err := s.Save(ctx, "vin-1", device("vin-1"), reposerver.With{}); err == nil {
			t.Errorf("%s: written all the same", what)
		}
		if err := os.Rename(path+".away", path); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Save(ctx, "vin-1", device("vin-1"), reposerver.With{}); err != nil {
		t.Errorf("back in its place: %v", err)
	}
}

// TestFullDisk: a disk that is full fails the writes, what is shown stays what is stored, and later writes work again.
func TestFullDisk(t *testing.T) {
	ctx := t.Context()
	s := opened(t, t.TempDir())
	limit := func(pages int) {
		if err := s.writer.do(ctx, &change{run: func(ctx context.Context, tx *batch) error {
			_, err := tx.ExecContext(ctx, fmt.Sprintf("PRAGMA max_page_count=%d", pages))
			return err
		}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Save(ctx, "vin", device("vin"), reposerver.With{}); err != nil {
		t.Fatal(err)
	}
	limit(1)
	failed := 0
	for i := range 100 {
		dev := device(fmt.Sprint("vin-", i))
		dev.Targets = make([]byte, 5000)
		err := s.Save(ctx, dev.ID, dev, reposerver.With{})
		if err != nil {
			failed++
		}
		if got, gerr := s.Device(ctx, dev.ID); gerr != nil || (got == nil) != (err != nil) {
			t.Fatalf("%v after %v (%v)", got, err, gerr)
		}
	}
	if failed < 50 {
		t.Fatalf("%d of 100 writes failed", failed)
	}
	limit(1 << 20)
	if err := s.Save(ctx, "after", device("after"), reposerver.With{}); err != nil {
		t.Error(err)
	}
	if got := list(t, s); !strings.Contains(got, "after") {
		t.Error(got)
	}
}

var tracedNames = regexp.MustCompile(`\.hanaper-[^/]*`)

// TestOrderOfCalls sees what a power cut would: a change has reached the disk before the caller is told that it has.
func TestOrderOfCalls(t *testing.T) {
	dir := os.Getenv(tracetest.Variable)
	if dir == "" {
		calls := tracetest.Files(t, t.TempDir(), tracedNames)
		last := 0
		for _, name := range []string{"one", "two"} {
			at := slices.Index(calls, "write "+name)
			if at < 0 {
				t.Fatalf("%s was never said: %v", name, calls)
			}
			if !slices.Contains(calls[last:at], "fsync fleet.db-wal") {
				t.Errorf("%s was said before it was on the disk: %v", name, calls[last:at])
			}
			last = at
		}
		return
	}
	s, err := Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"one", "two"} {
		if err := s.Save(t.Context(), name, device(name), reposerver.With{Manifest: []byte("m")}); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte("said"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// churn writes devices, and says on standard output what is durable.
func churn(dir string) error {
	ctx := context.Background()
	s, err := Open(ctx, dir)
	if err != nil {
		return err
	}
	for n := 1; ; n++ {
		id := fmt.Sprint("vin-", n%5)
		dev, err := s.Device(ctx, id)
		if err != nil {
			return err
		}
		next := device(id)
		if dev != nil {
			next = dev.Clone()
			next.Versions.Targets++
		}
		if err := s.Save(ctx, id, next, reposerver.With{Manifest: fmt.Append(nil, next.Versions.Targets)}); err != nil {
			return err
		}
		fmt.Println(id, next.Versions.Targets)
	}
}

// TestKilled kills the writer again and again: what it said to be durable is there, record and manifest belong together.
func TestKilled(t *testing.T) {
	dir := t.TempDir()
	said := map[string]int{}
	for range 6 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childVariable+"="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			var id string
			var version int
			if _, err := fmt.Sscan(lines.Text(), &id, &version); err != nil {
				t.Fatal(err)
			}
			said[id] = version
			if n == 40 {
				_ = cmd.Process.Kill()
			}
		}
		_ = cmd.Wait()
		s, err := Open(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		for id, version := range said {
			dev, err := s.Device(t.Context(), id)
			if err != nil || dev == nil || dev.Versions.Targets < version {
				t.Fatalf("%s: %+v, said to be at %d (%v)", id, dev, version, err)
			}
			if m, err := s.Manifest(t.Context(), id); err != nil || string(m) != fmt.Sprint(dev.Versions.Targets) {
				t.Errorf("%s: manifest %s of version %d (%v)", id, m, dev.Versions.Targets, err)
			}
		}
		s.Close()
	}
	if len(said) != 5 {
		t.Errorf("the writer hardly ran: %v", said)
	}
}

// BenchmarkSave: 64 devices at a time, each change durable.
func BenchmarkSave(b *testing.B) {
	s, err := Open(b.Context(), b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	var n sync.Mutex
	next := 0
	body := make([]byte, 700)
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		n.Lock()
		next++
		id := fmt.Sprint("vin-", next)
		n.Unlock()
		dev := device(id)
		dev.Targets, dev.Snapshot, dev.Timestamp = body, body, body
		for pb.Next() {
			if err := s.Save(b.Context(), id, dev, reposerver.With{Manifest: body}); err != nil {
				b.Error(err)
				return
			}
			if dev, err = s.Device(b.Context(), id); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "changes/s")
}
