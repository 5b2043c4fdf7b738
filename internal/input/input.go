// Package input opens the files that programs read.
//
// An attacker who can put a name into a folder that is read here can put a named pipe, a device, a directory or a
// socket there. Each is refused at once: a pipe would hold the program up for ever, and a device may act when it is
// opened. What the file holds is for its reader to judge.
package input

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// ErrNotFile: something that is not a regular file lies where a file is wanted.
var ErrNotFile = errors.New("is not a regular file")

// ErrTooLarge: a file is larger than its reader allows.
var ErrTooLarge = errors.New("is larger than")

// Open opens the regular file at path for reading. A symbolic link is followed.
func Open(path string) (*os.File, error) { return OpenFile(path, os.O_RDONLY, 0) }

// OpenFile is os.OpenFile for regular files only.
func OpenFile(path string, flag int, perm fs.FileMode) (*os.File, error) {
	// Looked at before it is opened, for a device may act on being opened, and after, for the name may lead elsewhere by then.
	if st, err := os.Stat(path); err == nil {
		if err := regular(path, st); err != nil {
			return nil, err
		}
	}
	f, err := os.OpenFile(path, flag|syscall.O_NONBLOCK|syscall.O_NOCTTY, perm)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil {
		err = regular(path, st)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func regular(path string, st fs.FileInfo) error {
	if st.Mode().IsRegular() {
		return nil
	}
	return &fs.PathError{Op: "open", Path: path, Err: fmt.Errorf("%w but %s", ErrNotFile, kind(st.Mode()))}
}

func kind(m fs.FileMode) string {
	switch {
	case m.IsDir():
		return "a directory"
	case m&fs.ModeNamedPipe != 0:
		return "a named pipe"
	case m&fs.ModeSocket != 0:
		return "a socket"
	case m&fs.ModeDevice != 0:
		return "a device"
	}
	return "of another kind"
}

// Read reads the regular file at path, which may have at most limit bytes.
func Read(path string, limit int64) ([]byte, error) {
	f, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return bounded(path, f, sizeOf(f), limit)
}

// maxFile bounds a file whose reader has no bound of its own.
const maxFile = 64 << 20

// ReadFile is Read for a reader that has no bound of its own.
func ReadFile(path string) ([]byte, error) { return Read(path, maxFile) }

// ReadFS is Read in folder, which should be one of Dir.
func ReadFS(folder fs.FS, name string, limit int64) ([]byte, error) {
	f, err := folder.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err == nil {
		err = regular(name, st)
	}
	if err != nil {
		return nil, err
	}
	return bounded(name, f, st.Size(), limit)
}

// sizeOf is a file's size in bytes, as far as it can be told; 0 otherwise.
func sizeOf(f *os.File) int64 {
	st, err := f.Stat()
	if err != nil {
		return 0
	}
	return st.Size()
}

// bounded reads to the end. size is what the file is expected to have: memory for it is taken at once.
func bounded(name string, r io.Reader, size, limit int64) ([]byte, error) {
	var b bytes.Buffer
	b.Grow(int(max(0, min(size, limit))) + bytes.MinRead)
	if _, err := b.ReadFrom(io.LimitReader(r, limit+1)); err != nil {
		return nil, err
	}
	data := b.Bytes()
	if int64(len(data)) > limit {
		return nil, &fs.PathError{Op: "read", Path: name, Err: fmt.Errorf("%w %d bytes", ErrTooLarge, limit)}
	}
	return data, nil
}

// Dir is os.DirFS whose files are regular ones; directories can be opened for listing.
func Dir(path string) fs.FS { return folder{os.DirFS(path), path} }

type folder struct {
	fs.FS
	path string
}

func (d folder) Open(name string) (fs.File, error) {
	st, err := fs.Stat(d.FS, name)
	if err != nil {
		return nil, err
	}
	if st.IsDir() {
		return d.FS.Open(name)
	}
	if err := regular(name, st); err != nil {
		return nil, err
	}
	// The name is valid, for Stat took it; between the two it may have become another kind of file.
	f, err := Open(d.path + "/" + name)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Stat and ReadDir tell what is there, of any kind.
func (d folder) Stat(name string) (fs.FileInfo, error)      { return fs.Stat(d.FS, name) }
func (d folder) ReadDir(name string) ([]fs.DirEntry, error) { return fs.ReadDir(d.FS, name) }

func (d folder) ReadFile(name string) ([]byte, error) {
	f, err := d.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return bounded(name, f, 0, maxFile)
}
