package main

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/hsm/pkcs11/apart"
	"github.com/hanaper/hanaper/internal/programtest"
	"github.com/hanaper/hanaper/softhsm"
	"github.com/hanaper/hanaper/trust"
	"github.com/hanaper/hanaper/trust/trusttest"
)

// The test binary is the program when it is told so: servers are run so, for their races are looked for. All else is done by the
// program as it is built for people, which starts in a tenth of the time.
func TestMain(m *testing.M) {
	apart.Main() // in a child of a server, which has few variables of its environment
	if os.Getenv("HANAPER_REPO_MAIN") == "1" {
		main()
	}
	softhsm.Main(m)
}

// desk is a folder with a config, a token and a ceremony's trust folder.
type desk struct {
	t     *testing.T
	dir   string
	world *trusttest.World
	board softhsm.Board
}

var desks int

func newDesk(t *testing.T) *desk {
	t.Helper()
	store := softhsm.ForTest(t)
	desks++
	board, err := store.Create(fmt.Sprintf("repo-%d", desks))
	if err != nil {
		t.Fatal(err)
	}
	d := &desk{t: t, dir: t.TempDir(), board: board}
	d.config("")
	d.ok("keys", "generate", "--out", filepath.Join(d.dir, "public"))
	// The officers' part, with dates of today.
	w := trusttest.NewAt(t, time.Now().Truncate(time.Second))
	public := func(label string) crypto.PublicKey {
		return readPublic(t, filepath.Join(d.dir, "public", label+".pem"))
	}
	w.Keys.Snapshot, w.Keys.Timestamp, w.Keys.CRL = trust.One(public("trust-snapshot")), trust.One(public("trust-timestamp")), trust.One(public("trust-crl"))
	w.Offline = nil
	w.Rebuild()
	w.Pin = trust.PinRoot(w.Offline["metadata/1.root.json"])
	d.world = w
	d.writeOfficers("officers")
	d.config("")
	return d
}

func (d *desk) writeOfficers(name string) string {
	for p, data := range d.world.Offline {
		d.write(filepath.Join(name, p), data)
	}
	return d.path(name)
}

func (d *desk) path(name string) string { return filepath.Join(d.dir, name) }

func (d *desk) write(name string, data []byte) string {
	d.t.Helper()
	if err := os.MkdirAll(filepath.Dir(d.path(name)), 0o755); err != nil {
		d.t.Fatal(err)
	}
	if err := os.WriteFile(d.path(name), data, 0o644); err != nil {
		d.t.Fatal(err)
	}
	return d.path(name)
}

func (d *desk) config(more string) {
	root := strings.Repeat("0", 64)
	if d.world != nil {
		root = d.world.Pin.String()
	}
	d.write("repo.yaml", fmt.Appendf(nil, "environment: test\nroot: %q\npublish: published\nkeys:\n  token: %q\n%s", root, d.board.URI, more))
}

func readPublic(t *testing.T, path string) crypto.PublicKey {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// server is the program with the race detector.
func (d *desk) server(args ...string) (*exec.Cmd, *bytes.Buffer, *bytes.Buffer) {
	return d.command(os.Args[0], args...)
}

func (d *desk) command(program string, args ...string) (*exec.Cmd, *bytes.Buffer, *bytes.Buffer) {
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), "HANAPER_REPO_MAIN=1", "GORACE=atexit_sleep_ms=0")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	return cmd, &out, &errs
}

// run runs a verb; the config flag is added behind the verb and its subverb.
func (d *desk) run(args ...string) (string, string, int) {
	d.t.Helper()
	n := 1
	if len(args) > 1 && slices.Contains([]string{"keys", "crl", "uptane", "director"}, args[0]) {
		n = 2
	}
	args = append(append(append([]string{}, args[:n]...), "--config", d.path("repo.yaml")), args[n:]...)
	cmd, out, errs := d.command(programtest.Path(d.t, "hanaper-repo"), args...)
	err := cmd.Run()
	if _, exit := err.(*exec.ExitError); err != nil && !exit {
		d.t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func (d *desk) ok(args ...string) string {
	d.t.Helper()
	out, errs, code := d.run(args...)
	if code != 0 {
		d.t.Fatalf("%v: exit %d: %s", args, code, errs)
	}
	return out
}

func (d *desk) refused(code int, want string, args ...string) {
	d.t.Helper()
	before := trusttest.Snap(d.t, d.path("published"))
	out, errs, got := d.run(args...)
	if got != code || !strings.Contains(errs, want) || !strings.HasPrefix(errs, "hanaper-repo: ") || strings.Contains(errs, "panic") {
		d.t.Errorf("%v: exit %d, want %d with %q; got %q", args, got, code, want, errs)
	}
	if out != "" {
		d.t.Errorf("%v: output %q", args, out)
	}
	if lines := strings.Count(errs, "\n"); lines > 2 {
		d.t.Errorf("%v: %d lines: %s", args, lines, errs)
	}
	after := trusttest.Snap(d.t, d.path("published"))
	if len(before) != len(after) || !bytes.Equal(before["metadata/timestamp.json"], after["metadata/timestamp.json"]) {
		d.t.Errorf("%v: files have changed", args)
	}
}

// serve runs the program until stop, which asks it to end and wants exit code 0.
func (d *desk) serve() (url string, stop func()) {
	t := d.t
	t.Helper()
	cmd, _, _ := d.server("serve", "--config", d.path("repo.yaml"))
	logs, err := os.Create(d.path("log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = logs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "address", func() bool {
		data, _ := os.ReadFile(d.path("log"))
		_, after, ok := strings.Cut(string(data), "url=")
		url, _, _ = strings.Cut(after, " ")
		return ok
	})
	return url, func() {
		defer logs.Close()
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			data, _ := os.ReadFile(d.path("log"))
			t.Errorf("%v: %s", err, data)
		}
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no %s", what)
		}
	}
}
