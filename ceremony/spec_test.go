package ceremony

import (
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
