package quorum

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"sync"
	"testing"
	"time"
)

// person is an officer of the tests with both private keys.
type person struct {
	Officer
	sign    *Signer
	decrypt crypto.Signer
}

// The keys of the tests: made once, for RSA takes its time.
var keys = sync.OnceValue(func() map[string][]crypto.Signer {
	out := map[string][]crypto.Signer{}
	must := func(k crypto.Signer, err error) crypto.Signer {
		if err != nil {
			panic(err)
		}
		return k
	}
	for range 6 {
		_, ed, err := ed25519.GenerateKey(rand.Reader)
		out["Ed25519"] = append(out["Ed25519"], must(ed, err))
		p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		out["P-256"] = append(out["P-256"], must(p256, err))
		p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
		out["P-384"] = append(out["P-384"], must(p384, err))
	}
	for range 4 {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		out["RSA"] = append(out["RSA"], must(k, err))
	}
	return out
})

func newPerson(t testing.TB, name string, role Role, sign crypto.Signer, s Scheme, decrypt crypto.Signer, d Decryption) person {
	t.Helper()
	p := person{Officer: Officer{Name: name, Role: role}, decrypt: decrypt}
	var err error
	if p.sign, err = NewSigner(sign, s); err != nil {
		t.Fatal(err)
	}
	if decrypt != nil {
		p.DecryptionKey, p.Decryption = decrypt.Public(), d
	}
	env, err := Enrol(p.Officer, p.sign)
	if err != nil {
		t.Fatal(err)
	}
	if p.Officer, err = ParseEnrolment(env); err != nil {
		t.Fatal(err)
	}
	return p
}

// people are five officers with a key of every kind, a witness and an auditor.
func people(t testing.TB) []person {
	k := keys()
	return []person{
		newPerson(t, "Ada", RoleOfficer, k["Ed25519"][0], "", k["P-256"][0], ""),
		newPerson(t, "Berta", RoleOfficer, k["P-256"][1], "", k["P-384"][0], ""),
		newPerson(t, "Clara", RoleOfficer, k["P-384"][1], "", k["RSA"][0], ""),
		newPerson(t, "Dora", RoleOfficer, k["RSA"][1], "", k["RSA"][2], OAEPSHA1),
		newPerson(t, "Emmy", RoleOfficer, k["RSA"][3], RSAPKCS1SHA256, k["P-256"][2], ""),
		newPerson(t, "Wim", RoleWitness, k["Ed25519"][1], "", nil, ""),
		newPerson(t, "Axel", RoleAuditor, k["Ed25519"][2], "", nil, ""),
	}
}

var issued = time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)

func officersOf(list []person) []Officer {
	var out []Officer
	for _, p := range list {
		out = append(out, p.Officer)
	}
	return out
}

func newRoster(t testing.TB, threshold int, list []person) *Roster {
	t.Helper()
	r, err := NewRoster(RosterConfig{Environment: "production", Threshold: threshold, Issued: issued, Officers: officersOf(list)})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func statement(t testing.TB, r *Roster) Statement {
	t.Helper()
	nonce, err := NewNonce(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return Statement{Verb: "ceremony run", Environment: "production", RosterDigest: r.Digest(), ScriptDigest: Sum([]byte("script")),
		Inputs:     map[string]Digest{"factory.csr": Sum([]byte("csr")), "roster.json": r.Digest()},
		ToolDigest: Sum([]byte("tool")), Nonce: nonce, Expires: issued.Add(24 * time.Hour)}
}

func approve(t testing.TB, st Statement, list ...person) [][]byte {
	t.Helper()
	var out [][]byte
	for _, p := range list {
		env, err := Approve(st, p.sign)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, env)
	}
	return out
}

// subsets calls f with every subset of size m of 0 to n-1.
func subsets(n, m int, f func([]int)) {
	var walk func(from int, have []int)
	walk = func(from int, have []int) {
		if len(have) == m {
			f(have)
			return
		}
		for i := from; i < n; i++ {
			walk(i+1, append(have[:len(have):len(have)], i))
		}
	}
	walk(0, nil)
}

func pick(list []person, idx []int) []person {
	var out []person
	for _, i := range idx {
		out = append(out, list[i])
	}
	return out
}

func ofN(m, n int) string { return fmt.Sprintf("%d of %d", m, n) }
