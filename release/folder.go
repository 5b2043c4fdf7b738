package release

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/hanaper/hanaper/image/published"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
)

// maxFindings bounds what is said of one folder, and maxEntries what is looked at.
const (
	maxFindings = 20
	maxEntries  = 2 * MaxFiles
)

// errEnough ends the walk through a folder that differs too much.
var errEnough = errors.New("enough")

// Check holds the folder at dir to the manifest whose bytes are data, and says in words what differs: files that are missing, changed, or more
// than listed, what is no file, and manifest.json and SHA256SUMS that are not those of data. Below dir/ceremony only empty folders are looked for: the files there
// are for the ceremony's own verification.
// An empty list means that nothing differs.
func (m *Manifest) Check(dir string, data []byte) (differ []string, err error) {
	say := func(path, format string, args ...any) error {
		if differ = append(differ, show.Text(path)+": "+fmt.Sprintf(format, args...)); len(differ) >= maxFindings {
			return errEnough
		}
		return nil
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return nil, err
	}
	sums, dirs := m.Sums(data), m.dirs()
	seen, entries := map[string]bool{}, 0
	err = filepath.WalkDir(dir, func(full string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		path, err := filepath.Rel(dir, full)
		if err != nil || path == "." {
			return err
		}
		path = filepath.ToSlash(path)
		if entries++; entries > maxEntries {
			differ = append(differ, "there is more in the folder than a release has")
			return errEnough
		}
		switch {
		case e.IsDir() && path == CeremonyDir:
			if err := emptyFolders(dir, say); err != nil {
				return err
			}
			return fs.SkipDir
		case e.IsDir() && !dirs[path]:
			if err := say(path, "is a folder that is not of this release"); err != nil {
				return err
			}
			return fs.SkipDir
		case e.IsDir():
			return nil
		case !e.Type().IsRegular():
			return say(path, "is no regular file but %s", kind(e.Type()))
		}
		seen[path] = true
		want, listed := m.Files[path]
		switch path {
		case ManifestFile:
			return sameBytes(full, path, data, say)
		case SumsFile:
			return sameBytes(full, path, sums, say)
		}
		if !listed {
			return say(path, "is not of this release")
		}
		return want.same(full, path, say)
	})
	if errors.Is(err, errEnough) {
		return append(differ, "and perhaps more"), nil
	}
	if err != nil {
		return nil, err
	}
	for _, p := range append(m.Paths(), ManifestFile, SumsFile) {
		if !seen[p] && say(p, "is missing") != nil {
			break
		}
	}
	if len(differ) == 0 {
		return m.checkImage(dir)
	}
	return differ, nil
}

// emptyFolders says which folders of the ceremony in the release at dir are empty: who verifies a ceremony sees files alone.
func emptyFolders(dir string, say func(string, string, ...any) error) error {
	last := "" // the folder that was seen just before
	err := filepath.WalkDir(filepath.Join(dir, CeremonyDir), func(full string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		path, err := filepath.Rel(dir, full)
		if err != nil {
			return err
		}
		path = filepath.ToSlash(path)
		if last != "" && !strings.HasPrefix(path, last+"/") {
			if err := say(last, "is an empty folder"); err != nil {
				return err
			}
		}
		if last = ""; e.IsDir() {
			last = path
		}
		return nil
	})
	if err == nil && last != "" {
		err = say(last, "is an empty folder")
	}
	return err
}

// dirs are the folders in which listed files lie.
func (m *Manifest) dirs() map[string]bool {
	all := map[string]bool{}
	for p := range m.Files {
		for at := range p {
			if p[at] == '/' {
				all[p[:at]] = true
			}
		}
	}
	return all
}

func kind(mode fs.FileMode) string {
	switch {
	case mode&fs.ModeSymlink != 0:
		return "a symbolic link"
	case mode&fs.ModeNamedPipe != 0:
		return "a named pipe"
	}
	return "of another kind"
}

// openFile opens the file itself, and not what a link in its place leads to.
func openFile(full string) (*os.File, error) {
	return input.OpenFile(full, os.O_RDONLY|syscall.O_NOFOLLOW, 0)
}

func sameBytes(full, path string, want []byte, say func(string, string, ...any) error) error {
	f, err := openFile(full)
	if err != nil {
		return err
	}
	defer f.Close()
	have, err := io.ReadAll(io.LimitReader(f, int64(len(want))+1))
	if err != nil {
		return err
	}
	if !bytes.Equal(have, want) {
		return say(path, "is not what was signed")
	}
	return nil
}

func (want File) same(full, path string, say func(string, string, ...any) error) error {
	have, err := digestOf(full, want.Size)
	if err != nil {
		return err
	}
	if have != want {
		return say(path, "is not what was signed: SHA-256 %s, want %s", have.SHA256, want.SHA256)
	}
	return nil
}

// digestOf reads a file, at most one byte more than limit.
func digestOf(full string, limit int64) (File, error) {
	f, err := openFile(full)
	if err != nil {
		return File{}, err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, io.LimitReader(f, limit+1))
	return File{hex.EncodeToString(h.Sum(nil)), n}, err
}

// checkImage holds image.json, whose own digest fits, to the files of the image: what officers compare with paper is in image.json.
func (m *Manifest) checkImage(dir string) (differ []string, err error) {
	name := imageDir + "/image.json"
	if m.Files[name].Size == 0 {
		return nil, nil
	}
	i, err := published.Read(filepath.Join(dir, filepath.FromSlash(name)))
	if err != nil {
		return nil, err
	}
	if i.Version != m.Version {
		differ = append(differ, fmt.Sprintf("%s: is of version %s, and the release of %s", name, show.Text(i.Version), m.Version))
	}
	for _, f := range []string{"hanaper.iso", "hanaper.efi", "manifest"} {
		if has := m.Files[imageDir+"/"+f]; has.SHA256 != i.Files[f].SHA256 || has.Size != i.Files[f].Size {
			differ = append(differ, fmt.Sprintf("%s: says another SHA-256 or size of %s than the manifest", name, f))
		}
	}
	return differ, nil
}

// Make lists the files below dir into m and has SHA256SUMS and then manifest.json written there, in the place of what has these names.
func (m *Manifest) Make(dir string, write func(path string, data []byte) error) error {
	m.Files = map[string]File{}
	err := filepath.WalkDir(dir, func(full string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		path, err := filepath.Rel(dir, full)
		if path = filepath.ToSlash(path); err != nil || e.IsDir() || path == ManifestFile || path == SumsFile {
			return err
		}
		if !e.Type().IsRegular() {
			return malformed(path, "it is no regular file but %s", kind(e.Type()))
		}
		m.Files[path], err = digestOf(full, maxFile)
		return err
	})
	if err != nil {
		return err
	}
	data, err := m.Encode()
	if err != nil {
		return err
	}
	if differ, err := m.checkImage(dir); err != nil || len(differ) > 0 {
		return errors.Join(err, malformed(dir, "%s", show.Line(strings.Join(differ, "; "))))
	}
	if err := write(filepath.Join(dir, SumsFile), m.Sums(data)); err != nil {
		return err
	}
	return write(filepath.Join(dir, ManifestFile), data)
}
