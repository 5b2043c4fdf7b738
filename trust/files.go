package trust

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/hanaper/hanaper/internal/show"
)

// Files is a repository in memory: contents by slash-separated path. It is an fs.FS whose only folder with a listing is
// metadata/.
type Files map[string][]byte

// Open implements fs.FS.
func (f Files) Open(name string) (fs.File, error) {
	data, ok := f[name]
	if !ok || !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return &memFile{Reader: bytes.NewReader(data), name: path.Base(name), size: int64(len(data))}, nil
}

// ReadDir implements fs.ReadDirFS.
func (f Files) ReadDir(name string) ([]fs.DirEntry, error) {
	var list []fs.DirEntry
	for p, data := range f {
		if path.Dir(p) == name {
			list = append(list, &memFile{name: path.Base(p), size: int64(len(data))})
		}
	}
	if list == nil {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: fs.ErrNotExist}
	}
	return list, nil
}

type memFile struct {
	*bytes.Reader
	name string
	size int64
}

func (m *memFile) Stat() (fs.FileInfo, error) { return m, nil }
func (m *memFile) Info() (fs.FileInfo, error) { return m, nil }
func (m *memFile) Close() error               { return nil }
func (m *memFile) Name() string               { return m.name }
func (m *memFile) Size() int64                { return m.size }
func (m *memFile) Mode() fs.FileMode          { return 0o444 }
func (m *memFile) Type() fs.FileMode          { return 0 }
func (m *memFile) ModTime() time.Time         { return time.Time{} }
func (m *memFile) IsDir() bool                { return false }
func (m *memFile) Sys() any                   { return nil }

// reader reads bounded files and remembers their digests.
type reader struct {
	files fs.FS
	asOf  knownAt
	seen  map[string][32]byte
}

// Keeper is a file that is told what was read of it, and the SHA-256 of that: so that who keeps a large file needs no second copy of it. The
// bytes are shared, and not to be changed. Of a file that was streamed there are none: data is nil.
type Keeper interface {
	Keep(data []byte, digest [32]byte)
}

// Streamer is a file that is told, before it is read, that it is read in pieces which nobody holds.
type Streamer interface {
	Stream()
}

var errLarger = errors.New("larger")

func newReader(files fs.FS) *reader { return &reader{files: files, seen: map[string][32]byte{}} }

// open opens a file that may have limit bytes, and gives its size as far as it is known.
func (r *reader) open(name string, limit int64) (f fs.File, size int64, err error) {
	if f, err = r.files.Open(name); err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	switch {
	case err != nil:
		return f, 0, nil
	case info.IsDir():
		err = fmt.Errorf("%s is a folder", show.Text(name))
	case info.Size() > limit:
		// A hint at most, but one that saves reading it.
		err = larger(limit)
	default:
		return f, info.Size(), nil
	}
	f.Close()
	return nil, 0, err
}

func larger(limit int64) error { return fmt.Errorf("it is %w than %d bytes", errLarger, limit) }

func (r *reader) read(name string, limit int64) ([]byte, error) {
	f, size, err := r.open(name, limit)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var b bytes.Buffer
	if size > 0 {
		b.Grow(int(size) + bytes.MinRead)
	}
	n, err := b.ReadFrom(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if n > limit {
		return nil, larger(limit)
	}
	r.saw(name, f, b.Bytes(), sha256.Sum256(b.Bytes()))
	return b.Bytes(), nil
}

// stream has use read a file in pieces, and gives its size in bytes. It is read to its end however far use reads; what use made of it counts for nothing where stream fails.
func (r *reader) stream(name string, limit int64, use func(io.Reader)) (int64, error) {
	f, _, err := r.open(name, limit)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if s, ok := f.(Streamer); ok {
		s.Stream()
	}
	in := &summing{r: io.LimitReader(f, limit+1), sum: sha256.New()}
	use(in)
	// The error that use met is met again here.
	if _, err := io.Copy(io.Discard, in); err != nil {
		return 0, err
	}
	if in.n > limit {
		return 0, larger(limit)
	}
	r.saw(name, f, nil, [32]byte(in.sum.Sum(nil)))
	return in.n, nil
}

func (r *reader) saw(name string, f fs.File, data []byte, digest [32]byte) {
	r.seen[name] = digest
	if k, ok := f.(Keeper); ok {
		k.Keep(data, digest)
	}
}

// summing counts and hashes what is read through it. An error stays.
type summing struct {
	r   io.Reader
	sum hash.Hash
	n   int64
	err error
}

func (s *summing) Read(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.r.Read(p)
	_, _ = s.sum.Write(p[:n])
	s.n, s.err = s.n+int64(n), err
	return n, err
}

// empty says whether files holds neither roots nor a timestamp.
func (r *reader) empty() bool {
	for _, name := range []string{metadataPath("root", 1), timestampPath} {
		f, err := r.files.Open(name)
		if err == nil {
			f.Close()
			return false
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return false
		}
	}
	list, err := fs.ReadDir(r.files, "metadata")
	for _, e := range list {
		if strings.HasSuffix(e.Name(), ".json") {
			return false
		}
	}
	return err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, errors.ErrUnsupported)
}
