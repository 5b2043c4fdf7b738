package logbook

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/journal"
)

// VerifierPath is where an archive has the log's verifier key. It is for the reader's convenience: a verifier has the key from
// elsewhere.
const VerifierPath = "log.vkey"

// Copy checks a whole log and copies it, as far as its checkpoint goes, into a new folder. Where a check fails the folder is
// removed again.
func Copy(ctx context.Context, from Files, policy *Policy, to string) (a *Audit, err error) {
	if _, err := os.Lstat(to); err == nil {
		return nil, advice.New(advice.Usage, "name a folder that does not exist", "%s exists already", show.Text(to))
	}
	// The log may grow meanwhile: what was the checkpoint at the beginning is that of the copy.
	note, err := from.Read(ctx, CheckpointPath, journal.MaxCheckpoint)
	if err != nil {
		return nil, fmt.Errorf("the log's checkpoint: %w", err)
	}
	c, err := policy.Verify(note)
	if err != nil {
		return nil, fmt.Errorf("the log's checkpoint: %w", err)
	}
	if err := durable.Mkdir(to, 0o755); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = os.RemoveAll(to)
		}
	}()
	put := func(path string, data []byte) error {
		at := filepath.Join(to, filepath.FromSlash(path))
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			return err
		}
		return os.WriteFile(at, data, 0o644)
	}
	for level, n := 0, c.Size; n > 0; level, n = level+1, n/tileWidth {
		for i := int64(0); i*tileWidth < n; i++ {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			width := int(min(tileWidth, n-i*tileWidth))
			tile, err := readTile(ctx, from, func(w int) string { return TilePath(level, uint64(i), w) }, width, tileWidth*32)
			if err != nil || len(tile) < 32*width {
				return nil, fmt.Errorf("%w: %s: %w", ErrLog, TilePath(level, uint64(i), width), err)
			}
			if err := put(TilePath(level, uint64(i), width), tile[:32*width]); err != nil {
				return nil, err
			}
			if level > 0 {
				continue
			}
			leaves, err := Bundle(ctx, from, uint64(i), c.Size)
			if err != nil {
				return nil, err
			}
			if err := put(BundlePath(uint64(i), width), marshalBundle(leaves)); err != nil {
				return nil, err
			}
		}
	}
	if err := put(VerifierPath, []byte(policy.Key()+"\n")); err != nil {
		return nil, err
	}
	if err := durable.WriteFile(filepath.Join(to, CheckpointPath), note, 0o644); err != nil {
		return nil, err
	}
	return Check(ctx, Folder(to), AuditConfig{Policy: policy})
}

func marshalBundle(leaves []Leaf) []byte {
	var b []byte
	for _, l := range leaves {
		b = append(append(b, byte(len(l)>>8), byte(len(l))), l[:]...)
	}
	return b
}

// ReadVerifier reads the verifier key that an archive carries.
func ReadVerifier(dir string) (string, error) {
	data, err := input.Read(filepath.Join(dir, VerifierPath), journal.MaxCheckpoint)
	return strings.TrimSpace(string(data)), err
}
