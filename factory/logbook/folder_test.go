package logbook

import (
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/hanaper/hanaper/journal"
)

const testOrigin = "factory.example/plant-7/issuance"

// testKey is a log's key, always the same.
func testKey(t testing.TB, seed byte) (note.Signer, string) {
	t.Helper()
	raw := make([]byte, ed25519.SeedSize)
	raw[0] = seed
	key := ed25519.NewKeyFromSeed(raw)
	s, err := journal.NoteSigner(testOrigin, key)
	if err != nil {
		t.Fatal(err)
	}
	vkey, err := journal.VerifierKey(testOrigin, key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return s, vkey
}

func testPolicy(t testing.TB) *Policy {
	t.Helper()
	_, vkey := testKey(t, 1)
	p, err := NewPolicy(PolicyConfig{Key: vkey})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// testLeaf is entry i of the test log; other gives another one in its place.
func testLeaf(i uint64, other byte) Leaf {
	d := Details{Index: i, Kind: Kinds()[i%4], Time: time.Unix(1_764_000_000+int64(i), 0), Serial: []byte{1, byte(i), other}, DeviceDigest: [32]byte{1, other}}
	return d.Leaf(fmt.Appendf(nil, "certificate %d %d", i, other))
}

func testLeaves(n int) []Leaf {
	out := make([]Leaf, n)
	for i := range out {
		out[i] = testLeaf(uint64(i), 0)
	}
	return out
}

func rootOf(leaves []Leaf) journal.Hash {
	b := NewBuilder()
	for _, l := range leaves {
		b.Add(l.Hash())
	}
	return b.Root()
}

// signed is the checkpoint of these leaves, by the log's key.
func signed(t testing.TB, leaves []Leaf) []byte {
	t.Helper()
	s, _ := testKey(t, 1)
	data, err := journal.SignCheckpoint(journal.FormatCheckpoint(testOrigin, int64(len(leaves)), rootOf(leaves)), s)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// layLog writes a log of these leaves with its checkpoint, by other code than the product's.
func layLog(t testing.TB, leaves []Leaf) Folder {
	t.Helper()
	dir := t.TempDir()
	write := func(path string, data []byte) {
		at := filepath.Join(dir, filepath.FromSlash(path))
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var row []journal.Hash
	for n := 0; n < len(leaves); n += 256 {
		var bundle []byte
		part := leaves[n:min(n+256, len(leaves))]
		for _, l := range part {
			bundle = append(binary.BigEndian.AppendUint16(bundle, uint16(len(l))), l[:]...)
			row = append(row, l.Hash())
		}
		write(BundlePath(uint64(n/256), len(part)), bundle)
	}
	for level := 0; len(row) > 0; level++ {
		var above []journal.Hash
		for n := 0; n < len(row); n += 256 {
			part := row[n:min(n+256, len(row))]
			var tile []byte
			for _, h := range part {
				tile = append(tile, h[:]...)
			}
			write(TilePath(level, uint64(n/256), len(part)), tile)
			if len(part) == 256 {
				above = append(above, fold(part))
			}
		}
		row = above
	}
	write(CheckpointPath, signed(t, leaves))
	return Folder(dir)
}
