package console_test

import (
	"os"
	"regexp"
	"testing"

	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/factory/console"
	"github.com/hanaper/hanaper/factory/record"
)

// TestWords: each code of a refusal and each kind of event is told in words.
func TestWords(t *testing.T) {
	for path, told := range map[string]func(word string) string{
		"../fault.go":         func(w string) string { return console.Reason(factory.Code(w)) },
		"../record/record.go": func(w string) string { return console.Kind(record.Kind(w)) },
	} {
		source, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		found := regexp.MustCompile(`(?m)^\t\w+ +(?:Code|Kind) += "(\w+)"`).FindAllStringSubmatch(string(source), -1)
		if len(found) < 10 {
			t.Fatalf("%s: %d found", path, len(found))
		}
		for _, m := range found {
			if words := told(m[1]); words == m[1] && m[1] != "lot" {
				t.Errorf("%s: %s has no words", path, m[1])
			}
		}
	}
}
