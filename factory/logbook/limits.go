package logbook

// The bounds of what is read.
const (
	// MaxDetails bounds the text of an entry's details, in bytes.
	MaxDetails = 1 << 10
	// MaxProof bounds a proof file, in bytes.
	MaxProof = 256 << 10
	// maxHashes bounds the hashes of one proof: a tree of 2^63 leaves has no longer one.
	maxHashes = 63
	// maxID bounds a device id in an opening, in bytes.
	maxID = 256
	// MaxSize is the largest log that is read, in entries.
	MaxSize = 1 << 40
)
