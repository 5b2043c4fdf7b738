package peertest

import (
	"bytes"
	"os/exec"
	"testing"
	"time"
)

// initialise does with a new openCryptoki token what its manual says: label, SO PIN, user PIN. pkcsconf asks for what it is not given; the
// PINs of a test may stand among its arguments.
func initialise(t testing.TB, p *Peer) {
	t.Helper()
	for _, step := range []struct {
		args  []string
		input string
	}{
		{[]string{"-I", "-c", "0", "-S", "87654321"}, p.Token.Token + "\n"},
		{[]string{"-P", "-c", "0", "-S", "87654321", "-n", string(p.SOPIN)}, ""},
		{[]string{"-u", "-c", "0", "-S", string(p.SOPIN), "-n", string(p.PIN)}, ""},
	} {
		cmd := exec.Command(program(t, "pkcsconf"), step.args...)
		cmd.Stdin = bytes.NewReader([]byte(step.input))
		cmd.WaitDelay = time.Second
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("pkcsconf %s: %v\n%s", step.args[0], err, out)
		}
	}
}
