package peertest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/hanaper/hanaper/hsm"
)

// NSS is the softokn of Firefox and of Red Hat's programs, which wants its folder in the start-up string. It has no process, and it
// holds its databases open: an outage is that their folder is away, which it does not notice.
func NSS(t testing.TB) *Peer {
	t.Helper()
	dir := filepath.Join(folder(t), "db")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	p := &Peer{Name: "nss", Title: "NSS softokn " + version("libnss3"), PIN: []byte("nss-pin-1"),
		Token: hsm.URI{Token: "NSS Certificate DB", Serial: "0000000000000000", ModulePath: library(t, "nss/libsoftokn3.so", "libsoftokn3.so"), InitReserved: "configdir='sql:" + dir + "'"},
		Cut: func() {
			if err := os.Rename(dir, dir+".away"); err != nil {
				t.Fatal(err)
			}
		},
		Restore: func() {
			if err := os.Rename(dir+".away", dir); err != nil {
				t.Fatal(err)
			}
		}}
	pin := filepath.Join(dir, "pin")
	if err := os.WriteFile(pin, append(p.PIN, '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "certutil", "-N", "-d", "sql:"+dir, "-f", pin)
	return p
}
