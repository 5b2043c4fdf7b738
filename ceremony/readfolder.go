package ceremony

import (
	"io/fs"
	"strings"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/input"
)

// maxFiles bounds the files of a folder.
const maxFiles = 20000

// readFolder reads every file; what is not a regular file or is too large is refused.
func readFolder(folder fs.FS) (map[string][]byte, error) {
	files := map[string][]byte{}
	if m, ok := folder.(memory); ok {
		return m, complete(m)
	}
	err := fs.WalkDir(folder, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return damaged(name, "%w", err)
		}
		if d.IsDir() {
			return nil
		}
		if len(files) > maxFiles {
			return damaged(name, "the folder holds more files than a ceremony makes")
		}
		if !d.Type().IsRegular() {
			return damaged(name, "is not a regular file")
		}
		data, err := readBounded(folder, name)
		if err != nil {
			return damaged(name, "%w", err)
		}
		files[name] = data
		return nil
	})
	if err != nil {
		return nil, err
	}
	return files, complete(files)
}

// copies reads the files of a folder that is not finished.
func copies(out string) (map[string][]byte, error) {
	files, folder := map[string][]byte{}, input.Dir(out)
	err := fs.WalkDir(folder, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if len(files) > maxFiles || !d.Type().IsRegular() {
			return damaged(name, "is not a regular file, or one too many")
		}
		files[name], err = readBounded(folder, name)
		return err
	})
	return files, err
}

// complete asks for the files that every finished folder has.
func complete(files map[string][]byte) error {
	if _, ok := files[incompleteFile]; ok {
		return advice.New(advice.Unverified, "finish it with `hanaper ceremony resume`, or end it with `hanaper ceremony abort`",
			"%s: the ceremony of this folder has not ended", incompleteFile)
	}
	for _, n := range []string{transcriptFile, checkpointFile, signatureFile, manifestFile, scriptFile, rosterFile} {
		if _, ok := files[n]; !ok {
			return damaged(n, "is missing")
		}
	}
	return nil
}

// memory is a folder that was read already.
type memory map[string][]byte

// Open is for fs.FS; readFolder takes the files as they are.
func (m memory) Open(name string) (fs.File, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

// under gives the files below a folder.
func under(files map[string][]byte, dir string) map[string][]byte {
	sub := map[string][]byte{}
	for n, data := range files {
		if rest, ok := strings.CutPrefix(n, dir+"/"); ok {
			sub[rest] = data
		}
	}
	return sub
}
