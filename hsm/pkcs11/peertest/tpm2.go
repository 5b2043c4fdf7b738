package peertest

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11"
)

// TPM2 is tpm2-pkcs11 on a software TPM (swtpm). There is no resource manager between them, as the kernel has for a TPM of
// the machine, so Tidy empties the TPM's three places for loaded keys.
func TPM2(t testing.TB) *Peer {
	t.Helper()
	module := library(t, "pkcs11/libtpm2_pkcs11.so")
	dir := folder(t)
	port := twoPorts(t)
	control := fmt.Sprintf("127.0.0.1:%d", port+1)
	d := &daemon{t: t, log: filepath.Join(dir, "log"),
		argv: []string{"swtpm", "socket", "--tpm2", "--tpmstate", "dir=" + dir, "--server", fmt.Sprintf("type=tcp,port=%d", port),
			"--ctrl", fmt.Sprintf("type=tcp,port=%d", port+1), "--flags", "not-need-init,startup-clear"},
		// Only the control port is asked: a connection to the other one, and its end, stop swtpm.
		ready: func() bool { return dials("tcp", control) }}
	d.start()
	t.Cleanup(d.stop)
	tcti := fmt.Sprintf("swtpm:host=127.0.0.1,port=%d", port)
	setenv(t, "TPM2_PKCS11_TCTI", tcti)
	setenv(t, "TPM2TOOLS_TCTI", tcti)
	setenv(t, "TPM2_PKCS11_STORE", dir)
	setenv(t, "TSS2_LOG", "all+none") // it writes to standard error otherwise
	p := &Peer{Name: "tpm2", Title: "tpm2-pkcs11 " + version("libtpm2-pkcs11-1") + " on swtpm " + version("swtpm"), PIN: []byte("user-pin-1"), SOPIN: []byte("so-pin-1"),
		Cut: d.stop, Restore: d.start,
		Stop: func() { d.signal(syscall.SIGSTOP) }, Continue: func() { d.signal(syscall.SIGCONT) },
		Tidy: func() { run(t, "tpm2_flushcontext", "-t") }}
	made, err := pkcs11.Init(t.Context(), module, "", "matrix", p.SOPIN, p.PIN)
	if err != nil {
		t.Fatal(err)
	}
	p.Token = hsm.URI{Token: made.Label, Serial: strings.TrimSpace(made.Serial), ModulePath: module}
	return p
}

// twoPorts finds two free ports on loopback, one after the other.
func twoPorts(t testing.TB) int {
	t.Helper()
	for range 50 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := l.Addr().(*net.TCPAddr).Port
		next, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port+1))
		_ = l.Close()
		if err == nil {
			_ = next.Close()
			return port
		}
	}
	t.Fatal("no two free ports in a row")
	return 0
}

func dials(network, address string) bool {
	c, err := net.Dial(network, address)
	if err == nil {
		_ = c.Close()
	}
	return err == nil
}
