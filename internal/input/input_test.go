package input

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"
)

// TestNotFile: whatever is not a file is refused, by name and kind, and nobody waits for a writer.
func TestNotFile(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := syscall.Mkfifo(at("pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", at("socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.Symlink("pipe", at("link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(at("dir"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/dev/zero", at("zero")); err != nil {
		t.Fatal(err)
	}
	done := make(chan bool)
	go func() {
		defer close(done)
		for name, kind := range map[string]string{"pipe": "a named pipe", "link": "a named pipe", "socket": "a socket", "dir": "a directory", "zero": "a device"} {
			_, err := Open(at(name))
			_, err2 := Read(at(name), 10)
			_, err3 := OpenFile(at(name), os.O_RDWR|os.O_CREATE, 0o600)
			_, err4 := ReadFS(Dir(dir), name, 10)
			for i, err := range []error{err, err2, err3, err4} {
				if !errors.Is(err, ErrNotFile) || !strings.Contains(err.Error(), kind) || !strings.Contains(err.Error(), name) {
					t.Errorf("%s, way %d: %v", name, i, err)
				}
			}
			if name != "dir" {
				if _, err := fs.ReadFile(Dir(dir), name); !errors.Is(err, ErrNotFile) {
					t.Errorf("%s in the folder: %v", name, err)
				}
			}
		}
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("a reader waits for somebody to write")
	}
}

func TestRead(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	if err := os.WriteFile(path, []byte("12345"), 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err := Read(path, 5); err != nil || string(b) != "12345" {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := Read(path, 4); !errors.Is(err, ErrTooLarge) || !strings.Contains(err.Error(), path) {
		t.Error(err)
	}
	if _, err := Read(path+"-", 4); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if err := fstest.TestFS(Dir(dir), "f"); err != nil {
		t.Error(err)
	}
	f, err := OpenFile(path, os.O_RDWR|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("6"); err != nil {
		t.Error(err)
	}
}
