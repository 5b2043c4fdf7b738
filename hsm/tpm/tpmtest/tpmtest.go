// Package tpmtest runs swtpm, a TPM 2.0 in software, for tests of several rooms. No program links it.
//
// An attacker on the machine that runs the tests can do what the tests' user can.
package tpmtest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Chip is a TPM in software.
type Chip struct {
	// Socket is where it takes commands.
	Socket string
	// Roots is a PEM file with the certificates of its manufacturer: root and issuer.
	Roots string
	dir   string
	cmd   *exec.Cmd
	t     testing.TB
}

// Manufacturer is a certification authority of endorsement certificates: TPMs of one have one root.
type Manufacturer struct{ dir string }

// NewManufacturer makes one. Its keys are made with its first TPM.
func NewManufacturer(t testing.TB) *Manufacturer {
	t.Helper()
	dir := folder(t)
	write(t, filepath.Join(dir, "localca.conf"), fmt.Sprintf("statedir = %[1]s/ca\nsigningkey = %[1]s/ca/signkey.pem\nissuercert = %[1]s/ca/issuercert.pem\ncertserial = %[1]s/ca/certserial\n", dir))
	write(t, filepath.Join(dir, "localca.options"), "--platform-manufacturer Hanaper\n--platform-version 1\n--platform-model Test\n")
	write(t, filepath.Join(dir, "setup.conf"), fmt.Sprintf("create_certs_tool = /usr/bin/swtpm_localca\ncreate_certs_tool_config = %[1]s/localca.conf\ncreate_certs_tool_options = %[1]s/localca.options\nactive_pcr_banks = sha256\n", dir))
	if err := os.Mkdir(filepath.Join(dir, "ca"), 0o700); err != nil {
		t.Fatal(err)
	}
	return &Manufacturer{dir}
}

// making keeps test programs from making the CA of a manufacturer twice.
var making sync.Mutex

// New makes a TPM with an endorsement certificate, and starts it. It ends with the test.
func (m *Manufacturer) New(t testing.TB) *Chip {
	t.Helper()
	making.Lock()
	defer making.Unlock()
	c := &Chip{dir: folder(t), t: t, Roots: filepath.Join(m.dir, "roots.pem")}
	c.Socket = filepath.Join(c.dir, "s")
	state := filepath.Join(c.dir, "state")
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	setup := exec.Command("swtpm_setup", "--tpm2", "--tpmstate", state, "--config", filepath.Join(m.dir, "setup.conf"), "--create-ek-cert", "--lock-nvram")
	if out, err := setup.CombinedOutput(); err != nil {
		t.Fatalf("swtpm_setup (Debian: swtpm-tools): %v\n%s", err, out)
	}
	var roots []byte
	for _, name := range []string{"swtpm-localca-rootca-cert.pem", "issuercert.pem"} {
		data, err := os.ReadFile(filepath.Join(m.dir, "ca", name))
		if err != nil {
			t.Fatal(err)
		}
		roots = append(roots, data...)
	}
	write(t, c.Roots, string(roots))
	c.Start()
	t.Cleanup(c.Stop)
	return c
}

// New makes a TPM of a manufacturer of its own.
func New(t testing.TB) *Chip {
	t.Helper()
	return NewManufacturer(t).New(t)
}

// Bare makes a TPM of no manufacturer: it holds no certificate.
func Bare(t testing.TB) *Chip {
	t.Helper()
	c := &Chip{dir: folder(t), t: t}
	c.Socket = filepath.Join(c.dir, "s")
	if err := os.Mkdir(filepath.Join(c.dir, "state"), 0o700); err != nil {
		t.Fatal(err)
	}
	c.Start()
	t.Cleanup(c.Stop)
	return c
}

// Start starts it, as switching a machine on does.
func (c *Chip) Start() {
	c.t.Helper()
	c.cmd = exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+filepath.Join(c.dir, "state"), "--server", "type=unixio,path="+c.Socket,
		"--ctrl", "type=unixio,path="+c.Socket+".ctrl", "--flags", "not-need-init,startup-clear")
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.cmd.Start(); err != nil {
		c.t.Fatalf("swtpm: %v", err)
	}
	for range 500 {
		if conn, err := net.Dial("unix", c.Socket); err == nil { // the file is there before anybody listens
			conn.Close()
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	c.t.Fatal("swtpm does not start")
}

// Stop ends it, as a power cut does.
func (c *Chip) Stop() {
	if c.cmd == nil {
		return
	}
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
	c.cmd = nil
	_ = os.Remove(c.Socket)
}

// Forget has it forget the wrong PINs that it counted. A power cut counts as one, for the TPM cannot know what was lost.
func (c *Chip) Forget() {
	c.t.Helper()
	cmd := exec.Command("tpm2_dictionarylockout", "-c", "-T", "swtpm:path="+c.Socket)
	if out, err := cmd.CombinedOutput(); err != nil {
		c.t.Fatalf("tpm2_dictionarylockout (Debian: tpm2-tools): %v\n%s", err, out)
	}
}

// Signal sends it a signal; SIGSTOP makes it a TPM that hangs.
func (c *Chip) Signal(s os.Signal) {
	if err := c.cmd.Process.Signal(s); err != nil {
		c.t.Fatal(err)
	}
}

// folder is a temporary folder with a short name, for a socket's path has 107 bytes.
func folder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "tpm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
