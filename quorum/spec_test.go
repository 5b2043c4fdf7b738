package quorum

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ed25519"
	"os"
	"strings"
	"testing"
	"time"
)

// The private keys of the specification's example: seeds and scalars of one repeated byte.
func exampleKeys(t *testing.T, b byte) (*Signer, *ecdh.PrivateKey) {
	t.Helper()
	s, err := NewSigner(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{b}, 32)), "")
	if err != nil {
		t.Fatal(err)
	}
	d, err := ecdh.P256().NewPrivateKey(bytes.Repeat([]byte{b}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return s, d
}

func exampleRoster(t *testing.T) *Roster {
	t.Helper()
	c := RosterConfig{Environment: "production", Threshold: 2, Issued: time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)}
	for i, name := range []string{"Ada", "Berta"} {
		s, d := exampleKeys(t, byte(i+1))
		pub, err := publicOf(d)
		if err != nil {
			t.Fatal(err)
		}
		env, err := Enrol(Officer{Name: name, Role: RoleOfficer, DecryptionKey: pub}, s)
		if err != nil {
			t.Fatal(err)
		}
		o, err := ParseEnrolment(env)
		if err != nil {
			t.Fatal(err)
		}
		c.Officers = append(c.Officers, o)
	}
	r, err := NewRoster(c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func exampleStatement(r *Roster) Statement {
	return Statement{Verb: "ceremony run", Environment: "production", RosterDigest: r.Digest(), ScriptDigest: Sum([]byte("script\n")),
		Inputs: map[string]Digest{"factory.csr": Sum([]byte("request\n"))}, ToolDigest: Sum([]byte("tool\n")),
		Nonce: "000102030405060708090a0b0c0d0e0f", Expires: time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)}
}

// The examples of docs/spec/quorum.md are what the code reads and writes.
func TestSpecExample(t *testing.T) {
	r := exampleRoster(t)
	st := exampleStatement(r)
	payload, err := st.Encode()
	if err != nil {
		t.Fatal(err)
	}
	s, _ := exampleKeys(t, 1)
	approval, err := Approve(st, s)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]byte{"example.roster.json": r.Data(), "example.statement.json": payload, "example.approval.json": approval} {
		if os.Getenv("UPDATE_EXAMPLES") != "" {
			if err := os.WriteFile("testdata/"+name, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile("testdata/" + name); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s differs from what is written now: %v", name, err)
		}
	}
	if os.Getenv("UPDATE_EXAMPLES") != "" {
		made, secret, err := Split(ShareConfig{Purpose: PurposeUser, TokenSerial: "5e8fbb1c7d0a4f21"}, r)
		if err != nil {
			t.Fatal(err)
		}
		pin, err := secret.PIN(4, 255)
		if err != nil {
			t.Fatal(err)
		}
		for name, data := range map[string][]byte{"example.shares.json": made.Data(), "example.pin": append(pin, '\n')} {
			if err := os.WriteFile("testdata/"+name, data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	data, err := os.ReadFile("testdata/example.shares.json")
	if err != nil {
		t.Fatal(err)
	}
	shares, err := ParseShares(data)
	if err != nil {
		t.Fatal(err)
	}
	var opened []*Share
	for i := range 2 {
		_, d := exampleKeys(t, byte(i+1))
		x, err := shares.Open(d)
		if err != nil {
			t.Fatal(err)
		}
		opened = append(opened, x)
	}
	secret, err := shares.Combine(opened...)
	if err != nil {
		t.Fatal(err)
	}
	pin, err := secret.PIN(4, 255)
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/example.pin")
	if err != nil || string(pin) != strings.TrimSpace(string(want)) {
		t.Errorf("the PIN is %s: %v", pin, err)
	}
	spec, err := os.ReadFile("../docs/spec/quorum.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"example.roster.json", "example.statement.json", "example.approval.json", "example.shares.json", "example.pin"} {
		text, err := os.ReadFile("testdata/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(spec, text) {
			t.Errorf("the specification does not show %s", name)
		}
	}
	for _, line := range []string{Digest(r.Digest()).String(), Words(r.digest[:8])} {
		if !bytes.Contains(spec, []byte(line)) {
			t.Errorf("the specification does not show %q", line)
		}
	}
}
