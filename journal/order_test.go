package journal

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/internal/tracetest"
)

// TestOrderOfCalls sees what a power cut would: an entry is synced before Append answers, and so is the cutting of a torn end
// before anything is written after it.
func TestOrderOfCalls(t *testing.T) {
	dir := os.Getenv(tracetest.Variable)
	if dir == "" {
		want := []string{
			"write TMP", "fsync TMP", "link TMP log", "unlink TMP", "fsync .", // Create
			"write log", "fsync log", "write answered-1", // Append
			"write log", "fsync log", "write answered-2", // AppendAll
			"write log",                 // the torn end, made by the test
			"truncate log", "fsync log", // Open
			"write log", "fsync log", "write answered-3", // Append
		}
		got := tracetest.Files(t, t.TempDir(), regexp.MustCompile(`\.hanaper-[^/]*\.tmp`))
		if !slices.Equal(got, want) {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		return
	}
	path := filepath.Join(dir, "log")
	answered := func(name string, err error) {
		t.Helper()
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	l, err := Create(path, "example.org/order")
	if err != nil {
		t.Fatal(err)
	}
	_, err = l.Append([]byte("one"))
	answered("answered-1", err)
	_, err = l.AppendAll([][]byte{[]byte("two"), []byte("three")})
	answered("answered-2", err)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(appendHead(nil, 3, 100)[:20]); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if l, err = Open(path); err != nil || l.Torn() == 0 {
		t.Fatalf("%v, nothing torn", err)
	}
	_, err = l.Append([]byte("four"))
	answered("answered-3", err)
}
