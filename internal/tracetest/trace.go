// Package tracetest shows, by a system-call trace, in which order a program writes, syncs and renames: a dropped fsync changes no
// file, so no other test sees it. It needs strace. It is for tests only.
package tracetest

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Variable is set, to the folder, in the child that Files starts.
const Variable = "HANAPER_TRACED"

// Files starts this test binary again, with only the test that calls it, under strace, and gives the calls of that child which
// change files in dir, in order: "write a", "fsync a", "fsync .", "rename a b", "link a b", "unlink a", "mkdir a", "truncate a". Names
// are relative to dir. What temporary matches becomes TMP. Repeated writes to one file count once.
//
// The test looks whether Variable is set: if so it is the child, does what is to be traced, and returns.
func Files(t *testing.T, dir string, temporary *regexp.Regexp) []string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	trace := filepath.Join(t.TempDir(), "trace")
	cmd := exec.Command("strace", "-f", "-y", "-qq", "-s", "0", "-o", trace,
		"-e", "trace=write,pwrite64,writev,fsync,fdatasync,ftruncate,rename,renameat,renameat2,link,linkat,unlink,unlinkat,mkdir,mkdirat",
		os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.count", "1")
	cmd.Env = append(os.Environ(), Variable+"="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("under strace, which must be installed and permitted: %v\n%s", err, out)
	}
	data, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	calls := parse(string(data), dir, temporary)
	if len(calls) == 0 {
		t.Fatal("nothing was traced")
	}
	return calls
}

var (
	call   = regexp.MustCompile(`^\d+ +([a-z0-9]+)\((.*)$`)
	opened = regexp.MustCompile(`^\d+<([^>]*)>`)
	quoted = regexp.MustCompile(`"([^"]*)"`)
	resume = regexp.MustCompile(`^(\d+) +<\.\.\. [a-z0-9]+ resumed>(.*)$`)
)

func parse(trace, dir string, temporary *regexp.Regexp) []string {
	var calls []string
	for _, line := range strings.Split(whole(trace), "\n") {
		m := call.FindStringSubmatch(line)
		if m == nil || strings.Contains(line, ") = -1 ") {
			continue
		}
		name, args := m[1], m[2]
		var paths []string
		if f := opened.FindStringSubmatch(args); f != nil && !strings.HasPrefix(name, "unlinkat") {
			paths = []string{f[1]}
		} else {
			for _, q := range quoted.FindAllStringSubmatch(args, -1) {
				paths = append(paths, q[1])
			}
		}
		for i, p := range paths {
			rel, err := filepath.Rel(dir, p)
			if err != nil || strings.HasPrefix(rel, "..") {
				paths = nil
				break
			}
			paths[i] = temporary.ReplaceAllString(rel, "TMP")
		}
		if len(paths) == 0 {
			continue
		}
		said := plain(name) + " " + strings.Join(paths, " ")
		if len(calls) > 0 && calls[len(calls)-1] == said && strings.HasPrefix(said, "write ") {
			continue
		}
		calls = append(calls, said)
	}
	return calls
}

// whole joins calls that strace shows in two parts, at the place where they ended.
func whole(trace string) string {
	begun := map[string]string{}
	var lines []string
	for _, line := range strings.Split(trace, "\n") {
		if head, ok := strings.CutSuffix(line, " <unfinished ...>"); ok {
			pid, _, _ := strings.Cut(head, " ")
			begun[pid] = head
			continue
		}
		if m := resume.FindStringSubmatch(line); m != nil {
			line = begun[m[1]] + m[2]
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

func plain(name string) string {
	switch {
	case name == "pwrite64" || name == "writev":
		return "write"
	case name == "fdatasync":
		return "fsync"
	case name == "ftruncate":
		return "truncate"
	}
	return strings.TrimSuffix(strings.TrimSuffix(name, "2"), "at")
}
