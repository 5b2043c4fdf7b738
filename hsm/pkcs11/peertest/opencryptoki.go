package peertest

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/hanaper/hanaper/hsm"
)

// The fixed places of openCryptoki.
const (
	opencryptokiStore  = "/var/lib/opencryptoki"
	opencryptokiConfig = "/etc/opencryptoki"
	opencryptokiSocket = "/run/pkcsslotd.socket"
)

// OpenCryptoki is the soft token of openCryptoki. Its daemon, pkcsslotd, knows the slots and counts the sessions; the token itself
// runs in the program. Its PINs have 4 to 8 characters; pkcsconf sets them, for a new token's SO PIN is known to everybody (87654321) and must
// be changed before anything else. The second slot has one that is as it was delivered.
func OpenCryptoki(t testing.TB) *Peer {
	t.Helper()
	needPlaces(t)
	for _, name := range []string{"swtok", "blank"} {
		token := filepath.Join(opencryptokiStore, name)
		_ = os.RemoveAll(token)
		if err := os.MkdirAll(filepath.Join(token, "TOK_OBJ"), 0o770); err != nil {
			t.Fatal(err)
		}
	}
	config := "version opencryptoki-3.1\nslot 0\n{\nstdll = libpkcs11_sw.so\n}\nslot 1\n{\nstdll = libpkcs11_sw.so\ntokname = blank\n}\n"
	if err := os.WriteFile(opencryptokiConfig+"/opencryptoki.conf", []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	info := program(t, "pkcsconf")
	d := &daemon{t: t, argv: []string{"pkcsslotd", "-f"}, log: filepath.Join(folder(t), "log"),
		// Its socket listens before its memory is shared, so a client is asked.
		ready: func() bool { return exec.Command(info, "-i").Run() == nil }}
	start := func() {
		_ = os.Remove(opencryptokiSocket)
		d.start()
	}
	start()
	t.Cleanup(d.stop)
	p := &Peer{Name: "opencryptoki", Title: "openCryptoki " + version("opencryptoki") + " soft token", PIN: []byte("user1234"), SOPIN: []byte("so123456"),
		Token: hsm.URI{Token: "matrix", Serial: "123", ModulePath: library(t, "pkcs11/libopencryptoki.so")},
		Cut:   d.stop, Restore: start,
		Stop: func() { d.signal(syscall.SIGSTOP) }, Continue: func() { d.signal(syscall.SIGCONT) }}
	initialise(t, p)
	return p
}
