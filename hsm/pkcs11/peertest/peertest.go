// Package peertest sets up real PKCS#11 tokens of other makers for tests, each in a file of its own: SoftHSM, a TPM behind
// tpm2-pkcs11, NSS softokn, openCryptoki, SoftHSM behind p11-kit's server and behind its proxy, and a PIV card behind OpenSC. It is for tests only.
//
// A set-up starts what the token needs (swtpm, pkcsslotd, p11-kit server), on loopback or on sockets of the test's own, and ends
// it with the test. Some of these peers have fixed places on a machine; Main gives the tests of a package places of their own. A
// peer that is not installed, or cannot be started, fails the test and says what to install: nothing is skipped.
//
// One process has one of each peer at a time: most of these libraries read the environment, once.
package peertest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/softhsm"
)

// Peer is a token that is set up: initialised, with its PINs set, and without keys.
type Peer struct {
	// Name is short, without blanks: "nss". Title is for people, with the version that runs here: "NSS softokn 3.87.1".
	Name, Title string
	// Token names it as a user would: label, serial, library and, where the library needs one, its start-up string.
	Token hsm.URI
	// PIN is the user's, SOPIN the security officer's; nil where the token has none.
	PIN, SOPIN []byte
	// Keys are labels of keys that are in the token already, of a peer in which programs make none.
	Keys map[hsm.Algorithm]string
	// Cut ends what the token needs, and Restore brings it back: its process where it has one, its folder where not.
	Cut, Restore func()
	// Stop halts the process that answers for the token (SIGSTOP), and Continue lets it go on; nil for a token that has no process.
	Stop, Continue func()
	// Tidy is called while no process uses the token, before the next one does; nil where nothing is to be tidied.
	Tidy func()
}

// Setup is one kind of peer.
type Setup struct {
	Name  string
	Start func(t testing.TB) *Peer
}

// All are the peers, in the order in which docs/pkcs11.md lists them.
func All() []Setup {
	return []Setup{{"softhsm", SoftHSM}, {"tpm2", TPM2}, {"nss", NSS}, {"opencryptoki", OpenCryptoki}, {"p11-kit-client", Network}, {"p11-kit-proxy", Proxy}, {"opensc", Card}}
}

// Config opens the peer's token.
func (p *Peer) Config() pkcs11.Config {
	return pkcs11.Config{URI: p.Token, PIN: hsm.PINBytes(p.PIN)}
}

// Open opens the peer's token, and closes it when the test ends.
func (p *Peer) Open(t testing.TB, change ...func(c *pkcs11.Config)) *pkcs11.Token {
	t.Helper()
	if p.Tidy != nil {
		p.Tidy()
	}
	c := p.Config()
	for _, f := range change {
		f(&c)
	}
	token, err := pkcs11.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := token.Close(); err != nil {
			t.Error(err)
		}
	})
	return token
}

const install = "install the packages of scripts/packages-test.txt"

// library finds a library by its path below the folder of this machine's architecture.
func library(t testing.TB, names ...string) string {
	t.Helper()
	for _, name := range names {
		for _, dir := range []string{"/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"} {
			path := filepath.Join(dir, name)
			if _, err := os.Stat(path); err == nil {
				return path
			}
		}
	}
	t.Fatalf("no library %s: %s", strings.Join(names, ", "), install)
	return ""
}

// run runs a program to its end.
func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	path := program(t, name)
	out, err := exec.Command(path, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// program finds a program, also where only root's search path leads.
func program(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		path = filepath.Join("/usr/sbin", name)
		if _, err := os.Stat(path); err != nil {
			t.Fatalf("no program %s: %s", name, install)
		}
	}
	return path
}

// version is that of a Debian package, without Debian's own suffix.
func version(pkg string) string {
	out, err := exec.Command("dpkg-query", "-W", "-f=${Version}", pkg).Output()
	if err != nil {
		return "(version unknown)"
	}
	v := string(out)
	if _, after, ok := strings.Cut(v, ":"); ok {
		v = after
	}
	v, _, _ = strings.Cut(v, "-")
	v, _, _ = strings.Cut(v, "+")
	return v
}

// daemon is a process that answers for a token, in a process group of its own with all that it starts. It ends with the test program,
// however that ends.
type daemon struct {
	t     testing.TB
	argv  []string
	env   []string
	ready func() bool
	cmd   *exec.Cmd
	ended chan struct{}
	log   string
}

// start starts it and waits until it is ready.
func (d *daemon) start() {
	d.t.Helper()
	d.cmd = exec.Command(program(d.t, d.argv[0]), d.argv[1:]...)
	d.cmd.Env = append(os.Environ(), d.env...)
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	out, err := os.Create(d.log)
	if err != nil {
		d.t.Fatal(err)
	}
	defer out.Close()
	d.cmd.Stdout, d.cmd.Stderr = out, out
	started := make(chan error)
	cmd, ended := d.cmd, make(chan struct{})
	d.ended = ended
	go func() {
		runtime.LockOSThread() // Pdeathsig is sent when the thread ends that started the process
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
		close(ended)
	}()
	if err := <-started; err != nil {
		d.t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if d.ready() {
			return
		}
	}
	said, _ := os.ReadFile(d.log)
	d.stop()
	d.t.Fatalf("%s did not start: %s", strings.Join(d.argv, " "), said)
}

// signal sends a signal to it and to what it started.
func (d *daemon) signal(s syscall.Signal) {
	if d.cmd != nil {
		_ = syscall.Kill(-d.cmd.Process.Pid, s)
	}
}

// stop ends it, for good or until start.
func (d *daemon) stop() {
	if d.cmd != nil {
		d.signal(syscall.SIGKILL)
		<-d.ended
		d.cmd = nil
	}
}

// folder is a new folder with a short path, for sockets have one of 107 bytes at most.
func folder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hp-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// setenv sets a variable for good: libraries read it when they are loaded, and others again at any time.
func setenv(t testing.TB, name, value string) {
	t.Helper()
	if err := os.Setenv(name, value); err != nil {
		t.Fatal(err)
	}
}

var boards atomic.Int32

// board is a new SoftHSM token, whose label begins as it is said.
func board(t testing.TB, label string) softhsm.Board {
	t.Helper()
	b, err := softhsm.ForTest(t).Create(fmt.Sprintf("%s %d", label, boards.Add(1)))
	if err != nil {
		t.Fatal(err)
	}
	return b
}
