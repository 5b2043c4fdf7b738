package pkcs11_test

import (
	"testing"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/hsm/pkcs11/shimtest"
	"github.com/hanaper/hanaper/softhsm"
)

// TestStuckLibrary: a library whose C_Finalize failed is still ours: the next user has it started anew, and sees the token that was
// made meanwhile; otherwise this process would never see another one.
func TestStuckLibrary(t *testing.T) {
	s := shimtest.New(t)
	for i, name := range []string{"stuck", "stuck no more", "after that"} {
		board, err := softhsm.ForTest(t).Create(name)
		if err != nil {
			t.Fatal(err)
		}
		tok, err := pkcs11.Open(t.Context(), pkcs11.Config{Module: s.Module, URI: hsm.URI{Token: board.Label, Serial: board.Serial}, PIN: hsm.PINBytes(board.PIN)})
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			s.Plan(t, "C_Finalize 1 ckr 0x5")
		}
		tok.Close()
	}
}
