package programtest

import (
	"os/exec"
	"path/filepath"
	"sync"
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
	path := filepath.Join(root, "bin", "peers", "step-ca")
	cmd := exec.Command("go", "build", "-buildmode=pie", "-trimpath", "-tags=netgo,osusergo", "-buildvcs=false", "-ldflags=-s -w", "-o", path, "./docs/examples/stepca")
	cmd.Dir = root
	return path, alone(filepath.Dir(path), cmd)
})
