package peertest

import (
	"os"
	"testing"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/softhsm"
)

// SoftHSM is a token in the store of softhsm.ForTest. It has no process; an outage is that its folder is away.
func SoftHSM(t testing.TB) *Peer {
	t.Helper()
	return softHSM(t, "softhsm", "SoftHSM "+version("softhsm2"), board(t, "matrix"))
}

func softHSM(t testing.TB, name, title string, b softhsm.Board) *Peer {
	t.Helper()
	return &Peer{Name: name, Title: title, Token: hsm.URI{Token: b.Label, Serial: b.Serial, ModulePath: b.Module}, PIN: b.PIN, SOPIN: b.SOPIN,
		Cut: func() { moveStore(t, false) }, Restore: func() { moveStore(t, true) }}
}

// moveStore takes the folder with all tokens of the store away, or puts it back.
func moveStore(t testing.TB, back bool) {
	t.Helper()
	here := softhsm.ForTest(t).Dir() + "/tokens"
	from, to := here, here+".away"
	if back {
		from, to = to, from
	}
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}
