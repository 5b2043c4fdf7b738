package reposerver_test

import (
	"crypto"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/uptane"
	"github.com/hanaper/hanaper/uptane/reposerver"
)

// marked is an office with a high-water mark, a backup of its folder, and what happened after the backup.
type marked struct {
	*office
	path, backup string
	newer        string                // the folder as it was when it was lost
	image        *uptane.VerifiedImage // what the device has verified last
	car          *vehicle
	targets      []byte // the newest that officers signed
}

func (m *marked) openMark() {
	m.t.Helper()
	mark, _, err := reposerver.OpenMark(m.path)
	if err != nil {
		m.t.Fatal(err)
	}
	m.mark = mark
}

// reopen is a new start of the server, which may refuse.
func (m *marked) reopen() error {
	m.t.Helper()
	m.fleet.Close()
	m.openMark()
	m.open()
	return m.office.image.Marked(m.t.Context(), m.director)
}

// verify is what the device does: it holds everything against what it has seen.
func (m *marked) verify() error {
	m.t.Helper()
	files := uptane.ImageFiles{Roots: m.chain("/repo", 2), Timestamp: m.file("", "/repo/timestamp.json"), Snapshot: m.file("", "/repo/snapshot.json"), Targets: m.file("", "/repo/targets.json")}
	first := must(uptane.ParseRoot(m.file("", "/repo/1.root.json")))(m.t)
	image, err := uptane.VerifyImage(first, files, m.image, m.clock.now())
	if err == nil {
		m.image = image
	}
	return err
}

func newMarked(t *testing.T) *marked {
	t.Helper()
	keys := must(reposerver.NewFolderKeys(t.TempDir()+"/keys", "Ed25519"))(t)
	m := &marked{office: &office{t: t, dir: filepath.Join(t.TempDir(), "uptane"), keys: keys, clock: &clock{at: time.Now().UTC().Truncate(time.Second)}}}
	m.path, m.backup = filepath.Join(t.TempDir(), "mark.json"), filepath.Join(t.TempDir(), "backup")
	m.openMark()
	for _, kind := range []uptane.Repository{uptane.Image, uptane.Director} {
		if err := reposerver.Create(t.Context(), m.config(kind), reposerver.Start{}); err != nil {
			t.Fatal(err)
		}
	}
	m.open()
	if err := m.office.image.Marked(t.Context(), m.director); err != nil {
		t.Fatal(err)
	}
	m.publish("board", map[string]string{"a": "content a"})
	m.car = m.vehicle("vin-1", "e1=board")
	m.car.register(http.StatusCreated)
	m.assign("vin-1", `{"target":"a"}`, http.StatusOK)
	m.fleet.Close()
	if err := os.CopyFS(m.backup, os.DirFS(m.dir)); err != nil {
		t.Fatal(err)
	}
	if err := m.reopen(); err != nil {
		t.Fatalf("an ordinary start: %v", err)
	}
	m.publish("board", map[string]string{"b": "content b"})
	for range 3 {
		m.assign("vin-1", `{"target":"b"}`, http.StatusOK)
	}
	m.car.poll()
	if err := m.verify(); err != nil {
		t.Fatal(err)
	}
	if err := m.director.NoteFleet(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.targets = m.file("", "/repo/targets.json")
	m.fleet.Close()
	m.newer = filepath.Join(t.TempDir(), "newer")
	if err := os.CopyFS(m.newer, os.DirFS(m.dir)); err != nil {
		t.Fatal(err)
	}
	m.putBack("image", "director")
	return m
}

// putBack replaces these parts of the folder by the backup's.
func (m *marked) putBack(parts ...string) {
	m.t.Helper()
	m.fleet.Close()
	for _, p := range parts {
		if err := errors.Join(os.RemoveAll(filepath.Join(m.dir, p)), os.CopyFS(filepath.Join(m.dir, p), os.DirFS(filepath.Join(m.backup, p)))); err != nil {
			m.t.Fatal(err)
		}
	}
}

func (m *marked) refusedStart(why string) {
	m.t.Helper()
	err := m.reopen()
	if advice.KindOf(err) != advice.Refused || !strings.Contains(err.Error()+advice.Hint(err), why) {
		m.t.Fatalf("started: %v", err)
	}
}

// bytesOf is every file of the folder and the mark.
func (m *marked) bytesOf() string {
	m.t.Helper()
	mark, _ := os.ReadFile(m.path)
	return m.tree() + string(mark)
}

func (m *marked) after() {
	m.t.Helper()
	if err := m.reopen(); err != nil {
		m.t.Fatalf("after the restore: %v", err)
	}
	if err := m.verify(); err != nil {
		m.t.Errorf("the device: %v", err)
	}
	was := m.car.targets
	if m.car.poll(); m.car.targets <= was {
		m.t.Errorf("the device's targets: version %d after %d", m.car.targets, was)
	}
	m.assign("vin-1", `{"target":"a"}`, http.StatusOK)
	m.car.poll()
	// A device that registered after the backup is not known; its versions go on all the same.
	lost := m.vehicle("vin-2", "e1=board")
	lost.targets = was
	lost.register(http.StatusCreated)
	lost.poll()
	if err := m.reopen(); err != nil {
		m.t.Errorf("one start later: %v", err)
	}
}

// TestRestore: an older folder is not served, and restore raises what the server signs above what devices have seen.
func TestRestore(t *testing.T) {
	m := newMarked(t)
	m.refusedStart("uptane restore")
	before := m.bytesOf()
	for name, res := range map[string]reposerver.Restored{
		"without the officers' targets": {},
		"with older ones":               {Targets: must(os.ReadFile(oneObject(t, filepath.Join(m.backup, "image"), "Targets")))(t)},
		"the mark is there":             {Targets: m.targets, MarkLost: true},
		"no targets":                    {Targets: []byte("{}")},
	} {
		if _, err := reposerver.Restore(t.Context(), m.office.image, m.director, res); err == nil {
			t.Errorf("%s: restored", name)
		}
		if m.bytesOf() != before {
			t.Errorf("%s: something was written", name)
		}
	}
	report, err := reposerver.Restore(t.Context(), m.office.image, m.director, reposerver.Restored{Targets: m.targets})
	if err != nil || len(report) != 2 {
		t.Fatal(report, err)
	}
	m.after()
}

// oneObject is the path of a repository's object of a type.
func oneObject(t *testing.T, dir, kind string) string {
	t.Helper()
	found := ""
	_ = filepath.WalkDir(filepath.Join(dir, "objects"), func(p string, d fs.DirEntry, err error) error {
		if data, err := os.ReadFile(p); err == nil && strings.Contains(string(data), fmt.Sprintf("%q:%q", "_type", kind)) {
			found = p
		}
		return nil
	})
	return found
}

// TestPartlyOlder: one of the two repositories alone was put back.
func TestPartlyOlder(t *testing.T) {
	m := newMarked(t)
	// The Image repository is brought up to date by its officers' targets alone; the fleet store stays old.
	if _, err := reposerver.Restore(t.Context(), must(reposerver.OpenImage(m.config("")))(t), nil, reposerver.Restored{Targets: m.targets}); err != nil {
		t.Fatal(err)
	}
	m.refusedStart("fleet store")
	if _, err := reposerver.Restore(t.Context(), m.office.image, m.director, reposerver.Restored{}); err != nil {
		t.Fatal(err)
	}
	m.after()
}

// TestMarkLost: without the mark nothing is served, and versions rise by more than anybody has seen.
func TestMarkLost(t *testing.T) {
	m := newMarked(t)
	if err := os.Remove(m.path); err != nil {
		t.Fatal(err)
	}
	m.refusedStart("is gone")
	before := m.bytesOf()
	for name, res := range map[string]reposerver.Restored{"not said": {Targets: m.targets}, "no targets": {MarkLost: true}} {
		if _, err := reposerver.Restore(t.Context(), m.office.image, m.director, res); err == nil {
			t.Errorf("%s: restored", name)
		}
		if m.bytesOf() != before {
			t.Errorf("%s: something was written", name)
		}
	}
	if _, err := reposerver.Restore(t.Context(), m.office.image, m.director, reposerver.Restored{Targets: m.targets, MarkLost: true}); err != nil {
		t.Fatal(err)
	}
	m.after()
}

// TestFolderLost: with a mark that says that devices were served, no new repository begins at version 1.
func TestFolderLost(t *testing.T) {
	m := newMarked(t)
	m.fleet.Close()
	if err := os.RemoveAll(m.dir); err != nil {
		t.Fatal(err)
	}
	m.openMark()
	for _, kind := range []uptane.Repository{uptane.Image, uptane.Director} {
		if err := reposerver.Create(t.Context(), m.config(kind), reposerver.Start{}); advice.KindOf(err) != advice.Refused {
			t.Errorf("%s: %v", kind, err)
		}
	}
	if _, err := os.Lstat(filepath.Join(m.dir, "image", "index.json")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("something was written: %v", err)
	}
}

// TestUploadsKept: what metadata or an assignment names is never removed, whatever its age.
func TestUploadsKept(t *testing.T) {
	o := folderOffice(t)
	storage := reposerver.StorageConfig{Dir: filepath.Join(o.dir, "uploads"), PartSize: 4 << 10, MaxFile: 1 << 20}
	o.publish("board", map[string]string{"listed": "content 1", "assigned": "content 2"})
	v := o.vehicle("vin-1", "e1=board")
	v.register(http.StatusCreated)
	o.assign("vin-1", `{"target":"assigned"}`, http.StatusOK)
	key := must(o.keys.Labelled(t.Context(), "uptane-image-targets"))(t)
	team := newSigner(t)
	if err := o.push(key, func(c *uptane.TargetsConfig) {
		delete(c.Targets, "assigned")
		c.Delegations = []uptane.Delegation{{Name: "team", RoleKeys: uptane.RoleKeys{Keys: []uptane.Key{keyOf(t, team)}, Threshold: 1}, Paths: []string{"*"}}}
	}); err != nil {
		t.Fatal(err)
	}
	doc := must(uptane.NewTargets(uptane.TargetsConfig{Repository: uptane.Image, Version: 1, Expires: o.clock.now().Add(24 * time.Hour),
		Targets: map[string]uptane.Target{"delegated": entry(t, "content 3", "d", "1", "board")}}))(t)
	if err := o.client.PushDelegation(t.Context(), "team", must(uptane.Sign(doc, team))(t)); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"delegated": "content 3", "unused": "content 4", "same": "content 1", "replaced": "content 5"} {
		if err := o.client.Upload(t.Context(), reposerver.Upload{Name: name, Source: strings.NewReader(content), Size: int64(len(content))}); err != nil {
			t.Fatal(err)
		}
	}
	if err := o.client.Upload(t.Context(), reposerver.Upload{Name: "replaced", Source: strings.NewReader("content 6"), Size: 9, Force: true}); err != nil {
		t.Fatal(err)
	}
	remove := func(at time.Duration) int {
		t.Helper()
		storage.Now = func() time.Time { return time.Now().Add(at) }
		return len(must(reposerver.RemoveUnused(t.Context(), storage, o.image, o.director, 48*time.Hour))(t))
	}
	if n := remove(47 * time.Hour); n != 0 {
		t.Errorf("%d files of 47 hours are gone", n)
	}
	if _, err := reposerver.RemoveUnused(t.Context(), storage, o.image, o.director, time.Hour); advice.KindOf(err) != advice.Usage {
		t.Errorf("kept for an hour: %v", err)
	}
	// unused, replaced with both of its contents.
	if n := remove(49 * time.Hour); n != 3 {
		t.Errorf("%d files are gone", n)
	}
	var names []string
	for _, u := range must(reposerver.Uploads(t.Context(), storage, o.image, o.director))(t) {
		names = append(names, u.Name+" "+strings.Join(u.Used, "+"))
	}
	if got := strings.Join(names, ", "); got != "assigned devices, delegated delegation team, listed targets, same targets" {
		t.Errorf("left: %s", got)
	}
	if n := remove(9999 * time.Hour); n != 0 {
		t.Errorf("%d more are gone", n)
	}
	for _, name := range []string{"listed", "delegated"} {
		o.file("vin-1", "/repo/targets/"+name)
	}
}

// TestUploadsLeadNowhereElse: a names file of a folder that was put back cannot have another file removed than an upload, in whatever words it says which.
func TestUploadsLeadNowhereElse(t *testing.T) {
	o := folderOffice(t)
	storage := reposerver.StorageConfig{Dir: filepath.Join(o.dir, "uploads"), PartSize: 4 << 10, MaxFile: 1 << 20, Now: func() time.Time { return time.Now().Add(99 * time.Hour) }}
	if err := o.client.Upload(t.Context(), reposerver.Upload{Name: "unused", Source: strings.NewReader("content"), Size: 7}); err != nil {
		t.Fatal(err)
	}
	outside := filepath.Join(o.dir, "mark.json")
	if err := os.WriteFile(outside, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, sha := range map[string]string{"firmware": "../../mark.json", "other": "", "short": "..", "long": strings.Repeat("ab", 32) + "/../../../mark.json"} {
		at := filepath.Join(storage.Dir, "names", fmt.Sprintf("%x.json", sha256.Sum256([]byte(name))))
		if err := os.WriteFile(at, fmt.Appendf(nil, `{"name":%q,"size":2,"sha256":%q}`, name, sha), 0o600); err != nil {
			t.Fatal(err)
		}
		if gone, err := reposerver.RemoveUnused(t.Context(), storage, o.image, o.director, 48*time.Hour); err == nil || len(gone) > 0 || !strings.Contains(err.Error(), filepath.Base(at)) {
			t.Errorf("%s: %v, %v", sha, gone, err)
		}
		if _, err := os.Stat(outside); err != nil {
			t.Fatalf("%s: %v", sha, err)
		}
		if err := os.Remove(at); err != nil {
			t.Fatal(err)
		}
	}
	// One that lies under another name than its own, which would stay when its file is gone.
	at := filepath.Join(storage.Dir, "names", strings.Repeat("0", 64)+".json")
	if err := os.WriteFile(at, fmt.Appendf(nil, `{"name":"unused","size":7,"sha256":"%x"}`, sha256.Sum256([]byte("content"))), 0o600); err != nil {
		t.Fatal(err)
	}
	if gone, err := reposerver.RemoveUnused(t.Context(), storage, o.image, o.director, 48*time.Hour); err == nil || len(gone) > 0 {
		t.Errorf("%v, %v", gone, err)
	}
	if err := os.Remove(at); err != nil {
		t.Fatal(err)
	}
	if gone, err := reposerver.RemoveUnused(t.Context(), storage, o.image, o.director, 48*time.Hour); err != nil || len(gone) != 1 {
		t.Errorf("%v, %v", gone, err)
	}
}

// TestFastForward: a thief with the targets key pushes the highest version that there is. Once the root has replaced the key, targets
// of a lower version take the place of the thief's, and not before; the next start goes on from there.
func TestFastForward(t *testing.T) {
	m := newMarked(t)
	m.refusedStart("uptane restore")
	if _, err := reposerver.Restore(t.Context(), m.office.image, m.director, reposerver.Restored{Targets: m.targets}); err != nil {
		t.Fatal(err)
	}
	if err := m.reopen(); err != nil {
		t.Fatal(err)
	}
	stolen, mine := must(m.keys.Labelled(t.Context(), "uptane-image-targets"))(t), newSigner(t)
	good := must(uptane.ParseTargets(uptane.Image, m.targets))(t).Version()
	push := func(key crypto.Signer, version int) error {
		t.Helper()
		_, sum, err := m.client.Targets(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		doc := must(uptane.NewTargets(uptane.TargetsConfig{Repository: uptane.Image, Version: version, Expires: m.clock.now().Add(24 * time.Hour)}))(t)
		return m.client.PushTargets(t.Context(), must(uptane.Sign(doc, key))(t), sum)
	}
	if err := push(stolen, uptane.MaxVersion); err != nil {
		t.Fatal(err)
	}
	refused := func(key crypto.Signer, version int) {
		t.Helper()
		before := m.bytesOf()
		if err := push(key, version); err == nil {
			t.Errorf("version %d is taken", version)
		}
		if m.bytesOf() != before {
			t.Errorf("version %d: something was written", version)
		}
	}
	refused(stolen, good+1)
	next := must(m.root(m.client).Next(m.clock.now().Add(1000*time.Hour), func(c *uptane.RootConfig) error {
		c.Roles[uptane.RoleTargets] = uptane.RoleKeys{Keys: []uptane.Key{keyOf(t, mine)}, Threshold: 1}
		return nil
	}))(t)
	if _, err := m.client.CosignRoot(t.Context(), next.Bytes()); err != nil {
		t.Fatal(err)
	}
	refused(stolen, good+1)
	if err := push(mine, good+1); err != nil {
		t.Fatal(err)
	}
	refused(mine, good)
	if err := m.reopen(); err != nil {
		t.Fatalf("the next start: %v", err)
	}
}

// TestMarkFormat reads a mark that format 1 wrote; the file never changes. Others are refused.
func TestMarkFormat(t *testing.T) {
	data := must(os.ReadFile("testdata/mark-1.json"))(t)
	path := filepath.Join(t.TempDir(), "mark.json")
	for text, good := range map[string]bool{string(data): true, strings.Replace(string(data), `"format":1`, `"format":2`, 1): false, "{}": false, string(data[:20]): false,
		strings.Replace(string(data), `"fleet"`, `"flock"`, 1): false} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, found, err := reposerver.OpenMark(path); (err == nil && found) != good {
			t.Errorf("%.40s: %v, %v", text, found, err)
		}
	}
}

// believes is what a report of another version leads to.
func (m *marked) believes(version int) {
	m.t.Helper()
	m.car.report(fmt.Sprintf(`{"correlation_id":"urn:hanaper:assignment:%d:00","result":{"success":true},"items":[]}`, version))
}

// TestBelieved: a version that was shown, and that the record does not know, is jumped over. One that was never shown is a
// device's invention: it would raise the mark, and after a restore nobody's metadata could count further.
func TestBelieved(t *testing.T) {
	m := newMarked(t)
	m.refusedStart("uptane restore")
	if _, err := reposerver.Restore(t.Context(), m.office.image, m.director, reposerver.Restored{Targets: m.targets}); err != nil {
		t.Fatal(err)
	}
	m.after()
	m.car.poll()
	mark := string(must(os.ReadFile(m.path))(t))
	shown := m.car.targets
	for _, v := range []int{1 << 30, 1<<30 - 1, 1_000_000, shown + 1000} {
		m.believes(v)
		if m.car.poll(); m.car.targets != shown {
			t.Errorf("version %d after a report of version %d, which was never shown", m.car.targets, v)
		}
		if now := string(must(os.ReadFile(m.path))(t)); now != mark {
			t.Errorf("a report of version %d raised the mark from %s to %s", v, mark, now)
		}
	}
	m.believes(shown + 70)
	if m.car.poll(); m.car.targets != shown+71 {
		t.Errorf("version %d after a report of version %d", m.car.targets, shown+70)
	}
	for range 5 { // not a ladder
		m.believes(m.car.targets + 990)
		m.car.poll()
	}
	if now := string(must(os.ReadFile(m.path))(t)); now != mark {
		t.Errorf("the mark climbs: %s", now)
	}
}

// TestOtherLine: what was moved away for an older backup, and comes back after the restore, is older than what devices have seen since.
func TestOtherLine(t *testing.T) {
	m := newMarked(t)
	m.refusedStart("uptane restore")
	if _, err := reposerver.Restore(t.Context(), m.office.image, m.director, reposerver.Restored{Targets: m.targets}); err != nil {
		t.Fatal(err)
	}
	m.after()
	m.backup = m.newer
	m.putBack("director")
	m.refusedStart("fleet store")
}

// TestRestoreCutShort: a restore that is refused or that fails in the middle leaves a folder that is not served, and is done again.
func TestRestoreCutShort(t *testing.T) {
	for _, lost := range []bool{false, true} {
		m := newMarked(t)
		if lost {
			if err := os.Remove(m.path); err != nil {
				t.Fatal(err)
			}
		}
		if err := m.reopen(); err == nil {
			t.Fatal("started")
		}
		before := m.bytesOf()
		bad := []byte(strings.Replace(string(m.targets), `"sig":"`, `"sig":"AAAA`, 1))
		if _, err := reposerver.Restore(t.Context(), m.office.image, m.director, reposerver.Restored{Targets: bad, MarkLost: lost}); err == nil {
			t.Error("bad signatures are taken")
		}
		if m.bytesOf() != before {
			t.Error("a refusal wrote something")
		}
		unsigned := []byte(strings.Replace(string(must(os.ReadFile(oneObject(t, filepath.Join(m.dir, "director"), "Root")))(t)), `"version":1`, `"version":2`, 1))
		if _, err := reposerver.Restore(t.Context(), m.office.image, m.director, reposerver.Restored{Targets: m.targets, DirectorRoots: [][]byte{unsigned}, MarkLost: lost}); err == nil {
			t.Error("a bad root is taken")
		}
		if m.bytesOf() != before {
			t.Error("a refusal wrote something")
		}
		// The store cannot be written: as if the machine had died before that.
		m.fleet.Close()
		if _, err := reposerver.Restore(t.Context(), m.office.image, m.director, reposerver.Restored{Targets: m.targets, MarkLost: lost}); err == nil {
			t.Fatal("a restore without a fleet store")
		}
		m.refusedStart("uptane restore")
		_, found, err := reposerver.OpenMark(m.path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := reposerver.Restore(t.Context(), m.office.image, m.director, reposerver.Restored{Targets: m.targets, MarkLost: !found}); err != nil {
			t.Fatal(err)
		}
		m.after()
	}
}
