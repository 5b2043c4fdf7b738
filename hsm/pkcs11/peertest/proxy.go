package peertest

import (
	"os"
	"testing"

	"github.com/hanaper/hanaper/hsm"
)

// proxyModules says which libraries p11-kit's proxy shows.
const proxyModules = "/usr/share/p11-kit/modules"

// Proxy is a SoftHSM token behind p11-kit's proxy, which shows the tokens of all libraries that the machine has configured: here SoftHSM
// alone. SoftHSM is then loaded by the proxy in this very process.
func Proxy(t testing.TB) *Peer {
	t.Helper()
	needPlaces(t)
	b := board(t, "proxied")
	if err := os.WriteFile(proxyModules+"/softhsm2.module", []byte("module: "+b.Module+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	p := softHSM(t, "p11-kit-proxy", "p11-kit "+version("p11-kit")+" proxy, SoftHSM behind it", b)
	p.Token = hsm.URI{Token: b.Label, Serial: b.Serial, ModulePath: library(t, "p11-kit-proxy.so")}
	return p
}
