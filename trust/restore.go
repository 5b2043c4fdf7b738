package trust

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
)

// Restoration says what a copy of a published repository is put back into, and what it is held against. The copy proves by itself that it is whole
// and of this environment; that nothing newer was published it cannot prove. So the versions come from elsewhere: from the high-water mark, or, where
// that is lost too, from gateways. Somebody who controls the copy and those who report versions can bring an old publication back.
type Restoration struct {
	// Dir and HighWater are the publisher's; Pin is the root that the operator holds, and Environment the name that it must have.
	Dir, HighWater string
	Pin            Pin
	Environment    string
	// Seen are versions of timestamp.json that gateways or mirrors hold: the copy must not be older than any of them.
	Seen []int64
	// NobodySaw says that no gateway has ever taken anything from here. Without a mark one of both is needed.
	NobodySaw bool
	// Now names what is moved aside; nil means time.Now.
	Now func() time.Time
}

// Restored is what a restoration led to.
type Restored struct {
	// View is what is published now. It may have expired: the publisher signs anew what it may.
	View *View
	// Aside is where the folder that was there is now; empty if there was nothing in it.
	Aside string
	// Marked says that the high-water mark was there, and that the copy was held against it.
	Marked bool
}

// Restore verifies a copy of the whole repository, refuses one that is foreign, partial, or older than anything that is known of, and publishes it:
// first beside Dir, then in its place, then in the mark. After a crash between two of these steps the same call goes on, or nothing is left to do; at
// no time does Dir hold a part of it. Nothing is written before every check has passed. No key is needed: the next publication is signed by a
// Publisher, with the version after the copy's.
func Restore(copied fs.FS, r Restoration) (Restored, error) {
	if err := CheckEnvironment(r.Environment); err != nil {
		return Restored{}, err
	}
	if r.HighWater == "" {
		return Restored{}, usage("name the publisher's", "there is no high-water mark to write")
	}
	if err := checkHighWater(r.Dir, r.HighWater); err != nil {
		return Restored{}, err
	}
	next, files, err := r.read(copied)
	if err != nil {
		return Restored{}, err
	}
	for _, seen := range r.Seen {
		if next.versions.Timestamp < seen {
			return Restored{}, refuseHint(ErrRollback, "take the copy of the gateway that reports this version: its trust folder will do", "the copy",
				"it holds timestamp version %d; version %d was seen", next.versions.Timestamp, seen)
		}
	}
	lock, err := r.lock()
	if err != nil {
		return Restored{}, err
	}
	if lock != nil {
		defer lock.Close()
	}
	done := Restored{View: next}
	if done.Marked, err = r.holdToMark(next); err != nil {
		return Restored{}, err
	}
	if !done.Marked && len(r.Seen) == 0 && !r.NobodySaw {
		return Restored{}, advice.New(advice.Refused, "name the timestamp versions that gateways hold: 'hanaper-gateway check --kept' says it on each",
			"%s is lost: nothing here says which version was published last", show.Text(r.HighWater))
	}
	if err := r.holdToFolder(next); err != nil {
		return Restored{}, err
	}
	if done.Aside, err = r.place(files); err != nil {
		return Restored{}, err
	}
	if err := writeMark(r.HighWater, r.Environment, next); err != nil {
		return Restored{}, err
	}
	return done, writeMarked(r.Dir)
}

// read verifies the copy, and gives every file that it consists of. They are read a second time, and must be what was verified.
func (r Restoration) read(copied fs.FS) (*View, Files, error) {
	v, err := open(newReader(copied), nil, r.Pin, time.Unix(0, 0))
	if err != nil {
		return nil, nil, fmt.Errorf("the copy does not verify: %w", err)
	}
	if v.Environment() != r.Environment {
		return nil, nil, refuse(ErrEnvironment, "the copy", "%s, not %s", v.Environment(), r.Environment)
	}
	roots, err := r.allRoots(copied, v)
	if err != nil {
		return nil, nil, err
	}
	files := Files{}
	for name, digest := range v.files {
		data, ok := roots[name]
		if !ok {
			if data, err = input.ReadFS(copied, name, MaxCRLSize); err != nil {
				return nil, nil, unreadable(name, err)
			}
		}
		if digestOf(data) != digest {
			return nil, nil, fmt.Errorf("the copy: %s changed while it was read", show.Text(name))
		}
		files[name] = data
	}
	maps.Copy(files, roots)
	return v, files, nil
}

// allRoots are the roots from the first on: gateways that were set up earlier than this machine's pin walk all of them.
func (r Restoration) allRoots(copied fs.FS, v *View) (Files, error) {
	all := v.officers.roots
	if all.first > 1 {
		first, err := input.ReadFS(copied, metadataPath("root", 1), MaxRootSize)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, refuse(ErrIncomplete, metadataPath("root", 1), "gateways that were set up with it would be left behind")
		}
		if err != nil {
			return nil, unreadable(metadataPath("root", 1), err)
		}
		if all, _, err = openChain(newReader(copied), PinRoot(first)); err != nil {
			return nil, fmt.Errorf("the copy's roots before the pinned one do not verify: %w", err)
		}
		if !all.contains(r.Pin.digest) {
			return nil, refuse(ErrPin, r.Pin.String(), "the copy's first root does not lead to it")
		}
	}
	files := Files{}
	for i, raw := range all.raw {
		files[metadataPath("root", all.first+int64(i))] = raw
	}
	return files, nil
}

// lock keeps publishers out of the folder; nil if there is no folder.
func (r Restoration) lock() (interface{ Close() error }, error) {
	if _, err := os.Stat(r.Dir); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	lock, err := durable.Lock(filepath.Join(r.Dir, lockName))
	if err != nil {
		return nil, advice.Wrap(advice.Failed, err, "stop hanaper-repo first")
	}
	return lock, nil
}

// holdToMark says whether there is a mark, and refuses a copy that is older than it.
func (r Restoration) holdToMark(next *View) (there bool, err error) {
	m, err := readMark(r.HighWater, r.Environment)
	if m == nil || err != nil {
		return false, err
	}
	const hint = "take a newer copy: every gateway and mirror has one, and all of it is public"
	switch t := next.versions.Timestamp; {
	case t < m.Timestamp:
		return true, refuseHint(ErrRollback, hint, "the copy", "it holds timestamp version %d; version %d was published from here (%s)", t, m.Timestamp, r.HighWater)
	case t == m.Timestamp && hexOf(next) != m.SHA256:
		return true, refuseHint(ErrRollback, hint, "the copy", "it holds another timestamp of version %d than was published from here (%s)", t, r.HighWater)
	}
	return true, nil
}

// holdToFolder refuses a copy that does not follow what the folder holds. Of a folder that does not verify, being damaged, the timestamp alone counts.
func (r Restoration) holdToFolder(next *View) error {
	if _, err := os.Stat(filepath.Join(r.Dir, pendingDir, pendingMark)); err == nil {
		return advice.New(advice.Refused, "start hanaper-repo, which finishes it, and look whether anything is to be restored at all", "%s holds a publication that is whole and not finished", show.Text(r.Dir))
	}
	here, err := open(newReader(input.Dir(r.Dir)), nil, r.Pin, time.Unix(0, 0))
	if err != nil {
		return r.holdToTimestamp(next)
	}
	if err := checkFollows(here, next); err != nil {
		return fmt.Errorf("the copy is no successor of what %s holds, which verifies: %w", show.Text(r.Dir), err)
	}
	return nil
}

func (r Restoration) holdToTimestamp(next *View) error {
	raw, err := input.Read(filepath.Join(r.Dir, filepath.FromSlash(timestampPath)), MaxTimestampSize)
	if err != nil {
		return nil
	}
	roots := next.officers.roots
	_, head, err := openRole(roots, timestampPath, raw, roots.signers(metadata.TIMESTAMP), func(m *metadata.Metadata[metadata.TimestampType]) error {
		return checkMetaShape(m.Signed.Meta, timestampMeta)
	})
	if err == nil && head.version > next.versions.Timestamp {
		return refuseHint(ErrRollback, "take a newer copy: every gateway and mirror has one, and all of it is public", "the copy",
			"it holds timestamp version %d; what is left in %s is of version %d", next.versions.Timestamp, r.Dir, head.version)
	}
	return nil
}

// place puts files in the place of the folder, and says where what was there is now.
func (r Restoration) place(files Files) (aside string, err error) {
	fresh := filepath.Clean(r.Dir) + ".restored"
	if err := os.RemoveAll(fresh); err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			_ = os.RemoveAll(fresh)
		}
	}()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		at := filepath.Join(fresh, filepath.FromSlash(name))
		if err := durable.Mkdir(filepath.Dir(at), 0o755); err != nil {
			return "", err
		}
		if err := durable.WriteFile(at, files[name], 0o644); err != nil {
			return "", err
		}
	}
	now := time.Now
	if r.Now != nil {
		now = r.Now
	}
	if list, err := os.ReadDir(r.Dir); err == nil {
		if slices.ContainsFunc(list, func(e fs.DirEntry) bool { return e.Name() != lockName && e.Name() != markedName }) {
			aside = filepath.Clean(r.Dir) + ".before-" + now().UTC().Format("20060102T150405Z")
			if _, err := os.Lstat(aside); err == nil {
				return "", advice.New(advice.Failed, "wait a second", "%s is there already", show.Text(aside))
			}
			err = os.Rename(r.Dir, aside)
		} else {
			err = os.RemoveAll(r.Dir)
		}
		if err != nil {
			return "", err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if err := os.Rename(fresh, r.Dir); err != nil {
		return "", err
	}
	return aside, durable.SyncDir(filepath.Dir(filepath.Clean(r.Dir)))
}
