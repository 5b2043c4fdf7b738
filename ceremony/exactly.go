package ceremony

import (
	"bytes"
	"io/fs"

	"github.com/hanaper/hanaper/quorum"
)

// Exactly is a folder of which only the ceremony with this checkpoint is read (SHA-256): one that carries on from it is another one, although it
// meets the digest as an anchor.
func Exactly(folder fs.FS, checkpoint [32]byte) fs.FS { return exactly{folder, checkpoint} }

type exactly struct {
	fs.FS
	checkpoint [32]byte
}

// Open implements fs.FS. What it compared is what it gives: a stick can answer the second reading otherwise.
func (e exactly) Open(name string) (fs.File, error) {
	if name != checkpointFile {
		return e.FS.Open(name)
	}
	data, err := readBounded(e.FS, name)
	if err != nil {
		return nil, err
	}
	if has := quorum.Sum(data); has != e.checkpoint {
		return nil, damaged(checkpointFile, "is not that of the digest given: its SHA-256 is %x; if what you hold is the checkpoint of an earlier ceremony, give it with --earlier", has)
	}
	info, err := fs.Stat(e.FS, name)
	return &heldFile{bytes.NewReader(data), info}, err
}

// ReadDir and Stat are the folder's.
func (e exactly) ReadDir(name string) ([]fs.DirEntry, error) { return fs.ReadDir(e.FS, name) }
func (e exactly) Stat(name string) (fs.FileInfo, error)      { return fs.Stat(e.FS, name) }

type heldFile struct {
	*bytes.Reader
	info fs.FileInfo
}

func (c *heldFile) Stat() (fs.FileInfo, error) { return c.info, nil }
func (c *heldFile) Close() error               { return nil }
