package main

import (
	"bytes"
	"encoding/json"
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

// measured is what a whole process took.
type measured struct {
	Seconds   float64 // what a user waits for
	Processor float64 // seconds of processor time, which other work on the machine disturbs less
	Megabytes float64 // the largest memory
}

// process runs a program to its end. A small process between us measures it: the system counts the memory of the parent at the
// time of the fork as the child's.
func process(tb testing.TB, dir, program string, args ...string) measured {
	tb.Helper()
	self, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	cmd := exec.Command(self, append([]string{program}, args...)...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "HANAPER_SIGN_MEASURE=1")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		tb.Fatalf("%s: %v\n%s%s", strings.Join(args, " "), err, errs.String(), out)
	}
	var m measured
	if err := json.Unmarshal(out, &m); err != nil {
		tb.Fatalf("%v\n%s", err, out)
	}
	return m
}

// measure is the process between: it prints what the program took, and the program's output on standard error.
func measure(args []string) int {
	cmd := exec.Command(args[0], args[1:]...)
	start := time.Now()
	out, err := cmd.CombinedOutput()
	m := measured{Seconds: time.Since(start).Seconds()}
	_, _ = os.Stderr.Write(out)
	if err != nil {
		return 1
	}
	m.Processor = (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
	m.Megabytes = float64(cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss) / 1024
	return exitOf(json.NewEncoder(os.Stdout).Encode(m))
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
	var sign, add []measured
	for i := range bench.Rounds() {
		add = append(add, process(b, dir, program, "targets", "add", "-r", "r", "--name", "new", "--version", fmt.Sprint(i), "--length", "5",
			"--sha256", strings.Repeat("11", 32), "--hardwareids", "board-a"))
		sign = append(sign, process(b, dir, program, "targets", "sign", "-r", "r", "-k", "targets"))
	}
	figures("targets-sign-process", sign)
	figures("targets-add-process", add)
}

func figures(name string, rounds []measured) {
	var seconds, processor, megabytes []float64
	for _, m := range rounds {
		seconds, processor, megabytes = append(seconds, m.Seconds), append(processor, m.Processor), append(megabytes, m.Megabytes)
	}
	bench.Figure(name, bench.Median(seconds), "s")
	bench.Figure(name+"-processor", bench.Median(processor), "s")
	bench.Figure(name+"-memory", bench.Median(megabytes), "MB")
}

// BenchmarkCompareStart prints how long the slowest of the programs takes to say its version.
func BenchmarkCompareStart(b *testing.B) {
	dir := programtest.Dir(b)
	slowest := 0.0
	for _, name := range []string{"hanaper", "hanaperd", "hanaper-station", "hanaper-repo", "hanaper-sign", "hanaper-gateway"} {
		var times []float64
		for range 5 * bench.Rounds() {
			times = append(times, process(b, dir, filepath.Join(dir, name), "--version").Seconds*1000)
		}
		bench.Figure("start-"+name, bench.Median(times), "ms")
		slowest = max(slowest, bench.Median(times))
	}
	bench.Figure("start", slowest, "ms")
}
