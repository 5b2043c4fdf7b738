package pkcs11_test

import (
	"errors"
	"testing"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/hsm/pkcs11/peertest"
)

// TestHandlesAreReused: openCryptoki gives the handle of a key that was destroyed to the next object. Who still holds the destroyed key gets no
// signature of another one.
func TestHandlesAreReused(t *testing.T) {
	token := peertest.OpenCryptoki(t).Open(t)
	find := func(label string) hsm.Key {
		t.Helper()
		if err := pkcs11.GenerateUnproven(token, label, []byte(label), hsm.RSA2048); err != nil {
			t.Fatal(err)
		}
		k, err := token.Key(t.Context(), hsm.Query{Label: label})
		if err != nil {
			t.Fatal(err)
		}
		if err := signOnce(t.Context(), k); err != nil {
			t.Fatal(err)
		}
		return k
	}
	old := find("old")
	handle := pkcs11.HandleOf(old)
	if err := token.Destroy(t.Context(), hsm.Query{Label: "old"}); err != nil {
		t.Fatal(err)
	}
	reused := false
	for _, label := range []string{"a", "b", "c", "d"} {
		reused = reused || pkcs11.HandleOf(find(label)) == handle
		if err := signOnce(t.Context(), old); !errors.Is(err, hsm.ErrNoKey) {
			t.Errorf("a key that was destroyed: %v", err)
		}
	}
	if !reused {
		t.Error("no handle was given out again: this test shows nothing")
	}
}
