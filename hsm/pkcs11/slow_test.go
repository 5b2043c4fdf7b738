package pkcs11_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/hsm/pkcs11/shimtest"
	"github.com/hanaper/hanaper/softhsm"
)

// TestSlow: whoever sits at a program whose token does not answer is told so, with the library's name; nobody is told of one
// that does.
func TestSlow(t *testing.T) {
	s := shimtest.New(t)
	board, err := softhsm.ForTest(t).Create("slow")
	if err != nil {
		t.Fatal(err)
	}
	told := make(chan string, 100)
	const after = 300 * time.Millisecond
	defer pkcs11.TellNobodySlow()
	pkcs11.OnSlow(after, func(said string) { told <- said })
	tok, err := pkcs11.Open(context.Background(), pkcs11.Config{Module: s.Module, URI: hsm.URI{Token: board.Label, Serial: board.Serial}, PIN: hsm.PINBytes(board.PIN)})
	if err != nil {
		t.Fatal(err)
	}
	k, err := tok.Generate(context.Background(), hsm.GenerateSpec{Label: "a", Algorithm: hsm.P256, Class: hsm.Sealed})
	if err != nil {
		t.Fatal(err)
	}
	digest := make([]byte, 32)
	// A busy machine may have been slow by itself until here.
	for len(told) > 0 {
		<-told
	}
	s.Plan(t, "C_Sign 1 slow 2000")
	if _, err := k.Sign(rand.Reader, digest, crypto.SHA256); err != nil {
		t.Fatal(err)
	}
	if len(told) == 0 {
		t.Fatal("nobody was told")
	}
	if said := <-told; !strings.Contains(said, s.Module+" has not answered for") {
		t.Errorf("told %s", said)
	}
	for len(told) > 0 {
		<-told
	}
	time.Sleep(3 * after)
	if len(told) > 0 {
		t.Error("told of a library that nobody waits for")
	}
	// The library's own beginning and end are calls like others.
	tok.Close()
	for _, call := range []string{"C_Initialize", "C_Finalize"} {
		s.Plan(t, call+" 1 slow 2000")
		if _, err := pkcs11.List(s.Module); err != nil {
			t.Fatal(err)
		}
		if len(told) == 0 {
			t.Errorf("%s: nobody was told", call)
		}
		for len(told) > 0 {
			<-told
		}
	}
}
