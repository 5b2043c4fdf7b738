package trust

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/hex"
	"math/big"
	"strings"
	"testing"
)

// TestWeakKeys: no role of a trust repository takes a key under which anybody can sign, when it is made and when it is read.
func TestWeakKeys(t *testing.T) {
	for name, s := range map[string]string{
		"zero": strings.Repeat("00", 32), "one": "01" + strings.Repeat("00", 31),
		"order 8": "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05", "not reduced": "ed" + strings.Repeat("ff", 30) + "7f",
	} {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		if err := CheckKey(ed25519.PublicKey(b)); err == nil || !strings.Contains(err.Error(), "small order") {
			t.Errorf("%s: %v", name, err)
		}
		if _, _, err := tufKey(knownAt{}, ed25519.PublicKey(b)); err == nil {
			t.Errorf("%s: taken from metadata", name)
		}
	}
	n, err := rand.Prime(rand.Reader, 2046)
	if err != nil {
		t.Fatal(err)
	}
	n.Mul(n, big.NewInt(3))
	for name, k := range map[string]*rsa.PublicKey{"small factor": {N: n, E: 65537}, "exponent 1": {N: n, E: 1}, "even exponent": {N: n, E: 4}} {
		if err := CheckKey(k); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
