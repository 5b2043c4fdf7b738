package feed

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/strict"
	"github.com/hanaper/hanaper/trust"
)

// state is what a feed remembers: state.json names the files of the last accepted repository by their SHA-256, and files/ holds
// them under that name. state.json is there before the first file and is replaced as a whole after the files are safe,
// so that a part missing is damage (or someone's attempt to make the gateway forget), never a crash.
//
// When something newer could not be kept, state.json is called state.behind.json until the next that can: a full disk lets a file be renamed. Such a
// state says what must follow, and admits nobody.
type state struct {
	dir  string
	lock io.Closer
	// behind: something newer than this was in force.
	behind bool
}

func (s *state) name() string       { return filepath.Join(s.dir, "state.json") }
func (s *state) behindName() string { return filepath.Join(s.dir, "state.behind.json") }

// fallBehind notes that the state is older than what is in force. It is all that can be done on a disk that takes nothing.
func (s *state) fallBehind() {
	if os.Rename(s.name(), s.behindName()) == nil {
		_ = durable.SyncDir(s.dir)
	}
}

type stateFile struct {
	Format int `json:"format"`
	// First is the SHA-256 of the first root in Files.
	First string            `json:"first_root"`
	Files map[string]string `json:"files"`
}

func openState(dir string) (*state, *trust.View, error) {
	if err := durable.Own(dir); err != nil {
		return nil, nil, err
	}
	if err := durable.Mkdir(filepath.Join(dir, "files"), 0o700); err != nil {
		return nil, nil, fmt.Errorf("trust state: %w", err)
	}
	lock, err := durable.Lock(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, nil, advice.Wrap(advice.Failed, fmt.Errorf("trust state: %w", err), "give each gateway process a state folder of its own")
	}
	s := &state{dir: dir, lock: lock}
	v, err := s.load()
	if err != nil {
		lock.Close()
		return nil, nil, err
	}
	return s, v, nil
}

func (s *state) damaged(format string, args ...any) error {
	return advice.New(advice.Unverified, "restore the folder; or delete the whole of it, and the gateway starts from the pinned root like a new one",
		"trust state %s %w: %s", show.Text(s.dir), errDamaged, fmt.Sprintf(format, args...))
}

func (s *state) blob(hash string) string { return filepath.Join(s.dir, "files", hash) }

// read gives what state.json, or in its place state.behind.json, holds.
func (s *state) read() ([]byte, error) {
	data, err := input.ReadFile(s.name())
	if errors.Is(err, fs.ErrNotExist) {
		data, err = input.ReadFile(s.behindName())
		s.behind = err == nil
	}
	return data, err
}

// Kept is the repository that a feed keeps in the folder dir, which another process may be using, as it was accepted last. Nothing is written.
// It is a copy like any other: who restores from it verifies it from a root of his own. behind says that something newer was in force there and
// could not be kept. An error that wraps fs.ErrNotExist says that dir is no such folder, or that nothing was accepted there yet.
func Kept(dir string) (files fs.FS, behind bool, err error) {
	s := &state{dir: dir}
	data, err := s.read()
	if err != nil {
		return nil, false, err
	}
	var f stateFile
	if err := strict.JSON("state.json", data, &f); err != nil || f.Format != 1 {
		return nil, false, s.damaged("state.json is not readable")
	}
	if len(f.Files) == 0 {
		return nil, false, fmt.Errorf("trust state %s: nothing was accepted yet: %w", show.Text(dir), fs.ErrNotExist)
	}
	return stored{s, f.Files}, s.behind, nil
}

// load recalls the last accepted repository; nil if there is none yet.
func (s *state) load() (*trust.View, error) {
	data, err := s.read()
	if errors.Is(err, fs.ErrNotExist) {
		left, err := os.ReadDir(filepath.Join(s.dir, "files"))
		if err != nil {
			return nil, err
		}
		if len(left) > 0 {
			return nil, s.damaged("state.json is missing")
		}
		return nil, s.write(stateFile{Format: 1})
	}
	if err != nil {
		return nil, err
	}
	var f stateFile
	if err := strict.JSON("state.json", data, &f); err != nil || f.Format != 1 {
		return nil, s.damaged("state.json is not readable")
	}
	if f.First == "" && len(f.Files) == 0 {
		return nil, nil
	}
	first, err := trust.ParsePin(f.First)
	if err != nil {
		return nil, s.damaged("state.json is not readable")
	}
	v, err := trust.Recall(stored{s, f.Files}, first.Digest())
	if err != nil {
		return nil, s.damaged("%v", err)
	}
	return v, nil
}

// stored reads the files of the last accepted repository.
type stored struct {
	*state
	files map[string]string
}

// stored are the files that v rests on, as far as they are kept.
func (s *state) stored(v *trust.View) stored {
	list := map[string]string{}
	for name, hash := range v.Files() {
		list[name] = hex.EncodeToString(hash[:])
	}
	return stored{s, list}
}

// reused takes target files that are kept from the state folder, and all else from the source: a target's name has its SHA-256, to which the state
// is held when it is read, so that none is fetched twice. One that is lost or damaged there is fetched again.
type reused struct {
	fs.FS
	kept stored
}

// Open implements fs.FS.
func (r reused) Open(name string) (fs.File, error) {
	if _, ok := r.kept.files[name]; ok && strings.HasPrefix(name, "targets/") {
		if f, err := r.kept.Open(name); err == nil {
			return f, nil
		}
	}
	return r.FS.Open(name)
}

// ReadDir implements fs.ReadDirFS.
func (r reused) ReadDir(name string) ([]fs.DirEntry, error) { return fs.ReadDir(r.FS, name) }

// Open implements fs.FS.
func (s stored) Open(name string) (fs.File, error) {
	hash, ok := s.files[name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	if raw, err := hex.DecodeString(hash); err != nil || len(raw) != sha256.Size {
		return nil, fmt.Errorf("%s has no digest", name)
	}
	f, err := input.Open(s.blob(hash))
	if errors.Is(err, fs.ErrNotExist) {
		// Not ErrNotExist: the file is not absent from the repository but lost from the state.
		return nil, fmt.Errorf("%s is missing", name)
	}
	if err != nil {
		return nil, err
	}
	// Looked through before it is given away: a large one is held nowhere.
	sum := sha256.New()
	_, err = io.Copy(sum, f)
	if err == nil && hex.EncodeToString(sum.Sum(nil)) != hash {
		err = fmt.Errorf("%s has changed", name)
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// save makes v the accepted repository.
func (s *state) save(v *trust.View, rec *recorder) error {
	f := stateFile{Format: 1, Files: map[string]string{}}
	first := v.RootDigests()[0]
	f.First = hex.EncodeToString(first[:])
	// A pinned root may have come from the config and not from the source.
	roots := map[[32]byte][]byte{}
	for _, raw := range v.Roots() {
		roots[sha256.Sum256(raw)] = raw
	}
	for name, hash := range v.Files() {
		key := hex.EncodeToString(hash[:])
		f.Files[name] = key
		if _, err := os.Stat(s.blob(key)); err == nil {
			continue
		}
		k, ok := rec.kept[name]
		if root := roots[hash]; root != nil {
			k, ok = kept{data: root, digest: hash}, true
		}
		if !ok || k.digest != hash {
			return fmt.Errorf("trust state: %s was not kept", name)
		}
		if err := k.place(s.blob(key)); err != nil {
			return fmt.Errorf("trust state: %w", err)
		}
	}
	if err := s.write(f); err != nil {
		return err
	}
	s.sweep(f)
	return nil
}

func (s *state) write(f stateFile) error {
	data, err := json.Marshal(f)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(s.name(), data, 0o600); err != nil {
		return fmt.Errorf("trust state: %w", err)
	}
	s.behind = false
	// Where both are there, state.json is the newer.
	if err := os.Remove(s.behindName()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("trust state: %w", err)
	}
	return nil
}

// sweep removes the files that state.json no longer names. What it cannot remove stays until the next time.
func (s *state) sweep(f stateFile) {
	wanted := map[string]bool{}
	for _, hash := range f.Files {
		wanted[hash] = true
	}
	list, err := os.ReadDir(filepath.Join(s.dir, "files"))
	if err != nil {
		return
	}
	for _, e := range list {
		if !wanted[e.Name()] {
			_ = os.Remove(s.blob(e.Name()))
		}
	}
}

func (s *state) close() error { return s.lock.Close() }
