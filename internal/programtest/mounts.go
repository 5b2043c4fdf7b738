package programtest

import (
	"os"
	"os/exec"
	"strings"
)

// OwnMounts runs the test once more in a mount namespace of its own, where it may mount small file systems that nobody else sees. It says whether this is
// that run; the caller returns where it is not.
func OwnMounts(t interface {
	T
	Name() string
	Log(args ...any)
}) bool {
	t.Helper()
	const variable = "HANAPER_TEST_MOUNTS"
	if os.Getenv(variable) != "" {
		return true
	}
	args := []string{"--mount", os.Args[0], "-test.run=^" + t.Name() + "$", "-test.v"}
	if os.Getuid() != 0 {
		args = append([]string{"--user", "--map-root-user"}, args...)
	}
	cmd := exec.Command("unshare", args...)
	cmd.Env = append(os.Environ(), variable+"=1")
	out, err := cmd.CombinedOutput()
	t.Log(string(out))
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Fatal(err)
	}
	return false
}
