package weakkey

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"math/big"
	"strings"
	"testing"
)

func number(t *testing.T, s string) *big.Int {
	t.Helper()
	n, ok := new(big.Int).SetString(s, 10)
	if !ok {
		t.Fatalf("%q is no number", s)
	}
	return n
}

// nextPrime is the first prime above n.
func nextPrime(n *big.Int) *big.Int {
	p := new(big.Int).Add(n, one)
	for !p.ProbablyPrime(20) {
		p.Add(p, one)
	}
	return p
}

// TestTables: the sieve finds the primes that the library knows, and the tables are those of the definition.
func TestTables(t *testing.T) {
	have := map[int64]bool{}
	for _, p := range primes(2000) {
		have[p] = true
	}
	for n := int64(0); n < 2000; n++ {
		if want := n%2 == 1 && big.NewInt(n).ProbablyPrime(0); have[n] != want {
			t.Errorf("%d: %v, want %v", n, have[n], want)
		}
		if rem := new(big.Int).Mod(smallPrimes(), big.NewInt(max(n, 1))).Sign(); n > 1 && have[n] != (rem == 0 && n%2 == 1 && big.NewInt(n).ProbablyPrime(0)) {
			t.Errorf("the product and %d", n)
		}
	}
	if got := len(rocaMarks()); got != 38 || rocaMarks()[167] == nil || rocaMarks()[2] != nil {
		t.Errorf("%d tables of marks, want those of the 38 odd primes up to 167", got)
	}
}

// TestFault: each kind of weak key is known by its name, and honest keys have no fault.
func TestFault(t *testing.T) {
	good, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	near := nextPrime(new(big.Int).Lsh(number(t, "97"), 1000))
	smooth := new(big.Int).Mul(good.N, big.NewInt(1999))
	// A modulus with the mark: a power of 65537 modulo the product of the primes, and so modulo each of them.
	m := big.NewInt(1)
	for _, p := range primes(168) {
		m.Mul(m, big.NewInt(p))
	}
	roca := new(big.Int).Exp(big.NewInt(65537), big.NewInt(12345), m)
	if roca.Bit(0) == 0 {
		roca.Add(roca, m) // m is odd
	}
	for roca.BitLen() < 1024 || smallFactor(roca) {
		roca.Add(roca, new(big.Int).Lsh(m, 800))
	}
	for name, c := range map[string]struct {
		n    *big.Int
		says string
	}{
		"honest":       {good.N, ""},
		"even":         {new(big.Int).Lsh(good.N, 1), "small factor"},
		"three":        {new(big.Int).Mul(good.N, big.NewInt(3)), "small factor"},
		"1999":         {smooth, "small factor"},
		"2003 is fine": {new(big.Int).Mul(good.N, big.NewInt(2003)), ""},
		"ROCA":         {roca, "ROCA"},
		"near primes":  {new(big.Int).Mul(near, nextPrime(near)), "too near"},
		"a square":     {new(big.Int).Mul(near, near), ""},
	} {
		if got := Fault(&rsa.PublicKey{N: c.n, E: 65537}); (got == "") != (c.says == "") || !strings.Contains(got, c.says) {
			t.Errorf("%s: %q, want %q", name, got, c.says)
		}
	}
	ed, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil || Fault(ed) != "" {
		t.Errorf("an honest Ed25519 key: %q, %v", Fault(ed), err)
	}
	for _, y := range smallOrderY {
		for _, sign := range []byte{0, 0x80} {
			k := append(ed25519.PublicKey{}, y...)
			k[31] |= sign
			if Fault(k) == "" {
				t.Errorf("%x has no fault", k)
			}
		}
	}
	for _, k := range []any{nil, "key", ed25519.PublicKey(nil)} {
		if k, ok := k.(ed25519.PublicKey); ok && Fault(k) == "" {
			t.Errorf("%v has no fault", k)
		}
		Fault(k)
	}
}

// BenchmarkFirstKey: what the first RSA key that a process looks at costs more than the others.
func BenchmarkFirstKey(b *testing.B) {
	for b.Loop() {
		product := big.NewInt(1)
		for _, p := range primes(2000) {
			product.Mul(product, big.NewInt(p))
		}
	}
}
