package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/hanaper/hanaper/internal/programtest"
	"github.com/hanaper/hanaper/softhsm"
	"github.com/hanaper/hanaper/uptane"
	"github.com/hanaper/hanaper/uptane/reposerver"
)

// Most of what is done here waits for the disk: files that must survive a power cut are synced. In memory that is free.
func init() {
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() && os.Getenv("TMPDIR") == "" {
		_ = os.Setenv("TMPDIR", "/dev/shm")
	}
}

// Tests run the program as it is built for people. Where it has to end at one place, it is this test binary.
func TestMain(m *testing.M) {
	if at := os.Getenv("HANAPER_SIGN_KILL"); at != "" {
		reached = func(s string) {
			if s == at {
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
		}
		main()
	}
	if os.Getenv("HANAPER_SIGN_MEASURE") == "1" {
		os.Exit(measure(os.Args[1:]))
	}
	os.Exit(cleanUp{m}.Run())
}

// cleanUp removes what softhsm.ForTest left.
type cleanUp struct{ m *testing.M }

func (c cleanUp) Run() int {
	code := c.m.Run()
	if theStore != nil {
		_ = theStore.Destroy()
	}
	return code
}

var (
	storeLock sync.Mutex
	theStore  *softhsm.Store
	tokens    int
)

// newBoard makes a SoftHSM token that this process and the programs it runs can see.
func newBoard(t testing.TB) softhsm.Board {
	t.Helper()
	storeLock.Lock()
	defer storeLock.Unlock()
	theStore = softhsm.ForTest(t)
	tokens++
	board, err := theStore.Create(fmt.Sprintf("sign-%d", tokens))
	if err != nil {
		t.Fatal(err)
	}
	return board
}

// tree is the content of every file but lock files.
func tree(dir string) (string, error) {
	var b strings.Builder
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(d.Name(), "lock") {
			return err
		}
		data, err := os.ReadFile(p)
		fmt.Fprintf(&b, "%s %x\n", p, sha256.Sum256(data))
		return err
	})
	return b.String(), err
}

// offices are the servers of one script, by name.
type offices struct {
	t  testing.TB
	of map[string]*testServer
}

func TestScripts(t *testing.T) { runScripts(t, "testdata/script") }

func runScripts(t *testing.T, dir string) {
	store := softhsm.ForTest(t)
	storeLock.Lock()
	theStore = store
	storeLock.Unlock()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	named := t.TempDir()
	for name, program := range map[string]string{"garage-sign": programtest.Path(t, "hanaper-sign"), "hanaper-sign-killed": self} {
		if err := os.Symlink(program, filepath.Join(named, name)); err != nil {
			t.Fatal(err)
		}
	}
	testscript.Run(t, testscript.Params{
		Dir:                 dir,
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			for _, kv := range store.Env() {
				k, v, _ := strings.Cut(kv, "=")
				env.Setenv(k, v)
			}
			env.Setenv("PATH", programtest.Dir(t)+":"+named+":"+env.Getenv("PATH"))
			env.Setenv("H1", strings.Repeat("11", 32))
			env.Setenv("H2", strings.Repeat("22", 32))
			env.Setenv("H3", strings.Repeat("33", 32))
			inner := env.T().(testing.TB)
			env.Values["offices"] = &offices{inner, map[string]*testServer{}}
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"server": serverCmd, "token": tokenCmd, "exits": exitsCmd, "refused": refusedCmd, "device": deviceCmd,
			"noprivate": noPrivateCmd, "heldkeys": heldKeysCmd, "edit": editCmd, "setenv": setenvCmd, "member": memberCmd, "uri": uriCmd, "commit": commitCmd,
		},
	})
}

// setenv NAME: sets a variable to the standard output of the last program.
func setenvCmd(ts *testscript.TestScript, neg bool, args []string) {
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
}

// server NAME sealed|folder oauth|none|mtls: starts a server and writes NAME.zip.
func serverCmd(ts *testscript.TestScript, neg bool, args []string) {
	all := ts.Value("offices").(*offices)
	if len(args) != 3 {
		ts.Fatalf("usage: server NAME sealed|folder oauth|none|mtls")
	}
	o := newTestServer(all.t, args[1], args[2])
	p12 := o.start(all.t, args[2])
	ts.Defer(o.http.Close)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]+".zip"), o.credentials(all.t, args[2], p12), 0o600))
	for name, data := range p12 {
		ts.Check(os.WriteFile(ts.MkAbs(name), data, 0o600))
	}
	ts.Setenv(args[0]+"_URL", o.http.URL)
	all.of[args[0]] = o
}

// token NAME: makes a SoftHSM token; $NAME is its URI.
func tokenCmd(ts *testscript.TestScript, neg bool, args []string) {
	for _, name := range args {
		ts.Setenv(name, newBoard(ts.Value("offices").(*offices).t).URI)
	}
}

// exits CODE PROGRAM ARGS: the exit code is exactly this one.
func exitsCmd(ts *testscript.TestScript, neg bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	if got := exitOf(ts.Exec(args[1], args[2:]...)); got != want {
		ts.Fatalf("%s: exit code %d, want %d", strings.Join(args[1:], " "), got, want)
	}
}

func exitOf(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	return -1
}

// refused CODE PROGRAM ARGS: it ends with this code, and no file anywhere in the script's folder or on a server has changed.
func refusedCmd(ts *testscript.TestScript, neg bool, args []string) {
	all := ts.Value("offices").(*offices)
	state := func() string {
		s, err := tree(ts.Getenv("WORK"))
		ts.Check(err)
		for _, name := range slices.Sorted(maps.Keys(all.of)) {
			other, err := tree(all.of[name].dir)
			ts.Check(err)
			s += other
		}
		return s
	}
	before := state()
	exitsCmd(ts, neg, args)
	if after := state(); after != before {
		var changed []string
		for line := range strings.SplitSeq(before+after, "\n") {
			if strings.Contains(before, line) != strings.Contains(after, line) {
				changed = append(changed, line)
			}
		}
		ts.Fatalf("%s: refused, but files changed:\n%s", strings.Join(args[1:], " "), strings.Join(changed, "\n"))
	}
}

// device SERVER verifies [TARGET]... | refuses: what a device makes of the server's metadata.
func deviceCmd(ts *testscript.TestScript, neg bool, args []string) {
	o := ts.Value("offices").(*offices).of[args[0]]
	v, err := o.device(time.Now())
	if args[1] == "refuses" {
		if err == nil {
			ts.Fatalf("the device accepts it")
		}
		return
	}
	if err != nil {
		ts.Fatalf("the device refuses it: %v", err)
	}
	for _, name := range args[2:] {
		if _, err := v.Find(name); err != nil {
			ts.Fatalf("target %s: %v", name, err)
		}
	}
}

// noprivate DIR: no file in it holds a private key.
func noPrivateCmd(ts *testscript.TestScript, neg bool, args []string) {
	ts.Check(filepath.WalkDir(ts.MkAbs(args[0]), func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(p)
		if bytes.Contains(data, []byte("PRIVATE")) || bytes.Contains(data, []byte(`"private"`)) {
			return fmt.Errorf("%s holds a private key", p)
		}
		return err
	}))
}

// heldkeys SERVER root|targets yes|no: whether the server holds the first root's keys for a role.
func heldKeysCmd(ts *testscript.TestScript, neg bool, args []string) {
	o := ts.Value("offices").(*offices).of[args[0]]
	for _, k := range o.first.Keys(uptane.Role(args[1])).Keys {
		_, err := o.config.Keys.Find(ts.Value("offices").(*offices).t.Context(), k.ID())
		if err != nil && !errors.Is(err, reposerver.ErrNoKey) {
			ts.Fatalf("%v", err)
		}
		if held := err == nil; held != (args[2] == "yes") {
			ts.Fatalf("the server holds its %s key: %v", args[1], held)
		}
	}
}

// edit FILE OLD NEW: replaces text in a file.
func editCmd(ts *testscript.TestScript, neg bool, args []string) {
	b := ts.ReadFile(args[0])
	if !strings.Contains(b, args[1]) {
		ts.Fatalf("%s holds no %q:\n%s", args[0], args[1], b)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.Replace(b, args[1], args[2], 1)), 0o600))
}

// uri NAME FILE: $NAME is the URI in a .sec file.
func uriCmd(ts *testscript.TestScript, neg bool, args []string) {
	var f struct {
		KeyVal struct{ URI string }
	}
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[1])), &f))
	ts.Setenv(args[0], f.KeyVal.URI)
}

// commit SERVER HASH: the server's OSTree repository has this commit.
func commitCmd(ts *testscript.TestScript, neg bool, args []string) {
	path := filepath.Join(ts.Value("offices").(*offices).of[args[0]].dir, "treehub", "objects", args[1][:2], args[1][2:]+".commit")
	ts.Check(os.MkdirAll(filepath.Dir(path), 0o700))
	ts.Check(os.WriteFile(path, []byte("commit"), 0o600))
}

// member FILE PATH VALUE: a member of a JSON file, by names joined with dots.
func memberCmd(ts *testscript.TestScript, neg bool, args []string) {
	var v any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &v))
	for _, name := range strings.Split(args[1], ".") {
		switch x := v.(type) {
		case map[string]any:
			v = x[name]
		case []any:
			i, err := strconv.Atoi(name)
			ts.Check(err)
			v = x[i]
		}
	}
	b, err := json.Marshal(v)
	ts.Check(err)
	if (string(b) == args[2]) == neg {
		ts.Fatalf("%s: %s is %s, want %s", args[0], args[1], b, args[2])
	}
}
