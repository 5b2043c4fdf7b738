package journal

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"testing"
)

func FuzzParse(f *testing.F) {
	for _, n := range []int{0, 1, 3} {
		b := firstLine("journal.example/fuzz")
		c := seed(b)
		for i := range n {
			b, c = appendFrame(b, c, int64(i), fmt.Appendf(nil, "leaf %d", i))
		}
		f.Add(b)
		f.Add(b[:len(b)-1])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Parse(data)
		if err != nil {
			var ee *EntryError
			if !errors.As(err, &ee) {
				t.Fatalf("not an EntryError: %v", err)
			}
			return
		}
		// What is accepted has one encoding.
		b := firstLine(r.Origin())
		c := seed(b)
		for i, leaf := range r.Leaves() {
			b, c = appendFrame(b, c, int64(i), leaf)
		}
		if !bytes.Equal(b, data) {
			t.Fatal("accepted, but written otherwise")
		}
	})
}

func FuzzCheckpoint(f *testing.F) {
	body := FormatCheckpoint("journal.example/fuzz", 3, (&tree{}).root(), "ext")
	f.Add(body)
	_, key, err := ed25519.GenerateKey(bytes.NewReader(make([]byte, 64)))
	if err != nil {
		f.Fatal(err)
	}
	s, err := NoteSigner("journal.example/fuzz", key)
	if err != nil {
		f.Fatal(err)
	}
	v, err := NoteVerifier("journal.example/fuzz", key.Public())
	if err != nil {
		f.Fatal(err)
	}
	signed, err := SignCheckpoint(body, s)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(signed)
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, err := ParseCheckpoint(data); err == nil && !bytes.Equal(FormatCheckpoint(c.Origin, c.Size, c.Root, c.Extensions...), data) {
			t.Fatal("accepted, but written otherwise")
		}
		if c, err := VerifyCheckpoint(data, v); err == nil && !bytes.Equal(FormatCheckpoint(c.Origin, c.Size, c.Root, c.Extensions...), body) {
			t.Fatalf("forged: %+v", c)
		}
		_, _ = ParseVerifierKey(string(data))
	})
}
