// Package durable writes files that survive a power cut: temporary file, fsync, rename, fsync of the directory.
// A reader sees the old bytes or the new ones, never a part.
package durable

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// WriteFile puts data at path with these permissions, in place of what was there.
func WriteFile(path string, data []byte, perm fs.FileMode) error {
	return write(path, data, perm, os.Rename)
}

// Create puts data at path with these permissions; where a file exists it changes nothing and returns an error that
// wraps fs.ErrExist.
func Create(path string, data []byte, perm fs.FileMode) error {
	return write(path, data, perm, func(from, to string) error {
		// link(2), unlike rename(2), never replaces. The file systems of sticks have no links.
		err := os.Link(from, to)
		if err == nil {
			return os.Remove(from)
		}
		if !errors.Is(err, fs.ErrExist) {
			err = renameNew(from, to)
		}
		if errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("%s: %w", to, fs.ErrExist)
		}
		return err
	})
}

func write(path string, data []byte, perm fs.FileMode, place func(from, to string) error) error {
	p, err := Begin(filepath.Dir(path))
	if err != nil {
		return Unwritten(path, err)
	}
	if _, err = p.Write(data); err == nil {
		err = p.place(path, perm, place)
	}
	if err != nil {
		p.Discard()
	}
	return Unwritten(path, err)
}

// Partial is a file that is written in pieces. Nobody looks for it before Place, and Discard, or Sweep after a crash, removes it.
type Partial struct {
	f    *os.File
	size int64
}

// Begin begins a file in dir.
func Begin(dir string) (*Partial, error) {
	f, err := os.CreateTemp(dir, temporary)
	if err != nil {
		return nil, err
	}
	return &Partial{f: f}, nil
}

// Write implements io.Writer.
func (p *Partial) Write(b []byte) (int, error) {
	n, err := p.f.Write(b)
	p.size += int64(n)
	return n, err
}

// Contents reads what was written, while it has not been placed.
func (p *Partial) Contents() ([]byte, error) {
	b := make([]byte, p.size)
	_, err := io.ReadFull(io.NewSectionReader(p.f, 0, p.size), b)
	return b, err
}

// Place puts the file at path, in the same folder, in place of what was there. Where that fails the file is still to be discarded.
func (p *Partial) Place(path string, perm fs.FileMode) error { return p.place(path, perm, os.Rename) }

func (p *Partial) place(path string, perm fs.FileMode, place func(from, to string) error) error {
	if err := p.f.Chmod(perm); err != nil {
		return err
	}
	if err := p.f.Sync(); err != nil {
		return err
	}
	if err := place(p.f.Name(), path); err != nil {
		return err
	}
	if err := p.f.Close(); err != nil {
		return err
	}
	if err := syncPlaced(path); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// Discard removes a file that was not placed; for one that was it does nothing.
func (p *Partial) Discard() {
	p.f.Close()
	_ = os.Remove(p.f.Name())
}

// Mkdir makes path and the parents it lacks, with these permissions, and syncs each directory it made an entry in.
func Mkdir(path string, perm fs.FileMode) error {
	info, err := os.Stat(path)
	if err == nil {
		if !info.IsDir() {
			return &fs.PathError{Op: "mkdir", Path: path, Err: fs.ErrExist}
		}
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(path)
	if parent != path {
		if err := Mkdir(parent, perm); err != nil {
			return err
		}
	}
	if err := os.Mkdir(path, perm); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return SyncDir(parent)
}

// RenameNew gives a file or folder, what is in which is durable, another name, of the same parent; where the name is taken it changes nothing
// and returns an error that wraps fs.ErrExist.
func RenameNew(from, to string) error {
	if err := renameNew(from, to); err != nil {
		return err
	}
	return errors.Join(syncPlaced(to), SyncDir(filepath.Dir(to)))
}

// Remove removes the file at path and syncs its directory.
func Remove(path string) error {
	if err := os.Remove(path); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// SyncDir makes the entries of the directory at path durable.
func SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// temporary is the pattern of the names of files that are being written.
const temporary = ".hanaper-*.tmp"

// Temporary says whether a file of this name is one that a writer left which was killed.
func Temporary(name string) bool {
	left, err := filepath.Match(temporary, name)
	return err == nil && left
}

// Sweep removes, everywhere under dir, what writers leave there that were killed. Nobody may be writing there.
func Sweep(dir string) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		if !Temporary(e.Name()) {
			return nil
		}
		return Remove(path)
	})
}
