package kms

import (
	"crypto"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11/cardtest"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/signature"
)

// TestYubiKey: keys in the slots of a virtual card that says it is a YubiKey, through pcscd and Yubico's protocol: signatures, a key
// that is made, a wrong PIN that costs one try, no PIN at all that costs none, and a card that is pulled and put back.
func TestYubiKey(t *testing.T) {
	readers := cardtest.New(t)
	for _, v := range readers.Env() {
		name, value, _ := strings.Cut(v, "=")
		t.Setenv(name, value)
	}
	card := cardtest.NewCard().WithSerial().AsYubiKey(4711)
	card.Put(t, cardtest.Slot(0x9c), "P-256", "ca")
	card.Put(t, cardtest.Slot(0x9d), "RSA-2048", "other")
	card.SetPIN("271828")
	readers.Insert(t, 0, card)
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	open := func(opaque, pin string) (*Token, error) {
		return Open(t.Context(), Config{URI: hsm.URI{Scheme: "yubikey", Opaque: opaque, PINSource: pin}})
	}

	if _, err := open("slot-id=9c;serial=4711", ""); err == nil || !strings.Contains(advice.Hint(err), "pin-source") {
		t.Errorf("without a PIN: %v", err)
	}
	if pin, _ := card.TriesLeft(); pin != cardtest.Tries {
		t.Errorf("a try was spent on a PIN that nobody gave: %d left", pin)
	}
	if _, err := open("slot-id=9c;serial=1", file("pin", "271828\n")); err == nil || !strings.Contains(err.Error(), "serial number 1") {
		t.Errorf("another card's serial number: %v", err)
	}

	wrong, err := open("slot-id=9c;serial=4711", file("wrong", "314159\n"))
	if err != nil {
		t.Fatal(err)
	}
	k := must[hsm.Key](t)(wrong.Key(t.Context(), hsm.Query{}))
	for range 3 {
		if _, err := k.Sign(nil, digest[:], crypto.SHA256); !errors.Is(err, hsm.ErrPIN) {
			t.Errorf("a wrong PIN: %v", err)
		}
	}
	if pin, _ := card.TriesLeft(); pin != cardtest.Tries-1 {
		t.Errorf("three signatures with a wrong PIN left %d tries, want %d", pin, cardtest.Tries-1)
	}
	if err := wrong.Close(); err != nil {
		t.Error(err)
	}

	tok := must[*Token](t)(open("serial=4711;management-key-source="+file("management", strings.Repeat("0102030405060708", 3)+"\n"), file("pin", "271828\n")))
	defer tok.Close()
	for slot, a := range map[string]hsm.Algorithm{"9c": hsm.P256, "9d": hsm.RSA2048} {
		used(t, tok, slot, a)
	}
	made := must[hsm.Key](t)(tok.Generate(t.Context(), hsm.GenerateSpec{Label: "9a", Algorithm: hsm.P384, Class: hsm.Unread}))
	d := signature.Digest([]byte("m"), crypto.SHA384)
	if sig, err := made.Sign(nil, d, crypto.SHA384); err != nil || !signature.Verify(made.Public(), d, crypto.SHA384, sig) {
		t.Errorf("a key that was made: %v", err)
	}
	k = must[hsm.Key](t)(tok.Key(t.Context(), hsm.Query{Label: "9c"}))
	readers.Pull(t, 0)
	if _, err := k.Sign(nil, digest[:], crypto.SHA256); !errors.Is(err, hsm.ErrGone) || !strings.Contains(advice.Hint(err), "card") {
		t.Errorf("while the card is out: %v; hint %q", err, advice.Hint(err))
	}
	readers.Insert(t, 0, card)
	if sig, err := k.Sign(nil, digest[:], crypto.SHA256); err != nil || !signature.Verify(k.Public(), digest[:], crypto.SHA256, sig) {
		t.Errorf("after the card is back: %v", err)
	}
}
