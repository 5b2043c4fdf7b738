// Package weakkey knows public keys under which anybody can sign; every room that lets a key in asks it. It trusts nothing
// of a key but its size, which the caller bounds.
package weakkey

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/hex"
	"math/big"
	"sync"

	"github.com/hanaper/hanaper/internal/format"
)

// fermatRounds is how many differences of the primes are tried.
const fermatRounds = 100

// fault is a way in which a key can be weak.
type fault struct {
	text, hint string
	// since is the format of ceremonies that was the newest when the fault was added here: a proof from before is held to
	// what was known then.
	since format.Version
	rsa   func(n *big.Int) bool
	ed    func(k ed25519.PublicKey) bool
}

var faults = []fault{
	{"rsa modulus has a small factor", "generate the key anew with a library that makes primes (openssl, Mbed TLS): the generator that made this one is broken", format.First, smallFactor, nil},
	{"rsa modulus has the mark of CVE-2017-15361 (ROCA)", "ask the chip's maker for a firmware without the fault, or generate the key outside of the chip, and enrol with a new key", format.First, roca, nil},
	{"rsa primes are too near each other", "generate the key anew with primes that are drawn independently of each other: the generator that made this one is broken", format.First, fermat, nil},
	{"the ed25519 point is of small order", "generate an Ed25519 key: these octets are no key that anybody holds", format.First, nil, smallOrder},
}

// Fault says in what way pub is known to be weak, "" if in none:
//   - RSA with a factor below 2000, of the ROCA kind (CVE-2017-15361: smartcards and TPMs made such keys), or with primes
//     so near each other that Fermat's method finds them in 100 rounds;
//   - Ed25519 of small order, under which anybody can sign.
//
// The caller bounds sizes first, for the work grows with them.
func Fault(pub crypto.PublicKey) string { return FaultAsOf(format.Version{}, pub) }

// FaultAsOf is Fault by what was known when a format of ceremonies was the newest.
func FaultAsOf(v format.Version, pub crypto.PublicKey) string {
	for _, f := range faults {
		if v.Before(f.since) {
			continue
		}
		switch k := pub.(type) {
		case *rsa.PublicKey:
			if f.rsa != nil && f.rsa(k.N) {
				return f.text
			}
		case ed25519.PublicKey:
			if f.ed != nil && f.ed(k) {
				return f.text
			}
		}
	}
	return ""
}

// smallFactor reports whether a prime below 2000 divides n.
func smallFactor(n *big.Int) bool {
	return n.Bit(0) == 0 || new(big.Int).GCD(nil, nil, new(big.Int).Mod(n, smallPrimes()), smallPrimes()).Cmp(one) != 0
}

var one = big.NewInt(1)

// primes are the odd primes below a bound, by the sieve of Eratosthenes.
func primes(below int) []int64 {
	composite := make([]bool, below)
	var out []int64
	for n := 3; n < below; n += 2 {
		if composite[n] {
			continue
		}
		out = append(out, int64(n))
		for m := n * n; m < below; m += 2 * n {
			composite[m] = true
		}
	}
	return out
}

// Both tables are made when the first RSA key is looked at: most runs of most programs see none, and all must start fast.
var (
	// smallPrimes is the product of the odd primes below 2000.
	smallPrimes = sync.OnceValue(func() *big.Int {
		product := big.NewInt(1)
		for _, p := range primes(2000) {
			product.Mul(product, big.NewInt(p))
		}
		return product
	})
	// rocaMarks holds, for each odd prime up to 167, the subgroup that 65537 generates: vulnerable moduli lie in all.
	rocaMarks = sync.OnceValue(func() map[int64][]bool {
		marks := make(map[int64][]bool)
		for _, p := range primes(168) {
			in := make([]bool, p)
			for x := int64(1); !in[x]; x = x * 65537 % p {
				in[x] = true
			}
			marks[p] = in
		}
		return marks
	})
)

// roca reports the fingerprint of Nemec et al., "The Return of Coppersmith's Attack", CCS 2017, section 2.3.
func roca(n *big.Int) bool {
	var m, p big.Int
	for prime, in := range rocaMarks() {
		if !in[m.Mod(n, p.SetInt64(prime)).Int64()] {
			return false
		}
	}
	return true
}

// fermat reports whether n = a² - b² for one of the first a above the root of n.
func fermat(n *big.Int) bool {
	a := new(big.Int).Sqrt(n)
	a.Add(a, one)
	b2 := new(big.Int).Mul(a, a)
	b2.Sub(b2, n)
	var step, root, sq big.Int
	for range fermatRounds {
		// Squares end in 0, 1, 4, 9, 16, 17, 25, 33, 36, 41, 49, 57 modulo 64; this spares most roots.
		if 1<<(b2.Uint64()&63)&uint64(0x0202021202030213) != 0 {
			root.Sqrt(b2)
			if sq.Mul(&root, &root).Cmp(b2) == 0 {
				return true
			}
		}
		step.Lsh(a, 1)
		b2.Add(b2, step.Add(&step, one)) // (a+1)² = a² + 2a + 1
		a.Add(a, one)
	}
	return false
}

// smallOrderY are the y coordinates, sign bit cleared, of the eight points of small order and of their encodings that
// are not reduced.
var smallOrderY = [][]byte{
	unhex("0000000000000000000000000000000000000000000000000000000000000000"),
	unhex("0100000000000000000000000000000000000000000000000000000000000000"),
	unhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
	unhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
	unhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
	unhex("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
	unhex("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
}

func smallOrder(k ed25519.PublicKey) bool {
	if len(k) != ed25519.PublicKeySize {
		return true
	}
	y := bytes.Clone(k)
	y[31] &= 0x7f
	for _, s := range smallOrderY {
		if bytes.Equal(y, s) {
			return true
		}
	}
	return false
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err) // only for a constant of this file
	}
	return b
}

// Hint says what to do about a fault, by its words.
func Hint(text string) string {
	for _, f := range faults {
		if f.text == text {
			return f.hint
		}
	}
	return "generate a new key"
}
