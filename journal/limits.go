package journal

// The bounds of the format. A reader refuses what lies outside.
const (
	// MaxLeaf bounds a leaf, in bytes. A leaf of zero bytes is refused too.
	MaxLeaf = 1 << 20
	// MaxOrigin bounds an origin, in bytes.
	MaxOrigin = 200
	// MaxCheckpoint bounds a signed checkpoint, in bytes.
	MaxCheckpoint = 64 << 10
	// maxExtensions bounds the extension lines of a checkpoint.
	maxExtensions = 64
)
