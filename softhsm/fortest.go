package softhsm

import (
	"os"
	"path/filepath"
	"strconv"
	"sync"
)

var shared struct {
	sync.Mutex
	store *Store
}

// T is what ForTest needs of a *testing.T; the testing package itself is kept out of the programs that rehearse.
type T interface {
	Helper()
	Fatal(args ...any)
}

// ForTest gives the one Store of this test process, made at the first call and used (see Use) by the process. Tests
// take a token of their own from it by Create. It lives in a temporary folder, which Main removes.
func ForTest(t T) *Store {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.store != nil {
		return shared.store
	}
	if _, err := Module(); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp(inMemory(), "hanaper-softhsm-"+strconv.Itoa(os.Getpid())+"-")
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(filepath.Join(dir, "store"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Use(); err != nil {
		t.Fatal(err)
	}
	shared.store = s
	return s
}

// inMemory is a folder in memory if the machine has one, else "": SoftHSM syncs a file several times for each object, and nothing of
// a test's tokens is to outlive the test. TMPDIR, where it is set, says otherwise.
func inMemory() string {
	const folder = "/dev/shm"
	if os.Getenv("TMPDIR") != "" {
		return ""
	}
	probe, err := os.MkdirTemp(folder, "hanaper-probe-")
	if err != nil {
		return ""
	}
	_ = os.Remove(probe)
	return folder
}

// Main runs a package's tests and removes the Store that ForTest made: func TestMain(m *testing.M) { softhsm.Main(m) }
func Main(m interface{ Run() int }) {
	code := m.Run()
	if s := shared.store; s != nil {
		_ = s.Destroy()
		_ = os.Remove(filepath.Dir(s.dir))
	}
	os.Exit(code)
}
