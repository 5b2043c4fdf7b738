package arch

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// openers are the files that may open a path without internal/input, with the reason.
var openers = map[string]string{
	"internal/input/input.go":          "the one way",
	"image/menu/machine.go":            "adds to the machine's own notes",
	"image/menu/imagecheck.go":         "reads the device of the image",
	"image/menu/look.go":               "reads a folder of a mounted stick, and no more of it than is looked at",
	"image/menu/sticks.go":             "opens devices of sticks, to see whether they are there, and what the kernel says of them",
	"internal/durable/durable.go":      "opens a folder to sync it",
	"internal/durable/lock.go":         "opens a folder to lock it",
	"internal/durable/rename_linux.go": "opens a file that was just put there, to sync it",
	"packaging/sbomjudge/main.go":      "a module of its own, which judges SBOMs",
	"internal/socket/socket.go":        "opens a folder to reach what is in it",
	"internal/term/term.go":            "opens the terminal",
}

var opens = regexp.MustCompile(`\bos\.(Open|OpenFile|ReadFile|DirFS)\(`)

// TestFilesAreOpenedOneWay: no program waits for a pipe's writer, because everything that reads a file asks internal/input.
// The demonstration, the maker of mutants, and what tests share, are left out.
func TestFilesAreOpenedOneWay(t *testing.T) {
	looked := 0
	err := filepath.WalkDir("../..", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		name, err := filepath.Rel("../..", path)
		if err != nil || strings.HasPrefix(name, "cmd/hanaper-demo/") || strings.HasPrefix(name, "internal/mutants/") || strings.HasSuffix(filepath.Dir(name), "test") {
			return err
		}
		looked++
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		found := opens.FindAllString(string(data), -1)
		if _, ok := openers[name]; ok != (len(found) > 0) {
			t.Errorf("%s: %s: open files with internal/input, or take the file from the list", name, slices.Compact(found))
		}
		return nil
	})
	if err != nil || looked < 300 {
		t.Errorf("%d files were looked at: %v", looked, err)
	}
}
