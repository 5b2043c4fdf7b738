package logbook

import (
	"context"
	"fmt"
	"math/bits"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/hanaper/hanaper/journal"
)

// Builder computes the root of a growing log and keeps only the roots of the full subtrees at its right edge: one hash for each
// bit that is set in the size (RFC 6962, section 2.1).
type Builder struct {
	size  int64
	edges []journal.Hash
}

// NewBuilder is the builder of an empty log.
func NewBuilder() *Builder { return &Builder{} }

// Resume is the builder of the first size entries of a log that has held entries, from its tiles.
func Resume(ctx context.Context, f Files, size, held int64) (*Builder, error) {
	if size < 0 || size > held || held > MaxSize {
		return nil, fmt.Errorf("%w: it has %d entries, not %d", ErrLog, held, size)
	}
	var indexes []int64
	for at, left := int64(0), size; left > 0; {
		level := bits.Len64(uint64(left)) - 1
		indexes = append(indexes, tlog.StoredHashIndex(level, at>>level))
		at += 1 << level
		left -= 1 << level
	}
	edges, err := newTree(ctx, f, held).ReadHashes(indexes)
	if err != nil {
		return nil, err
	}
	return &Builder{size: size, edges: edges}, nil
}

// Clone is a builder that grows by itself.
func (b *Builder) Clone() *Builder {
	return &Builder{b.size, append([]journal.Hash(nil), b.edges...)}
}

// Add appends the hash of an entry.
func (b *Builder) Add(h journal.Hash) {
	for n := b.size; n&1 == 1; n >>= 1 {
		last := len(b.edges) - 1
		h = tlog.NodeHash(b.edges[last], h)
		b.edges = b.edges[:last]
	}
	b.edges = append(b.edges, h)
	b.size++
}

// Size is how many entries were added.
func (b *Builder) Size() int64 { return b.size }

// Root is the root of all that was added.
func (b *Builder) Root() journal.Hash {
	if len(b.edges) == 0 {
		return emptyRoot()
	}
	h := b.edges[len(b.edges)-1]
	for i := len(b.edges) - 2; i >= 0; i-- {
		h = tlog.NodeHash(b.edges[i], h)
	}
	return h
}
