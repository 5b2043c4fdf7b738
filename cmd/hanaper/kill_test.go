package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/programtest"
	"github.com/hanaper/hanaper/softhsm"
)

// TestKillProgram kills the program itself with SIGKILL at chance times in a run, also before its first entry and while it
// writes the result, and then resumes or aborts. A folder that verifies is left, and one key or none; or no folder, and
// nothing in the token. In package ceremony TestKill does the same at every entry.
func TestKillProgram(t *testing.T) {
	bin := programtest.Path(t, "hanaper")
	data, err := os.ReadFile(bin)
	if err != nil {
		t.Fatal(err)
	}
	tool := fmt.Sprintf("%x", sha256.Sum256(data))
	d := newCeremony(t, "killed program")
	rounds := 8
	if os.Getenv("HANAPER_SOAK") != "" {
		rounds = 150
	}
	span := time.Second
	outcomes := map[string]int{}
	for n := range rounds {
		board, err := softhsm.ForTest(t).Create(fmt.Sprintf("killed %d", n))
		if err != nil {
			t.Fatal(err)
		}
		r := desk{t, filepath.Join(d.dir, fmt.Sprint(n))}
		if err := os.Mkdir(r.dir, 0o700); err != nil {
			t.Fatal(err)
		}
		for _, f := range []string{"roster.json", "ada.key", "berta.key", "passphrase", "yes"} {
			r.write(f, d.read(f))
		}
		r.write("bindings.yaml", fmt.Sprintf("tokens:\n  roots: %q\n", hsm.URI{Token: board.Label, ModulePath: board.Module, PINSource: board.PINFile}.String()))
		r.write("script.yaml", fmt.Sprintf(smallScript, r.digest("roster.json"), hsm.URI{Token: board.Label, Serial: board.Serial}))
		r.ok(r.approve("ada", "ada.json", "--tool", tool)...)
		r.ok(r.approve("berta", "berta.json", "--with", r.path("ada.json"), "--tool", tool)...)
		run := exec.Command(bin, r.run("out", "ada.json", "berta.json")...)
		start := time.Now()
		if err := run.Start(); err != nil {
			t.Fatal(err)
		}
		if n%4 != 3 { // Most are killed after the folder was made.
			for deadline := start.Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
				if _, err := os.Lstat(r.path("out")); err == nil {
					break
				}
			}
		}
		begun := time.Now()
		after := time.Duration(rand.Int64N(int64(span)))
		if n > 0 { // The first goes through, and says how long one takes.
			time.Sleep(after)
			_ = run.Process.Kill()
		}
		err = run.Wait()
		if n == 0 {
			span = time.Since(begun)
		}
		outcomes[r.cleaned(bin, board, n%2 == 0, err == nil)]++
		if t.Failed() {
			t.Fatalf("round %d, killed after %v of %v", n, after, span)
		}
	}
	t.Log(outcomes)
}

// cleaned ends a run that was cut short, or was not, and says how.
func (d desk) cleaned(bin string, board softhsm.Board, resume, ended bool) string {
	d.Helper()
	keys, how := 1, "ended"
	if !ended {
		if _, err := os.Lstat(d.path("out")); errors.Is(err, fs.ErrNotExist) {
			if n := keysIn(d.T, board); n != 0 {
				d.Errorf("%d keys without a folder", n)
			}
			return "not begun"
		}
		how = "resumed"
		verb := []string{"ceremony", "resume"}
		if !resume {
			keys, how = 0, "aborted"
			verb = []string{"ceremony", "abort", "--reason", "power cut"}
		}
		verb = append(verb, "--officer", d.key("ada"), "--officer", d.key("berta"), "--state", d.path("state"), "--bindings", d.path("bindings.yaml"), "--time", "2026-11-21T10:00:00Z", "--answers", d.path("yes"), d.path("out"))
		out, err := exec.Command(bin, verb...).CombinedOutput()
		if err != nil && !resume && strings.Contains(string(out), "finish it with `hanaper ceremony resume`") {
			return d.cleaned(bin, board, true, false) // All is done but the files: nothing is left to abort.
		} else if err != nil && strings.Contains(string(out), "has ended") {
			keys, how = 1, "ended"
		} else if err != nil && strings.Contains(string(out), "holds no ceremony that began") {
			if n := keysIn(d.T, board); n != 0 {
				d.Errorf("%d keys without a transcript", n)
			}
			return "not begun"
		} else if err != nil {
			d.Errorf("%s: %v\n%s", how, err, out)
			return how
		}
	}
	d.ok("ceremony", "verify", "--roster", d.digest("roster.json"), d.path("out"))
	if n := keysIn(d.T, board); n != keys {
		d.Errorf("%s: %d keys are in the token, want %d", how, n, keys)
	}
	return how
}
