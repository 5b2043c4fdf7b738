package journal

import (
	"bytes"
	"testing"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
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
		}
		for older := int64(1); older <= size; older++ {
			p, err := r.ConsistencyProof(older, size)
			if err != nil {
				t.Fatal(err)
			}
			if err := proof.VerifyConsistency(rfc6962.DefaultHasher, uint64(older), uint64(size), raw(p), roots[older], root[:]); err != nil {
				t.Fatalf("merkle refuses %d to %d: %v", older, size, err)
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
	}
	for _, v := range [][2]int64{{0, 3}, {-1, 2}, {3, 2}, {1, 4}} {
		if _, err := r.ConsistencyProof(v[0], v[1]); err == nil {
			t.Errorf("consistency %v accepted", v)
		}
	}
	if _, err := r.RootAt(4); err == nil {
		t.Error("root of 4 accepted")
	}
}
