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
	cmd := exec.Command(os.Args[0], "run", "--keep", "--bin", programtest.Dir(t), "--dir", filepath.Join(t.TempDir(), "demo"))
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
		inside = inside || strings.HasPrefix(line, "Try this")
		if strings.Contains(line, "ceremony verify") && inside {
			break
		}
	}
	if !inside {
		t.Fatalf("never kept: %s", seen.String())
	}
	got, err := exec.Command("bash", "-c", "set -e\n"+try.String()).CombinedOutput()
	for _, want := range []string{"admitted", "update assigned", "firmware-2.1"} {
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
	addresses := regexp.MustCompile(`https?://(127\.0\.0\.1:\d+)\n`).FindAllStringSubmatch(seen.String(), -1)
	if len(addresses) < 5 {
		t.Errorf("%d addresses are said", len(addresses))
	}
	for _, a := range addresses {
		if conn, err := net.Dial("tcp", a[1]); err == nil {
			conn.Close()
			t.Errorf("%s still answers", a[1])
		}
	}
}
