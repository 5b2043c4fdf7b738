package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os/exec"
	"path"
	"strings"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
)

// deb is what a package holds, by absolute path.
type deb map[string]debFile

type debFile struct {
	data []byte
	link string // of a symbolic link
	mode int64
}

// maxDeb bounds what a package unpacks to, in bytes. A kernel's is 400 MB.
const maxDeb = 1 << 30

// readDeb unpacks the files for which want is true. Debian's own program takes the archive apart; nothing of the package is run.
func readDeb(file string, want func(name string) bool) (deb, error) {
	var said bytes.Buffer
	cmd := exec.Command("dpkg-deb", "--fsys-tarfile", file)
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, advice.Wrap(advice.Failed, err, "dpkg-deb, of Debian's package dpkg, takes packages apart")
	}
	files, err := readTar(tar.NewReader(io.LimitReader(out, maxDeb)), want)
	if err != nil {
		_ = cmd.Process.Kill()
	}
	if werr := cmd.Wait(); err == nil && werr != nil {
		err = errors.New(strings.TrimSpace(said.String()))
	}
	if err != nil {
		return nil, advice.New(advice.Failed, "", "%s: %w", show.Text(file), err)
	}
	return files, nil
}

func readTar(r *tar.Reader, want func(string) bool) (deb, error) {
	files := deb{}
	for {
		h, err := r.Next()
		if err == io.EOF {
			return files, nil
		}
		if err != nil {
			return nil, err
		}
		name := path.Join("/", h.Name)
		switch h.Typeflag {
		case tar.TypeReg:
			if !want(name) {
				continue
			}
			data, err := io.ReadAll(r)
			if err != nil {
				return nil, err
			}
			files[name] = debFile{data: data, mode: h.Mode}
		case tar.TypeLink:
			if f, ok := files[path.Join("/", h.Linkname)]; ok {
				files[name] = f
			}
		case tar.TypeSymlink:
			files[name] = debFile{link: h.Linkname}
		}
	}
}

// target is where the link at name leads.
func (f debFile) target(name string) string {
	if path.IsAbs(f.link) {
		return path.Clean(f.link)
	}
	return path.Join(path.Dir(name), f.link)
}
