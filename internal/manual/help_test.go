package manual

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestExamples: each verb's help shows a call of that verb that would be understood.
func TestExamples(t *testing.T) {
	all, n := verbs(t), 0
	for _, program := range all {
		program.leaves(func(v *verb) {
			n++
			name := strings.Join(v.path, " ")
			if v.failed != nil {
				t.Errorf("%s --help: %v", name, v.failed)
			}
			for _, flag := range v.strange {
				t.Errorf("%s --help: the word for a flag's value is none in capitals: %s", name, flag)
			}
			if len(v.examples) == 0 {
				t.Errorf("%s --help has no line \"Example:\" with a command after it", name)
			}
			for _, line := range v.examples {
				if !strings.HasPrefix(line, v.path[0]+" ") || !strings.Contains(line, v.path[len(v.path)-1]) {
					t.Errorf("%s --help: the example is of another verb: %s", name, line)
				}
				if err := understand(all, line); err != nil {
					t.Errorf("%s --help: example %q: %v", name, line, err)
				}
			}
		})
	}
	if n < 40 {
		t.Errorf("only %d verbs found: the test reads help wrongly", n)
	}
}

// TestManAndCompletions: each program prints a manual page that man can read, and completions, which TestCompletions tries in the shells.
func TestManAndCompletions(t *testing.T) {
	for name, v := range verbs(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			page := output(t, name, "man")
			if !strings.HasPrefix(page, ".") || !strings.Contains(page, ".TH "+name+" 1") || !strings.Contains(page, ".SH NAME") {
				t.Errorf("no manual page: %.200q", page)
			}
			for sub := range v.subs {
				if !strings.Contains(page, sub) {
					t.Errorf("the manual page does not mention %s", sub)
				}
			}
			for _, shell := range []string{"bash", "zsh", "fish"} {
				script := output(t, name, "completion", shell)
				if !strings.Contains(script, name) {
					t.Errorf("completion for %s does not mention %s: %.200q", shell, name, script)
				}
			}
		})
	}
}

func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(filepath.Join(bin, name), args...).Output()
	if err != nil {
		t.Fatalf("%s %s: %v", name, strings.Join(args, " "), err)
	}
	return string(out)
}
