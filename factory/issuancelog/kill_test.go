package issuancelog

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/hanaper/hanaper/factory/logbook"
)

const childVariable = "HANAPER_ISSUANCELOG_CHILD"

// TestMain: the child of TestKilled is this binary, started again.
func TestMain(m *testing.M) {
	if dir := os.Getenv(childVariable); dir != "" {
		os.Exit(child(dir))
	}
	os.Exit(m.Run())
}

// child follows a record that grows by about 4,000 events a second, until it is killed.
func child(dir string) int {
	var t testing.T
	rec := recordIn(dir)
	l, err := New(Config{Folder: filepath.Join(dir, "log"), Policy: policy(&t), Key: key(1), Record: rec, Every: 50 * time.Millisecond, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	go func() {
		for {
			rec.add(8)
			size, _ := rec.LogSize(context.Background())
			at := filepath.Join(dir, "size")
			if os.WriteFile(at+".new", fmt.Append(nil, size), 0o644) != nil || os.Rename(at+".new", at) != nil {
				os.Exit(1)
			}
			time.Sleep(2 * time.Millisecond)
		}
	}()
	go func() {
		for {
			if s := l.State(); s.Fault != "" {
				fmt.Fprintln(os.Stderr, s.Fault)
				os.Exit(1)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	l.Run(context.Background())
	return 0
}

// recordIn is the record that earlier children left: their sizes and checkpoints. A size that was written after an event was
// logged is made good: the record always has what is logged.
func recordIn(dir string) *testRecord {
	rec := &testRecord{file: filepath.Join(dir, "note")}
	if data, err := os.ReadFile(filepath.Join(dir, "size")); err == nil {
		n, _ := strconv.ParseUint(string(data), 10, 64)
		rec.size = n + 600
	}
	if data, err := os.ReadFile(rec.file); err == nil && len(data) > 0 {
		rec.note = data
		var t testing.T
		if c, err := policy(&t).VerifySigned(data); err == nil {
			rec.noted, rec.root = uint64(c.Size), c.Root
		}
	}
	return rec
}

// TestKilled: the process that follows is killed under load, again and again: mostly at work, and one in four
// wherever it is by then. Each start goes on from what is integrated; in the end each entry has its event's number, none is missing and
// none is there twice. HANAPER_SOAK multiplies the rounds.
func TestKilled(t *testing.T) {
	rounds := 12
	if n, err := strconv.Atoi(os.Getenv("HANAPER_SOAK")); err == nil && n > 0 {
		rounds *= n
	}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var notes [][]byte
	for round := range rounds {
		cmd := exec.Command(exe)
		cmd.Env = append(os.Environ(), childVariable+"="+dir)
		out, err := os.Create(filepath.Join(dir, "stderr"))
		if err != nil {
			t.Fatal(err)
		}
		cmd.Stderr = out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// One in four is killed after a checkpoint of its own, two after an event of their own, one wherever it is.
		awaited := []string{"note", "size", "size", ""}[round%4]
		before, _ := os.ReadFile(filepath.Join(dir, awaited))
		for end := time.Now().Add(time.Minute); awaited != "" && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			if now, err := os.ReadFile(filepath.Join(dir, awaited)); err == nil && !bytes.Equal(now, before) {
				break
			}
		}
		time.Sleep(time.Duration(rand.IntN(400)) * time.Millisecond)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		out.Close()
		if said, err := os.ReadFile(out.Name()); err != nil || len(said) > 0 {
			t.Fatalf("round %d: %s", round, said)
		}
		if data, err := os.ReadFile(filepath.Join(dir, "note")); err == nil && len(data) > 0 {
			notes = append(notes, data)
		}
	}
	rec := recordIn(dir)
	r := run(t, config(t, rec, filepath.Join(dir, "log")))
	r.signed(rec.size)
	a, err := audit(t, rec, filepath.Join(dir, "log"), notes...)
	if err != nil {
		t.Fatal(err)
	}
	if uint64(a.Checkpoint.Size) != rec.size || rec.size < uint64(rounds)*100 || len(notes) < rounds/4 {
		t.Fatalf("%d entries of %d events, %d checkpoints: the test shows nothing", a.Checkpoint.Size, rec.size, len(notes))
	}
	secret, _ := rec.LogSecret(context.Background())
	seen := map[logbook.Leaf]bool{}
	_, err = logbook.Check(context.Background(), logbook.Folder(filepath.Join(dir, "log")), logbook.AuditConfig{Policy: policy(t), Leaf: func(i uint64, l logbook.Leaf) error {
		if seen[l] || event(i).Leaf(secret) != l {
			return fmt.Errorf("entry %d is there twice, or is another event", i)
		}
		seen[l] = true
		return nil
	}})
	if err != nil {
		t.Error(err)
	}
	t.Logf("%d kills, %d entries, %d checkpoints held against the end", rounds, len(seen), len(notes))
}
