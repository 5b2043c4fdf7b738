package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/strict"
	"github.com/hanaper/hanaper/trust"
)

// The parts of a working folder: a note of what it is, the officers' part in force, and the draft of the next one.
const (
	workNote     = "work.json"
	workPrevious = "previous"
	workNext     = "next"
	// The draft that is being written, and the one that it took the place of, as their names end.
	workFresh = ".new"
	workOld   = ".old"
)

// workFile is work.json. It is what who began the folder says; officers who sign give the root that they keep.
type workFile struct {
	// Format is 1.
	Format      int    `json:"format"`
	Environment string `json:"environment"`
	// Root is the SHA-256 of the first root.json.
	Root string `json:"root"`
}

// work is a working folder that was opened: what is in force verifies, and the draft follows it.
type work struct {
	dir      string
	pin      trust.Pin
	previous trust.Files
	draft    *trust.Draft
}

// readWork opens what files hold of a working folder. pin stands in the place of the one that the folder names, where it is given.
func readWork(dir string, files fs.FS, pin *trust.Pin, now time.Time) (*work, error) {
	data, err := input.ReadFS(files, workNote, 4<<10)
	if err != nil {
		return nil, advice.Wrap(advice.Usage, err, "name a folder that 'hanaper trust add --from' or 'hanaper trust import' has made")
	}
	var note workFile
	if err := strict.JSON(workNote, data, &note); err != nil {
		return nil, err
	}
	if note.Format != 1 {
		return nil, advice.New(advice.Usage, "use the release that made it, or a newer one", "%s has format %d, not 1", workNote, note.Format)
	}
	named, err := trust.ParsePin(note.Root)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", workNote, err)
	}
	if pin == nil {
		pin = &named
	} else if pin.Digest() != named.Digest() {
		return nil, advice.New(advice.Unverified, "ask who began the draft which environment it is of", "the draft in %s is under root %s, and yours is %s", show.Text(dir), named, pin)
	}
	w := &work{dir: dir, pin: *pin}
	before, err := fs.Sub(files, workPrevious)
	if err != nil {
		return nil, err
	}
	prev, err := trust.OpenRepository(before, w.pin, now)
	if err != nil {
		return nil, advice.Wrap(advice.KindOf(err), fmt.Errorf("%s/%s: %w", show.Text(dir), workPrevious, err), advice.Hint(err))
	}
	if prev.Environment() != note.Environment {
		return nil, advice.New(advice.Unverified, "", "%s: %w: %s, not %s", show.Text(dir), trust.ErrEnvironment, show.Text(prev.Environment()), show.Text(note.Environment))
	}
	if w.previous, err = prev.Part(before); err != nil {
		return nil, err
	}
	name := workNext
	if _, err := fs.Stat(files, name); errors.Is(err, fs.ErrNotExist) {
		if _, err := fs.Stat(files, name+workFresh); err == nil {
			name += workFresh // a crash came before it was put in its place: it is whole
		}
	}
	next, err := fs.Sub(files, name)
	if err != nil {
		return nil, err
	}
	if w.draft, err = trust.OpenDraft(next, prev, now); err != nil {
		return nil, advice.Wrap(advice.KindOf(err), fmt.Errorf("%s/%s: %w", show.Text(dir), workNext, err), advice.Hint(err))
	}
	return w, nil
}

// trustArgs are what the verbs of trust are given: arguments, the root that the officer keeps (nil for none), and the time.
func trustArgs(c *cli.Context, names ...string) (args []string, pin *trust.Pin, now time.Time, err error) {
	if args, err = shell.Args(c, names...); err != nil {
		return nil, nil, now, err
	}
	if now, err = timeNow(c); err != nil {
		return nil, nil, now, err
	}
	pin, err = pinFlagOf(c)
	return args, pin, now, err
}

// openWork opens a working folder that this process has locked, and finishes a change of the draft that was cut off.
func openWork(dir string, pin *trust.Pin, now time.Time) (*work, error) {
	if err := settle(dir); err != nil {
		return nil, err
	}
	return readWork(dir, input.Dir(dir), pin, now)
}

// viewWork opens a working folder for who only reads it: nothing in it is changed, and what others change waits until it is read.
func viewWork(dir string, pin *trust.Pin, now time.Time) (*work, error) {
	held, err := durable.LockFolder(dir, false)
	if err != nil {
		return nil, advice.Wrap(advice.Usage, err, "name a folder that 'hanaper trust add --from' or 'hanaper trust import' has made")
	}
	defer held.Close()
	return readWork(dir, input.Dir(dir), pin, now)
}

// settle finishes a change of the draft that was cut off: the old draft is taken away only once the new one is whole.
func settle(dir string) error {
	held, err := durable.LockFolder(dir, true)
	if err != nil {
		return err
	}
	defer held.Close()
	next := filepath.Join(dir, workNext)
	if _, err := os.Lstat(next); errors.Is(err, fs.ErrNotExist) {
		if err := os.Rename(next+workFresh, next); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	} else if err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(next+workFresh), os.RemoveAll(next+workOld))
}

// lockWork keeps others from changing the folder.
func lockWork(dir string) (func(), error) {
	if _, err := os.Stat(filepath.Join(dir, workNote)); err != nil {
		return nil, advice.Wrap(advice.Usage, err, "name a folder that 'hanaper trust add --from' or 'hanaper trust import' has made")
	}
	lock, err := durable.Lock(filepath.Join(dir, ".lock"))
	if err != nil {
		return nil, advice.Wrap(advice.Failed, err, "another 'hanaper trust' works in this folder")
	}
	return func() { lock.Close() }, nil
}

// begin writes a new working folder.
func (w *work) begin() error {
	if _, err := os.Lstat(w.dir); !errors.Is(err, fs.ErrNotExist) {
		return advice.New(advice.Refused, "name a folder that does not exist", "%s is in the way", show.Text(w.dir))
	}
	files, err := w.files()
	if err != nil {
		return err
	}
	// Whole beside its place, under a name that nobody has, and then moved there.
	if err := durable.Mkdir(filepath.Dir(w.dir), 0o755); err != nil {
		return err
	}
	fresh, err := os.MkdirTemp(filepath.Dir(w.dir), ".hanaper-trust-*")
	if err != nil {
		return err
	}
	if err := errors.Join(os.Chmod(fresh, 0o755), writeTree(fresh, files)); err != nil {
		return errors.Join(err, os.RemoveAll(fresh))
	}
	if err := os.Rename(fresh, w.dir); err != nil {
		return errors.Join(err, os.RemoveAll(fresh))
	}
	return durable.SyncDir(filepath.Dir(w.dir))
}

// files is the whole folder.
func (w *work) files() (trust.Files, error) {
	note, err := json.Marshal(workFile{1, w.draft.Previous().Environment(), w.pin.String()})
	if err != nil {
		return nil, err
	}
	all := trust.Files{workNote: append(note, '\n')}
	for name, data := range w.previous {
		all[workPrevious+"/"+name] = data
	}
	next, err := w.draft.Files()
	for name, data := range next {
		all[workNext+"/"+name] = data
	}
	return all, err
}

// keepDraft puts the draft into the place of the folder's.
func (w *work) keepDraft() error {
	files, err := w.draft.Files()
	if err != nil {
		return err
	}
	next := filepath.Join(w.dir, workNext)
	fresh, old := next+workFresh, next+workOld
	if err := errors.Join(os.RemoveAll(fresh), os.RemoveAll(old)); err != nil {
		return err
	}
	if err := writeTree(fresh, files); err != nil {
		return errors.Join(err, os.RemoveAll(fresh))
	}
	held, err := durable.LockFolder(w.dir, true)
	if err != nil {
		return err
	}
	defer held.Close()
	// The old one leaves in one step as well: half removed it would be taken for the draft after a crash.
	if err := os.Rename(next, old); err != nil {
		return err
	}
	if err := os.Rename(fresh, next); err != nil {
		return err
	}
	if err := durable.SyncDir(w.dir); err != nil {
		return err
	}
	return os.RemoveAll(old)
}

func writeTree(dir string, files trust.Files) error {
	for _, name := range slices.Sorted(maps.Keys(files)) {
		at := filepath.Join(dir, filepath.FromSlash(name))
		if err := durable.Mkdir(filepath.Dir(at), 0o755); err != nil {
			return err
		}
		if err := durable.WriteFile(at, files[name], 0o644); err != nil {
			return err
		}
	}
	return nil
}
