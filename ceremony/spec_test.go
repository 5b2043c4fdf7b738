package ceremony

import (
	"context"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/internal/strict"
)

var specExample = regexp.MustCompile("(?s)### ([a-z-]+)\n```yaml\n(.*?)```")

// TestSpecExamples: docs/spec/script.md has an example of every kind of step, and each parses.
func TestSpecExamples(t *testing.T) {
	doc, err := os.ReadFile("../docs/spec/script.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, m := range specExample.FindAllStringSubmatch(string(doc), -1) {
		var steps []StepConfig
		if err := strict.Unmarshal(m[1], []byte(m[2]), &steps); err != nil {
			t.Errorf("%s: %v", m[1], err)
			continue
		}
		for i := range steps {
			kind, _, err := steps[i].one()
			if err != nil || kind != m[1] {
				t.Errorf("%s: the example is of kind %q: %v", m[1], kind, err)
			}
			seen[kind] = true
		}
	}
	for _, kind := range StepKinds() {
		if !seen[kind] {
			t.Errorf("docs/spec/script.md has no example of %s", kind)
		}
	}
}

// TestTranscriptSpec: docs/spec/transcript.md names every kind of entry.
func TestTranscriptSpec(t *testing.T) {
	doc, err := os.ReadFile("../docs/spec/transcript.md")
	if err != nil {
		t.Fatal(err)
	}
	for kind, k := range leafKinds {
		if !strings.Contains(string(doc), "| `"+kind+"` |") {
			t.Errorf("docs/spec/transcript.md does not describe %s", kind)
		}
		if l := k.empty(); l == nil || l.head() == nil {
			t.Errorf("%s has no leaf", kind)
		}
	}
	if len(leafKinds) < 25 {
		t.Errorf("only %d kinds found", len(leafKinds))
	}
}

// TestExampleLeaves: ceremony/testdata/example.leaves has one entry of every kind, each in its one spelling, and those of
// docs/spec/transcript.md are among them. The file is never made anew.
func TestExampleLeaves(t *testing.T) {
	page, seen := readFile(t, "../docs/spec/transcript.md"), map[string]bool{}
	shown := 0
	for line := range strings.Lines(readFile(t, "testdata/example.leaves")) {
		line = strings.TrimSuffix(line, "\n")
		l, err := readLeaf([]byte(line))
		if err != nil {
			t.Errorf("%.80s: %v", line, err)
			continue
		}
		seen[l.head().Kind] = true
		if strings.Contains(page, "\n"+line+"\n") {
			shown++
		}
	}
	for kind := range leafKinds {
		if !seen[kind] {
			t.Errorf("there is no example of %s", kind)
		}
	}
	if shown < 8 {
		t.Errorf("docs/spec/transcript.md has %d of them, not at least 8", shown)
	}
}

// TestExampleScript: the example of docs/spec/script.md is testdata/example.yaml, byte for byte, and can be performed.
func TestExampleScript(t *testing.T) {
	example := readFile(t, "testdata/example.yaml")
	if page := readFile(t, "../docs/spec/script.md"); !strings.Contains(page, "\n"+example) || !strings.Contains(page, hexSHA256([]byte(example))) {
		t.Error("docs/spec/script.md does not have the example, or its digest")
	}
	files := map[string][]byte{scriptFile: []byte(example), rosterFile: []byte(readFile(t, "../quorum/testdata/example.roster.json")), "inputs/notes": []byte("hello\n")}
	script, err := loadCopy(files)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := script.Validate(context.Background()); err != nil {
		t.Error(err)
	}
}
