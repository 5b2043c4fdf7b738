package uptane

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"testing"
)

// weakKeys are public keys under which anybody can sign.
func weakKeys(t testing.TB) map[string]crypto.PublicKey {
	t.Helper()
	out := map[string]crypto.PublicKey{}
	// The points of small order, and the encodings of them that are not reduced.
	for i, s := range []string{
		"0000000000000000000000000000000000000000000000000000000000000000", "0100000000000000000000000000000000000000000000000000000000000000",
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05", "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a", "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	} {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		out[fmt.Sprintf("small order %d", i)] = ed25519.PublicKey(b)
	}
	n := must(rand.Prime(rand.Reader, 2046))
	out["small factor"] = &rsa.PublicKey{N: n.Mul(n, big.NewInt(3)), E: 65537}
	p := must(rand.Prime(rand.Reader, 1024))
	p.SetBit(p, 1022, 1) // the product has 2048 bits
	for !p.ProbablyPrime(8) {
		p.Add(p, big.NewInt(2))
	}
	q := new(big.Int).Add(p, big.NewInt(2))
	for !q.ProbablyPrime(8) {
		q.Add(q, big.NewInt(2))
	}
	out["primes side by side"] = &rsa.PublicKey{N: q.Mul(q, p), E: 65537}
	good := rsaKeys()[0].PublicKey
	out["exponent 1"] = &rsa.PublicKey{N: good.N, E: 1}
	out["exponent 4"] = &rsa.PublicKey{N: good.N, E: 4}
	return out
}

// TestWeakKeys: a key under which anybody can sign is in no document that is built, and in none that is read.
func TestWeakKeys(t *testing.T) {
	list := weakKeys(t)
	if len(list) != 13 {
		t.Fatalf("%d keys", len(list))
	}
	for name, pub := range list {
		if k, err := NewKey(pub); !errors.Is(err, ErrWeakKey) || !k.IsZero() {
			t.Errorf("%s: %v", name, err)
		}
		if ed, ok := pub.(ed25519.PublicKey); ok {
			file := fmt.Sprintf(`{"keytype":"ED25519","keyval":{"public":"%x"}}`, []byte(ed))
			if _, err := ParseKey([]byte(file)); !errors.Is(err, ErrWeakKey) {
				t.Errorf("%s, read: %v", name, err)
			}
		}
	}
}
