package journal

import (
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// Hash is a node of the tree: SHA-256 as in RFC 6962, section 2.1.
type Hash = tlog.Hash

// LeafHash is SHA-256(0x00 || leaf), RFC 6962, section 2.1.
func LeafHash(leaf []byte) Hash { return tlog.RecordHash(leaf) }

// tree holds the stored hashes of a journal in memory: 64 bytes a leaf.
type tree struct {
	size   int64
	hashes []Hash
}

// ReadHashes implements tlog.HashReader.
func (t *tree) ReadHashes(indexes []int64) ([]Hash, error) {
	out := make([]Hash, len(indexes))
	for i, x := range indexes {
		if x < 0 || x >= int64(len(t.hashes)) {
			return nil, fmt.Errorf("journal: hash %d is outside the tree", x)
		}
		out[i] = t.hashes[x]
	}
	return out, nil
}

func (t *tree) add(leaf []byte) {
	// Cannot fail: every index asked for was stored by an earlier add.
	hs, err := tlog.StoredHashes(t.size, leaf, t)
	if err != nil {
		panic("journal: " + err.Error())
	}
	t.hashes = append(t.hashes, hs...)
	t.size++
}

func (t *tree) rootAt(size int64) (Hash, error) {
	if size < 0 || size > t.size {
		return Hash{}, fmt.Errorf("journal: has %d entries, not %d", t.size, size)
	}
	return tlog.TreeHash(size, t)
}

func (t *tree) root() Hash {
	h, err := t.rootAt(t.size)
	if err != nil {
		panic("journal: " + err.Error())
	}
	return h
}

func (t *tree) inclusion(index, size int64) ([]Hash, error) {
	if size < 1 || size > t.size || index < 0 || index >= size {
		return nil, fmt.Errorf("journal: no proof of entry %d in a tree of %d: it has %d entries", index, size, t.size)
	}
	return tlog.ProveRecord(size, index, t)
}

func (t *tree) consistency(older, newer int64) ([]Hash, error) {
	if older < 1 || older > newer || newer > t.size {
		return nil, fmt.Errorf("journal: no proof from size %d to %d: it has %d entries", older, newer, t.size)
	}
	return tlog.ProveTree(newer, older, t)
}

// ErrProof means that a proof does not prove what it is said to.
var ErrProof = errors.New("journal: proof does not verify")

// VerifyInclusion checks that leaf is entry index of the tree of size and root (RFC 6962, section 2.1.1).
func VerifyInclusion(proof []Hash, leaf []byte, index, size int64, root Hash) error {
	if size < 1 || index < 0 || index >= size {
		return fmt.Errorf("%w: entry %d is not in a tree of %d", ErrProof, index, size)
	}
	if err := tlog.CheckRecord(proof, size, root, index, LeafHash(leaf)); err != nil {
		return fmt.Errorf("%w: entry %d in a tree of %d", ErrProof, index, size)
	}
	return nil
}

// VerifyConsistency checks that the newer tree begins with the older one (RFC 6962, section 2.1.2). An older size of 0
// is consistent with everything; its proof must be empty.
func VerifyConsistency(proof []Hash, older int64, olderRoot Hash, newer int64, newerRoot Hash) error {
	if older < 0 || older > newer {
		return fmt.Errorf("%w: size fell from %d to %d", ErrProof, older, newer)
	}
	if older == 0 {
		if len(proof) != 0 || olderRoot != emptyRoot {
			return fmt.Errorf("%w: from the empty tree", ErrProof)
		}
		return nil
	}
	if err := tlog.CheckTree(proof, newer, newerRoot, older, olderRoot); err != nil {
		return fmt.Errorf("%w: from size %d to %d", ErrProof, older, newer)
	}
	return nil
}

var emptyRoot, _ = tlog.TreeHash(0, &tree{})

// storedIndex is where the hash of leaf i lies among the stored hashes.
func storedIndex(i int64) int64 { return tlog.StoredHashIndex(0, i) }
