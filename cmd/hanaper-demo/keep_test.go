package main

import (
	"bufio"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/hanaper/hanaper/internal/programtest"
)

func TestMain(m *testing.M) {
	if os.Getenv("HANAPER_DEMO_MAIN") == "1" {
		main()
	}
	os.Exit(m.Run())
}

// TestKeep runs the demo with --keep, then everything that it says to try, and presses Ctrl-C: it ends well, and nothing goes on
// running.
func TestKeep(t *testing.T) {
	if testing.Short() {
		t.Skip("the whole demo")
	}
	said := keep(t, []string{"run", "--dir", filepath.Join(t.TempDir(), "demo")}, "ceremony verify", "admitted", "update assigned", "firmware-2.1")
	if n := len(regexp.MustCompile(`https?://127\.0\.0\.1:\d+\n`).FindAllString(said, -1)); n < 5 {
		t.Errorf("%d addresses are said", n)
	}
}

// TestBoard has a station provision two boards, one with a SoftHSM token and one with a TPM, and lets them connect through the
// gateway and update: the first as a process, the second as a virtual machine that boots.
func TestBoard(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a virtual machine")
	}
	dir := t.TempDir()
	for _, c := range []struct {
		env  string
		args []string
	}{
		{"CGO_ENABLED=1", []string{"go", "build", "-buildmode=pie", "-trimpath", "-tags", "netgo,osusergo", "-o", filepath.Join(dir, "hanaper-board"), "../../softhsm/boardtest"}},
		{"CGO_ENABLED=0", []string{"go", "build", "-ldflags", "-s -w", "-o", filepath.Join(dir, "hanaper-board-guest"), "../../softhsm/boardtest"}},
		{"KERNEL=", []string{"../../scripts/kernel", "../../bin/kernel"}},
	} {
		cmd := exec.Command(c.args[0], c.args[1:]...)
		cmd.Env = append(os.Environ(), c.env)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", c.args, err, out)
		}
	}
	said := keep(t, []string{"board", "--boards", dir, "--kernel", "../../bin/kernel", "--dir", filepath.Join(t.TempDir(), "b")}, "director show", "it has firmware-2.1", "board-0001-main", "serial")
	for _, want := range []string{"known upstream as board-0001", `board: token "board-0001"`, `board: token "board-0002"`, "Uptane key found; it has factory", "Uptane key made now; it has factory", "Uptane key found; it has firmware-2.1", "booted and off again"} {
		if !strings.Contains(said, want) {
			t.Errorf("never said %q:\n%s", want, said)
		}
	}
}

// keep runs a demo with --keep, what it says to try up to a line with last, and ends it. It gives what the demo said.
func keep(t *testing.T, args []string, last string, wants ...string) string {
	t.Helper()
	cmd := exec.Command(os.Args[0], append(args, "--keep", "--bin", programtest.Dir(t))...)
	cmd.Env = append(os.Environ(), "HANAPER_DEMO_MAIN=1")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill() }()
	var seen, try strings.Builder
	inside := false
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		line := lines.Text()
		seen.WriteString(line + "\n")
		if inside && strings.TrimSpace(line) != "" {
			try.WriteString(line + "\n")
		}
		inside = inside || strings.Contains(line, "Try this")
		if strings.Contains(line, last) && inside {
			break
		}
	}
	if !inside {
		t.Fatalf("never kept: %s", seen.String())
	}
	got, err := exec.Command("bash", "-c", "set -e\n"+try.String()).CombinedOutput()
	for _, want := range wants {
		if err != nil || !strings.Contains(string(got), want) {
			t.Fatalf("%v, no %q:\n%s\n%s", err, want, try.String(), got)
		}
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() {
		seen.WriteString(lines.Text() + "\n")
	}
	if err := cmd.Wait(); err != nil || !strings.Contains(seen.String(), "Stopping.") {
		t.Errorf("after Ctrl-C: %v", err)
	}
	for _, a := range regexp.MustCompile(`127\.0\.0\.1:\d+`).FindAllString(seen.String(), -1) {
		if conn, err := net.Dial("tcp", a); err == nil {
			conn.Close()
			t.Errorf("%s still answers", a)
		}
	}
	return seen.String()
}
