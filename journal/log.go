package journal

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
)

// Log is a journal open for appending. One process holds it at a time. It is safe for concurrent use.
type Log struct {
	mu     sync.Mutex
	file   *os.File
	origin string
	tree   tree
	// at[i] is the offset of entry i's leaf and its length.
	at    []span
	end   int64
	chain chain
	torn  int64
	// failed is the first error after which the file's state is unknown; every later Append answers it.
	failed error
}

type span struct {
	offset int64
	size   int
}

// ErrClosed means that the log was closed.
var ErrClosed = errors.New("journal: closed")

// Create makes an empty journal at path, 0600, and opens it. It refuses an existing file with an error that wraps
// fs.ErrExist. The origin names the journal and must be unique to it: hanaper.example/ceremony/2026-11-21.
func Create(path, origin string) (*Log, error) {
	if err := checkOrigin(origin); err != nil {
		return nil, err
	}
	if err := durable.Create(path, firstLine(origin), 0o600); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	return Open(path)
}

// Empty is the content of a journal of this origin without entries.
func Empty(origin string) []byte { return firstLine(origin) }

// Open reads the journal at path and checks every entry. An entry that a crash left incomplete at the very end was never
// acknowledged and is cut off; see Torn. Any other damage is an *EntryError, and the file is left alone.
func Open(path string) (l *Log, err error) {
	f, err := input.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("journal: locking %s: %w", show.Text(path), err)
		}
		return nil, advice.New(advice.Failed, "end the other process first", "journal: %s %w", show.Text(path), durable.ErrLocked)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	l = &Log{file: f}
	if err := l.load(info.Size()); err != nil {
		return nil, advice.Wrap(advice.Unverified, fmt.Errorf("%s: %w", show.Text(path), err),
			"restore the file from a copy and check it against a signed checkpoint; do not edit it")
	}
	if l.torn = info.Size() - l.end; l.torn > 0 {
		if err := l.cut(); err != nil {
			return nil, fmt.Errorf("journal: cutting the torn end of %s: %w", show.Text(path), err)
		}
	}
	return l, nil
}

// load reads all entries; on return l.end is where the last whole one ends.
func (l *Log) load(total int64) error {
	r := bufio.NewReaderSize(io.NewSectionReader(l.file, 0, total), 1<<16)
	first, err := r.Peek(int(min(total, int64(len(magic)+MaxOrigin+1))))
	if err != nil {
		return err
	}
	origin, n, err := parseOrigin(first)
	if err != nil {
		return err
	}
	l.origin, l.chain, l.end = origin, seed(first[:n]), int64(n)
	if _, err := r.Discard(n); err != nil {
		return err
	}
	buf := make([]byte, 0, 4096)
	for l.end < total {
		left := total - l.end
		if left < headSize {
			part, err := r.Peek(int(left))
			if err != nil {
				return err
			}
			return tornHead(part, l.tree.size)
		}
		head, err := r.Peek(headSize)
		if err != nil {
			return err
		}
		length, err := parseHead(head, l.tree.size)
		if err != nil {
			return err
		}
		size := headSize + length + tailSize
		if left < int64(size) {
			return nil // torn
		}
		if cap(buf) < size {
			buf = make([]byte, size)
		}
		if _, err := io.ReadFull(r, buf[:size]); err != nil {
			return err
		}
		leaf, next, _, err := parseFrame(buf[:size], l.tree.size, l.chain)
		if err != nil {
			return err
		}
		l.at = append(l.at, span{l.end + headSize, length})
		l.tree.add(leaf)
		l.chain, l.end = next, l.end+int64(size)
	}
	return nil
}

func (l *Log) cut() error {
	if err := l.file.Truncate(l.end); err != nil {
		return err
	}
	return l.file.Sync()
}

// Append adds a leaf of 1 to MaxLeaf bytes and returns its index once it is on the disk.
func (l *Log) Append(leaf []byte) (int64, error) { return l.AppendAll([][]byte{leaf}) }

// AppendAll adds leaves in order, with a single fsync, and returns the index of the first. After an error either none of
// them counts, or the log refuses further work until it is opened again.
func (l *Log) AppendAll(leaves [][]byte) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed != nil {
		return 0, l.failed
	}
	var frames []byte
	next, index := l.chain, l.tree.size
	at := make([]span, 0, len(leaves))
	for i, leaf := range leaves {
		if len(leaf) == 0 || len(leaf) > MaxLeaf {
			return 0, fmt.Errorf("journal: a leaf of %d bytes; 1 to %d are allowed", len(leaf), MaxLeaf)
		}
		at = append(at, span{l.end + int64(len(frames)) + headSize, len(leaf)})
		frames, next = appendFrame(frames, next, index+int64(i), leaf)
	}
	if _, err := l.file.WriteAt(frames, l.end); err != nil {
		// Nothing was acknowledged: take the part back, so that the next Append finds a clean end.
		if cerr := l.cut(); cerr != nil {
			l.failed = fmt.Errorf("journal: unusable until opened again: %w", errors.Join(err, cerr))
		}
		return 0, fmt.Errorf("journal: %w", err)
	}
	if err := l.file.Sync(); err != nil {
		// What the kernel dropped is unknown; only a new reading tells.
		l.failed = fmt.Errorf("journal: unusable until opened again: %w", err)
		return 0, l.failed
	}
	for _, leaf := range leaves {
		l.tree.add(leaf)
	}
	l.at = append(l.at, at...)
	l.chain, l.end = next, l.end+int64(len(frames))
	return index, nil
}

// Torn is the number of bytes of an incomplete last entry that Open cut off; 0 after a clean end.
func (l *Log) Torn() int64 { return l.torn }

// Origin names the journal.
func (l *Log) Origin() string { return l.origin }

// Size is the number of entries.
func (l *Log) Size() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tree.size
}

// Leaf reads entry i back from the file.
func (l *Log) Leaf(i int64) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i < 0 || i >= l.tree.size {
		return nil, fmt.Errorf("journal: no entry %d: it has %d", i, l.tree.size)
	}
	leaf := make([]byte, l.at[i].size)
	if _, err := l.file.ReadAt(leaf, l.at[i].offset); err != nil {
		return nil, fmt.Errorf("journal: entry %d: %w", i, err)
	}
	hs, err := l.tree.ReadHashes([]int64{storedIndex(i)})
	if err != nil {
		return nil, err
	}
	if LeafHash(leaf) != hs[0] {
		return nil, &EntryError{Index: i, What: "was changed in the file since it was opened"}
	}
	return leaf, nil
}

// Root is the tree's root (RFC 6962, section 2.1).
func (l *Log) Root() Hash {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tree.root()
}

// After is the size and root that the tree will have when leaf is appended: what is to be remembered elsewhere before.
func (l *Log) After(leaf []byte) (size int64, root Hash) {
	l.mu.Lock()
	defer l.mu.Unlock()
	// The copy shares no room to grow with the original.
	next := tree{l.tree.size, l.tree.hashes[:len(l.tree.hashes):len(l.tree.hashes)]}
	next.add(leaf)
	return next.size, next.root()
}

// Checkpoint is the unsigned body of the checkpoint of the entries so far.
func (l *Log) Checkpoint() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return FormatCheckpoint(l.origin, l.tree.size, l.tree.root())
}

// Check says whether the journal still begins with what a verified checkpoint covers: false after it was cut back.
func (l *Log) Check(c Checkpoint) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return check(l.origin, &l.tree, c, false)
}

// InclusionProof proves entry index in the tree of the first size entries.
func (l *Log) InclusionProof(index, size int64) ([]Hash, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tree.inclusion(index, size)
}

// ConsistencyProof proves that the first newer entries begin with the first older ones.
func (l *Log) ConsistencyProof(older, newer int64) ([]Hash, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tree.consistency(older, newer)
}

// Close gives the file free. Everything appended is on the disk already.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if errors.Is(l.failed, ErrClosed) {
		return nil
	}
	l.failed = ErrClosed
	return l.file.Close()
}
