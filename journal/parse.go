package journal

import "errors"

// Record is a whole journal read from bytes: nothing is written, and every entry was intact.
type Record struct {
	origin string
	leaves [][]byte
	tree   tree
}

// Parse reads a whole journal. It refuses any damage and any torn end with an *EntryError that names the entry. The
// result is consistent, not authentic: compare its size and root with a checkpoint whose signature was verified.
func Parse(data []byte) (*Record, error) {
	r, rest, err := parse(data)
	if err == nil && len(rest) > 0 {
		_, _, _, err = parseFrame(rest, r.tree.size, chain{})
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// ParseCrashed reads a journal as Open does, but changes nothing: an entry that a crash left incomplete at the very end
// is left out, and torn is the number of its bytes. Any other damage is an *EntryError; the record then holds the entries
// before the damaged one, for those who have to end what the journal began.
func ParseCrashed(data []byte) (r *Record, torn int, err error) {
	r, rest, err := parse(data)
	if err != nil || len(rest) == 0 {
		return r, 0, err
	}
	if len(rest) < headSize {
		return r, len(rest), tornHead(rest, r.tree.size)
	}
	return r, len(rest), nil
}

// parse reads the whole entries; rest is what follows them, fewer bytes than an entry has. With an error the record holds
// the entries before the damage; it is nil where the first line is damaged.
func parse(data []byte) (r *Record, rest []byte, err error) {
	origin, n, err := parseOrigin(data)
	if err != nil {
		return nil, nil, err
	}
	r = &Record{origin: origin}
	c := seed(data[:n])
	for data = data[n:]; len(data) > 0; {
		leaf, next, size, err := parseFrame(data, r.tree.size, c)
		if cut := (*EntryError)(nil); errors.As(err, &cut) && cut.torn {
			return r, data, nil
		}
		if err != nil {
			return r, nil, err
		}
		r.leaves = append(r.leaves, leaf)
		r.tree.add(leaf)
		c, data = next, data[size:]
	}
	return r, nil, nil
}

// parseFrame reads entry index from the start of data.
func parseFrame(data []byte, index int64, c chain) (leaf []byte, next chain, size int, err error) {
	if len(data) < headSize {
		return nil, c, 0, &EntryError{Index: index, What: "is cut off", torn: true}
	}
	length, err := parseHead(data, index)
	if err != nil {
		return nil, c, 0, err
	}
	size = headSize + length + tailSize
	if len(data) < size {
		return nil, c, 0, &EntryError{Index: index, What: "is cut off", torn: true}
	}
	leaf = data[headSize : headSize+length : headSize+length]
	next = c.next(data[:headSize], leaf)
	return leaf, next, size, parseTail(data[headSize+length:], index, next)
}

// Data is the journal's file, up to the end of its last whole entry.
func (r *Record) Data() []byte {
	data := firstLine(r.origin)
	c := seed(data)
	for i, leaf := range r.leaves {
		data, c = appendFrame(data, c, int64(i), leaf)
	}
	return data
}

// Origin names the journal; it is the first line of its checkpoints.
func (r *Record) Origin() string { return r.origin }

// Size is the number of entries.
func (r *Record) Size() int64 { return r.tree.size }

// Leaf returns entry i, which the caller may not change; it panics when i is not below Size, as an index does.
func (r *Record) Leaf(i int64) []byte { return r.leaves[i] }

// Leaves returns all entries, which the caller may not change.
func (r *Record) Leaves() [][]byte { return r.leaves }

// Root is the tree's root (RFC 6962, section 2.1).
func (r *Record) Root() Hash { return r.tree.root() }

// RootAt is the root of the first size entries.
func (r *Record) RootAt(size int64) (Hash, error) { return r.tree.rootAt(size) }

// Checkpoint is the unsigned body of the tree's checkpoint.
func (r *Record) Checkpoint() []byte { return FormatCheckpoint(r.origin, r.Size(), r.Root()) }

// InclusionProof proves entry index in the tree of the first size entries.
func (r *Record) InclusionProof(index, size int64) ([]Hash, error) {
	return r.tree.inclusion(index, size)
}

// ConsistencyProof proves that the first newer entries begin with the first older ones.
func (r *Record) ConsistencyProof(older, newer int64) ([]Hash, error) {
	return r.tree.consistency(older, newer)
}

// Check compares the record with a verified checkpoint: it must hold exactly the entries that the checkpoint covers.
func (r *Record) Check(c Checkpoint) error {
	return check(r.origin, &r.tree, c, true)
}
