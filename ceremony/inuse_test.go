package ceremony

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/journal"
)

// TestFolderInUse: a folder that another process holds is called that, not damaged, and nothing is done to a token.
func TestFolderInUse(t *testing.T) {
	s, c := cutAt(t, 9)
	before := s.objects()
	held, err := journal.Open(filepath.Join(c.Out, transcriptFile))
	if err != nil {
		t.Fatal(err)
	}
	_, resumed := Resume(context.Background(), c)
	_, aborted := Abort(context.Background(), AbortConfig{RunConfig: c, Reason: "a test", Agree: func(Aborting) error { return nil }})
	for verb, err := range map[string]error{"resume": resumed, "abort": aborted} {
		if !errors.Is(err, durable.ErrLocked) || !strings.Contains(err.Error(), "in use by another process") || strings.Contains(err.Error()+advice.Hint(err), "damaged") || advice.KindOf(err) != advice.Failed {
			t.Errorf("%s: %v (hint %q, kind %d)", verb, err, advice.Hint(err), advice.KindOf(err))
		}
	}
	if n := s.objects(); n != before {
		t.Errorf("%d keys, %d before", n, before)
	}
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Resume(context.Background(), c); err != nil {
		t.Errorf("when it is free again: %v", err)
	}
}

// TestPipes: a named pipe in the place of the script, of an input, or in a folder is refused at once.
func TestPipes(t *testing.T) {
	s := newStage(t)
	pipe := func(path string) string {
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		if err := syscall.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	folder := t.TempDir()
	pipe(filepath.Join(folder, scriptFile))
	anchor := s.roster.Digest()
	if _, err := s.script(s.full()); err != nil {
		t.Fatal(err)
	}
	done := make(chan bool)
	go func() {
		defer close(done)
		_, err := LoadScript(pipe(filepath.Join(s.dir, "pipe.yaml")))
		_, verified := Verify(context.Background(), os.DirFS(folder), Anchors{Roster: &anchor})
		pipe(filepath.Join(s.dir, "factory.csr"))
		_, pinnedErr := LoadScript(filepath.Join(s.dir, "script.yaml"))
		for where, err := range map[string]error{"script": err, "input": pinnedErr} {
			if !errors.Is(err, input.ErrNotFile) {
				t.Errorf("%s: %v", where, err)
			}
		}
		if verified == nil {
			t.Error("a folder with a pipe in it is verified")
		}
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("a reader waits for a writer")
	}
}

// TestPathLengthNamed: a CA under a root that limits the path is refused with the field that is missing.
func TestPathLengthNamed(t *testing.T) {
	s := newStage(t)
	full := strings.NewReplacer("profile: factory-ca", "profile: subordinate-ca", "      path_length: 0\n", "").Replace(s.full())
	if err := s.check(full); err == nil || advice.KindOf(err) != advice.Refused || !strings.Contains(advice.Hint(err), "path_length") {
		t.Errorf("%v, hint %q", err, advice.Hint(err))
	}
}
