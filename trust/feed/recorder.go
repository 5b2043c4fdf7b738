package feed

import (
	"crypto/sha256"
	"errors"
	"io/fs"
	"path/filepath"

	"github.com/hanaper/hanaper/internal/durable"
)

// recorder keeps what is read through it, until it is known whether that is to be the state: small files in the reader's own bytes, large ones, which nobody holds, in the
// state's folder under a name that nobody looks for.
type recorder struct {
	files fs.FS
	// dir is where large files are written.
	dir  string
	kept map[string]kept
}

// kept is a file that was read, and its SHA-256.
type kept struct {
	data   []byte
	spool  *spool
	digest [32]byte
}

type recorded struct {
	fs.File
	name  string
	in    *recorder
	spool *spool
}

// Stream implements trust.Streamer.
func (r *recorded) Stream() { r.spool = newSpool(r.in.dir) }

func (r *recorded) Read(p []byte) (int, error) {
	n, err := r.File.Read(p)
	if r.spool != nil {
		r.spool.write(p[:n])
	}
	return n, err
}

// Keep implements trust.Keeper.
func (r *recorded) Keep(data []byte, digest [32]byte) {
	r.in.discard(r.name)
	r.in.kept[r.name] = kept{data, r.spool, digest}
	r.spool = nil
}

// Close removes what was not read to its end.
func (r *recorded) Close() error {
	if r.spool != nil {
		r.spool.discard()
	}
	return r.File.Close()
}

// Open implements fs.FS.
func (r *recorder) Open(name string) (fs.File, error) {
	f, err := r.files.Open(name)
	if err != nil {
		return nil, err
	}
	return &recorded{File: f, name: name, in: r}, nil
}

// ReadDir implements fs.ReadDirFS.
func (r *recorder) ReadDir(name string) ([]fs.DirEntry, error) { return fs.ReadDir(r.files, name) }

// size is how many bytes were read.
func (r *recorder) size() (n int64) {
	for _, k := range r.kept {
		n += int64(len(k.data))
		if k.spool != nil {
			n += k.spool.size
		}
	}
	return n
}

// inherit takes from earlier what was read then and not again.
func (r *recorder) inherit(earlier *recorder) {
	for name, k := range earlier.kept {
		if _, ok := r.kept[name]; !ok {
			r.kept[name] = k
			delete(earlier.kept, name)
		}
	}
	earlier.discardAll()
}

func (r *recorder) discard(name string) {
	if k, ok := r.kept[name]; ok && k.spool != nil {
		k.spool.discard()
	}
	delete(r.kept, name)
}

// discardAll removes what was not made part of the state.
func (r *recorder) discardAll() {
	for name := range r.kept {
		r.discard(name)
	}
}

// place makes the file part of the state.
func (k kept) place(path string) error {
	if k.spool == nil {
		return durable.WriteFile(path, k.data, 0o600)
	}
	return k.spool.place(path, k.digest)
}

// spool is a file as it comes: on the disk, or in memory where the disk does not take it.
type spool struct {
	file *durable.Partial
	mem  []byte
	size int64
	// lost is why neither has it.
	lost error
}

func newSpool(dir string) *spool {
	s := &spool{}
	var err error
	if s.file, err = durable.Begin(dir); err != nil {
		s.file = nil
	}
	return s
}

func (s *spool) write(p []byte) {
	s.size += int64(len(p))
	if s.lost != nil {
		return
	}
	if s.file != nil {
		if _, err := s.file.Write(p); err == nil {
			return
		}
		// The last piece may be there in part.
		s.recall(s.size - int64(len(p)))
	}
	if s.lost == nil {
		s.mem = append(s.mem, p...)
	}
}

// recall takes the first n bytes into memory, and removes the file.
func (s *spool) recall(n int64) {
	b, err := s.file.Contents()
	if err == nil && int64(len(b)) < n {
		err = errors.New("it cannot be read back")
	}
	if err == nil {
		s.mem = b[:n]
	}
	s.lost = err
	s.file.Discard()
	s.file = nil
}

// place puts the file at path. Where the disk does not let it, it is in memory from then on, and may be placed later.
func (s *spool) place(path string, digest [32]byte) error {
	if s.lost != nil {
		return s.lost
	}
	if s.file == nil {
		return durable.WriteFile(path, s.mem, 0o600)
	}
	err := s.file.Place(path, 0o600)
	if err != nil {
		s.recall(s.size)
		// Of what a disk did not sync nobody knows what it gives back.
		if s.lost == nil && sha256.Sum256(s.mem) != digest {
			s.lost = errors.New("the disk gave back something else than was written")
		}
		return errors.Join(err, s.lost)
	}
	s.file = nil
	return nil
}

func (s *spool) discard() {
	if s.file != nil {
		s.file.Discard()
	}
	s.file, s.mem = nil, nil
}

// newRecorder records files for this state.
func (s *state) newRecorder(files fs.FS) *recorder {
	return &recorder{files: files, dir: filepath.Join(s.dir, "files"), kept: map[string]kept{}}
}
