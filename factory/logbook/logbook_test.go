package logbook

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/hanaper/hanaper/journal"
)

// judgeTree is a tree by x/mod, from all its leaves.
func judgeTree(t testing.TB, leaves []Leaf) tlog.HashReader {
	t.Helper()
	var all []journal.Hash
	r := tlog.HashReaderFunc(func(at []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(at))
		for i, x := range at {
			out[i] = all[x]
		}
		return out, nil
	})
	for i, l := range leaves {
		hs, err := tlog.StoredHashes(int64(i), l[:], r)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, hs...)
	}
	return r
}

// Roots and proofs from tiles, judged by x/mod and by transparency-dev/merkle.
func TestProofsAgainstStockTools(t *testing.T) {
	ctx := context.Background()
	sizes := []int{1, 2, 255, 256, 257, 511, 513, 1000, 66_000}
	leaves := testLeaves(66_000)
	judge := judgeTree(t, leaves)
	for _, size := range sizes {
		f := layLog(t, leaves[:size])
		root, err := tlog.TreeHash(int64(size), judge)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := RootOf(ctx, f, int64(size), int64(size)); err != nil || got != root || rootOf(leaves[:size]) != root {
			t.Fatalf("%d: root %v, %v", size, got, err)
		}
		for _, older := range sizes {
			if older > size {
				continue
			}
			b, err := Resume(ctx, f, int64(older), int64(size))
			if err != nil {
				t.Fatal(err)
			}
			was, err := tlog.TreeHash(int64(older), judge)
			if err != nil || b.Root() != was {
				t.Fatalf("%d of %d: %v, %v", older, size, b.Root(), err)
			}
			for _, l := range leaves[older:size] {
				b.Add(l.Hash())
			}
			if b.Root() != root {
				t.Fatalf("resumed from %d to %d: another root", older, size)
			}
			p, err := Consistency(ctx, f, int64(older), int64(size))
			if err != nil {
				t.Fatal(err)
			}
			if err := proof.VerifyConsistency(rfc6962.DefaultHasher, uint64(older), uint64(size), bytesOf(p), was[:], root[:]); err != nil {
				t.Errorf("transparency-dev/merkle refuses the proof from %d to %d: %v", older, size, err)
			}
			if older < size {
				if err := tlog.CheckTree(p, int64(size), root, int64(older), was); err != nil {
					t.Errorf("x/mod refuses the proof from %d to %d: %v", older, size, err)
				}
			}
			p, err = Inclusion(ctx, f, int64(older)-1, int64(size))
			if err != nil {
				t.Fatal(err)
			}
			h := leaves[older-1].Hash()
			if err := proof.VerifyInclusion(rfc6962.DefaultHasher, uint64(older-1), uint64(size), h[:], bytesOf(p), root[:]); err != nil {
				t.Errorf("transparency-dev/merkle refuses the proof of %d in %d: %v", older-1, size, err)
			}
		}
	}
}

func bytesOf(p []journal.Hash) [][]byte {
	out := make([][]byte, len(p))
	for i := range p {
		out[i] = p[i][:]
	}
	return out
}

// Every manipulation of a folder, against its own checkpoint and against those that others hold.
func TestManipulationsOfAFolder(t *testing.T) {
	const n = 700
	leaves := testLeaves(n)
	older, newer := signed(t, leaves[:300]), signed(t, testLeaves(n+10))
	swap := append([]Leaf(nil), leaves...)
	swap[20], swap[400] = swap[400], swap[20]
	changed := append([]Leaf(nil), leaves...)
	changed[100] = testLeaf(100, 1)
	doubled := append(append([]Leaf(nil), leaves[:50]...), leaves[49:n-1]...)
	one := func(path string, change func([]byte) []byte) func(*testing.T) Folder {
		return func(t *testing.T) Folder {
			f := layLog(t, leaves)
			at := filepath.Join(string(f), filepath.FromSlash(path))
			data, err := os.ReadFile(at)
			if err != nil {
				t.Fatal(err)
			}
			if data = change(data); data == nil {
				err = os.Remove(at)
			} else {
				err = os.WriteFile(at, data, 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
			return f
		}
	}
	flip := func(i int) func([]byte) []byte {
		return func(b []byte) []byte { b[i] ^= 1; return b }
	}
	gone := func([]byte) []byte { return nil }
	half := func(b []byte) []byte { return b[:len(b)/2] }
	log := func(l []Leaf) func(*testing.T) Folder {
		return func(t *testing.T) Folder { return layLog(t, l) }
	}
	// The folder's own checkpoint was made anew by who holds the key, unless a file was changed.
	for name, c := range map[string]struct {
		folder func(*testing.T) Folder
		since  []byte
		want   error
	}{
		"entry flipped in a full bundle":           {one("tile/entries/000", flip(2000)), nil, ErrLog},
		"entry flipped in the last bundle":         {one("tile/entries/002.p/188", flip(40)), nil, ErrFork},
		"kind of an entry changed":                 {one("tile/entries/000", func(b []byte) []byte { b[2] = byte(Scrap); return b }), nil, ErrLog},
		"length of an entry changed":               {one("tile/entries/000", flip(1)), nil, ErrLog},
		"bundle removed":                           {one("tile/entries/001", gone), nil, ErrLog},
		"bundle cut":                               {one("tile/entries/001", half), nil, ErrLog},
		"tile flipped":                             {one("tile/0/001", flip(70)), nil, ErrLog},
		"last tile flipped":                        {one("tile/0/002.p/188", flip(70)), nil, ErrLog},
		"upper tile flipped":                       {one("tile/1/000.p/2", flip(3)), nil, ErrLog},
		"tile removed":                             {one("tile/0/001", gone), nil, ErrLog},
		"tile cut":                                 {one("tile/0/001", half), nil, ErrLog},
		"checkpoint flipped":                       {one("checkpoint", flip(len(testOrigin)+10)), nil, journal.ErrSignature},
		"checkpoint removed":                       {one("checkpoint", gone), nil, os.ErrNotExist},
		"two entries changed places, older kept":   {log(swap), older, ErrFork},
		"an entry changed, older kept":             {log(changed), older, ErrFork},
		"an entry doubled, older kept":             {log(doubled), older, ErrFork},
		"cut back, later kept":                     {log(leaves[:600]), newer, ErrOlder},
		"cut back to nothing, older kept":          {log(nil), older, ErrOlder},
		"cut back and grown otherwise, later kept": {log(append(append([]Leaf(nil), leaves[:600]...), changed[90:210]...)), newer, ErrFork},
		"forked at the last entry, same size":      {log(append(append([]Leaf(nil), leaves[:n-1]...), testLeaf(n-1, 1))), signed(t, leaves), ErrFork},
	} {
		t.Run(name, func(t *testing.T) {
			conf := AuditConfig{Policy: testPolicy(t)}
			if c.since != nil {
				conf.Since = [][]byte{c.since}
			}
			_, err := Check(context.Background(), c.folder(t), conf)
			if !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
	a, err := Check(context.Background(), layLog(t, leaves), AuditConfig{Policy: testPolicy(t), Since: [][]byte{older, signed(t, nil), signed(t, leaves)}})
	if err != nil || a.Counts[Issue] != n/4 || a.Checkpoint.Size != n {
		t.Errorf("%+v, %v", a, err)
	}
	// Every byte of a small log counts.
	small := layLog(t, leaves[:3])
	for _, path := range []string{"checkpoint", "tile/0/000.p/3", "tile/entries/000.p/3"} {
		at := filepath.Join(string(small), filepath.FromSlash(path))
		data, err := os.ReadFile(at)
		if err != nil {
			t.Fatal(err)
		}
		for i := range data {
			data[i] ^= 1
			if err := os.WriteFile(at, data, 0o644); err != nil {
				t.Fatal(err)
			}
			if _, err := Check(context.Background(), small, AuditConfig{Policy: testPolicy(t)}); err == nil {
				t.Errorf("%s: byte %d changed: accepted", path, i)
			}
			data[i] ^= 1
		}
		if err := os.WriteFile(at, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func offer(t testing.TB, f Folder, leaves []Leaf, from int64) Offer {
	t.Helper()
	p, err := Consistency(context.Background(), f, min(from, int64(len(leaves))), int64(len(leaves)))
	if err != nil {
		t.Fatal(err)
	}
	return Offer{Note: signed(t, leaves), From: from, Proof: p, Source: "a test"}
}

func TestKept(t *testing.T) {
	ctx, leaves := context.Background(), testLeaves(600)
	f := layLog(t, leaves)
	at := filepath.Join(t.TempDir(), "state", "log.checkpoint")
	k := NewKept(at, testPolicy(t), nil)
	if n, err := k.Size(); n != 0 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	for _, n := range []int{3, 3, 299, 300, 512, 600} {
		held, err := k.Size()
		if err != nil {
			t.Fatal(err)
		}
		c, err := k.Accept(ctx, offer(t, layLog(t, leaves[:n]), leaves[:n], held))
		if err != nil || c.Size != int64(n) {
			t.Fatalf("%d: %+v, %v", n, c, err)
		}
	}
	// Another process was faster: the answer to a question that was asked at 300 comes late.
	late := offer(t, layLog(t, leaves[:400]), leaves[:400], 300)
	if _, err := k.Accept(ctx, late); err == nil {
		t.Error("accepted without a way to compare")
	}
	late.Files = f
	if c, err := k.Accept(ctx, late); err != nil || c.Size != 600 {
		t.Errorf("%+v, %v", c, err)
	}
	before, err := os.ReadFile(at)
	if err != nil {
		t.Fatal(err)
	}
	other := append([]Leaf(nil), leaves...)
	other[5] = testLeaf(5, 1)
	longer := append(append([]Leaf(nil), other...), testLeaf(600, 0))
	longerFolder, otherFolder := layLog(t, longer), layLog(t, other)
	otherKey := offer(t, f, leaves, 600)
	s, _ := testKey(t, 2)
	if otherKey.Note, err = journal.SignCheckpoint(journal.FormatCheckpoint(testOrigin, 601, rootOf(longer)), s); err != nil {
		t.Fatal(err)
	}
	lateFork := offer(t, layLog(t, other[:400]), other[:400], 300)
	lateFork.Files = f
	honest := append(append([]Leaf(nil), leaves...), testLeaf(600, 0))
	shortProof := offer(t, layLog(t, honest), honest, 600)
	shortProof.Proof = nil
	cases := map[string]struct {
		offer Offer
		want  error
	}{
		"older":                    {offer(t, layLog(t, leaves[:599]), leaves[:599], 600), ErrOlder},
		"empty":                    {offer(t, layLog(t, nil), nil, 600), ErrOlder},
		"same size, another root":  {offer(t, otherFolder, other, 600), ErrFork},
		"longer, forked":           {offer(t, longerFolder, longer, 600), ErrFork},
		"no proof":                 {shortProof, ErrFork},
		"signed by another key":    {otherKey, journal.ErrSignature},
		"no checkpoint":            {Offer{Note: []byte("nonsense"), From: 600}, journal.ErrSignature},
		"forked, and another late": {lateFork, ErrFork},
	}
	for name, c := range cases {
		files, _ := filepath.Glob(at + ".refused-*")
		_, err := k.Accept(ctx, c.offer)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		after, _ := filepath.Glob(at + ".refused-*")
		if len(after) != len(files)+1 {
			t.Errorf("%s: %d files of evidence, %d before", name, len(after), len(files))
		}
		if now, err := os.ReadFile(at); err != nil || string(now) != string(before) {
			t.Errorf("%s: the kept checkpoint was changed", name)
		}
		// The same again: refused, and one piece of evidence is enough.
		if _, err := k.Accept(ctx, c.offer); !errors.Is(err, c.want) {
			t.Errorf("%s, again: %v", name, err)
		}
		if again, _ := filepath.Glob(at + ".refused-*"); len(again) != len(after) {
			t.Errorf("%s, again: %d files of evidence, %d before", name, len(again), len(after))
		}
	}
}

func TestPolicy(t *testing.T) {
	_, vkey := testKey(t, 1)
	for name, c := range map[string]PolicyConfig{
		"no key":                   {},
		"log's key as a witness":   {Key: vkey, Witnesses: []string{vkey}},
		"more demanded than are":   {Key: vkey, Cosignatures: 1},
		"a negative demand":        {Key: vkey, Cosignatures: -1},
		"a witness that is no key": {Key: vkey, Witnesses: []string{"w+1+2"}},
	} {
		if _, err := NewPolicy(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	other, err := journal.SignCheckpoint(journal.FormatCheckpoint("another/log", 0, emptyRoot()), func() (s interface {
		Name() string
		KeyHash() uint32
		Sign([]byte) ([]byte, error)
	}) {
		s, _ = testKey(t, 1)
		return s
	}())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := testPolicy(t).Verify(other); err == nil || !strings.Contains(err.Error(), "another/log") {
		t.Errorf("checkpoint of another log: %v", err)
	}
}

func TestOpening(t *testing.T) {
	ctx, leaves := context.Background(), testLeaves(300)
	salt := [32]byte{9}
	d := Details{Index: 77, Kind: Issue, Time: testTime, Issuer: [32]byte{1}, Serial: []byte{5}, SPKI: [32]byte{2}, DeviceDigest: DeviceDigest(salt, "vin-0077")}
	leaves[77] = d.Leaf([]byte("the certificate"))
	f := layLog(t, leaves)
	hashes, err := Inclusion(ctx, f, 77, 300)
	if err != nil {
		t.Fatal(err)
	}
	cert := leaves[77].Certificate()
	good := Opening{Details: string(d.Text()), Certificate: fmt.Sprintf("%x", cert), DeviceID: "vin-0077", Salt: fmt.Sprintf("%x", salt),
		Proof: string(Proof{Index: 77, Hashes: hashes, Checkpoint: signed(t, leaves)}.Text())}
	data, err := MarshalOpenings([]Opening{good})
	if err != nil {
		t.Fatal(err)
	}
	list, err := ParseOpenings("proof", data)
	if err != nil || len(list) != 1 || list[0] != good {
		t.Fatalf("%+v, %v", list, err)
	}
	got, c, err := list[0].Check(testPolicy(t))
	if err != nil || got.Index != 77 || c.Size != 300 {
		t.Fatalf("%+v, %+v, %v", got, c, err)
	}
	for name, change := range map[string]func(*Opening){
		"another device":      func(o *Opening) { o.DeviceID = "vin-0078" },
		"another salt":        func(o *Opening) { o.Salt = fmt.Sprintf("%x", [32]byte{8}) },
		"another certificate": func(o *Opening) { o.Certificate = fmt.Sprintf("%x", [32]byte{8}) },
		"no certificate":      func(o *Opening) { o.Certificate = "" },
		"another kind":        func(o *Opening) { o.Details = strings.Replace(o.Details, "kind issue", "kind scrap", 1) },
		"another index":       func(o *Opening) { o.Proof = strings.Replace(o.Proof, "index 77", "index 78", 1) },
		"a proof cut":         func(o *Opening) { o.Proof = o.Proof[:len(o.Proof)/2] },
		"no proof":            func(o *Opening) { o.Proof = "" },
	} {
		o := good
		change(&o)
		if _, _, err := o.Check(testPolicy(t)); !errors.Is(err, ErrProof) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
