package reposerver

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/strict"
	"github.com/hanaper/hanaper/uptane"
)

// StorageConfig says where uploaded files lie.
type StorageConfig struct {
	// Dir is the folder.
	Dir string
	// MaxFile is the largest file in bytes; default 4 GiB.
	MaxFile int64
	// PartSize is the size in bytes of the parts that clients are told to send; default 8 MiB.
	PartSize int64
	// Now defaults to time.Now.
	Now func() time.Time
}

// storage keeps files by the SHA-256 of their content (blobs/), names that lead there (names/), and unfinished uploads
// (pending/). No name of a client's is ever part of a path: its digest is.
type storage struct {
	dir      string
	maxFile  int64
	partSize int64
	now      func() time.Time
	lock     *folder
}

// stored is what a name leads to.
type stored struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
	// Upload is the multipart upload that it came by, so that completing it twice does no harm.
	Upload string `json:"upload,omitempty"`
}

// Check refuses bounds that do not go together.
func (c StorageConfig) Check() error { return c.fill() }

func (c *StorageConfig) fill() error {
	if c.MaxFile == 0 {
		c.MaxFile = 4 << 30
	}
	if c.PartSize == 0 {
		c.PartSize = 8 << 20
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.MaxFile < 1 || c.PartSize < minPart || c.PartSize > maxPart || (c.MaxFile+c.PartSize-1)/c.PartSize > maxParts {
		return advice.New(advice.Usage, "raise the part size or lower the file size", "uploads: files of %d bytes in parts of %d bytes are not possible", c.MaxFile, c.PartSize)
	}
	return nil
}

func newStorage(c StorageConfig) (*storage, error) {
	if err := c.fill(); err != nil {
		return nil, err
	}
	for _, d := range []string{"blobs", "names", "pending"} {
		if err := durable.Mkdir(filepath.Join(c.Dir, d), 0o755); err != nil {
			return nil, err
		}
	}
	return &storage{c.Dir, c.MaxFile, c.PartSize, c.Now, &folder{dir: c.Dir}}, nil
}

func (s *storage) namePath(name string) string {
	return filepath.Join(s.dir, "names", digestOf([]byte(name))+".json")
}
func (s *storage) blobPath(digest string) string { return filepath.Join(s.dir, "blobs", digest) }

// find says what a name leads to.
func (s *storage) find(name string) (*stored, error) {
	f, err := readStored(s.namePath(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, refuse(404, codeNotFound, "no file %q was uploaded", printable(name))
	}
	return f, err
}

// readStored reads a file of names/, and holds it to its own name. The digest becomes part of a path, and the folder may have been put back from a
// backup that somebody else had in hand.
func readStored(path string) (*stored, error) {
	data, err := input.ReadFile(path)
	if err != nil {
		return nil, err
	}
	f := &stored{}
	if err := strict.JSON(path, data, f); err != nil {
		return nil, err
	}
	if b, err := hex.DecodeString(f.SHA256); filepath.Base(path) != digestOf([]byte(f.Name))+".json" || err != nil || len(b) != sha256.Size || hex.EncodeToString(b) != f.SHA256 {
		return nil, advice.New(advice.Failed, "restore it from another backup, or remove it and upload the file again", "%s is of another name, or %q is no digest", show.Text(path), f.SHA256)
	}
	return f, nil
}

// open opens a file for reading.
func (s *storage) open(name string) (*os.File, *stored, error) {
	st, err := s.find(name)
	if err != nil {
		return nil, nil, err
	}
	f, err := input.Open(s.blobPath(st.SHA256))
	return f, st, err
}

// check says whether a file of this name and size may be uploaded.
func (s *storage) check(name string, size int64, force bool) error {
	if err := uptane.CheckTargetName(name); err != nil {
		return refuseWith(400, codeBadRequest, err)
	}
	if size > s.maxFile {
		return refuse(413, codeTooLarge, "%s has %d bytes, and the server takes %d", name, size, s.maxFile)
	}
	if size < 1 {
		return refuse(400, codeBadRequest, "%s is empty", name)
	}
	if _, err := s.find(name); err == nil && !force {
		return refuseHint(409, codeExists, "--force replaces it", "%s was uploaded already", name)
	} else if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	return nil
}

// receive writes what r gives to a temporary file, and puts it at path when check agrees.
func receive(path string, r io.Reader, h io.Writer, check func(n int64) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".incoming-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	n, err := io.Copy(io.MultiWriter(f, h), r)
	if err != nil {
		return err
	}
	if err := check(n); err != nil {
		return err
	}
	if err := errors.Join(f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(path))
}

// putWhole stores a file that comes in one piece.
func (s *storage) putWhole(name string, force bool, r io.Reader, size int64, approve func(string, int64) error) (*stored, error) {
	if err := s.check(name, size, force); err != nil {
		return nil, err
	}
	return s.keep(name, "", r, size, approve)
}

// keep makes the blob durable before the name leads to it.
func (s *storage) keep(name, id string, r io.Reader, size int64, approve func(string, int64) error) (*stored, error) {
	f, err := os.CreateTemp(filepath.Join(s.dir, "blobs"), ".incoming-*")
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, h), io.LimitReader(r, size+1))
	if err != nil {
		return nil, err
	}
	if n != size {
		return nil, refuse(400, codeBadRequest, "%s arrived with %d bytes, not %d", name, n, size)
	}
	st := &stored{name, n, hex.EncodeToString(h.Sum(nil)), id}
	if err := approve(st.SHA256, n); err != nil {
		return nil, err
	}
	if err := errors.Join(f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return nil, err
	}
	// What nothing names is removed under this lock: not between the blob and its name.
	release, err := s.lock.lock(context.Background())
	if err != nil {
		return nil, err
	}
	defer release()
	if err := os.Rename(f.Name(), s.blobPath(st.SHA256)); err != nil {
		return nil, err
	}
	if err := durable.SyncDir(filepath.Join(s.dir, "blobs")); err != nil {
		return nil, err
	}
	data, err := json.Marshal(st)
	if err != nil {
		return nil, err
	}
	return st, durable.WriteFile(s.namePath(name), data, 0o644)
}
