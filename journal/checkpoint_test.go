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
	"io"
	"strings"
	"testing"

	flog "github.com/transparency-dev/formats/log"
	fnote "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
)

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
	// One signature, one spelling: the last letter of its base64 has bits that stand for nothing.
	ed, err := NoteSigner("journal.example/ed", keys["Ed25519"])
	if err != nil {
		t.Fatal(err)
	}
	v, err := NoteVerifier("journal.example/ed", keys["Ed25519"].Public())
	if err != nil {
		t.Fatal(err)
	}
	if data, err = SignCheckpoint(l.Checkpoint(), ed); err != nil {
		t.Fatal(err)
	}
	if _, err := VerifyCheckpoint(data, v); err != nil {
		t.Fatal(err)
	}
	data[len(data)-len("x=\n")]++
	if _, err := VerifyCheckpoint(data, v); !errors.Is(err, ErrCheckpoint) {
		t.Errorf("another spelling of the signature: %v", err)
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
	if err != nil || len(c.Extensions) != 1 || c.Root != (&tree{}).root() {
		t.Errorf("%+v, %v", c, err)
	}
}
