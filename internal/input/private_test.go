package input

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// TestLetsOthersIn: 0440 is private in a service's folder of credentials, and nowhere else.
func TestLetsOthersIn(t *testing.T) {
	credentials, elsewhere := t.TempDir(), t.TempDir()
	t.Setenv("CREDENTIALS_DIRECTORY", credentials)
	for _, c := range []struct {
		in     string
		mode   fs.FileMode
		folder fs.FileMode
		others bool
	}{
		{elsewhere, 0o600, 0o700, false},
		{elsewhere, 0o440, 0o500, true},
		{elsewhere, 0o640, 0o700, true},
		{credentials, 0o400, 0o500, false},
		{credentials, 0o440, 0o550, os.Geteuid() != 0},
		{credentials, 0o440, 0o555, true},
		{credentials, 0o440, 0o570, true},
		{credentials, 0o444, 0o550, true},
		{credentials, 0o460, 0o550, true},
	} {
		if err := os.Chmod(c.in, 0o700); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(c.in, "pin")
		if err := os.WriteFile(path, []byte("1234"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, c.mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(c.in, c.folder); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := LetsOthersIn(path, info); got != c.others {
			t.Errorf("mode %04o in a folder %04o (credentials: %v): others are let in: %v", c.mode, c.folder, c.in == credentials, got)
		}
		if err := os.Chmod(c.in, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}
