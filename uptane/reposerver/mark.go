package reposerver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"
	"time"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/strict"
	"github.com/hanaper/hanaper/uptane"
)

// Mark is the high-water mark of a server: a file, outside of its folder and of the folder's backups, that remembers what
// devices have been shown. A folder that is older than the mark is not served, for devices would see a rollback.
type Mark struct {
	path string

	mu  sync.Mutex
	has marks
}

// marks is the file, format 1.
type marks struct {
	Format   int       `json:"format"`
	Image    roleMarks `json:"image"`
	Director roleMarks `json:"director"`
	Fleet    struct {
		// Versions is above the version of every device's metadata: it is raised in steps, before anything is signed.
		Versions int `json:"versions"`
		// Floor is below every device's next version: what Versions was when a backup was put back.
		Floor int `json:"floor"`
		// Revision is of the fleet store, as it was some seconds ago.
		Revision int64 `json:"revision"`
	} `json:"fleet"`
}

// roleMarks are the versions that a repository has.
type roleMarks struct {
	Root        int            `json:"root"`
	Targets     int            `json:"targets,omitempty"`
	Snapshot    int            `json:"snapshot,omitempty"`
	Timestamp   int            `json:"timestamp,omitempty"`
	Delegations map[string]int `json:"delegations,omitempty"`
}

const (
	markFormat = 1
	// versionStep is by how much the mark of device versions is raised at once, and restoredStep by how much versions are raised
	// when the mark is lost: more than any server signs, and room for a thousand restores below what devices can count to.
	versionStep  = 1000
	restoredStep = 1_000_000
)

// OpenMark reads the mark at path; found is false where there is none.
func OpenMark(path string) (m *Mark, found bool, err error) {
	m = &Mark{path: path}
	found, err = m.read()
	return m, found, err
}

func (m *Mark) read() (found bool, err error) {
	data, err := input.Read(m.path, 16<<20)
	if errors.Is(err, fs.ErrNotExist) {
		m.has = marks{Format: markFormat}
		return false, nil
	}
	if err != nil {
		return false, err
	}
	var has marks
	if err := strict.JSON(m.path, data, &has); err != nil {
		return false, err
	}
	if has.Format != markFormat {
		return false, fmt.Errorf("%s: format %d is not %d, which this release knows", show.Text(m.path), has.Format, markFormat)
	}
	m.has = has
	return true, nil
}

// change reads the file anew, for other processes raise it too, and writes it if do has changed it.
func (m *Mark) change(ctx context.Context, do func(*marks)) error {
	if m == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	release, err := waitForLock(ctx, m.path+".lock")
	if err != nil {
		return fmt.Errorf("the high-water mark: %w", err)
	}
	defer release()
	if _, err := m.read(); err != nil {
		return err
	}
	before, err := json.Marshal(m.has)
	if err != nil {
		return err
	}
	do(&m.has)
	after, err := json.Marshal(m.has)
	if err != nil || string(before) == string(after) {
		return err
	}
	return durable.WriteFile(m.path, append(after, '\n'), 0o644)
}

func waitForLock(ctx context.Context, path string) (release func(), err error) {
	end := time.Now().Add(lockPatience)
	for {
		file, err := durable.Lock(path)
		if err == nil {
			return func() { closeQuietly(file) }, nil
		}
		if !errors.Is(err, durable.ErrLocked) || time.Now().After(end) || ctx.Err() != nil {
			return nil, err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (m *marks) of(kind uptane.Repository) *roleMarks {
	if kind == uptane.Director {
		return &m.Director
	}
	return &m.Image
}

// raise takes what is higher. Targets that left no room (uptane.MayFollow) were replaced by others.
func (r *roleMarks) raise(to roleMarks) {
	if r.Targets > maxVersion {
		r.Targets = to.Targets
	}
	r.Root, r.Targets = max(r.Root, to.Root), max(r.Targets, to.Targets)
	r.Snapshot, r.Timestamp = max(r.Snapshot, to.Snapshot), max(r.Timestamp, to.Timestamp)
	for name, v := range to.Delegations {
		if r.Delegations == nil {
			r.Delegations = map[string]int{}
		}
		r.Delegations[name] = max(r.Delegations[name], v)
	}
}

// cover makes sure that the mark is above a version before a device is shown it.
func (m *Mark) cover(ctx context.Context, version int) error {
	if m == nil {
		return nil
	}
	m.mu.Lock()
	covered := version < m.has.Fleet.Versions
	m.mu.Unlock()
	if covered {
		return nil
	}
	return m.change(ctx, func(has *marks) { has.Fleet.Versions = max(has.Fleet.Versions, version+versionStep) })
}

// shown says whether a device may have been shown a version. The next one must be below the mark too: what devices say
// never raises it, for it is every device's.
func (m *Mark) shown(version int) bool {
	if m == nil {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return version < m.has.Fleet.Versions-1
}

// floor is below every device's next version.
func (m *Mark) floor() int {
	if m == nil {
		return 0
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.has.Fleet.Floor
}

// versions are those of what an index lists.
func (r *Repository) versions(ix *index) (roleMarks, error) {
	out := roleMarks{Root: ix.First + len(ix.Roots) - 1}
	for role, at := range map[uptane.Role]struct {
		digest string
		to     *int
	}{uptane.RoleTargets: {ix.Targets, &out.Targets}, uptane.RoleSnapshot: {ix.Snapshot, &out.Snapshot}, uptane.RoleTimestamp: {ix.Timestamp, &out.Timestamp}} {
		if at.digest == "" {
			continue
		}
		data, err := r.files.object(at.digest)
		if err != nil {
			return out, err
		}
		doc, err := uptane.ParseDocument(r.kind, role, data)
		if err != nil {
			return out, err
		}
		*at.to = doc.Version()
	}
	for name, d := range ix.Delegations {
		if out.Delegations == nil {
			out.Delegations = map[string]int{}
		}
		out.Delegations[name] = d.Version
	}
	return out, nil
}

// note raises the mark to what has become current.
func (r *Repository) note(ctx context.Context, ix *index) error {
	if r.mark == nil {
		return nil
	}
	now, err := r.versions(ix)
	if err != nil {
		return err
	}
	return r.mark.change(ctx, func(has *marks) { has.of(r.kind).raise(now) })
}

// behind says in words what of a repository is older than what was served; empty: nothing.
func (r roleMarks) behind(served roleMarks) (out []string) {
	for _, c := range []struct {
		name      string
		has, need int
	}{{"root", r.Root, served.Root}, {"targets", r.Targets, served.Targets}, {"snapshot", r.Snapshot, served.Snapshot}, {"timestamp", r.Timestamp, served.Timestamp}} {
		if c.has < c.need {
			out = append(out, fmt.Sprintf("%s version %d, and version %d was served", c.name, c.has, c.need))
		}
	}
	for name, v := range served.Delegations {
		if r.Delegations[name] < v {
			out = append(out, fmt.Sprintf("delegation %s version %d, and version %d was served", show.Text(name), r.Delegations[name], v))
		}
	}
	return out
}

// Marked opens a server's mark, and refuses a folder that is older. A folder that has never had a mark is given one.
func (i *Image) Marked(ctx context.Context, d *Director) error {
	mark, found, err := OpenMark(i.mark.path)
	if err != nil {
		return err
	}
	all := []*Repository{i.Repository}
	if d != nil {
		all = append(all, d.Repository)
	}
	restore := "run 'hanaper-repo uptane restore', which raises what this server signs above what devices have seen"
	for _, r := range all {
		ix, err := r.files.index()
		if err != nil {
			return err
		}
		if ix.Marked && !found {
			return advice.New(advice.Refused, "put the file back; if it is lost, 'hanaper-repo uptane restore --high-water-lost'", "the high-water mark %s is gone: this folder could be older than what devices have seen", show.Text(r.mark.path))
		}
		now, err := r.versions(ix)
		if err != nil {
			return err
		}
		if list := now.behind(*mark.has.of(r.kind)); found && len(list) > 0 {
			return advice.New(advice.Refused, restore, "the %s repository in %s is older than what was served: it has %s", r.kind, show.Text(r.files.dir), list[0])
		}
	}
	if d != nil && found {
		revision, err := d.fleet.Revision(ctx)
		if err != nil {
			return err
		}
		if revision < mark.has.Fleet.Revision {
			return advice.New(advice.Refused, restore, "the fleet store in %s is older than what was served", show.Text(d.files.dir))
		}
	}
	for _, r := range all {
		if err := r.adopt(ctx); err != nil {
			return err
		}
	}
	return d.NoteFleet(ctx)
}

// adopt notes what is current, and in the index that there is a mark.
func (r *Repository) adopt(ctx context.Context) error {
	ix, err := r.files.index()
	if err != nil {
		return err
	}
	if err := r.note(ctx, ix); err != nil || ix.Marked {
		return err
	}
	return r.files.update(ctx, func(c *change) error {
		c.Marked = true
		return nil
	})
}

// NoteFleet raises the mark to the state of the fleet store. A server calls it now and then, and when it ends.
func (d *Director) NoteFleet(ctx context.Context) error {
	if d == nil || d.mark == nil {
		return nil
	}
	revision, err := d.fleet.Revision(ctx)
	if err != nil {
		return err
	}
	highest := 0
	d.mark.mu.Lock()
	fresh := d.mark.has.Fleet.Versions == 0
	d.mark.mu.Unlock()
	if fresh {
		// A fleet that is older than the mark.
		if err := d.fleet.Each(ctx, func(dev *Device) error { highest = max(highest, dev.Versions.highest()); return nil }); err != nil {
			return err
		}
		highest += versionStep
	}
	return d.mark.change(ctx, func(has *marks) {
		has.Fleet.Revision = max(has.Fleet.Revision, revision)
		has.Fleet.Versions = max(has.Fleet.Versions, highest)
	})
}

func (v Versions) highest() int { return max(v.Targets, v.Snapshot, v.Timestamp) }

// Restored is what an operator has beside a backup: what officers have signed since.
type Restored struct {
	ImageRoots, DirectorRoots [][]byte
	Targets                   []byte
	Delegations               map[string][]byte
	// MarkLost says that the high-water mark is lost too.
	MarkLost bool
}

// Restore makes a folder that was put back from a backup fit to be served: what officers sign must be as new as what was
// served, and is taken from res; what the server signs is raised above it. The server must not run. On refusal nothing is written.
func Restore(ctx context.Context, i *Image, d *Director, res Restored) (report []string, err error) {
	mark, found, err := OpenMark(i.mark.path)
	if err != nil {
		return nil, err
	}
	if found == res.MarkLost {
		if found {
			return nil, advice.New(advice.Usage, "", "the high-water mark %s is there: leave --high-water-lost out", show.Text(mark.path))
		}
		return nil, advice.New(advice.Refused, "put the file back; if it is lost, give --high-water-lost with the newest roots, targets and delegations of the officers",
			"the high-water mark %s is gone", show.Text(mark.path))
	}
	if res.MarkLost && len(res.Targets) == 0 {
		return nil, advice.New(advice.Refused, "give the newest with --image-targets (and roots and delegations): of what officers signed after the backup nothing else is known", "without the high-water mark nobody knows which targets were served last")
	}
	served, floor := mark.has, mark.has.Fleet.Versions
	if res.MarkLost {
		ix, err := i.files.index()
		if err != nil {
			return nil, err
		}
		if served.Image, err = i.versions(ix); err != nil {
			return nil, err
		}
		served.Image.Snapshot += restoredStep
		served.Image.Timestamp += restoredStep
	}
	if served.Image, err = i.wouldBeBehind(served.Image, res.ImageRoots, res.Targets, res.Delegations); err != nil {
		return nil, err
	}
	takeImage := func(t *change) error { return i.takeNewer(ctx, t, res, served.Image) }
	takeDirector := func(t *change) error { return d.takeRoots(ctx, t, res.DirectorRoots) }
	if err := i.files.try(ctx, takeImage); err != nil {
		return nil, err
	}
	if d != nil {
		if served.Director, err = d.wouldBeBehind(served.Director, res.DirectorRoots, nil, nil); err != nil {
			return nil, err
		}
		if err := d.files.try(ctx, takeDirector); err != nil {
			return nil, err
		}
		has, err := d.fleet.Revision(ctx)
		if err != nil {
			return nil, err
		}
		if res.MarkLost {
			if err := d.fleet.Each(ctx, func(dev *Device) error { floor = max(floor, dev.Versions.highest()); return nil }); err != nil {
				return nil, err
			}
			floor += restoredStep
		}
		// Above every revision that there was: what was moved away for the backup is older from now on.
		served.Fleet.Revision = max(served.Fleet.Revision, has) + restoredStep
	}
	// The mark comes first: a folder that is behind it is not served, so that a restore that is cut short is done again.
	if err := mark.change(ctx, func(has *marks) {
		has.Image.raise(served.Image)
		if d != nil {
			has.Director.raise(served.Director)
			has.Fleet.Floor, has.Fleet.Versions, has.Fleet.Revision = floor, floor+versionStep, served.Fleet.Revision
		}
	}); err != nil {
		return nil, err
	}
	if err := i.files.update(ctx, takeImage); err != nil {
		return nil, err
	}
	if err := i.adopt(ctx); err != nil {
		return nil, err
	}
	report = append(report, fmt.Sprintf("image: snapshot and timestamp are above versions %d and %d", served.Image.Snapshot, served.Image.Timestamp))
	if d == nil {
		return report, nil
	}
	if err := d.files.update(ctx, takeDirector); err != nil {
		return nil, err
	}
	if err := d.adopt(ctx); err != nil {
		return nil, err
	}
	if err := d.fleet.Raise(ctx, served.Fleet.Revision); err != nil {
		return nil, err
	}
	return append(report, fmt.Sprintf("director: every device's metadata goes on above version %d", floor)), nil
}

// wouldBeBehind refuses when officers' documents would be older than what was served, with those that were given. It returns
// the versions that there will be; those of snapshot and timestamp will be above.
func (r *Repository) wouldBeBehind(served roleMarks, roots [][]byte, targets []byte, delegations map[string][]byte) (has roleMarks, err error) {
	ix, err := r.files.index()
	if err != nil {
		return has, err
	}
	has, err = r.versions(ix)
	if err != nil {
		return has, err
	}
	for _, data := range roots {
		root, err := uptane.ParseRoot(data)
		if err != nil {
			return has, advice.Wrap(advice.Usage, err, "a root.json is wanted")
		}
		has.Root = max(has.Root, root.Version())
	}
	if targets != nil {
		doc, err := uptane.ParseTargets(uptane.Image, targets)
		if err != nil {
			return has, advice.Wrap(advice.Usage, err, "a signed targets.json is wanted")
		}
		has.Targets = max(has.Targets, doc.Version())
	}
	for name, data := range delegations {
		doc, err := uptane.ParseTargets(uptane.Image, data)
		if err != nil {
			return has, advice.Wrap(advice.Usage, err, "a delegation's signed metadata is wanted")
		}
		if has.Delegations == nil {
			has.Delegations = map[string]int{}
		}
		has.Delegations[name] = max(has.Delegations[name], doc.Version())
	}
	has.Snapshot, has.Timestamp = served.Snapshot, served.Timestamp // these are raised
	if list := has.behind(served); len(list) > 0 {
		return has, advice.New(advice.Refused, "give the newest that officers have signed: --image-root, --image-targets, --delegation NAME=FILE, --director-root",
			"the %s repository: the backup has %s, and this server cannot sign it", r.kind, list[0])
	}
	return has, nil
}

// takeRoots adds the roots that the backup lacks.
func (r *Repository) takeRoots(ctx context.Context, t *change, roots [][]byte) error {
	for _, data := range roots {
		root, err := uptane.ParseRoot(data)
		if err != nil {
			return err
		}
		if current, err := r.current(t); err != nil {
			return err
		} else if root.Version() > current.Version() {
			if _, err := r.addRoot(ctx, t, root, false); err != nil {
				return err
			}
		}
	}
	return nil
}

// takeNewer adds what officers signed and the backup lacks, and signs snapshot and timestamp above what was served.
func (i *Image) takeNewer(ctx context.Context, t *change, res Restored, served roleMarks) error {
	if err := i.takeRoots(ctx, t, res.ImageRoots); err != nil {
		return err
	}
	if res.Targets != nil {
		old, err := t.targets()
		if err != nil {
			return err
		}
		root, err := i.current(t)
		if err != nil {
			return err
		}
		if doc, err := uptane.ParseTargets(uptane.Image, res.Targets); err != nil {
			return err
		} else if uptane.MayFollow(root, old, doc.Version()) {
			if doc, err = i.parseTargets(res.Targets); err != nil {
				return err
			}
			if err := i.addTargets(t, doc); err != nil {
				return err
			}
		}
	}
	for name, data := range res.Delegations {
		doc, err := uptane.ParseTargets(uptane.Image, data)
		if err != nil {
			return err
		}
		if doc.Version() > t.Delegations[name].Version {
			if doc, err = i.parseTargets(data); err != nil {
				return err
			}
			if err := i.addDelegation(t, name, doc); err != nil {
				return err
			}
		}
	}
	t.above = &served
	return i.dress(ctx, t)
}

// ServingLock keeps a second server, and a restore, away from a folder while it is served.
func ServingLock(dir string) (release func(), err error) {
	file, err := durable.Lock(filepath.Join(dir, "serving.lock"))
	if errors.Is(err, durable.ErrLocked) {
		return nil, advice.New(advice.Refused, "stop it first", "a server is running on %s", show.Text(dir))
	}
	if err != nil {
		return nil, err
	}
	return func() { closeQuietly(file) }, nil
}
