package trust_test

import (
	"errors"
	"io/fs"
	"maps"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/trust"
	"github.com/hanaper/hanaper/trust/trusttest"
)

// office is a publisher's machine that can be lost: copies of what it published, by their timestamp versions, are elsewhere.
type office struct {
	*testing.T
	world  *trusttest.World
	config trust.PublisherConfig
	copies map[int64]string
	newest int64
}

// newOffice has published three times: the officers' part, a CRL that revokes 77, one that revokes 78 as well.
func newOffice(t *testing.T) *office {
	o := &office{T: t, world: trusttest.New(t), copies: map[int64]string{}}
	// The folder lies in one that is the test's own, for the new one is made beside it.
	o.world.Dir = filepath.Join(t.TempDir(), "trust")
	o.config = o.world.PublisherConfig()
	o.config.HighWater = filepath.Join(t.TempDir(), "state", "high-water.json")
	for _, do := range []func(*trust.Publisher) error{
		func(p *trust.Publisher) error { return p.Import(o.world.Offline) },
		func(p *trust.Publisher) error { return p.AddCRL(o.world.MakeCRL(o.world.Issuing, 1, 77)) },
		func(p *trust.Publisher) error { return p.AddCRL(o.world.MakeCRL(o.world.Issuing, 2, 77, 78)) },
	} {
		o.publish(do)
	}
	return o
}

func (o *office) must(err error) {
	o.Helper()
	if err != nil {
		o.Fatal(err)
	}
}

func (o *office) publish(do func(*trust.Publisher) error) {
	o.Helper()
	p, err := trust.NewPublisher(o.config)
	o.must(err)
	o.must(do(p))
	o.newest = p.View().Versions().Timestamp
	o.copies[o.newest] = o.TempDir()
	o.must(os.CopyFS(o.copies[o.newest], os.DirFS(o.config.Dir)))
}

// lose takes away the folder, the mark, or both.
func (o *office) lose(folder, mark bool) {
	o.Helper()
	if folder {
		o.must(os.RemoveAll(o.config.Dir))
	}
	if mark {
		o.must(os.Remove(o.config.HighWater))
	}
}

func (o *office) restoration() trust.Restoration {
	return trust.Restoration{Dir: o.config.Dir, HighWater: o.config.HighWater, Pin: o.world.Pin, Environment: o.config.Environment,
		Now: func() time.Time { return o.world.Now }}
}

// around is every file of the machine: what is published, what lies beside it, the mark.
func (o *office) around() trust.Files {
	o.Helper()
	files := trust.Files{}
	for _, root := range []string{filepath.Dir(o.config.Dir), filepath.Dir(o.config.HighWater)} {
		o.must(filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			if err == nil && e.Type().IsRegular() && e.Name() != ".lock" {
				files[path] = read(o.T, path)
			}
			return err
		}))
	}
	return files
}

// good: what is published goes on from the newest, for a gateway that has seen it and for a new one.
func (o *office) good() {
	o.Helper()
	seen, err := trust.Open(os.DirFS(o.copies[o.newest]), o.world.Pin, o.world.Now)
	o.must(err)
	p, err := trust.NewPublisher(o.config)
	o.must(err)
	o.must(p.AddCRL(o.world.MakeCRL(o.world.Issuing, 9, 77, 78, 79)))
	v, err := trust.OpenAfter(os.DirFS(o.config.Dir), seen, o.world.Pin, o.world.Now)
	o.must(err)
	if v.Versions().Timestamp != o.newest+1 {
		o.Errorf("the next publication is timestamp version %d, after %d", v.Versions().Timestamp, o.newest)
	}
	for _, serial := range []int64{77, 78, 79} {
		if !v.Revoked(o.world.Issuing.Cert, big.NewInt(serial)) {
			o.Errorf("%d is no longer revoked", serial)
		}
	}
}

// TestRestore: whatever of the folder and the mark is lost, the newest copy comes into its place, with a mark, and gateways go on from it.
func TestRestore(t *testing.T) {
	for name, lost := range map[string]func(o *office, r *trust.Restoration){
		"the folder":             func(o *office, _ *trust.Restoration) { o.lose(true, false) },
		"the folder's content":   func(o *office, _ *trust.Restoration) { o.lose(true, false); o.must(os.Mkdir(o.config.Dir, 0o755)) },
		"the mark":               func(o *office, r *trust.Restoration) { o.lose(false, true); r.Seen = []int64{o.newest - 1, o.newest} },
		"folder and mark":        func(o *office, r *trust.Restoration) { o.lose(true, true); r.Seen = []int64{o.newest} },
		"both, and never served": func(o *office, r *trust.Restoration) { o.lose(true, true); r.NobodySaw = true },
		"a file of the folder": func(o *office, _ *trust.Restoration) {
			o.must(os.Remove(filepath.Join(o.config.Dir, "metadata", "3.snapshot.json")))
		},
		"nothing at all": func(*office, *trust.Restoration) {},
		"an older folder": func(o *office, _ *trust.Restoration) {
			o.lose(true, false)
			o.must(os.CopyFS(o.config.Dir, os.DirFS(o.copies[1])))
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOffice(t)
			r := o.restoration()
			lost(o, &r)
			there := trusttest.Snap(t, o.config.Dir)
			_, err := os.Stat(o.config.HighWater)
			marked := err == nil
			done, err := trust.Restore(os.DirFS(o.copies[o.newest]), r)
			o.must(err)
			if done.Marked != marked || done.View.Versions().Timestamp != o.newest || (done.Aside != "") != (len(there) > 0) {
				t.Errorf("%+v, of version %d; the mark was there: %v", done, o.newest, marked)
			}
			if done.Aside != "" && !maps.EqualFunc(there, trusttest.Snap(t, done.Aside), slices.Equal) {
				t.Error("what was there is not aside")
			}
			if !maps.EqualFunc(trusttest.Snap(t, o.config.Dir), needed(t, done.View, o.copies[o.newest]), slices.Equal) {
				t.Error("what is published now is not what the copy rests on")
			}
			o.good()
		})
	}
}

// needed are the files of a folder that a view rests on.
func needed(t *testing.T, v *trust.View, dir string) trust.Files {
	files := trust.Files{}
	for name := range v.Files() {
		files[name] = read(t, filepath.Join(dir, name))
	}
	return files
}

// TestRestoreRefused: a copy that is older than anything that is known of, partial or foreign is refused, and nothing is written.
func TestRestoreRefused(t *testing.T) {
	other := trusttest.New(t)
	other.Import()
	for name, c := range map[string]struct {
		set  func(o *office, r *trust.Restoration) (dir string)
		want error
		word string
	}{
		"older than the mark": {func(o *office, _ *trust.Restoration) string { o.lose(true, false); return o.copies[o.newest-1] }, trust.ErrRollback, "version 3 was published from here"},
		"older than a gateway's": {func(o *office, r *trust.Restoration) string {
			o.lose(true, true)
			r.Seen = []int64{1, o.newest, 2}
			return o.copies[o.newest-1]
		}, trust.ErrRollback, "version 3 was seen"},
		"nobody says what was seen": {func(o *office, _ *trust.Restoration) string { o.lose(true, true); return o.copies[o.newest] }, nil, "nothing here says which version"},
		"older than the folder": {func(o *office, r *trust.Restoration) string {
			o.lose(false, true)
			r.Seen = []int64{1}
			return o.copies[o.newest-1]
		}, trust.ErrRollback, "no successor of what"},
		"older than what is left of the folder": {func(o *office, r *trust.Restoration) string {
			o.lose(false, true)
			o.must(os.Remove(filepath.Join(o.config.Dir, "metadata", "3.snapshot.json")))
			r.Seen = []int64{1}
			return o.copies[o.newest-1]
		}, trust.ErrRollback, "is of version 3"},
		"another of the same version": {func(o *office, _ *trust.Restoration) string {
			o.lose(true, false)
			o.must(os.CopyFS(o.config.Dir, os.DirFS(o.copies[2])))
			mark := read(o.T, o.config.HighWater)
			o.lose(false, true)
			o.must(os.Remove(filepath.Join(o.config.Dir, ".marked")))
			o.publish(func(p *trust.Publisher) error { return p.AddCRL(o.world.MakeCRL(o.world.Issuing, 5, 77)) })
			o.must(os.WriteFile(o.config.HighWater, mark, 0o600))
			return o.copies[3]
		}, trust.ErrRollback, "another timestamp of version 3"},
		"partial":           {func(o *office, _ *trust.Restoration) string { o.drop(".anchors.pem"); return o.copies[o.newest] }, trust.ErrIncomplete, ""},
		"without timestamp": {func(o *office, _ *trust.Restoration) string { o.drop("timestamp.json"); return o.copies[o.newest] }, trust.ErrIncomplete, ""},
		"changed": {func(o *office, _ *trust.Restoration) string {
			path := o.find(".anchors.pem")
			o.must(os.WriteFile(path, append(read(o.T, path), '\n'), 0o644))
			return o.copies[o.newest]
		}, trust.ErrMixed, ""},
		"of another root": {func(o *office, _ *trust.Restoration) string { return other.Dir }, trust.ErrPin, ""},
		"of another environment": {func(o *office, r *trust.Restoration) string {
			o.lose(true, true)
			r.Environment, r.NobodySaw = "elsewhere", true
			return o.copies[o.newest]
		}, trust.ErrEnvironment, ""},
		"a mark of another environment": {func(o *office, _ *trust.Restoration) string {
			o.must(os.WriteFile(o.config.HighWater, []byte(strings.Replace(string(read(o.T, o.config.HighWater)), `"test"`, `"elsewhere"`, 1)), 0o600))
			return o.copies[o.newest]
		}, trust.ErrEnvironment, ""},
		"a damaged mark": {func(o *office, _ *trust.Restoration) string {
			o.must(os.WriteFile(o.config.HighWater, []byte("{"), 0o600))
			return o.copies[o.newest]
		}, nil, ""},
		"a publication that waits": {func(o *office, _ *trust.Restoration) string {
			o.must(os.MkdirAll(filepath.Join(o.config.Dir, ".pending"), 0o755))
			o.must(os.WriteFile(filepath.Join(o.config.Dir, ".pending", "complete"), nil, 0o644))
			return o.copies[o.newest]
		}, nil, "whole and not finished"},
		"a mark within the folder": {func(o *office, r *trust.Restoration) string {
			r.HighWater = filepath.Join(o.config.Dir, "mark.json")
			return o.copies[o.newest]
		}, nil, "lies in the published folder"},
		"an empty folder": {func(o *office, _ *trust.Restoration) string { return o.TempDir() }, trust.ErrEmpty, ""},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOffice(t)
			r := o.restoration()
			dir := c.set(o, &r)
			before := o.around()
			done, err := trust.Restore(os.DirFS(dir), r)
			if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.word) {
				t.Fatalf("%+v, %v; want %v %q", done, err, c.want, c.word)
			}
			if c.want != nil && advice.KindOf(err) != advice.Unverified {
				t.Errorf("kind %v", advice.KindOf(err))
			}
			if !maps.EqualFunc(before, o.around(), slices.Equal) {
				t.Error("something was written")
			}
		})
	}
}

func (o *office) find(suffix string) string {
	o.Helper()
	found := ""
	o.must(filepath.WalkDir(o.copies[o.newest], func(path string, e fs.DirEntry, err error) error {
		if strings.HasSuffix(path, suffix) {
			found = path
		}
		return err
	}))
	return found
}

func (o *office) drop(suffix string) { o.must(os.Remove(o.find(suffix))) }

// TestRestoreRoots: where this machine was set up with a later root, gateways that were set up with the first must still find their way.
func TestRestoreRoots(t *testing.T) {
	o := newOffice(t)
	w := o.world
	first := w.Pin
	w.RootKeys[0] = w.Key()
	w.Keys.Root.Keys[0] = w.RootKeys[0].Public()
	was := w.Now
	w.Rebuild()
	second := w.Offline["metadata/2.root.json"]
	if second == nil {
		t.Fatal("there is no second root")
	}
	o.publish(func(p *trust.Publisher) error { return p.Import(w.Offline) })
	o.lose(true, false)
	r := o.restoration()
	r.Pin = trust.PinRoot(second)
	// Without the first root there is no way for those gateways.
	part := t.TempDir()
	o.must(os.CopyFS(part, os.DirFS(o.copies[o.newest])))
	o.must(os.Remove(filepath.Join(part, "metadata", "1.root.json")))
	before := o.around()
	if _, err := trust.Restore(os.DirFS(part), r); !errors.Is(err, trust.ErrIncomplete) {
		t.Errorf("without the first root: %v", err)
	}
	// Nor with one that leads elsewhere.
	o.must(os.WriteFile(filepath.Join(part, "metadata", "1.root.json"), trusttest.New(t).Offline["metadata/1.root.json"], 0o644))
	if _, err := trust.Restore(os.DirFS(part), r); err == nil {
		t.Error("a first root that leads elsewhere is published")
	}
	if !maps.EqualFunc(before, o.around(), slices.Equal) {
		t.Error("something was written")
	}
	_, err := trust.Restore(os.DirFS(o.copies[o.newest]), r)
	o.must(err)
	if v, err := trust.Open(os.DirFS(o.config.Dir), first, was); err != nil || v.Versions().Root != 2 {
		t.Errorf("from the first root: %v", err)
	}
}

// TestRestoreInterrupted: between two steps the machine stops. What is there then serves, or is restored by the same call.
func TestRestoreInterrupted(t *testing.T) {
	o := newOffice(t)
	o.lose(true, true)
	r := o.restoration()
	r.Seen = []int64{o.newest}
	fresh := o.config.Dir + ".restored"
	// While the new folder is written: half of it is there.
	o.must(os.MkdirAll(filepath.Join(fresh, "metadata"), 0o755))
	o.must(os.WriteFile(filepath.Join(fresh, "metadata", "7.root.json"), []byte("half"), 0o644))
	_, err := trust.Restore(os.DirFS(o.copies[o.newest]), r)
	o.must(err)
	if _, err := os.Stat(filepath.Join(o.config.Dir, "metadata", "7.root.json")); err == nil {
		t.Error("what an interrupted call left is published")
	}
	// After the folder, before the mark: the next start makes it.
	o.must(os.Remove(o.config.HighWater))
	o.must(os.Remove(filepath.Join(o.config.Dir, ".marked")))
	o.good()
	// A mark that cannot be written fails the call, and the next one mends it.
	o = newOffice(t)
	o.lose(true, true)
	state := filepath.Dir(o.config.HighWater)
	o.must(os.Remove(state))
	o.must(os.WriteFile(state, nil, 0o600))
	r = o.restoration()
	r.Seen = []int64{o.newest}
	if _, err := trust.Restore(os.DirFS(o.copies[o.newest]), r); err == nil {
		t.Error("a mark was written into a file's place")
	}
	o.must(os.Remove(state))
	_, err = trust.Restore(os.DirFS(o.copies[o.newest]), r)
	o.must(err)
	o.good()
}

// TestRestoreDeletesNothing: what else lay in the folder is moved aside with it, also where the folder holds nothing of ours any more, or never did.
func TestRestoreDeletesNothing(t *testing.T) {
	o := newOffice(t)
	o.lose(true, false)
	o.must(os.MkdirAll(o.config.Dir, 0o755))
	path := filepath.Join(o.config.Dir, "index.html")
	o.must(os.WriteFile(path, []byte("somebody's"), 0o600))
	done, err := trust.Restore(os.DirFS(o.copies[o.newest]), o.restoration())
	o.must(err)
	if data, err := os.ReadFile(filepath.Join(done.Aside, "index.html")); err != nil || string(data) != "somebody's" {
		t.Errorf("aside %q: %q, %v", done.Aside, data, err)
	}
	o.good()
}
