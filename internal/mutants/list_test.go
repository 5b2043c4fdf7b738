package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLists reads the lists as scripts/mutants does. Whether the text that is to be changed is still there, make lint says; whether
// a test notices the change, make mutants: that takes an hour.
func TestLists(t *testing.T) {
	paths, err := filepath.Glob("*.txt")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		list, err := parse(path, string(data))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range list {
			if key := m.file + " " + m.name; seen[key] {
				t.Errorf("%s: %q stands twice", path, m.name)
			} else {
				seen[key] = true
			}
			if strings.HasSuffix(m.file, "_test.go") {
				t.Errorf("%s: %q changes a test", path, m.name)
			}
		}
	}
	if len(seen) < 80 {
		t.Errorf("only %d mutants", len(seen))
	}
}

func TestParse(t *testing.T) {
	const whole = "# a comment\n\nname: one\nfile: a.go\nwas: \tif x {\nwas: \t}\nnow: \tif y: z {\ntest: ./a -run One\nsurvives: because\n"
	list, err := parse("list", whole)
	if err != nil || len(list) != 1 {
		t.Fatalf("%+v, %v", list, err)
	}
	if m := list[0]; m.was != "\tif x {\n\t}" || m.now != "\tif y: z {" || strings.Join(m.test, "|") != "./a|-run|One" || m.survives != "because" {
		t.Errorf("%+v", m)
	}
	for _, bad := range []string{"name: one\nfile: a.go\nwas: x\nnow: y\n", "name: one\nfile: a.go\nwas: x\nnow: x\ntest: ./a\n", "name: one\nnonsense\n", "name: one\ncolour: red\n", "name: one\nfile: a.go\ntest: ./a\n"} {
		if list, err := parse("list", bad); err == nil {
			t.Errorf("%q: %+v", bad, list)
		}
	}
}
