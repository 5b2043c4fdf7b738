package ceremony

import (
	"context"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
)

// TestFullDisk performs the script where no file may grow beyond a limit, as on a full disk, and goes on where there is room
// again. The error names a file, and nothing is made twice.
func TestFullDisk(t *testing.T) {
	if os.Getenv("HANAPER_FULL_DISK") == "" {
		// In a process of its own, for the limit holds for all that a process writes.
		cmd := exec.Command(os.Args[0], "-test.run=^TestFullDisk$", "-test.v")
		cmd.Env = append(os.Environ(), "HANAPER_FULL_DISK=1")
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestFullDisk") {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	signal.Ignore(syscall.SIGXFSZ)
	s := newStage(t)
	c := s.config(s.plan(s.full()))
	grow := func(limit uint64) (restore func()) {
		var was syscall.Rlimit
		if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &was); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: limit, Max: was.Max}); err != nil {
			t.Fatal(err)
		}
		return func() {
			if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &was); err != nil {
				t.Fatal(err)
			}
		}
	}
	full := 0
	for _, limit := range []uint64{2 << 10, 6 << 10, 14 << 10, 30 << 10, 1 << 30} {
		_, err := os.Stat(c.Out)
		began := err == nil
		if began {
			if err := unfinished(&c); err != nil {
				t.Fatalf("limit %d: %v", limit, err)
			}
		}
		restore := grow(limit)
		if began {
			_, err = Resume(context.Background(), c)
		} else {
			_, err = Run(context.Background(), c)
		}
		restore()
		if err == nil {
			break
		}
		full++
		if !strings.Contains(err.Error(), "file too large") || !strings.Contains(err.Error(), s.dir) {
			t.Errorf("limit %d: the error does not say what is full: %v", limit, err)
		}
	}
	if full < 3 {
		t.Errorf("the disk was full only %d times", full)
	}
	if _, err := Verify(context.Background(), os.DirFS(c.Out), Anchors{Roster: s.elsewhere().Roster}); err != nil {
		t.Fatal(err)
	}
}
