package menu

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hanaper/hanaper/internal/input"
)

// Kind is what a file or folder looks like.
type Kind int

// The kinds, in the order in which people should deal with them.
const (
	// Interrupted is the folder of a ceremony that has not ended, Finished that of one that has, Rehearsed that of a rehearsal.
	Interrupted Kind = iota
	Script
	Finished
	Rehearsed
	// Approval, Roster, Officer (one who enrolled), Key and Values (of a release's image) are files that verbs are given.
	Approval
	Roster
	Officer
	Key
	Values
)

// Found is something that a verb could work on.
type Found struct {
	Kind Kind
	Path string
}

// The bounds of a look at one stick: one with a million files costs no more than these, and hides nothing that lies on another.
const (
	maxLooked = 4000
	maxOpened = 200
	maxDepth  = 3
	maxHead   = 64 << 10
	maxSize   = 4 << 20
)

// unfinished is the end of the name of a folder that is being saved: half a copy is no ceremony.
const unfinished = ".unfinished"

// Look finds what lies in folders, and says for each of them why not all that is in it was looked at. Hidden folders in them are looked into
// if it is told to. It believes nothing of what it finds: the verbs do the judging.
func Look(hidden bool, dirs ...string) ([]Found, map[string]string) {
	l := &look{hidden: hidden, missed: map[string]string{}}
	for _, d := range dirs {
		l.root, l.left, l.open = d, maxLooked, maxOpened
		l.folders = []folder{{filepath.Clean(d), 0}}
		for len(l.folders) > 0 { // what lies high is looked at before what lies deep
			f := l.folders[0]
			l.folders = l.folders[1:]
			l.folder(f.path, f.depth)
		}
	}
	slices.SortStableFunc(l.found, func(a, b Found) int {
		if a.Kind != b.Kind {
			return int(a.Kind) - int(b.Kind)
		}
		return strings.Compare(a.Path, b.Path)
	})
	return l.found, l.missed
}

type folder struct {
	path  string
	depth int
}

type look struct {
	hidden  bool
	found   []Found
	root    string
	missed  map[string]string
	folders []folder
	// left are the entries that may still be looked at, and open the files that may still be opened.
	left, open int
}

// miss says why something was not looked at.
func (l *look) miss(why string) {
	if l.missed[l.root] == "" {
		l.missed[l.root] = why
	}
}

func (l *look) add(k Kind, path string) { l.found = append(l.found, Found{k, path}) }

func (l *look) folder(dir string, depth int) {
	has := func(name string) bool {
		_, err := os.Lstat(filepath.Join(dir, name))
		return err == nil
	}
	switch {
	case has("transcript.log") && has("INCOMPLETE"):
		l.add(Interrupted, dir)
		return
	case has("transcript.log") && has("checkpoint") && has("transcript.dsse.json"):
		k := Finished
		if head := begin(filepath.Join(dir, "transcript.log")); bytes.Contains(head, []byte("hanaper/rehearsal/")) {
			k = Rehearsed
		}
		l.add(k, dir)
		return
	}
	f, err := os.Open(dir)
	if err != nil {
		l.miss("a folder cannot be read")
		return
	}
	entries, err := f.ReadDir(max(l.left, 0) + 1) // no more are read than are looked at
	f.Close()
	if err != nil && !errors.Is(err, io.EOF) {
		l.miss("a folder cannot be read to its end")
	}
	for _, e := range entries {
		if l.left--; l.left < 0 {
			l.miss(fmt.Sprintf("it holds more than %d files and folders", maxLooked))
			return
		}
		path := filepath.Join(dir, e.Name())
		switch {
		case e.IsDir() && depth == maxDepth:
			l.miss(fmt.Sprintf("folders lie more than %d deep", maxDepth))
		case e.IsDir() && strings.HasSuffix(e.Name(), unfinished):
		case e.IsDir() && (l.hidden || !strings.HasPrefix(e.Name(), ".")):
			l.folders = append(l.folders, folder{path, depth + 1})
		case e.Type().IsRegular():
			l.file(path, e)
		case e.Type()&fs.ModeSymlink != 0:
			l.miss("links are not followed")
		}
	}
}

// endings are those of the files that are opened.
var endings = []string{".yaml", ".yml", ".json", ".key", ".pem"}

func (l *look) file(path string, e fs.DirEntry) {
	ending := strings.ToLower(filepath.Ext(path))
	if !slices.Contains(endings, ending) {
		return
	}
	if info, err := e.Info(); err != nil || info.Size() > maxSize {
		l.miss(fmt.Sprintf("a file is larger than %d MB, or cannot be read", maxSize>>20))
		return
	}
	if l.open--; l.open < 0 {
		l.miss(fmt.Sprintf("it holds more than %d files whose names end in %s", maxOpened, strings.Join(endings, ", ")))
		return
	}
	switch ending {
	case ".yaml", ".yml":
		head := begin(path)
		if hasKey(head, "version") && hasKey(head, "ceremony") && hasKey(head, "roster") {
			l.add(Script, path)
		}
	case ".json":
		switch head := begin(path); {
		case bytes.Contains(head, []byte(`"application/vnd.hanaper.approval+json"`)):
			l.add(Approval, path)
		case bytes.Contains(head, []byte(`"hanaper-roster/1"`)):
			l.add(Roster, path)
		case bytes.Contains(head, []byte(`"hanaper-officer/1"`)):
			l.add(Officer, path)
		case filepath.Base(path) == "image.json" && bytes.Contains(head, []byte(`"hanaper.iso"`)):
			l.add(Values, path)
		}
	case ".key", ".pem":
		if bytes.Contains(begin(path), []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----")) {
			l.add(Key, path)
		}
	}
}

// hasKey says whether a line of a YAML file begins with a key.
func hasKey(head []byte, key string) bool {
	return bytes.HasPrefix(head, []byte(key+":")) || bytes.Contains(head, []byte("\n"+key+":"))
}

// begin reads the beginning of a file; nothing of one that cannot be read.
func begin(path string) []byte {
	f, err := input.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	head := make([]byte, maxHead)
	n, _ := f.Read(head)
	return head[:n]
}

// of gives the paths of one kind.
func of(list []Found, kinds ...Kind) (paths []string) {
	for _, f := range list {
		if slices.Contains(kinds, f.Kind) {
			paths = append(paths, f.Path)
		}
	}
	return paths
}

// beside gives those of a kind that lie in a file's folder, or below it.
func beside(list []Found, k Kind, path string) (paths []string) {
	dir := filepath.Dir(path) + string(filepath.Separator)
	for _, p := range of(list, k) {
		if strings.HasPrefix(p, dir) {
			paths = append(paths, p)
		}
	}
	return paths
}
