package reposerver

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/strict"
	"github.com/hanaper/hanaper/uptane"
)

// folder keeps a repository's metadata: each file under the SHA-256 of its bytes in objects/, and index.json, which says
// what is current. A change writes its objects first and then replaces the index, which is the one step that counts: a
// process killed at any point leaves the old state or the new one. Readers take no lock.
//
// What is current is kept in memory, so that a read costs one look at whether index.json is still the same file.
type folder struct {
	dir string
	mu  sync.Mutex // one writer in this process; the lock file keeps other processes out

	// committed is called with what has become current, if it is not nil.
	committed func(context.Context, *index) error

	last    atomic.Pointer[lastIndex]
	objects sync.Map // by digest: []byte
	ends    sync.Map // by digest: time.Time
}

// lastIndex is the index that was read last, and the file that it was read from.
type lastIndex struct {
	*index
	file fs.FileInfo
}

// index is what is current.
type index struct {
	Repository uptane.Repository `json:"repository"`
	// First is the version of Roots[0]; the last root is the current one.
	First int      `json:"first_root"`
	Roots []string `json:"roots"`
	// Targets, Snapshot and Timestamp are the Image repository's; the Director's are each device's own.
	Targets     string                 `json:"targets,omitempty"`
	Snapshot    string                 `json:"snapshot,omitempty"`
	Timestamp   string                 `json:"timestamp,omitempty"`
	Delegations map[string]delegateRef `json:"delegations,omitempty"`
	// Given lists the keys whose private half was given out.
	Given []string `json:"keys_given_out,omitempty"`
	// Marked says that there is a high-water mark.
	Marked bool `json:"high_water,omitempty"`
}

// delegateRef is a delegation's metadata. Digest is empty for one that the targets do not vouch for any more; its version
// is remembered, for devices remember it too.
type delegateRef struct {
	Digest  string `json:"digest,omitempty"`
	Version int    `json:"version"`
}

func (ix *index) clone() *index {
	out := *ix
	out.Roots, out.Given, out.Delegations = slices.Clone(ix.Roots), slices.Clone(ix.Given), maps.Clone(ix.Delegations)
	return &out
}

func (ix *index) digests() map[string]bool {
	out := map[string]bool{ix.Targets: true, ix.Snapshot: true, ix.Timestamp: true}
	for _, d := range ix.Roots {
		out[d] = true
	}
	for _, d := range ix.Delegations {
		out[d.Digest] = true
	}
	delete(out, "")
	return out
}

func (f *folder) indexPath() string { return filepath.Join(f.dir, "index.json") }
func (f *folder) objectPath(digest string) string {
	return filepath.Join(f.dir, "objects", digest+".json")
}

// index is what is current; it must not be changed. Each change puts another file in the place of the last one.
func (f *folder) index() (*index, error) {
	now, err := os.Stat(f.indexPath())
	if last := f.last.Load(); err == nil && last != nil && os.SameFile(now, last.file) && now.ModTime().Equal(last.file.ModTime()) && now.Size() == last.file.Size() {
		return last.index, nil
	}
	ix, err := f.readIndex()
	if err != nil {
		return nil, err
	}
	// The file was looked at before it was read: if it was replaced in between, the next look sees another one.
	if now != nil {
		listed := ix.digests()
		for _, kept := range []*sync.Map{&f.objects, &f.ends} {
			kept.Range(func(d, _ any) bool {
				if !listed[d.(string)] {
					kept.Delete(d)
				}
				return true
			})
		}
		f.last.Store(&lastIndex{ix, now})
	}
	return ix, nil
}

func (f *folder) readIndex() (*index, error) {
	data, err := input.ReadFile(f.indexPath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, advice.New(advice.Refused, "run 'hanaper-repo uptane init'", "there is no repository in %s", show.Text(f.dir))
	}
	if err != nil {
		return nil, err
	}
	return parseIndex(f.indexPath(), data)
}

func parseIndex(name string, data []byte) (*index, error) {
	ix := &index{}
	if err := strict.JSON(name, data, ix); err != nil {
		return nil, err
	}
	if ix.First < 1 || len(ix.Roots) == 0 || ix.Repository != uptane.Image && ix.Repository != uptane.Director {
		return nil, advice.New(advice.Failed, "restore the folder from a backup", "%s does not describe a repository", show.Text(name))
	}
	for d := range ix.digests() {
		if b, err := hex.DecodeString(d); err != nil || len(b) != sha256.Size || hex.EncodeToString(b) != d {
			return nil, advice.New(advice.Failed, "restore the folder from a backup", "%s: %q is no digest", show.Text(name), d)
		}
	}
	return ix, nil
}

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// object reads a file and checks that it is the one that was written; once.
func (f *folder) object(digest string) ([]byte, error) {
	if data, ok := f.objects.Load(digest); ok {
		return data.([]byte), nil
	}
	data, err := input.ReadFile(f.objectPath(digest))
	if err != nil {
		return nil, err
	}
	if digestOf(data) != digest {
		return nil, advice.New(advice.Failed, "restore the folder from a backup", "%s was changed", show.Text(f.objectPath(digest)))
	}
	if last := f.last.Load(); last != nil && last.digests()[digest] {
		f.objects.Store(digest, data)
	}
	return data, nil
}

// read gives the object that pick chooses. One that a change removes meanwhile is chosen anew.
func (f *folder) read(pick func(*index) string) (data []byte, found bool, err error) {
	data, digest, err := f.look(pick)
	return data, digest != "" && err == nil, err
}

// look is read, with the digest; empty where there is none.
func (f *folder) look(pick func(*index) string) (data []byte, digest string, err error) {
	for range 5 {
		ix, err := f.index()
		if err != nil {
			return nil, "", err
		}
		if digest = pick(ix); digest == "" {
			return nil, "", nil
		}
		data, err = f.object(digest)
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return data, digest, err
		}
	}
	return nil, "", fmt.Errorf("an object that %s lists is missing", show.Text(f.indexPath()))
}

// expiry is when the object that pick chooses ends.
func (f *folder) expiry(pick func(*index) string, parse func([]byte) (uptane.Document, error)) (time.Time, error) {
	data, digest, err := f.look(pick)
	if err != nil {
		return time.Time{}, err
	}
	if at, ok := f.ends.Load(digest); ok {
		return at.(time.Time), nil
	}
	doc, err := parse(data)
	if err != nil {
		return time.Time{}, err
	}
	f.ends.Store(digest, doc.Expires())
	return doc.Expires(), nil
}

// change is what is about to become current. Nothing is written before it is complete.
type change struct {
	*index
	folder  *folder
	objects map[string][]byte
	// above are versions that the new snapshot and timestamp must be above; nil: the last ones alone.
	above *roleMarks
}

// put adds a file and returns its digest.
func (c *change) put(data []byte) string {
	d := digestOf(data)
	c.objects[d] = data
	return d
}

// get reads a file, one of this change first.
func (c *change) get(digest string) ([]byte, error) {
	if data, ok := c.objects[digest]; ok {
		return data, nil
	}
	return c.folder.object(digest)
}

// lock keeps other writers out until it is released, those of other processes too.
func (f *folder) lock(ctx context.Context) (release func(), err error) {
	f.mu.Lock()
	free, err := waitForLock(ctx, filepath.Join(f.dir, "lock"))
	if err != nil {
		f.mu.Unlock()
		return nil, err
	}
	return func() { free(); f.mu.Unlock() }, nil
}

func closeQuietly(c io.Closer) { _ = c.Close() }

// update makes one change. When f fails, or leaves the index as it was, nothing is written.
func (f *folder) update(ctx context.Context, do func(*change) error) error {
	release, err := f.lock(ctx)
	if err != nil {
		return err
	}
	defer release()
	old, err := f.index()
	if err != nil {
		return err
	}
	c := &change{index: old.clone(), folder: f, objects: map[string][]byte{}}
	if err := do(c); err != nil {
		return err
	}
	return f.commit(ctx, old, c)
}

// try is update that writes nothing.
func (f *folder) try(ctx context.Context, do func(*change) error) error {
	tried := errors.New("tried")
	err := f.update(ctx, func(c *change) error {
		if err := do(c); err != nil {
			return err
		}
		return tried
	})
	if errors.Is(err, tried) {
		return nil
	}
	return err
}

func (f *folder) commit(ctx context.Context, old *index, c *change) error {
	data, err := json.MarshalIndent(c.index, "", " ")
	if err != nil {
		return err
	}
	if was, err := json.MarshalIndent(old, "", " "); err != nil || string(was) == string(data) {
		return err
	}
	if err := f.writeObjects(c); err != nil {
		return err
	}
	if err := durable.WriteFile(f.indexPath(), append(data, '\n'), 0o644); err != nil {
		return err
	}
	// What nothing refers to any more may go; what is left behind does no harm.
	now := c.digests()
	for d := range old.digests() {
		if !now[d] {
			_ = os.Remove(f.objectPath(d))
		}
	}
	if f.committed != nil {
		return f.committed(ctx, c.index)
	}
	return nil
}

func (f *folder) writeObjects(c *change) error {
	listed := c.digests()
	for d, data := range c.objects {
		if !listed[d] {
			continue
		}
		if err := durable.WriteFile(f.objectPath(d), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// create makes the repository; one that is there is refused.
func (f *folder) create(ctx context.Context, ix *index, do func(*change) error) error {
	if err := durable.Mkdir(filepath.Join(f.dir, "objects"), 0o755); err != nil {
		return err
	}
	release, err := f.lock(ctx)
	if err != nil {
		return err
	}
	defer release()
	if _, err := os.Lstat(f.indexPath()); !errors.Is(err, fs.ErrNotExist) {
		return advice.New(advice.Refused, "", "there is a repository in %s already", show.Text(f.dir))
	}
	c := &change{index: ix, folder: f, objects: map[string][]byte{}}
	if err := do(c); err != nil {
		return err
	}
	data, err := json.MarshalIndent(c.index, "", " ")
	if err != nil {
		return err
	}
	if err := f.writeObjects(c); err != nil {
		return err
	}
	if err := durable.Create(f.indexPath(), append(data, '\n'), 0o644); err != nil || f.committed == nil {
		return err
	}
	return f.committed(ctx, ix)
}
