// Package shimtest builds and steers a PKCS#11 module that lies: it passes each call on to SoftHSM, and at the call
// that a plan names it gives a wrong answer, none, or a late one. It is for tests only.
//
// The module (testdata/shim.c) works on a copy of SoftHSM's library, so that its state is its own while the same process
// uses SoftHSM directly, on the same tokens: a test can look at what is really in a token while the module lies about it.
package shimtest

import (
	"bytes"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/hanaper/hanaper/softhsm"
)

//go:embed testdata/shim.c
var source []byte

// Shim is the module of this process. There is one, for a library is loaded once.
type Shim struct {
	// Module is the path of the library.
	Module    string
	plan, log string
	plans     int
}

var shared struct {
	sync.Mutex
	shim *Shim
}

// New builds the module with the machine's C compiler, once a process, and gives it an empty plan. When the test ends the
// plan is empty again.
func New(t testing.TB) *Shim {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.shim == nil {
		// Beside the store, which softhsm.Main removes at the end.
		s, err := build(filepath.Join(filepath.Dir(softhsm.ForTest(t).Dir()), "store", "shim"))
		if err != nil {
			t.Fatal(err)
		}
		shared.shim = s
	}
	s := shared.shim
	s.Plan(t)
	t.Cleanup(func() { s.Plan(t) })
	return s
}

// Over is a copy of the module in front of another library than SoftHSM, the library itself and no copy of it. Its file's name begins with
// that library's. Its plan, counts and calls are its own.
func Over(t testing.TB, library string) *Shim {
	t.Helper()
	base := filepath.Dir(New(t).Module)
	dir, err := os.MkdirTemp(base, "over-")
	if err != nil {
		t.Fatal(err)
	}
	code, err := os.ReadFile(filepath.Join(base, "shim.so"))
	if err != nil {
		t.Fatal(err)
	}
	module := filepath.Join(dir, strings.TrimSuffix(filepath.Base(library), ".so")+"-shim.so")
	if err := os.WriteFile(module, code, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(library, module+".real"); err != nil {
		t.Fatal(err)
	}
	s := &Shim{Module: module, plan: module + ".plan", log: module + ".calls"}
	s.Plan(t)
	return s
}

func build(dir string) (*Shim, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	module, err := softhsm.Module()
	if err != nil {
		return nil, err
	}
	library, err := os.ReadFile(module)
	if err != nil {
		return nil, err
	}
	for name, data := range map[string][]byte{"shim.c": source, "real.so": library} {
		if err := os.WriteFile(at(name), data, 0o700); err != nil {
			return nil, err
		}
	}
	out, err := exec.Command("gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", at("shim.so"), at("shim.c"), "-ldl", "-lpthread").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("gcc: %w\n%s", err, out)
	}
	s := &Shim{Module: at("shim.so"), plan: at("plan"), log: at("calls")}
	for name, value := range map[string]string{"HANAPER_SHIM_REAL": at("real.so"), "HANAPER_SHIM_PLAN": s.plan, "HANAPER_SHIM_LOG": s.log} {
		if err := os.Setenv(name, value); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Plan replaces the plan; no rule makes the module honest. A rule is "FUNCTION NTH FAULT [ARGUMENT]", as shim.c says.
// Calls are counted, and listed, anew.
func (s *Shim) Plan(t testing.TB, rules ...string) {
	t.Helper()
	s.plans++
	text := fmt.Sprintf("# plan %d\n%s\n", s.plans, strings.Join(rules, "\n"))
	if err := os.WriteFile(s.log, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	// By a rename: the module reads the plan while we write it.
	if err := os.WriteFile(s.plan+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(s.plan+".new", s.plan); err != nil {
		t.Fatal(err)
	}
}

// Call is one call that the program made.
type Call struct {
	Number   int
	Function string
	// Fault is what was done with it, "-" for nothing.
	Fault string
	// Answer is the CK_RV that the program was given.
	Answer uint
}

// Calls lists the calls since the plan was made, each once: of a call in two halves, the second.
func (s *Shim) Calls(t testing.TB) []Call {
	t.Helper()
	data, err := os.ReadFile(s.log)
	if err != nil {
		t.Fatal(err)
	}
	var calls []Call
	for line := range bytes.Lines(data) {
		var c Call
		if _, err := fmt.Sscanf(string(line), "%d %s %s 0x%x", &c.Number, &c.Function, &c.Fault, &c.Answer); err != nil {
			t.Fatalf("the shim's list of calls: %q: %v", line, err)
		}
		if n := len(calls); n > 0 && calls[n-1].Number == c.Number {
			calls[n-1] = c
			continue
		}
		calls = append(calls, c)
	}
	return calls
}

// Count counts the calls of a function that were answered with CKR_OK.
func (s *Shim) Count(t testing.TB, function string) (n int) {
	t.Helper()
	for _, c := range s.Calls(t) {
		if c.Function == function && c.Answer == 0 {
			n++
		}
	}
	return n
}

// Pad is the file with what the person types at the token's own keys, a line a PIN, where the plan has "pad" for C_Login or C_SetPIN.
func (s *Shim) Pad() string { return s.plan + ".pad" }
