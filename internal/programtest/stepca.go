package programtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
)

// StepCA gives the path of a step-ca with our import (docs/examples/stepca), built once.
func StepCA(t T) string {
	t.Helper()
	path, err := stepCA()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

var stepCA = sync.OnceValues(func() (string, error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(root, "bin", "peers")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	lock, err := os.Open(dir)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", fmt.Errorf("locking %s: %w", dir, err)
	}
	path := filepath.Join(dir, "step-ca")
	cmd := exec.Command("go", "build", "-buildmode=pie", "-trimpath", "-tags=netgo,osusergo", "-buildvcs=false", "-ldflags=-s -w", "-o", path, "./docs/examples/stepca")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building step-ca: %w\n%s", err, out)
	}
	return path, nil
})
