package issuancelog

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"
	"k8s.io/klog/v2"

	"github.com/hanaper/hanaper/factory/logbook"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/journal"
)

const (
	// batchSize is how many entries are written at once, at most.
	batchSize = 1024
	// batchAge is how long Tessera waits for a batch to become full. It is much longer than handing a batch over takes, so that a
	// batch is not written in two halves of which the first may fail.
	batchAge = 200 * time.Millisecond
	// statePath is where Tessera keeps size and root of what is integrated.
	statePath = ".state/treeState"
	never     = 10 * 365 * 24 * time.Hour
)

// ErrFolder means that the log's folder is not what the record and its checkpoints say.
var ErrFolder = errors.New("the issuance log's folder does not agree with the record")

// state is size and root as Tessera wrote them down.
type state struct {
	Size uint64 `json:"size"`
	Root []byte `json:"root"`
}

// readState reads what Tessera says it has integrated; ok is false where there is no log.
func readState(dir string) (s state, ok bool, err error) {
	data, err := input.Read(filepath.Join(dir, filepath.FromSlash(statePath)), 4<<10)
	if errors.Is(err, fs.ErrNotExist) {
		return s, false, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &s)
	}
	if err != nil || len(s.Root) != 32 || s.Size > logbook.MaxSize {
		return s, false, fmt.Errorf("%w: %s is damaged", ErrFolder, show.Text(filepath.Join(dir, filepath.FromSlash(statePath))))
	}
	return s, true, nil
}

// folder is the log's folder, open for appending.
type folder struct {
	dir    string
	add    tessera.AddFn
	cancel context.CancelFunc
	lock   interface{ Close() error }
}

// unsigned is the key that Tessera is given. Tessera publishes checkpoints by itself, also of roots that nobody checked, and
// goes on when its key fails; here it may sign the empty log only, and this package signs.
type unsigned struct{ note.Signer }

func (u unsigned) Sign(msg []byte) ([]byte, error) {
	c, err := journal.ParseCheckpoint(msg)
	if err != nil || c.Size != 0 {
		return nil, errors.New("checkpoints are signed by issuancelog alone")
	}
	return u.Signer.Sign(msg)
}

var quiet sync.Once

// openFolder opens or makes the log's folder. One process holds it at a time.
func openFolder(dir string, signer note.Signer, log *slog.Logger) (*folder, error) {
	quiet.Do(func() {
		klog.LogToStderr(false)
		klog.SetSlogLogger(log.With("part", "tessera"))
	})
	if err := durable.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	lock, err := durable.Lock(filepath.Join(dir, ".hanaper.lock"))
	if err != nil {
		return nil, fmt.Errorf("the issuance log's folder: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	f := &folder{dir: dir, cancel: cancel, lock: lock}
	driver, err := posix.New(ctx, posix.Config{Path: dir})
	if err == nil {
		var a *tessera.Appender
		a, _, _, err = tessera.NewAppender(ctx, driver, tessera.NewAppendOptions().WithCheckpointSigner(unsigned{signer}).
			WithBatching(batchSize, batchAge).WithCheckpointInterval(never).WithCheckpointRepublishInterval(never))
		if err == nil {
			f.add = a.Add
			return f, nil
		}
	}
	f.close()
	return nil, fmt.Errorf("the issuance log's folder %s: %w", show.Text(dir), err)
}

// close lets the folder go. Nothing is written after append has returned, except that Tessera removes files of partial tiles.
func (f *folder) close() {
	f.cancel()
	_ = f.lock.Close()
}

// append adds leaves, of which the first gets the index at; it returns when all are durable and part of the tree. After an
// error the caller looks at what was integrated before it goes on.
func (f *folder) append(ctx context.Context, at uint64, leaves []logbook.Leaf) error {
	if len(leaves) == 0 || len(leaves) > batchSize {
		return fmt.Errorf("issuancelog: a batch of %d entries", len(leaves))
	}
	// Once handed over a batch is written, whatever becomes of the caller.
	ctx = context.WithoutCancel(ctx)
	futures := make([]tessera.IndexFuture, len(leaves))
	for i, l := range leaves {
		futures[i] = f.add(ctx, tessera.NewEntry(bytes.Clone(l[:])))
	}
	var first error
	for i, wait := range futures {
		got, err := wait()
		if err == nil && got.Index != at+uint64(i) {
			err = fmt.Errorf("%w: event %d became entry %d", ErrFolder, at+uint64(i), got.Index)
		}
		if first == nil {
			first = err
		}
	}
	return first
}

// publish puts the signed checkpoint where readers of the folder look for it.
func (f *folder) publish(data []byte) error {
	return durable.WriteFile(filepath.Join(f.dir, logbook.CheckpointPath), data, 0o644)
}

// agree checks that the folder has exactly what b was made of: Tessera's own state, and the root that its tiles
// give, and the entries at the right edge.
func agree(ctx context.Context, dir string, b *logbook.Builder) error {
	s, ok, err := readState(dir)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("%w: %s is gone", ErrFolder, show.Text(dir))
	}
	if s.Size != uint64(b.Size()) || journal.Hash(s.Root) != b.Root() {
		return fmt.Errorf("%w: it has %d entries, and %d were logged from the record; or an entry is another", ErrFolder, s.Size, b.Size())
	}
	root, err := logbook.RootOf(ctx, logbook.Folder(dir), b.Size(), b.Size())
	if err == nil && root != b.Root() {
		err = errors.New("its tiles give another root")
	}
	// Tessera copies the entries of a bundle that is not full into the next one: they must be those of the tile above.
	if n := uint64(b.Size()) / 256; err == nil && b.Size()%256 != 0 {
		var leaves []logbook.Leaf
		if leaves, err = logbook.Bundle(ctx, logbook.Folder(dir), n, b.Size()); err == nil {
			err = logbook.CheckTile(ctx, logbook.Folder(dir), n, leaves)
		}
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFolder, err)
	}
	return nil
}

// exists says whether the folder holds anything of a log.
func exists(dir string) (bool, error) {
	for _, name := range []string{statePath, logbook.CheckpointPath, "tile"} {
		_, err := os.Lstat(filepath.Join(dir, filepath.FromSlash(name)))
		if err == nil {
			return true, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	return false, nil
}
