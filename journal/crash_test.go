package journal

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const childVariable = "HANAPER_JOURNAL_CHILD"

// The children of the tests below: this test binary, started again.
func TestMain(m *testing.M) {
	path := os.Getenv(childVariable)
	if path == "" {
		os.Exit(m.Run())
	}
	l, err := Open(path)
	if err != nil {
		fmt.Println("child:", err)
		os.Exit(1)
	}
	if os.Getenv(childVariable+"_FULL") != "" {
		os.Exit(childFull(l))
	}
	for {
		i, err := l.Append(bytes.Repeat([]byte("x"), 1+int(l.Size()*7919%9000)))
		if err != nil {
			fmt.Println("child:", err)
			os.Exit(1)
		}
		fmt.Println(i)
	}
}

// childFull appends until the file may not grow (as on a full disk), then lets it grow again and goes on.
func childFull(l *Log) int {
	signal.Ignore(syscall.SIGXFSZ)
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return 1
	}
	small := limit
	small.Cur = uint64(l.end) + 300
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &small); err != nil {
		return 1
	}
	leaf := bytes.Repeat([]byte("y"), 100)
	if _, err := l.Append(leaf); err != nil {
		fmt.Println("child: refused too early:", err)
		return 1
	}
	if _, err := l.Append(leaf); err == nil {
		fmt.Println("child: not refused")
		return 1
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return 1
	}
	if i, err := l.Append([]byte("after")); err != nil || i != 1 {
		fmt.Println("child: after the refusal:", i, err)
		return 1
	}
	return 0
}

func child(t *testing.T, path string, env ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(append(os.Environ(), childVariable+"="+path), env...)
	return cmd
}

func emptyLog(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "journal.log")
	l, err := Create(path, "journal.example/crash")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// A process killed while it appends: whatever it was told is there, and the log goes on.
func TestKilledWhileAppending(t *testing.T) {
	path := emptyLog(t)
	for round := range 10 {
		cmd := child(t, path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Duration(20+13*round)*time.Millisecond, func() { _ = cmd.Process.Kill() })
		told := int64(-1)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if strings.HasPrefix(lines.Text(), "child:") {
				t.Fatal(lines.Text())
			}
			if n, err := strconv.ParseInt(lines.Text(), 10, 64); err == nil {
				told = n
			}
		}
		_ = cmd.Wait()
		l, err := Open(path)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if l.Size() <= told {
			t.Fatalf("round %d: entry %d was acknowledged, %d are there", round, told, l.Size())
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := Parse(read(t, path)); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
	}
}

// A disk that is full in the middle of an entry: refused, taken back, and once there is room the log goes on.
func TestFullDisk(t *testing.T) {
	path := emptyLog(t)
	if out, err := child(t, path, childVariable+"_FULL=1").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	r, err := Parse(read(t, path))
	if err != nil || r.Size() != 2 || string(r.Leaf(1)) != "after" {
		t.Fatalf("%v", err)
	}
}
