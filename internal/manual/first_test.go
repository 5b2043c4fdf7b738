package manual

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestFirstOwnCeremony runs the README's own three minutes, at a terminal: what a newcomer types first.
func TestFirstOwnCeremony(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, body, ok := strings.Cut(string(text), "```sh\n")
	body, _, _ = strings.Cut(body, "```")
	if !ok || strings.Count(string(text), "```sh\n") != 1 {
		t.Fatal("README.md has not one ```sh block")
	}
	dir := filepath.Dir(bin)
	seen := perform(t, map[string]string{"README": "cd " + dir + "\nrm -rf my-fleet\n" + body + "ls -s script.pdf record.pdf\ncd ..\nrm -rf my-fleet\n"}, []string{"README"}, "")
	for _, want := range []string{"15 steps", "rehearsed:", "script.pdf", "record.pdf"} {
		if !strings.Contains(seen, want) {
			t.Errorf("%q was not to be seen:\n%s", want, seen)
		}
	}
}
