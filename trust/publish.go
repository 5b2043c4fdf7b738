package trust

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/input"
)

// publication is what is to be published: the officers' part, the files not yet in the folder, and at most one new CRL.
type publication struct {
	officers *Repository
	files    Files
	crlName  string
	crl      []byte
}

func digestOf(data []byte) [32]byte { return sha256.Sum256(data) }

func trimSerial(s serial) []byte { return bytes.TrimLeft(s[:], "\x00") }

// publish signs the online half over pub, opens the result as a reader would that has seen what is published now, and only
// then writes it.
func (p *Publisher) publish(pub *publication, now time.Time) error {
	now = now.UTC().Truncate(time.Second)
	crlMeta, crlRaw, err := p.signCRLRole(pub, now)
	if err != nil {
		return err
	}
	snapMeta, snapRaw, err := p.signSnapshot(pub, crlMeta, crlRaw, now)
	if err != nil {
		return err
	}
	if err := p.signTimestamp(pub, snapMeta, snapRaw, now); err != nil {
		return err
	}
	files := overlay{top: pub.files, under: input.Dir(p.config.Dir)}
	var next *View
	if p.view == nil {
		next, err = Open(files, p.config.Pin, now)
	} else {
		next, err = OpenAfter(files, p.view, p.config.Pin, now)
	}
	if err != nil {
		return fmt.Errorf("refusing to publish what gateways would refuse: %w", err)
	}
	if err := writePending(p.config.Dir, pub.files); err != nil {
		return err
	}
	// Whole, the publication is finished by the next start whatever happens now; before, the mark would be ahead of it.
	if err := p.mark(next); err != nil {
		return err
	}
	if err := finishPending(p.config.Dir); err != nil {
		return err
	}
	if len(p.newLogs(pub.officers.policy)) > 0 {
		p.logged = now
	}
	p.show(next)
	prune(p.config.Dir, next, now)
	return nil
}

// roleSigner checks that the officers named the key for the role.
func roleSigner(role string, key crypto.Signer, ids []string) error {
	_, id, err := tufKey(knownAt{}, key.Public())
	if err != nil {
		return err
	}
	if !slices.Contains(ids, id) {
		return refuse(ErrSignature, "the "+role+" key of this config", "the officers have not named it for this role")
	}
	return nil
}

func keySet(ids []string) map[string]bool {
	set := map[string]bool{}
	for _, id := range ids {
		set[id] = true
	}
	return set
}

// stale says whether something that expires at t must be signed anew: half of its life has passed, or more of it is to come than it was given. A clock that was
// ahead dated that; gateways from which all later news is withheld would go on with it until then.
func stale(t time.Time, life time.Duration, now time.Time) bool {
	return !now.Before(t.Add(-life/2)) || t.After(now.Add(life+maxClockSkew))
}

func (p *Publisher) signCRLRole(pub *publication, now time.Time) (*targetsMetadata, []byte, error) {
	d := pub.officers.targets.Signed.Delegations.Roles[0]
	if err := roleSigner(crlRole, p.config.CRL, d.KeyIDs); err != nil {
		return nil, nil, err
	}
	m := metadata.Targets(now.Add(p.config.CRLLife))
	m.Signed.UnrecognizedFields = ownFields(p.config.Environment)
	same, logs := p.view != nil, p.newLogs(pub.officers.policy)
	if p.view != nil {
		m.Signed.Version = p.view.versions.CRL + 1
		for name, f := range p.view.crlMeta.Signed.Targets {
			id, _ := parseCRLTarget(onlineCRLPrefix, name)
			// What the officers no longer name goes: a CA with its CRL, a log with its checkpoint.
			if p.keepsLog(pub, name) || pub.officers.names(id) {
				m.Signed.Targets[name] = f
			} else {
				same = false
			}
		}
		was := p.view.delegation()
		same = same && pub.crl == nil && len(logs) == 0 && slices.Equal(was.KeyIDs, d.KeyIDs) && was.Threshold == d.Threshold &&
			!stale(p.view.onlineExpiry.crl, p.config.CRLLife, now)
		if same {
			return p.view.crlMeta, p.view.raw.crl, nil
		}
	}
	if pub.crl != nil {
		addTarget(m, pub.files, pub.crlName, pub.crl)
	}
	for name, l := range logs {
		addTarget(m, pub.files, name, l.Note)
	}
	if slices.ContainsFunc(slices.Collect(maps.Keys(m.Signed.Targets)), isLogTarget) {
		m.Signed.UnrecognizedFields[formatField] = formatLogs
	}
	if err := signInto(pub.files, *m, crlRole, m.Signed.Version, keySet(d.KeyIDs), []crypto.Signer{p.config.CRL}); err != nil {
		return nil, nil, err
	}
	return m, pub.files[metadataPath(crlRole, m.Signed.Version)], nil
}

// keepsLog says whether a target is the published checkpoint of a log that the officers' policy lets in.
func (p *Publisher) keepsLog(pub *publication, name string) bool {
	return isLogTarget(name) && pub.officers.policy.checkLog(p.view.logs[name]) == nil
}

// names says whether the officers name a CA with this key.
func (rep *Repository) names(id ID) bool {
	for _, c := range rep.cas {
		if IssuerID(c) == id {
			return true
		}
	}
	return false
}

func metaFile(version int64, raw []byte) *metadata.MetaFiles {
	hash := sha256.Sum256(raw)
	return &metadata.MetaFiles{Version: version, Length: int64(len(raw)), Hashes: metadata.Hashes{"sha256": hash[:]}}
}

func (p *Publisher) signSnapshot(pub *publication, crlMeta *targetsMetadata, crlRaw []byte, now time.Time) (*metadata.Metadata[metadata.SnapshotType], []byte, error) {
	ids := pub.officers.roots.signers(metadata.SNAPSHOT).ids
	if err := roleSigner(metadata.SNAPSHOT, p.config.Snapshot, ids); err != nil {
		return nil, nil, err
	}
	m := metadata.Snapshot(now.Add(p.config.SnapshotLife))
	m.Signed.UnrecognizedFields = ownFields(p.config.Environment)
	m.Signed.Meta = map[string]*metadata.MetaFiles{
		"targets.json": metaFile(pub.officers.head.version, pub.officers.targetsRaw),
		"crl.json":     metaFile(crlMeta.Signed.Version, crlRaw),
	}
	if p.view != nil {
		m.Signed.Version = p.view.versions.Snapshot + 1
		same := bytes.Equal(p.view.raw.crl, crlRaw) && bytes.Equal(p.view.officers.targetsRaw, pub.officers.targetsRaw) &&
			slices.Equal(roleIDs(p.view.officers.roots, metadata.SNAPSHOT), ids) && !stale(p.view.onlineExpiry.snapshot, p.config.SnapshotLife, now)
		if same {
			old, _, err := parseMetadata[metadata.SnapshotType]("the snapshot", p.view.raw.snapshot)
			return old, p.view.raw.snapshot, err
		}
	}
	err := signInto(pub.files, *m, metadata.SNAPSHOT, m.Signed.Version, keySet(ids), []crypto.Signer{p.config.Snapshot})
	return m, pub.files[metadataPath(metadata.SNAPSHOT, m.Signed.Version)], err
}

func (p *Publisher) signTimestamp(pub *publication, snap *metadata.Metadata[metadata.SnapshotType], snapRaw []byte, now time.Time) error {
	ids := pub.officers.roots.signers(metadata.TIMESTAMP).ids
	if err := roleSigner(metadata.TIMESTAMP, p.config.Timestamp, ids); err != nil {
		return err
	}
	m := metadata.Timestamp(now.Add(p.config.TimestampLife))
	m.Signed.UnrecognizedFields = ownFields(p.config.Environment)
	m.Signed.Meta = map[string]*metadata.MetaFiles{"snapshot.json": metaFile(snap.Signed.Version, snapRaw)}
	if p.view != nil {
		m.Signed.Version = p.view.versions.Timestamp + 1
	}
	return signInto(pub.files, *m, metadata.TIMESTAMP, m.Signed.Version, keySet(ids), []crypto.Signer{p.config.Timestamp})
}

// overlay reads from top first.
type overlay struct {
	top   Files
	under fs.FS
}

// Open implements fs.FS.
func (o overlay) Open(name string) (fs.File, error) {
	if _, ok := o.top[name]; ok {
		return o.top.Open(name)
	}
	return o.under.Open(name)
}

// pendingDir holds a publication that is being moved into place; it is whole once pendingMark is there.
const (
	pendingDir  = ".pending"
	pendingMark = "complete"
)

// writePending and finishPending publish files so that a reader sees the old repository or the new one, and so that a crash
// in between is finished by the latter: all files are made durable beside their places first, and then moved, timestamp.json
// last.
func writePending(dir string, files Files) error {
	pending := filepath.Join(dir, pendingDir)
	if err := os.RemoveAll(pending); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		at := filepath.Join(pending, filepath.FromSlash(name))
		if err := durable.Mkdir(filepath.Dir(at), 0o755); err != nil {
			return err
		}
		if err := durable.WriteFile(at, files[name], 0o644); err != nil {
			return err
		}
	}
	return durable.WriteFile(filepath.Join(pending, pendingMark), nil, 0o644)
}

// rank orders files so that none names a file that comes after it.
func rank(name string) string {
	base := path.Base(name)
	for i, suffix := range []string{".root.json", ".targets.json", ".crl.json", ".snapshot.json"} {
		if strings.HasPrefix(name, "metadata/") && strings.HasSuffix(base, suffix) {
			// Roots in order: a reader walks them one by one.
			return fmt.Sprintf("%d%20s", i+1, base)
		}
	}
	if name == timestampPath {
		return "9"
	}
	return "0" + name
}

// finishPending moves a whole pending publication into place and drops one that is not whole.
func finishPending(dir string) error {
	pending := filepath.Join(dir, pendingDir)
	if _, err := os.Stat(filepath.Join(pending, pendingMark)); errors.Is(err, fs.ErrNotExist) {
		return os.RemoveAll(pending)
	} else if err != nil {
		return err
	}
	var names []string
	err := fs.WalkDir(input.Dir(pending), ".", func(name string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() && name != pendingMark {
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		return err
	}
	slices.SortFunc(names, func(a, b string) int { return strings.Compare(rank(a), rank(b)) })
	for _, name := range names {
		to := filepath.Join(dir, filepath.FromSlash(name))
		if err := durable.Mkdir(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		if err := os.Rename(filepath.Join(pending, filepath.FromSlash(name)), to); err != nil {
			return err
		}
		if err := durable.SyncDir(filepath.Dir(to)); err != nil {
			return err
		}
	}
	return os.RemoveAll(pending)
}

// Old files stay for readers who have just read the metadata that names them.
const pruneGrace = time.Hour

// prune removes files that the view no longer rests on, roots excepted. What it cannot remove stays until the next time.
func prune(dir string, v *View, now time.Time) {
	for _, sub := range []string{"metadata", "targets"} {
		_ = filepath.WalkDir(filepath.Join(dir, sub), func(at string, e fs.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() {
				return nil
			}
			rel, err := filepath.Rel(dir, at)
			if err != nil {
				return nil
			}
			_, wanted := v.files[filepath.ToSlash(rel)]
			info, err := e.Info()
			if !wanted && err == nil && !strings.HasSuffix(at, ".root.json") && now.Sub(info.ModTime()) > pruneGrace {
				_ = os.Remove(at)
			}
			return nil
		})
	}
}
