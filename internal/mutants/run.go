package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

type verdict string

const (
	killed   verdict = "killed"
	survived verdict = "SURVIVED"
	// stale: the text is not in the file, or more than once.
	stale verdict = "STALE"
	// broken: it does not compile, or the test fails without it too, or no test ran. It says nothing.
	broken verdict = "BROKEN"
)

type result struct {
	verdict verdict
	why     string
}

func (r result) remark() string {
	if r.why == "" {
		return ""
	}
	return ": " + r.why
}

type runner struct {
	dir       string
	checkOnly bool

	mu sync.Mutex
	// clean says of a test command whether it passes without a mutant.
	clean map[string]func() error
}

func (r *runner) try(n int, m mutant) result {
	source, err := os.ReadFile(m.file)
	if err != nil {
		return result{stale, err.Error()}
	}
	if found := strings.Count(string(source), m.was); found != 1 {
		return result{stale, fmt.Sprintf("the text is there %d times", found)}
	}
	if r.checkOnly {
		return result{verdict: survived, why: "not run"}
	}
	if err := r.passes(m.test); err != nil {
		return result{broken, err.Error()}
	}
	overlay, err := r.overlay(n, m, string(source))
	if err != nil {
		return result{broken, err.Error()}
	}
	out, err := goTest(append([]string{"-overlay", overlay}, m.test...))
	switch {
	case strings.Contains(out, "[build failed]") || strings.Contains(out, "[setup failed]"):
		return result{broken, "it does not compile: " + firstLines(out)}
	case err != nil:
		return result{killed, ""}
	}
	return result{survived, m.survives}
}

// overlay writes the changed file, and the list of replaced files that go test reads.
func (r *runner) overlay(n int, m mutant, source string) (string, error) {
	changed := filepath.Join(r.dir, fmt.Sprintf("%d.go", n))
	if err := os.WriteFile(changed, []byte(strings.Replace(source, m.was, m.now, 1)), 0o600); err != nil {
		return "", err
	}
	real, err := filepath.Abs(m.file)
	if err != nil {
		return "", err
	}
	data, err := json.Marshal(map[string]map[string]string{"Replace": {real: changed}})
	if err != nil {
		return "", err
	}
	path := filepath.Join(r.dir, fmt.Sprintf("%d.json", n))
	return path, os.WriteFile(path, data, 0o600)
}

// passes runs a test command on the program as it is, once.
func (r *runner) passes(args []string) error {
	key := strings.Join(args, " ")
	r.mu.Lock()
	once, ok := r.clean[key]
	if !ok {
		once = sync.OnceValue(func() error {
			out, err := goTest(args)
			if err != nil {
				return fmt.Errorf("go test %s fails without the change: %s", key, firstLines(out))
			}
			if strings.Contains(out, "no tests to run") {
				return fmt.Errorf("go test %s: no such test", key)
			}
			return nil
		})
		r.clean[key] = once
	}
	r.mu.Unlock()
	return once()
}

func goTest(args []string) (string, error) {
	cmd := exec.Command("go", append([]string{"test", "-failfast", "-vet=off", "-ldflags=-w", "-timeout", "10m"}, args...)...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func firstLines(out string) string {
	lines := strings.Split(strings.TrimSpace(out), "\n")
	return strings.Join(lines[:min(4, len(lines))], " | ")
}
