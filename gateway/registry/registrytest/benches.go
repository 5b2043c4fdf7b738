package registrytest

import (
	"slices"
	"testing"
	"time"

	"github.com/hanaper/hanaper/gateway"
)

// benches: the mark of a test bench stays for as long as the device comes with a certificate that has it, whoever has looked.
func benches(t *testing.T, o Opener) {
	r := open(t, o)
	m := meeting("a", "c1", "k1", 0)
	m.TestBench = true
	meet(t, r, m)
	marked := func() bool { return slices.Contains(device(t, r, "a").Flags, gateway.FlagTestBench) }
	if !marked() {
		t.Error("not marked")
	}
	if err := do(r, gateway.Unflag, "a", "seen"); err != nil || !marked() {
		t.Errorf("unflagged: marked %v, %v", marked(), err)
	}
	meet(t, r, meeting("a", "c2", "k1", time.Minute))
	if marked() {
		t.Error("a device that comes with a certificate of production is marked")
	}
	meet(t, r, meeting("b", "c3", "k3", 0))
	if d := device(t, r, "b"); len(d.Flags) != 0 {
		t.Errorf("%v", d.Flags)
	}
}
