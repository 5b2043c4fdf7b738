package logbook

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/journal"
)

// The layout of C2SP tlog-tiles: tiles of 256 hashes, bundles of 256 entries.
const (
	tileHeight = 8
	tileWidth  = 1 << tileHeight
	// maxBundle bounds an entry bundle in bytes: 256 entries with their lengths.
	maxBundle = tileWidth * (2 + LeafSize)
	// CheckpointPath is where a log's checkpoint lies.
	CheckpointPath = "checkpoint"
)

// ErrLog means that what a log shows is not what its checkpoint says.
var ErrLog = errors.New("the issuance log does not agree with its checkpoint")

// Files reads a log's files by their path in the tlog-tiles layout. A missing file is fs.ErrNotExist.
type Files interface {
	Read(ctx context.Context, path string, limit int64) ([]byte, error)
}

// Folder is a log in a folder.
type Folder string

// Read implements Files.
func (f Folder) Read(_ context.Context, path string, limit int64) ([]byte, error) {
	if !fs.ValidPath(path) {
		return nil, fs.ErrNotExist
	}
	return input.ReadFS(input.Dir(string(f)), path, limit)
}

// nPath writes a number as tlog-tiles has it: groups of three digits, all but the last with an x before them.
func nPath(n uint64) string {
	s := fmt.Sprintf("%03d", n%1000)
	for n >= 1000 {
		n /= 1000
		s = fmt.Sprintf("x%03d/%s", n%1000, s)
	}
	return s
}

// TilePath is the path of the tile of hashes at a level, with width hashes (256: the full one).
func TilePath(level int, n uint64, width int) string {
	return widthPath(fmt.Sprintf("tile/%d/%s", level, nPath(n)), width)
}

// BundlePath is the path of the entries that the tile of level 0 with this number covers.
func BundlePath(n uint64, width int) string { return widthPath("tile/entries/"+nPath(n), width) }

func widthPath(path string, width int) string {
	if width < tileWidth {
		return fmt.Sprintf("%s.p/%d", path, width)
	}
	return path
}

// readTile reads a tile of width hashes, from the file of that width or from the full one.
func readTile(ctx context.Context, f Files, path func(width int) string, width int, limit int64) ([]byte, error) {
	data, err := f.Read(ctx, path(width), limit)
	if errors.Is(err, fs.ErrNotExist) && width < tileWidth {
		return f.Read(ctx, path(tileWidth), limit)
	}
	return data, err
}

// tree reads the hashes of a log of a size from its tiles. What it reads is checked against nothing: a proof made of it holds
// or does not.
type tree struct {
	ctx   context.Context
	files Files
	size  int64
	cache map[string][]byte
}

// ReadHashes implements tlog.HashReader.
func (t *tree) ReadHashes(indexes []int64) ([]journal.Hash, error) {
	out := make([]journal.Hash, len(indexes))
	for i, x := range indexes {
		tile := tlog.TileForIndex(tileHeight, x)
		// The tile's width in a log of this size.
		full := t.size >> (uint(tile.L) * tileHeight)
		width := min(tileWidth, int(full-tile.N*tileWidth))
		if width < tile.W {
			return nil, fmt.Errorf("%w: hash %d lies outside of %d entries", ErrLog, x, t.size)
		}
		path := TilePath(tile.L, uint64(tile.N), width)
		data, ok := t.cache[path]
		if !ok {
			var err error
			data, err = readTile(t.ctx, t.files, func(w int) string { return TilePath(tile.L, uint64(tile.N), w) }, width, tileWidth*32)
			if err != nil {
				return nil, fmt.Errorf("%w: %w", ErrLog, err)
			}
			if len(data) < 32*width || len(data)%32 != 0 {
				return nil, fmt.Errorf("%w: tile %s has %d bytes, not %d", ErrLog, path, len(data), 32*width)
			}
			data = data[:32*width]
			t.cache[path] = data
		}
		tile.W = width
		var err error
		if out[i], err = tlog.HashFromTile(tile, data, x); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrLog, err)
		}
	}
	return out, nil
}

func newTree(ctx context.Context, f Files, size int64) *tree {
	return &tree{ctx: ctx, files: f, size: size, cache: map[string][]byte{}}
}

// RootOf computes the root of the first size entries from a log's tiles; held is how many entries the log has.
func RootOf(ctx context.Context, f Files, size, held int64) (journal.Hash, error) {
	if size < 0 || size > held || held > MaxSize {
		return journal.Hash{}, fmt.Errorf("%w: it has %d entries, not %d", ErrLog, held, size)
	}
	return tlog.TreeHash(size, newTree(ctx, f, held))
}

// Consistency makes the proof that a log of the newer size begins with the log of the older size.
func Consistency(ctx context.Context, f Files, older, newer int64) ([]journal.Hash, error) {
	if older < 0 || older > newer || newer > MaxSize {
		return nil, fmt.Errorf("%w: it has %d entries, not %d", ErrLog, newer, older)
	}
	if older == 0 || older == newer {
		return nil, nil
	}
	return tlog.ProveTree(newer, older, newTree(ctx, f, newer))
}

// Inclusion makes the proof that the entry at index is in the log of this size.
func Inclusion(ctx context.Context, f Files, index, size int64) ([]journal.Hash, error) {
	if index < 0 || index >= size || size > MaxSize {
		return nil, fmt.Errorf("%w: it has %d entries, not %d", ErrLog, size, index+1)
	}
	return tlog.ProveRecord(size, index, newTree(ctx, f, size))
}

// Bundle reads the leaves of bundle n of a log that has size entries.
func Bundle(ctx context.Context, f Files, n uint64, size int64) ([]Leaf, error) {
	width := int(min(tileWidth, size-int64(n)*tileWidth))
	if width < 1 {
		return nil, fmt.Errorf("%w: bundle %d lies outside of %d entries", ErrLog, n, size)
	}
	data, err := readTile(ctx, f, func(w int) string { return BundlePath(n, w) }, width, maxBundle)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrLog, err)
	}
	leaves := make([]Leaf, 0, width)
	for len(leaves) < width {
		if len(data) < 2 || len(data) < 2+int(binary.BigEndian.Uint16(data)) {
			return nil, fmt.Errorf("%w: %s ends within entry %d", ErrLog, BundlePath(n, width), int(n)*tileWidth+len(leaves))
		}
		length := int(binary.BigEndian.Uint16(data))
		leaf, err := ParseLeaf(data[2 : 2+length])
		if err != nil {
			return nil, fmt.Errorf("%w: entry %d: %w", ErrLog, int(n)*tileWidth+len(leaves), err)
		}
		leaves, data = append(leaves, leaf), data[2+length:]
	}
	return leaves, nil
}

// ValidPath says whether a path is one that a log's readers ask for: its checkpoint, a tile, or a bundle.
func ValidPath(path string) bool {
	if path == CheckpointPath {
		return true
	}
	rest, ok := strings.CutPrefix(path, "tile/")
	if !ok || !fs.ValidPath(path) || len(path) > 100 {
		return false
	}
	for _, c := range strings.TrimPrefix(rest, "entries/") {
		if (c < '0' || c > '9') && c != 'x' && c != '/' && c != '.' && c != 'p' {
			return false
		}
	}
	return true
}
