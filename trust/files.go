package trust

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
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
// bytes are shared, and not to be changed.
type Keeper interface {
	Keep(data []byte, digest [32]byte)
}

var errLarger = errors.New("larger")

func newReader(files fs.FS) *reader { return &reader{files: files, seen: map[string][32]byte{}} }

func (r *reader) read(name string, limit int64) ([]byte, error) {
	f, err := r.files.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil {
		if info.IsDir() {
			return nil, fmt.Errorf("%s is a folder", show.Text(name))
		}
		// A hint at most, but one that saves growing the buffer.
		if info.Size() > limit {
			return nil, fmt.Errorf("it is %w than %d bytes", errLarger, limit)
		}
	}
	var b bytes.Buffer
	if info, err := f.Stat(); err == nil && info.Size() > 0 {
		b.Grow(int(info.Size()) + bytes.MinRead)
	}
	n, err := b.ReadFrom(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if n > limit {
		return nil, fmt.Errorf("it is %w than %d bytes", errLarger, limit)
	}
	digest := sha256.Sum256(b.Bytes())
	r.seen[name] = digest
	if k, ok := f.(Keeper); ok {
		k.Keep(b.Bytes(), digest)
	}
	return b.Bytes(), nil
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
