package main

import (
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/internal/programtest"
	"github.com/hanaper/hanaper/uptane"
	"github.com/hanaper/hanaper/uptane/repo"
)

// desk is a release engineer's folder with a server of its own and keys in a token.
type desk struct {
	t    *testing.T
	dir  string
	o    *testServer
	mu   sync.Mutex
	seen int
	kill func(nth int) bool // whether to kill the client when the server has done this request
	run  *exec.Cmd
	// ids are those of the new keys, the targets' last.
	ids []string
}

func newDesk(t *testing.T, sealed bool) *desk {
	t.Helper()
	d := &desk{t: t, dir: t.TempDir(), o: newTestServer(t, map[bool]string{true: "shut", false: "folder"}[sealed], "none")}
	inner := d.o.http.Config.Handler
	d.o.http.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.mu.Lock()
		d.seen++
		nth, kill, pid := d.seen, d.kill, d.run.Process.Pid
		d.mu.Unlock()
		if kill == nil {
			inner.ServeHTTP(w, r)
			return
		}
		// The server acts, and the answer does not arrive.
		answer := httptest.NewRecorder()
		inner.ServeHTTP(answer, r)
		if kill(nth) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			return
		}
		maps.Copy(w.Header(), answer.Header())
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes())
	})
	d.o.http.Start()
	t.Cleanup(d.o.http.Close)
	if err := os.WriteFile(filepath.Join(d.dir, "office.zip"), d.o.credentials(t, "none", nil), 0o600); err != nil {
		t.Fatal(err)
	}
	d.ok("init", "--repo", "r", "--credentials", "office.zip")
	d.makeKeys()
	return d
}

// makeKeys makes the new keys, in a token of this desk alone: SoftHSM rewrites a token's file at each login, and another
// process that reads it just then finds no token.
func (d *desk) makeKeys() {
	t := d.t
	t.Helper()
	uri, err := hsm.ParseURI(newBoard(t).URI)
	if err != nil {
		t.Fatal(err)
	}
	token, err := pkcs11.Open(t.Context(), pkcs11.Config{URI: uri})
	if err != nil {
		t.Fatal(err)
	}
	defer token.Close()
	keys := repo.NewKeys(filepath.Join(d.dir, "tuf/r/keys"), openKey)
	for _, label := range []string{"root1", "root2", "targets1"} {
		key, err := token.Generate(t.Context(), hsm.GenerateSpec{Label: label, Algorithm: hsm.Ed25519})
		if err != nil {
			t.Fatal(err)
		}
		u := key.URI()
		u.ModulePath, u.PINSource = uri.ModulePath, uri.PINSource
		pub, err := keys.Link(t.Context(), label, u.String())
		if err != nil {
			t.Fatal(err)
		}
		d.ids = append(d.ids, pub.ID())
	}
}

func (d *desk) start(killAt string, args ...string) (*exec.Cmd, *bytes.Buffer) {
	d.t.Helper()
	program := programtest.Path(d.t, "hanaper-sign")
	if killAt != "" {
		var err error
		if program, err = os.Executable(); err != nil {
			d.t.Fatal(err)
		}
	}
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Env = d.dir, append(os.Environ(), "HANAPER_SIGN_KILL="+killAt)
	var out bytes.Buffer
	cmd.Stderr = &out
	d.mu.Lock()
	defer d.mu.Unlock()
	d.run, d.seen = cmd, 0
	if err := cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	return cmd, &out
}

// requests is how many the last run made.
func (d *desk) requests() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.seen
}

func (d *desk) ok(args ...string) {
	d.t.Helper()
	cmd, out := d.start("", args...)
	if err := cmd.Wait(); err != nil {
		d.t.Fatalf("%v: %v\n%s", args, err, out)
	}
}

var moveArgs = []string{"move-offline", "--repo", "r", "--new-root", "root1", "--new-root", "root2", "--root-threshold", "2", "--new-targets", "targets1", "--old-root-alias", "old"}

func killed(err error) bool {
	exit, ok := err.(*exec.ExitError)
	if !ok {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}

// signable: the root in force is the old one and the server holds its keys, or the new one, whose keys are in our token.
func (d *desk) signable(when string) {
	d.t.Helper()
	root := d.o.root(d.t)
	if root.Version() == 1 {
		for _, k := range root.Keys(uptane.RoleRoot).Keys {
			if _, err := d.o.config.Keys.Find(d.t.Context(), k.ID()); err != nil {
				d.t.Errorf("%s: root 1 is in force and its key is gone: %v", when, err)
			}
		}
	} else if rk := root.Keys(uptane.RoleRoot); rk.Threshold != 2 || !sameIDs(rk.Keys, d.ids[:2]) {
		d.t.Errorf("%s: root %d has other keys than ours", when, root.Version())
	}
	err := filepath.WalkDir(d.dir, func(p string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(p)
		if bytes.Contains(data, []byte("PRIVATE")) || bytes.Contains(data, []byte(`"private"`)) {
			return fmt.Errorf("%s holds a private key", p)
		}
		return err
	})
	if err != nil {
		d.t.Errorf("%s: %v", when, err)
	}
}

func sameIDs(keys []uptane.Key, want []string) bool {
	return len(keys) == len(want) && !slices.ContainsFunc(keys, func(k uptane.Key) bool { return !slices.Contains(want, k.ID()) })
}

// finish runs it again and checks the outcome, up to targets that a device accepts.
func (d *desk) finish(when string) {
	d.t.Helper()
	d.mu.Lock()
	d.kill = nil
	d.mu.Unlock()
	cmd, out := d.start("", moveArgs...)
	if err := cmd.Wait(); err != nil {
		d.t.Fatalf("%s: run again: %v\n%s", when, err, out)
	}
	d.signable(when + ", then finished")
	root := d.o.root(d.t)
	if root.Version() != 2 {
		d.t.Errorf("%s: root version %d, want 2", when, root.Version())
	}
	for _, role := range []uptane.Role{uptane.RoleRoot, uptane.RoleTargets} {
		for _, k := range d.o.first.Keys(role).Keys {
			if _, err := d.o.config.Keys.Find(d.t.Context(), k.ID()); err == nil {
				d.t.Errorf("%s: the server still holds its old %s key", when, role)
			}
		}
	}
}

func TestMoveOfflineKilled(t *testing.T) {
	for _, sealed := range []bool{true, false} {
		steps := []string{"fetched root", "stored the old root", "drafted", "signed by new keys", "accepted", "stored the new root", "deleted an old root key", "deleted all old keys"}
		if !sealed {
			steps = append(steps, "fetched the old key", "signed by an old key")
		}
		for _, at := range steps {
			when := fmt.Sprintf("sealed %v, killed when %s", sealed, at)
			t.Run(when, func(t *testing.T) {
				t.Parallel()
				d := newDesk(t, sealed)
				cmd, out := d.start(at, moveArgs...)
				if err := cmd.Wait(); !killed(err) {
					t.Fatalf("%s: it was not killed: %v\n%s", when, err, out)
				}
				d.signable(when)
				// Killed at the same place once more, where it comes by again, is no worse.
				cmd, _ = d.start(at, moveArgs...)
				_ = cmd.Wait()
				d.signable(when + " twice")
				d.finish(when)
			})
		}
	}
}

// TestMoveOfflineCut kills it at each request, after the server has acted on it and before the answer is there.
func TestMoveOfflineCut(t *testing.T) {
	for sealed, requests := range map[bool]int{true: 9, false: 9} {
		for nth := 1; nth <= requests+1; nth++ {
			when := fmt.Sprintf("sealed %v, cut at request %d", sealed, nth)
			t.Run(when, func(t *testing.T) {
				t.Parallel()
				d := newDesk(t, sealed)
				d.mu.Lock()
				d.kill = func(n int) bool { return n == nth }
				d.mu.Unlock()
				cmd, out := d.start("", moveArgs...)
				err := cmd.Wait()
				if (err == nil) != (nth > requests) {
					t.Fatalf("%s: %v; there are %d requests, and the table says %d\n%s", when, err, d.requests(), requests, out)
				}
				d.signable(when)
				d.finish(when)
			})
		}
	}
}

// TestUploadResumed kills an upload in its middle; the next run sends the rest only.
func TestUploadResumed(t *testing.T) {
	d := newDesk(t, true)
	content := bytes.Repeat([]byte("0123456789abcdef"), 40<<10) // ten parts
	if err := os.WriteFile(filepath.Join(d.dir, "image.bin"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"targets", "upload", "--repo", "r", "--name", "image", "--version", "1", "--input", "image.bin"}
	// One request begins the upload, then there are two for each part: cut after the seventh.
	d.mu.Lock()
	d.kill = func(n int) bool { return n == 1+2*7 }
	d.mu.Unlock()
	cmd, out := d.start("", args...)
	if err := cmd.Wait(); !killed(err) {
		t.Fatalf("not killed: %v\n%s", err, out)
	}
	d.mu.Lock()
	d.kill = nil
	d.mu.Unlock()
	cmd, out = d.start("", args...)
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	// The seventh part, whose answer was lost, and three more; then the end.
	if want, got := 2*4+1, d.requests(); got != want {
		t.Errorf("the second run made %d requests, want %d:\n%s", got, want, out)
	}
	d.ok("targets", "verify-uploaded", "--repo", "r", "--name", "image", "--version", "1", "--input", "image.bin")
	if left, _ := filepath.Glob(filepath.Join(d.dir, "tuf/r/uploads/*")); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	// A file that changed in the meantime is sent anew where it changed, and the server has the new one.
	d.mu.Lock()
	d.kill = func(n int) bool { return n == 1+2*3 }
	d.mu.Unlock()
	args[5] = "other"
	cmd, _ = d.start("", append(args, "--force")...)
	_ = cmd.Wait()
	d.mu.Lock()
	d.kill = nil
	d.mu.Unlock()
	content[5] = 'x'
	if err := os.WriteFile(filepath.Join(d.dir, "image.bin"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	d.ok(append(args, "--force")...)
	d.ok("targets", "verify-uploaded", "--repo", "r", "--name", "other", "--version", "1", "--input", "image.bin")
}
