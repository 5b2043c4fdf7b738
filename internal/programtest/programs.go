// Package programtest gives tests the programs as they are shipped: what make build puts into bin/. It is for tests only.
package programtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

// Variable is the environment variable that names a folder with the programs. scripts/test sets it, after one build for all
// packages. Where it is unset, Dir builds them.
const Variable = "HANAPER_BIN"

// T is what Dir needs of a *testing.T.
type T interface {
	Helper()
	Fatal(args ...any)
}

// Dir gives the folder of the programs.
func Dir(t T) string {
	t.Helper()
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// Path gives the path of one program.
func Path(t T, name string) string {
	t.Helper()
	path := filepath.Join(Dir(t), name)
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	return path
}

var programs = sync.OnceValues(func() (string, error) {
	if dir := os.Getenv(Variable); dir != "" {
		if !filepath.IsAbs(dir) {
			return "", fmt.Errorf("%s=%s: want an absolute path", Variable, dir)
		}
		return dir, nil
	}
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	bin := filepath.Join(root, "bin")
	return bin, build(root, bin)
})

// build calls make, so that the flags stand in one place.
func build(root, bin string) error {
	return alone(bin, exec.Command("make", "-s", "-C", root, "build"))
}

// alone runs a command that writes into a folder, which it makes if need be. Test processes take turns: a lock on the folder is held.
func alone(dir string, cmd *exec.Cmd) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	lock, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("locking %s: %w", dir, err)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", cmd, err, out)
	}
	return nil
}

func moduleRoot() (string, error) {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOMOD: %w", err)
	}
	path := strings.TrimSpace(string(out))
	if filepath.Base(path) != "go.mod" {
		return "", errors.New("tests that need the programs run inside the module")
	}
	return filepath.Dir(path), nil
}
