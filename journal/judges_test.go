package journal

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	flog "github.com/transparency-dev/formats/log"
	fnote "github.com/transparency-dev/formats/note"
	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"
)

// The tree, its roots and its proofs, judged by transparency-dev/merkle.
func TestTreeAgainstMerkle(t *testing.T) {
	const n = 40
	leaves := manyLeaves(n)
	_, path := newLog(t, leaves...)
	r, err := Parse(read(t, path))
	if err != nil {
		t.Fatal(err)
	}
	roots := make([][]byte, n+1)
	roots[0] = rfc6962.DefaultHasher.EmptyRoot()
	rng := (&compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}).NewEmptyRange(0)
	for i, leaf := range leaves {
		if err := rng.Append(rfc6962.DefaultHasher.HashLeaf([]byte(leaf)), nil); err != nil {
			t.Fatal(err)
		}
		if roots[i+1], err = rng.GetRootHash(nil); err != nil {
			t.Fatal(err)
		}
	}
	for size := range int64(n + 1) {
		root, err := r.RootAt(size)
		if err != nil || !bytes.Equal(root[:], roots[size]) {
			t.Fatalf("root of %d: %v", size, err)
		}
	}
	for size := int64(1); size <= n; size++ {
		root := Hash(roots[size])
		for i := range size {
			p, err := r.InclusionProof(i, size)
			if err != nil {
				t.Fatal(err)
			}
			if err := proof.VerifyInclusion(rfc6962.DefaultHasher, uint64(i), uint64(size), rfc6962.DefaultHasher.HashLeaf([]byte(leaves[i])), raw(p), root[:]); err != nil {
				t.Fatalf("merkle refuses entry %d of %d: %v", i, size, err)
			}
			if err := VerifyInclusion(p, []byte(leaves[i]), i, size, root); err != nil {
				t.Fatal(err)
			}
			if err := VerifyInclusion(p, []byte("other"), i, size, root); !errors.Is(err, ErrProof) {
				t.Fatalf("other leaf: %v", err)
			}
		}
		for older := int64(1); older <= size; older++ {
			p, err := r.ConsistencyProof(older, size)
			if err != nil {
				t.Fatal(err)
			}
			if err := proof.VerifyConsistency(rfc6962.DefaultHasher, uint64(older), uint64(size), raw(p), roots[older], root[:]); err != nil {
				t.Fatalf("merkle refuses %d to %d: %v", older, size, err)
			}
			if err := VerifyConsistency(p, older, Hash(roots[older]), size, root); err != nil {
				t.Fatal(err)
			}
			if older < size {
				if err := VerifyConsistency(p, older, root, size, root); !errors.Is(err, ErrProof) {
					t.Fatalf("other root: %v", err)
				}
			}
		}
	}
}

func raw(p []Hash) [][]byte {
	out := make([][]byte, len(p))
	for i := range p {
		out[i] = p[i][:]
	}
	return out
}

func TestProofBounds(t *testing.T) {
	_, path := newLog(t, manyLeaves(3)...)
	r, err := Parse(read(t, path))
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range [][2]int64{{-1, 3}, {3, 3}, {0, 4}, {0, 0}, {2, 1}} {
		if _, err := r.InclusionProof(v[0], v[1]); err == nil {
			t.Errorf("inclusion %v accepted", v)
		}
		if VerifyInclusion(nil, []byte("x"), v[0], v[1], Hash{}) == nil {
			t.Errorf("verify inclusion %v accepted", v)
		}
	}
	for _, v := range [][2]int64{{0, 3}, {-1, 2}, {3, 2}, {1, 4}} {
		if _, err := r.ConsistencyProof(v[0], v[1]); err == nil {
			t.Errorf("consistency %v accepted", v)
		}
	}
	if _, err := r.RootAt(4); err == nil {
		t.Error("root of 4 accepted")
	}
	if err := VerifyConsistency(nil, 0, emptyRoot, 3, r.Root()); err != nil {
		t.Error(err)
	}
	for _, err := range []error{
		VerifyConsistency(nil, 0, r.Root(), 3, r.Root()),
		VerifyConsistency([]Hash{{}}, 0, emptyRoot, 3, r.Root()),
		VerifyConsistency(nil, 3, r.Root(), 2, r.Root()),
		VerifyConsistency(nil, -1, r.Root(), 2, r.Root()),
	} {
		if !errors.Is(err, ErrProof) {
			t.Errorf("got %v", err)
		}
	}
}

func checkpointKeys(t testing.TB) map[string]crypto.Signer {
	t.Helper()
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]crypto.Signer{"Ed25519": ed, "P-256": p256, "P-384": p384}
}

// Checkpoints, judged by x/mod's note and by transparency-dev/formats.
func TestCheckpointAgainstStockTools(t *testing.T) {
	l, _ := newLog(t, manyLeaves(9)...)
	for name, key := range checkpointKeys(t) {
		t.Run(name, func(t *testing.T) {
			s, err := NoteSigner("journal.example/test", key)
			if err != nil {
				t.Fatal(err)
			}
			data, err := SignCheckpoint(l.Checkpoint(), s)
			if err != nil {
				t.Fatal(err)
			}
			vkey, err := VerifierKey("journal.example/test", key.Public())
			if err != nil {
				t.Fatal(err)
			}
			stock, err := fnote.NewVerifier(vkey)
			if err != nil {
				t.Fatal(err)
			}
			cp, _, _, err := flog.ParseCheckpoint(data, "journal.example/test", stock)
			if err != nil {
				t.Fatalf("transparency-dev/formats refuses it: %v\n%s", err, data)
			}
			root := l.Root()
			if cp.Size != 9 || !bytes.Equal(cp.Hash, root[:]) {
				t.Error("read otherwise by transparency-dev/formats")
			}
			if name == "Ed25519" {
				v, err := note.NewVerifier(vkey)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := note.Open(data, note.VerifierList(v)); err != nil {
					t.Errorf("x/mod refuses it: %v", err)
				}
			}
			ours, err := ParseVerifierKey(vkey)
			if err != nil {
				t.Fatal(err)
			}
			c, err := VerifyCheckpoint(data, ours)
			if err != nil || c.Size != 9 || c.Root != root || c.Origin != "journal.example/test" {
				t.Errorf("got %+v, %v", c, err)
			}
			for i := range data {
				changed := bytes.Clone(data)
				changed[i] ^= 1
				if got, err := VerifyCheckpoint(changed, ours); err == nil {
					t.Fatalf("byte %d changed: accepted as %+v", i, got)
				}
			}
		})
	}
}

func TestCheckpointSigners(t *testing.T) {
	l, _ := newLog(t, "one")
	keys := checkpointKeys(t)
	var signers []note.Signer
	var verifiers []note.Verifier
	for name, key := range keys {
		s, err := NoteSigner("journal.example/"+name, key)
		if err != nil {
			t.Fatal(err)
		}
		v, err := NoteVerifier("journal.example/"+name, key.Public())
		if err != nil {
			t.Fatal(err)
		}
		signers, verifiers = append(signers, s), append(verifiers, v)
	}
	data, err := SignCheckpoint(l.Checkpoint(), signers...)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := VerifyCheckpoint(data, verifiers...); err != nil {
		t.Error(err)
	}
	if _, err := VerifyCheckpoint(data, verifiers[1]); err != nil {
		t.Error(err)
	}
	one, err := SignCheckpoint(l.Checkpoint(), signers[0])
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]func() error{
		"not all signed": func() error { _, err := VerifyCheckpoint(one, verifiers...); return err },
		"other key":      func() error { _, err := VerifyCheckpoint(one, verifiers[1]); return err },
		"no verifier":    func() error { _, err := VerifyCheckpoint(one); return err },
		"no signer":      func() error { _, err := SignCheckpoint(l.Checkpoint()); return err },
		"lying key":      func() error { _, err := SignCheckpoint(l.Checkpoint(), lying(t)); return err },
	} {
		if err := f(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NoteSigner("journal.example/rsa", k); err == nil {
		t.Error("RSA accepted")
	}
	if _, err := NoteSigner("with space", keys["Ed25519"]); err == nil {
		t.Error("name with a space accepted")
	}
}

// liar is a token that signs something else than it was asked to.
type liar struct{ crypto.Signer }

func (l liar) Sign(r io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	return l.Signer.Sign(r, append([]byte("x"), digest[1:]...), o)
}

func lying(t *testing.T) note.Signer {
	s, err := NoteSigner("journal.example/liar", liar{checkpointKeys(t)["Ed25519"]})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestParseVerifierKeyRefuses(t *testing.T) {
	good, err := VerifierKey("k.example", checkpointKeys(t)["P-256"].Public())
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"", "a+b", "k+00000000+AQ==", strings.Replace(good, "k.example", "", 1), good[:len(good)-8],
		"k+xxxxxxxx+AQAA", "k+12345678+BAAA", "k+12345678+%%", "k+12345678+AgAA", strings.Replace(good, "+", "+f", 1)} {
		if _, err := ParseVerifierKey(bad); err == nil {
			t.Errorf("%q accepted", bad)
		}
	}
}

func TestParseCheckpointTable(t *testing.T) {
	root := "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
	for _, bad := range []string{"", "\n", "o\n0\n" + root, "o\n0\n", "\n0\n" + root + "\n", "o\n00\n" + root + "\n", "o\n-1\n" + root + "\n",
		"o\n+1\n" + root + "\n", "o\n9223372036854775808\n" + root + "\n", "o\n1\n" + root[4:] + "\n", "o\n1\n" + root + "\n\n",
		"o p\n1\n" + root + "\n", "o\n1\n" + root + "\r\n", "o\n1\n" + root + "\nx\xff\n", "o\n 1\n" + root + "\n",
		"o\n1\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFV=\n",
		"o\n1\n" + root + "\n" + strings.Repeat("x\n", maxExtensions+1)} {
		if c, err := ParseCheckpoint([]byte(bad)); !errors.Is(err, ErrCheckpoint) {
			t.Errorf("%q: %+v, %v", bad, c, err)
		}
	}
	c, err := ParseCheckpoint([]byte("o\n0\n" + root + "\nextension\n"))
	if err != nil || len(c.Extensions) != 1 || c.Root != emptyRoot {
		t.Errorf("%+v, %v", c, err)
	}
}

// The example of docs/spec/journal.md is what the code reads and writes.
func TestSpecExample(t *testing.T) {
	data, err := os.ReadFile("testdata/example.journal")
	if err != nil {
		t.Fatal(err)
	}
	r, err := Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	l, path := newLogOf(t, r.Origin(), r.Leaves())
	if !bytes.Equal(read(t, path), data) || l.Root() != r.Root() {
		t.Error("written otherwise")
	}
	cp, err := os.ReadFile("testdata/example.checkpoint")
	if err != nil {
		t.Fatal(err)
	}
	vkey, err := os.ReadFile("testdata/example.vkey")
	if err != nil {
		t.Fatal(err)
	}
	v, err := ParseVerifierKey(strings.TrimSpace(string(vkey)))
	if err != nil {
		t.Fatal(err)
	}
	c, err := VerifyCheckpoint(cp, v)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Check(c); err != nil {
		t.Error(err)
	}
	spec, err := os.ReadFile("../docs/spec/journal.md")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{"journal": data, "checkpoint": cp, "verifier key": vkey} {
		if !bytes.Contains(spec, text) {
			t.Errorf("the specification does not show this %s:\n%s", name, text)
		}
	}
}

func newLogOf(t *testing.T, origin string, leaves [][]byte) (*Log, string) {
	t.Helper()
	path := t.TempDir() + "/journal.log"
	l, err := Create(path, origin)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	if _, err := l.AppendAll(leaves); err != nil {
		t.Fatal(err)
	}
	return l, path
}

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
	body := FormatCheckpoint("journal.example/fuzz", 3, emptyRoot, "ext")
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
