// Package manual holds no code, only the tests that keep help texts, manual pages and runbooks true: every verb's help
// has an example, everything that a page tells people to type exists, and the runbooks' commands are run as shown.
package manual

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hanaper/hanaper/hsm/pkcs11/cardtest"
	"github.com/hanaper/hanaper/internal/programtest"
	"github.com/hanaper/hanaper/softhsm"
)

// bin is where the programs are.
var bin string

func TestMain(m *testing.M) {
	bin = programtest.Dir(fatal{})
	if _, err := softhsm.Module(); err != nil {
		fatal{}.Fatal(err)
	}
	os.Exit(cardtest.Main{Tests: m}.Run())
}

// fatal ends the process before the tests begin.
type fatal struct{}

func (fatal) Helper() {}

func (fatal) Fatal(args ...any) {
	fmt.Fprintln(os.Stderr, args...)
	os.Exit(1)
}

// programs are all that are installed: hanaper-demo is not.
func programs() []string {
	mains, _ := filepath.Glob("../../cmd/*/main.go")
	var names []string
	for _, m := range mains {
		if name := filepath.Base(filepath.Dir(m)); name != "hanaper-demo" {
			names = append(names, name)
		}
	}
	return names
}

// verb is a program or one of its commands, as --help shows it.
type verb struct {
	path     []string
	subs     map[string]*verb
	flags    map[string]bool // whether the flag takes a value
	above    *verb
	takes    bool // an argument of its own, beside the verbs below it
	examples []string
	strange  []string // flags whose value has a name of more than one word
	failed   error
}

var (
	listed  = regexp.MustCompile(`^   ([a-z][a-z0-9-]*)(?:, [a-z-]+)*\s`)
	flagged = regexp.MustCompile(`--?[A-Za-z][A-Za-z0-9-]*`)
)

// look reads a verb's help, and that of the verbs below it.
func look(path []string) (*verb, error) {
	args := append(slices.Clone(path[1:]), "--help")
	out, err := exec.Command(filepath.Join(bin, path[0]), args...).CombinedOutput()
	if err != nil && !strings.HasPrefix(string(out), "NAME:") {
		return nil, fmt.Errorf("%s --help: %w\n%s", strings.Join(path, " "), err, out)
	}
	v := &verb{path: path, subs: map[string]*verb{}, flags: map[string]bool{}, failed: err}
	section, example := "", false
	for line := range strings.Lines(string(out)) {
		line = strings.TrimRight(line, "\n")
		text := strings.TrimSpace(line)
		if line != "" && line[0] != ' ' && strings.HasSuffix(line, ":") {
			section, example = strings.TrimSuffix(line, ":"), false
			continue
		}
		switch {
		case section == "USAGE":
			v.takes = v.takes || strings.HasSuffix(text, "[command options] ID")
		case section == "DESCRIPTION" && text == "Example:":
			example = true
		case section == "DESCRIPTION" && example && text == "":
			example = false
		case section == "DESCRIPTION" && example:
			v.examples = append(v.examples, text)
		case section == "COMMANDS":
			if m := listed.FindStringSubmatch(line); m != nil {
				sub, err := look(append(slices.Clone(path), m[1]))
				if err != nil {
					return nil, err
				}
				sub.above, v.subs[m[1]] = v, sub
			}
		case strings.HasSuffix(section, "OPTIONS"):
			left, _, _ := strings.Cut(text, "  ")
			left, _, _ = strings.Cut(left, " [ ")
			for spelling := range strings.SplitSeq(left, ", ") {
				if len(strings.Fields(spelling)) > 2 {
					v.strange = append(v.strange, left)
				}
			}
			// "--config FILE, -c FILE" takes a value in both spellings, "--json" in none.
			takes := strings.Contains(strings.ReplaceAll(left, ", -", ""), " ")
			for _, m := range flagged.FindAllString(left, -1) {
				v.flags[m] = takes
			}
		}
	}
	return v, nil
}

var tree = sync.OnceValues(func() (map[string]*verb, error) {
	all := map[string]*verb{}
	for _, p := range programs() {
		v, err := look([]string{p})
		if err != nil {
			return nil, err
		}
		all[p] = v
	}
	return all, nil
})

func verbs(t *testing.T) map[string]*verb {
	t.Helper()
	all, err := tree()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// flag looks a flag up here and above: some programs take those of a group after its verbs, too.
func (v *verb) flag(name string) (takesValue, known bool) {
	for ; v != nil && !known; v = v.above {
		takesValue, known = v.flags[name]
	}
	return takesValue, known
}

// each calls f for the program, or verb, and each one below it.
func (v *verb) each(f func(*verb)) {
	f(v)
	for _, s := range v.subs {
		s.each(f)
	}
}

// leaves calls f for each verb that does something.
func (v *verb) leaves(f func(*verb)) {
	v.each(func(v *verb) {
		if len(v.subs) == 0 {
			f(v)
		}
	})
}
