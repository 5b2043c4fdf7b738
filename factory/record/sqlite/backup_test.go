package sqlite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hanaper/hanaper/factory/record"
	"github.com/hanaper/hanaper/factory/record/recordtest"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
)

func fill(t *testing.T, s record.Store, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		recordtest.Issue(t, s, recordtest.Intent(fmt.Sprint("d", i), fmt.Sprint("k", i)), fmt.Sprint("der", i))
	}
}

// TestCleanStop: the file alone is the whole store once it is closed.
func TestCleanStop(t *testing.T) {
	ctx, dir, copied := context.Background(), t.TempDir(), t.TempDir()
	s := opened(t, dir)
	fill(t, s, 0, 20)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(filepath.Join(dir, File+"-wal")); err == nil && st.Size() > 0 {
		t.Errorf("%d bytes are left in the write-ahead log", st.Size())
	}
	b, err := os.ReadFile(filepath.Join(dir, File))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(copied, File), b, 0o600); err != nil {
		t.Fatal(err)
	}
	s = opened(t, copied)
	defer s.Close()
	if n, err := s.Counts(ctx); err != nil || n["result"] != 20 {
		t.Errorf("%v, %v", n, err)
	}
}

// TestBackupWhileWriting: each backup is whole and of one moment, while sixteen write.
func TestBackupWhileWriting(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	s := opened(t, filepath.Join(dir, "state"))
	defer s.Close()
	var group sync.WaitGroup
	var results atomic.Int64
	writing, stop := context.WithCancel(ctx)
	for w := range 16 {
		group.Go(func() {
			for i := 0; writing.Err() == nil; i++ {
				r, _, err := s.Begin(ctx, recordtest.Intent(fmt.Sprintf("d-%d-%d", w, i), fmt.Sprintf("k-%d-%d", w, i)))
				if err == nil {
					_, err = s.Finish(ctx, record.Result{ID: r.ID, TBSDigest: r.TBSDigest, Certificate: []byte("der"), At: recordtest.At, Who: "w"})
				}
				if err != nil {
					t.Error(err)
					return
				}
				results.Add(1)
			}
		})
	}
	reader, err := Read(ctx, filepath.Join(dir, "state")) // as the verb does, from another process
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	for i := range 4 {
		for before := results.Load(); results.Load() < before+16 && !t.Failed(); time.Sleep(time.Millisecond) {
		}
		path := filepath.Join(dir, fmt.Sprint("backup", i))
		if err := reader.Backup(ctx, path); err != nil {
			t.Fatal(err)
		}
		b, err := ReadFile(ctx, path)
		if err != nil {
			t.Fatal(err)
		}
		n, err := b.Counts(ctx)
		if sequence, _ := b.Sequence(ctx); err != nil || n["event"] != sequence || n["result"]+n["pending"] != n["certificate"] || n["device"] != n["certificate"] || n["result"] == 0 {
			t.Errorf("backup %d: %v, sequence %d, %v", i, n, sequence, err)
		}
		b.Close()
		if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", st.Mode(), err)
		}
		if err := reader.Backup(ctx, path); err == nil {
			t.Error("a backup was written over another")
		}
	}
	stop()
	group.Wait()
	if left, err := filepath.Glob(filepath.Join(dir, ".backup-*")); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestRestore: a backup takes the place of a store, which is moved aside, and is held; what is no whole backup changes nothing.
func TestRestore(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	state, backup := filepath.Join(dir, "state"), filepath.Join(dir, "monday.db")
	s := opened(t, state)
	fill(t, s, 0, 5)
	if err := s.Backup(ctx, backup); err != nil {
		t.Fatal(err)
	}
	fill(t, s, 5, 8)
	if _, err := Restore(ctx, state, backup, "x"); !errors.Is(err, durable.ErrLocked) {
		t.Fatalf("restored under a running hanaperd: %v", err)
	}
	s.Close()
	whole, err := os.ReadFile(backup)
	if err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile(filepath.Join(state, File))
	harmed := bytes.Clone(whole)
	for i := 4096 * 3; i < 4096*5; i++ {
		harmed[i] ^= 0x55
	}
	for name, content := range map[string][]byte{"cut short": whole[:len(whole)/2], "damaged": harmed, "empty": {}, "something else": []byte(strings.Repeat("hello ", 1000))} {
		bad := filepath.Join(dir, "bad")
		if err := os.WriteFile(bad, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Restore(ctx, state, bad, "x"); err == nil {
			t.Errorf("%s: restored", name)
		}
		if after, _ := os.ReadFile(filepath.Join(state, File)); !bytes.Equal(before, after) {
			t.Fatalf("%s: the store was changed", name)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(state, "*")); len(left) != 2 && len(left) != 1 {
		t.Errorf("left: %v", left)
	}
	aside, err := Restore(ctx, state, backup, "it was restored from monday.db")
	if err != nil {
		t.Fatal(err)
	}
	old, err := ReadFile(ctx, aside)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := old.Counts(ctx); err != nil || n["device"] != 8 {
		t.Errorf("moved aside: %v, %v", n, err)
	}
	old.Close()
	s = opened(t, state)
	if why, err := s.Holding(ctx); err != nil || why != "it was restored from monday.db" {
		t.Errorf("%q, %v", why, err)
	}
	if _, _, err := s.Begin(ctx, recordtest.Intent("d6", "another")); !errors.Is(err, record.ErrHeld) {
		t.Errorf("took an intent: %v", err)
	}
	s.Close()
	// A store of the first release is a backup, too; with its write-ahead log beside it.
	first, _ := firstCut(t)
	if _, err := Restore(ctx, filepath.Join(dir, "new"), filepath.Join(first, File), "old"); err != nil {
		t.Fatal(err)
	}
	s = opened(t, filepath.Join(dir, "new"))
	defer s.Close()
	if n, err := s.Counts(ctx); err != nil || n["enrolment"] != 10 {
		t.Errorf("%v, %v", n, err)
	}
}

// TestDamagedAtRest: what rotted on the disk is found by Check, whatever page it is, and never answered as if it were whole.
func TestDamagedAtRest(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	s := opened(t, dir)
	fill(t, s, 0, 200)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, File)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for page := 1; page*4096 < len(whole); page += 3 {
		if whole[page*4096+3] == 0 && whole[page*4096+4] == 0 {
			continue // the page of an empty table
		}
		harmed := bytes.Clone(whole)
		for i := page*4096 + 8; i < (page+1)*4096; i += 7 {
			harmed[i] ^= 0x2a
		}
		if err := os.WriteFile(path, harmed, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(ctx, dir)
		if err != nil {
			found++
			continue
		}
		if err := s.Check(ctx); err == nil {
			t.Errorf("page %d: not found", page)
		} else {
			found++
		}
		s.Close()
	}
	if found < 10 {
		t.Errorf("only %d pages were harmed", found)
	}
}

// TestBackupNowhere: where it cannot be seen whether something is there, nothing is said of it, and nothing is made.
func TestBackupNowhere(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := Export(t.Context(), filepath.Join(file, "below"), func(string, func([]any) error) error { t.Error("it was begun"); return nil })
	if err == nil || strings.Contains(err.Error(), "is there already") || advice.Hint(err) == "" {
		t.Error(err)
	}
}
