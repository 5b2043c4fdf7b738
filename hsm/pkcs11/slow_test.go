package pkcs11_test

import (
	"context"
	"crypto"
	"crypto/rand"
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
	defer pkcs11.SetSlowAfter(after)()
	pkcs11.OnSlow(func(library string, since time.Duration) {
		if since < after {
			t.Errorf("told after %s", since)
		}
		told <- library
	})
	tok, err := pkcs11.Open(context.Background(), pkcs11.Config{Module: s.Module, URI: hsm.URI{Token: board.Label, Serial: board.Serial}, PIN: hsm.PINBytes(board.PIN)})
	if err != nil {
		t.Fatal(err)
	}
	defer tok.Close()
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
	if library := <-told; library != s.Module {
		t.Errorf("told of %s", library)
	}
	for len(told) > 0 {
		<-told
	}
	time.Sleep(3 * after)
	if len(told) > 0 {
		t.Error("told of a library that nobody waits for")
	}
}
