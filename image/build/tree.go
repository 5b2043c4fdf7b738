package main

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/elf"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/cpio"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
)

// tree is the image's root: what lies where.
type tree struct {
	files   map[string]node
	folders []string // that are there though they may be empty
}

// node is a file or a link.
type node struct {
	data   []byte
	link   string
	run    bool // may be executed
	origin string
}

// add puts a node at an absolute path. What is there already stays, if it is the same.
func (t *tree) add(name string, n node) error {
	if n.link != "" {
		n.run = false
	}
	if old, ok := t.files[name]; ok && (!bytes.Equal(old.data, n.data) || old.link != n.link) {
		return advice.New(advice.Failed, "", "%s is in %s and in %s, and not the same", show.Text(name), old.origin, n.origin)
	}
	t.files[name] = n
	return nil
}

// addFolder takes what lies in a folder of this repository. Files that may be executed there may be in the image.
func (t *tree) addFolder(dir string) error {
	return filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		data, err := input.ReadFile(file)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, file)
		if err != nil {
			return err
		}
		return t.add("/"+filepath.ToSlash(rel), node{data: data, run: st.Mode()&0o100 != 0, origin: "hanaper"})
	})
}

// take takes one file of a package and, of a link, what it leads to within the package.
func (t *tree) take(pkg string, files deb, name, to string) error {
	f, ok := files[name]
	if !ok {
		return advice.New(advice.Failed, "", "package %s has no %s", pkg, show.Text(name))
	}
	place := merged(to)
	if f.link == "" {
		data := f.data
		if strings.HasSuffix(name, ".gz") {
			place = strings.TrimSuffix(place, ".gz")
			r, err := gzip.NewReader(bytes.NewReader(data))
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if data, err = io.ReadAll(r); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		return t.add(place, node{data: data, run: f.mode&0o111 != 0, origin: pkg})
	}
	target := f.target(name)
	if merged(target) != place { // a link that the merge of /usr makes superfluous
		if err := t.add(place, node{link: merged(target), origin: pkg}); err != nil {
			return err
		}
	}
	if _, ok := files[target]; !ok {
		return nil // in another package: complete says whether it is there
	}
	return t.take(pkg, files, target, target)
}

// complete says whether each link leads to something, and each program and library finds its libraries.
func (t *tree) complete() error {
	libraries := map[string]bool{}
	folders := map[string]bool{}
	for _, dir := range t.folders {
		folders[dir] = true
	}
	for name := range t.files {
		libraries[path.Base(name)] = true
		for dir := path.Dir(name); dir != "/"; dir = path.Dir(dir) {
			folders[dir] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(t.files)) {
		n := t.files[name]
		if n.link != "" {
			if _, ok := t.files[n.link]; !ok && !folders[n.link] {
				return advice.New(advice.Failed, "name it in contents", "%s, of %s, leads to %s, which is not in the image", show.Text(name), n.origin, show.Text(n.link))
			}
			continue
		}
		if !bytes.HasPrefix(n.data, []byte(elf.ELFMAG)) || strings.HasSuffix(name, ".ko") {
			continue
		}
		f, err := elf.NewFile(bytes.NewReader(n.data))
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		needed, err := f.ImportedLibraries()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		for _, lib := range needed {
			if !libraries[lib] {
				return advice.New(advice.Failed, "name the package that has it in contents", "%s, of %s, needs %s, which is not in the image", show.Text(name), n.origin, show.Text(lib))
			}
		}
	}
	return nil
}

func (n node) mode() uint32 {
	switch {
	case n.link != "":
		return 0o777
	case n.run:
		return 0o755
	}
	return 0o644
}

// manifest has a line a file: mode, size, SHA-256, origin, name; of a link, where it leads.
func (t *tree) manifest() []byte {
	var out bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(t.files)) {
		if n := t.files[name]; n.link != "" {
			fmt.Fprintf(&out, "link %s %s -> %s\n", n.origin, name, n.link)
		} else {
			fmt.Fprintf(&out, "%04o %d %x %s %s\n", n.mode(), len(n.data), sha256.Sum256(n.data), n.origin, name)
		}
	}
	return out.Bytes()
}

// archive is the tree as the kernel unpacks it.
func (t *tree) archive(w io.Writer) error {
	c := cpio.NewWriter(w)
	for _, dir := range t.folders {
		c.Dir(strings.TrimPrefix(dir, "/"), 0o755)
	}
	c.Device("dev/console", 0o600, 5, 1) // for init, until it has mounted /dev
	for _, name := range slices.Sorted(maps.Keys(t.files)) {
		if n := t.files[name]; n.link != "" {
			c.Symlink(name[1:], n.link)
		} else {
			c.File(name[1:], n.mode(), n.data)
		}
	}
	return c.End()
}
