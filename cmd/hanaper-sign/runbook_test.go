package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/internal/programtest"
	"github.com/hanaper/hanaper/softhsm"
)

// TestRunbook runs the ```sh blocks of the release engineer's runbook as they stand there; only the path of the library
// is this machine's, and the token has been made before.
func TestRunbook(t *testing.T) {
	page, err := os.ReadFile("../../docs/runbooks/release-engineer.md")
	if err != nil {
		t.Fatal(err)
	}
	var script strings.Builder
	script.WriteString("set -e\n")
	for i, part := range strings.Split(string(page), "```") {
		if body, ok := strings.CutPrefix(part, "sh\n"); ok && i%2 == 1 {
			script.WriteString(body)
		}
	}
	module, err := softhsm.Module()
	if err != nil {
		t.Fatal(err)
	}
	board := newBoard(t)
	text := strings.ReplaceAll(script.String(), "/usr/lib/softhsm/libsofthsm2.so", module)
	text = strings.ReplaceAll(text, "token=release?", "token="+board.Label+"?")
	dir, bin := t.TempDir(), t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(bin, "hanaper-sign")); err != nil {
		t.Fatal(err)
	}
	o := newTestServer(t, "sealed", "oauth")
	o.start(t, "oauth")
	defer o.http.Close()
	for name, data := range map[string][]byte{"release.pin": board.PIN, "credentials.zip": o.credentials(t, "oauth", nil)} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("bash", "-xc", text)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HANAPER_SIGN_MAIN=1", quickExit, "PATH="+bin+":"+programtest.Dir(t)+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		lines := strings.Split(string(out), "\n")
		t.Fatalf("%v\n%s", err, strings.Join(lines[max(0, len(lines)-20):], "\n"))
	}
	v, err := o.device(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"firmware-2.1", "supplier01-app-1.0"} {
		if _, err := v.Find(name); err != nil {
			t.Error(err)
		}
	}
}
