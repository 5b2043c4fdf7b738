package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hanaper/hanaper/internal/bench"
	"github.com/hanaper/hanaper/internal/programtest"
	"github.com/hanaper/hanaper/uptane"
)

// process runs a program to its end and returns what a user waits for, in seconds, and its largest memory in MB.
func process(tb testing.TB, dir, program string, args ...string) (seconds, megabytes float64) {
	tb.Helper()
	cmd := exec.Command(program, args...)
	cmd.Dir = dir
	start := time.Now()
	out, err := cmd.CombinedOutput()
	seconds = time.Since(start).Seconds()
	if err != nil {
		tb.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return seconds, float64(cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss) / 1024
}

// manyTargets makes a repository whose key is in a token and whose pulled, signed and unsigned targets have n entries.
func manyTargets(tb testing.TB, program string, n int) (dir string) {
	tb.Helper()
	dir = tb.TempDir()
	board := newBoard(tb)
	o := newTestServer(tb, "folder", "oauth")
	o.start(tb, "oauth")
	tb.Cleanup(o.http.Close)
	if err := os.WriteFile(filepath.Join(dir, "office.zip"), o.credentials(tb, "oauth", nil), 0o600); err != nil {
		tb.Fatal(err)
	}
	for _, line := range []string{
		"init -r r -c office.zip",
		"key generate -r r -n root -t ed25519 --token " + board.URI,
		"key generate -r r -n targets -t ed25519 --token " + board.URI,
		"move-offline -r r --new-root root --new-targets targets --old-root-alias old",
	} {
		process(tb, dir, program, strings.Fields(line)...)
	}
	now := time.Now().UTC().Truncate(time.Second)
	c := uptane.TargetsConfig{Version: 1, Expires: now.AddDate(0, 0, 40), Targets: map[string]uptane.Target{}}
	for i := range n {
		custom, err := uptane.ImageCustom{Name: "app", Version: fmt.Sprint(i), HardwareIDs: []string{"board-a"}, Format: uptane.Binary, CreatedAt: now, UpdatedAt: now}.JSON()
		if err != nil {
			tb.Fatal(err)
		}
		c.Targets[fmt.Sprintf("app-%d", i)] = uptane.Target{Length: int64(1000 + i), SHA256: fmt.Sprintf("%064x", i), Custom: custom}
	}
	t, err := uptane.NewTargets(c)
	if err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "tuf/r/roles/unsigned/targets.json"), t.Signed(), 0o600); err != nil {
		tb.Fatal(err)
	}
	process(tb, dir, program, "targets", "sign", "-r", "r", "-k", "targets")
	process(tb, dir, program, "targets", "push", "-r", "r")
	return dir
}

// BenchmarkCompareTargetsSign prints what a release engineer waits for: whole processes, with a key in a token. There is no
// peer: garage-sign has no keys in tokens.
func BenchmarkCompareTargetsSign(b *testing.B) {
	const n = 10_000
	program := programtest.Path(b, "hanaper-sign")
	dir := manyTargets(b, program, n)
	var sign, signMB, add, addMB []float64
	for i := range bench.Rounds() {
		s, m := process(b, dir, program, "targets", "add", "-r", "r", "--name", "new", "--version", fmt.Sprint(i), "--length", "5",
			"--sha256", strings.Repeat("11", 32), "--hardwareids", "board-a")
		add, addMB = append(add, s), append(addMB, m)
		s, m = process(b, dir, program, "targets", "sign", "-r", "r", "-k", "targets")
		sign, signMB = append(sign, s), append(signMB, m)
	}
	bench.Figure("targets-sign-process", bench.Median(sign), "s")
	bench.Figure("targets-sign-process-memory", bench.Median(signMB), "MB")
	bench.Figure("targets-add-process", bench.Median(add), "s")
	bench.Figure("targets-add-process-memory", bench.Median(addMB), "MB")
}

// BenchmarkCompareStart prints how long the slowest of the programs takes to say its version.
func BenchmarkCompareStart(b *testing.B) {
	dir := programtest.Dir(b)
	slowest := 0.0
	for _, name := range []string{"hanaper", "hanaperd", "hanaper-station", "hanaper-repo", "hanaper-sign", "hanaper-gateway"} {
		var times []float64
		for range 5 * bench.Rounds() {
			s, _ := process(b, dir, filepath.Join(dir, name), "--version")
			times = append(times, s*1000)
		}
		bench.Figure("start-"+name, bench.Median(times), "ms")
		slowest = max(slowest, bench.Median(times))
	}
	bench.Figure("start", slowest, "ms")
}
