package journal

import (
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

// storedIndex is where the hash of leaf i lies among the stored hashes.
func storedIndex(i int64) int64 { return tlog.StoredHashIndex(0, i) }
