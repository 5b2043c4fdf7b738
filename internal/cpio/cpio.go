// Package cpio writes cpio archives in the new portable format, the one that a Linux kernel unpacks as its first file system
// (kernel.org, "initramfs buffer format"). The same entries in the same order give the same bytes: owner is root, times are zero,
// and inode numbers count from 1.
//
// It reads nothing that an attacker wrote but the files that its caller names, whole, into memory.
package cpio

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/hanaper/hanaper/internal/input"
)

// Kinds of entries, beside permission bits, as in stat(2).
const (
	Folder    = 0o040000
	Regular   = 0o100000
	Link      = 0o120000
	Character = 0o020000
)

// most is how large a file is taken, bytes: a program with what it links.
const most = 1 << 30

// Writer writes one archive. The first error stays, and End returns it.
type Writer struct {
	w      io.Writer
	err    error
	inode  int
	folder map[string]bool
}

// NewWriter begins an archive on w.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w, folder: map[string]bool{}} }

// Entry writes one entry as it stands: name without a leading slash, mode with its kind.
func (c *Writer) Entry(name string, mode uint32, data []byte) { c.entry(name, mode, 0, 0, data) }

func (c *Writer) entry(name string, mode, major, minor uint32, data []byte) {
	if c.err != nil {
		return
	}
	c.inode++
	pad := func(n int) string { return strings.Repeat("\x00", -n&3) }
	_, c.err = fmt.Fprintf(c.w, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00%s%s%s",
		c.inode, mode, 0, 0, 1, 0, len(data), 0, 0, major, minor, len(name)+1, 0, name, pad(110+len(name)+1), data, pad(len(data)))
}

// Device writes a character device.
func (c *Writer) Device(name string, perm, major, minor uint32) {
	c.above(name)
	c.entry(name, Character|perm, major, minor, nil)
}

// File writes a regular file, and the folders above it that are not there yet, with mode 0755.
func (c *Writer) File(name string, perm uint32, data []byte) {
	c.above(name)
	c.Entry(name, Regular|perm, data)
}

// Dir writes a folder, and those above it.
func (c *Writer) Dir(name string, perm uint32) {
	c.above(name)
	if !c.folder[name] {
		c.folder[name] = true
		c.Entry(name, Folder|perm, nil)
	}
}

// Symlink writes a symbolic link.
func (c *Writer) Symlink(name, target string) {
	c.above(name)
	c.Entry(name, Link|0o777, []byte(target))
}

func (c *Writer) above(name string) {
	for i, char := range name {
		if dir := name[:i]; char == '/' && !c.folder[dir] {
			c.folder[dir] = true
			c.Entry(dir, Folder|0o755, nil)
		}
	}
}

// Copy writes the regular file at path, with its permission bits. Links are followed.
func (c *Writer) Copy(name, path string) {
	data, err := input.Read(path, most)
	c.err = errors.Join(c.err, err)
	st, err := os.Stat(path)
	c.err = errors.Join(c.err, err)
	if c.err == nil {
		c.File(name, uint32(st.Mode().Perm()), data)
	}
}

// Tree writes every regular file below the folder outside, in lexical order, below inside.
func (c *Writer) Tree(inside, outside string) {
	err := filepath.WalkDir(outside, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(outside, path)
		if err == nil {
			c.Copy(inside+"/"+filepath.ToSlash(rel), path)
		}
		return err
	})
	c.err = errors.Join(c.err, err)
}

// End ends the archive, and returns the first error.
func (c *Writer) End() error {
	c.Entry("TRAILER!!!", 0, nil)
	return c.err
}
