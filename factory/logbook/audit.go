package logbook

import (
	"bytes"
	"context"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/journal"
)

// Audit is a whole log that was read and agreed with its checkpoint.
type Audit struct {
	Checkpoint Checkpoint
	// Counts of entries by kind.
	Counts map[Kind]int64
}

// AuditConfig says what a log is held against.
type AuditConfig struct {
	Policy *Policy
	// Since are checkpoints that others kept, as signed notes: the log must begin with the log of each.
	Since [][]byte
	// Leaf is asked about each entry in order; its error ends the audit. nil: nobody is asked.
	Leaf func(index uint64, leaf Leaf) error
	// Step is told now and then how many entries were read of how many; nil for silence.
	Step func(done, of int64)
}

// Check reads a whole log and compares it with its own checkpoint, with its tiles, and with the checkpoints in Since: every leaf
// is hashed, every tile is made anew. What it accepts has exactly the entries of every checkpoint.
func Check(ctx context.Context, f Files, c AuditConfig) (*Audit, error) {
	note, err := f.Read(ctx, CheckpointPath, journal.MaxCheckpoint)
	if err != nil {
		return nil, fmt.Errorf("the log's checkpoint: %w", err)
	}
	cp, err := c.Policy.Verify(note)
	if err != nil {
		return nil, fmt.Errorf("the log's checkpoint: %w", err)
	}
	marks := []Checkpoint{cp}
	for _, s := range c.Since {
		mark, err := c.Policy.VerifySigned(s)
		if err != nil {
			return nil, fmt.Errorf("a checkpoint to compare with: %w", err)
		}
		if mark.Size > cp.Size {
			return nil, fmt.Errorf("%w: the log has %d entries, a checkpoint of it covers %d", ErrOlder, cp.Size, mark.Size)
		}
		marks = append(marks, mark)
	}
	a := &Audit{Checkpoint: cp, Counts: map[Kind]int64{}}
	b := NewBuilder()
	check := func() error {
		for _, m := range marks {
			if m.Size == b.Size() && m.Root != b.Root() {
				return fmt.Errorf("%w: the root of the first %d entries of %s is another than its checkpoint says: an entry was changed, left out or moved",
					ErrFork, m.Size, show.Text(m.Origin))
			}
		}
		return nil
	}
	if err := check(); err != nil {
		return nil, err
	}
	tiles := &shelf{ctx: ctx, files: f}
	for n := uint64(0); int64(n)*tileWidth < cp.Size; n++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		leaves, err := Bundle(ctx, f, n, cp.Size)
		if err != nil {
			return nil, err
		}
		for i, leaf := range leaves {
			index := n*tileWidth + uint64(i)
			if c.Leaf != nil {
				if err := c.Leaf(index, leaf); err != nil {
					return nil, err
				}
			}
			a.Counts[leaf.Kind()]++
			h := leaf.Hash()
			b.Add(h)
			if err := check(); err != nil {
				return nil, err
			}
			if err := tiles.add(0, h); err != nil {
				return nil, err
			}
		}
		if c.Step != nil {
			c.Step(b.Size(), cp.Size)
		}
	}
	return a, tiles.end()
}

// shelf makes every tile of a log anew from its leaves' hashes, as they come, and compares it with the log's.
type shelf struct {
	ctx   context.Context
	files Files
	rows  []shelfRow
}

type shelfRow struct {
	hashes []journal.Hash
	// tiles is how many full ones stand before this one.
	tiles uint64
}

func (s *shelf) add(level int, h journal.Hash) error {
	if level == len(s.rows) {
		s.rows = append(s.rows, shelfRow{})
	}
	r := &s.rows[level]
	r.hashes = append(r.hashes, h)
	if len(r.hashes) < tileWidth {
		return nil
	}
	if err := s.compare(level); err != nil {
		return err
	}
	top := fold(r.hashes)
	r.hashes, r.tiles = r.hashes[:0], r.tiles+1
	return s.add(level+1, top)
}

// end compares the tiles that are not full.
func (s *shelf) end() error {
	for level := range s.rows {
		if len(s.rows[level].hashes) == 0 {
			continue
		}
		if err := s.compare(level); err != nil {
			return err
		}
	}
	return nil
}

func (s *shelf) compare(level int) error {
	r := s.rows[level]
	var want []byte
	for _, h := range r.hashes {
		want = append(want, h[:]...)
	}
	got, err := readTile(s.ctx, s.files, func(w int) string { return TilePath(level, r.tiles, w) }, len(r.hashes), tileWidth*32)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrLog, err)
	}
	if len(got) < len(want) || !bytes.Equal(got[:len(want)], want) {
		return fmt.Errorf("%w: tile %s does not hold the hashes of its entries", ErrLog, TilePath(level, r.tiles, len(r.hashes)))
	}
	return nil
}

// fold is the root of a full tile.
func fold(row []journal.Hash) journal.Hash {
	for len(row) > 1 {
		half := make([]journal.Hash, len(row)/2)
		for i := range half {
			half[i] = tlog.NodeHash(row[2*i], row[2*i+1])
		}
		row = half
	}
	return row[0]
}

// CheckTile compares the tile of level 0 over bundle n with the bundle's leaves.
func CheckTile(ctx context.Context, f Files, n uint64, leaves []Leaf) error {
	row := shelfRow{tiles: n}
	for _, l := range leaves {
		row.hashes = append(row.hashes, l.Hash())
	}
	return (&shelf{ctx: ctx, files: f, rows: []shelfRow{row}}).compare(0)
}
