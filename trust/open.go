package trust

import (
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"
)

var (
	snapshotMeta  = map[string]int64{"targets.json": MaxTargetsSize, "crl.json": MaxTargetsSize}
	timestampMeta = map[string]int64{"snapshot.json": MaxSnapshotSize}
)

// Open verifies a whole repository, starting from pin. Expired metadata, broken thresholds and mixed versions are
// refused; a CRL that ended is not, for it concerns its CA alone. It knows no history: a reader that keeps state uses OpenAfter.
func Open(files fs.FS, pin Pin, now time.Time) (*View, error) {
	v, err := open(newReader(files), nil, pin, now)
	if err != nil {
		return nil, err
	}
	return v, v.Valid(now)
}

// OpenAfter is Open for a reader that has seen prev: it starts from prev's root, and refuses versions and CRL numbers
// that fall, metadata or CRLs that vanish, and revoked serials that vanish without a release. pin must be in the root
// chain. Target files that prev has read are not read again. When nothing has changed it returns prev itself.
func OpenAfter(files fs.FS, prev *View, pin Pin, now time.Time) (*View, error) {
	v, err := open(newReader(files), prev, pin, now)
	if err != nil {
		return nil, err
	}
	if v != prev {
		if err := checkFollows(prev, v); err != nil {
			return nil, err
		}
	}
	if err := v.Valid(now); err != nil {
		return nil, err
	}
	return v, nil
}

// Recall opens a repository that the caller has accepted before, whatever its expiry: only Valid says whether it is still good.
// first is the SHA-256 of the first root in files.
func Recall(files fs.FS, first [32]byte) (*View, error) {
	return open(newReader(files), nil, Pin{digest: first}, time.Unix(0, 0))
}

// open does everything but compare with the past and ask for expiry.
func open(r *reader, prev *View, pin Pin, now time.Time) (*View, error) {
	roots, trusted, err := followChain(r, prev, pin)
	if err != nil {
		return nil, err
	}
	trusted.RefTime = now.UTC()
	timestamp, err := r.read(timestampPath, MaxTimestampSize)
	if errors.Is(err, fs.ErrNotExist) && r.empty() {
		return nil, refuse(ErrEmpty, "the source", "")
	}
	if err != nil {
		return nil, unreadable(timestampPath, err)
	}
	if prev != nil && bytes.Equal(timestamp, prev.raw.timestamp) && len(roots.raw) == len(prev.officers.roots.raw) {
		return prev, nil
	}
	v := &View{raw: rawOnline{timestamp: timestamp}}
	ts, tsHead, err := openTimestamp(roots, trusted, timestamp)
	if err != nil {
		return nil, err
	}
	snap, snapHead, err := v.openSnapshot(r, roots, trusted, ts, prev)
	if err != nil {
		return nil, err
	}
	if err := v.openOfficers(r, roots, trusted, snap, prev); err != nil {
		return nil, err
	}
	crlHead, err := v.openOnline(r, roots, trusted, snap, prev)
	if err != nil {
		return nil, err
	}
	v.files = maps.Clone(r.seen)
	v.complete(snapHead, tsHead, crlHead)
	return v, nil
}

// followChain starts from prev's newest root, or from the pin.
func followChain(r *reader, prev *View, pin Pin) (*chain, *trustedmetadata.TrustedMetadata, error) {
	if prev == nil {
		return openChain(r, pin)
	}
	old := prev.officers.roots
	trusted, err := trustedmetadata.New(old.raw[len(old.raw)-1])
	if err != nil {
		return nil, nil, fromTUF("the last trusted root", err)
	}
	c := *old
	if err := c.extend(r, trusted); err != nil {
		return nil, nil, err
	}
	if !c.contains(pin.digest) {
		return nil, nil, refuse(ErrPin, pin.String(), "")
	}
	return &c, trusted, nil
}

func openTimestamp(roots *chain, trusted *trustedmetadata.TrustedMetadata, raw []byte) (*metadata.Metadata[metadata.TimestampType], header, error) {
	m, head, err := openRole(roots, timestampPath, raw, roots.signers(metadata.TIMESTAMP), func(m *metadata.Metadata[metadata.TimestampType]) error {
		return checkMetaShape(m.Signed.Meta, timestampMeta)
	})
	if err != nil {
		return nil, head, err
	}
	if _, err := trusted.UpdateTimestamp(raw); err != nil {
		return nil, head, fromTUF(timestampPath, err)
	}
	return m, head, nil
}

func (v *View) openSnapshot(r *reader, roots *chain, trusted *trustedmetadata.TrustedMetadata, ts *metadata.Metadata[metadata.TimestampType], prev *View) (*metadata.Metadata[metadata.SnapshotType], header, error) {
	meta := ts.Signed.Meta["snapshot.json"]
	path := metadataPath(metadata.SNAPSHOT, meta.Version)
	raw, err := r.readListed(path, meta, prev.held().snapshot)
	if err != nil {
		return nil, header{}, err
	}
	m, head, err := openRole(roots, path, raw, roots.signers(metadata.SNAPSHOT), func(m *metadata.Metadata[metadata.SnapshotType]) error {
		return checkMetaShape(m.Signed.Meta, snapshotMeta)
	})
	if err != nil {
		return nil, head, err
	}
	if _, err := trusted.UpdateSnapshot(raw, false); err != nil {
		return nil, head, fromTUF(path, err)
	}
	v.raw.snapshot = raw
	return m, head, nil
}

func (v *View) openOfficers(r *reader, roots *chain, trusted *trustedmetadata.TrustedMetadata, snap *metadata.Metadata[metadata.SnapshotType], prev *View) error {
	meta := snap.Signed.Meta["targets.json"]
	path := metadataPath(metadata.TARGETS, meta.Version)
	var before *Repository
	var held []byte
	if prev != nil {
		before, held = prev.officers, prev.officers.targetsRaw
	}
	raw, err := r.readListed(path, meta, held)
	if err != nil {
		return err
	}
	if v.officers, err = openOfficers(r, roots, raw, path, before); err != nil {
		return err
	}
	if _, err := trusted.UpdateTargets(raw); err != nil {
		return fromTUF(path, err)
	}
	return nil
}

func (v *View) openOnline(r *reader, roots *chain, trusted *trustedmetadata.TrustedMetadata, snap *metadata.Metadata[metadata.SnapshotType], prev *View) (header, error) {
	meta := snap.Signed.Meta["crl.json"]
	path := metadataPath(crlRole, meta.Version)
	raw, err := r.readListed(path, meta, prev.held().crl)
	if err != nil {
		return header{}, err
	}
	d := v.delegation()
	m, head, err := openRole(roots, path, raw, signers{d.KeyIDs, d.Threshold, v.officers.delegated, true}, func(m *metadata.Metadata[metadata.TargetsType]) error {
		if m.Signed.Delegations != nil {
			return errors.New("the online role may not delegate")
		}
		return checkTargetsShape(m)
	})
	if err != nil {
		return head, err
	}
	if _, err := trusted.UpdateDelegatedTargets(raw, crlRole, metadata.TARGETS); err != nil {
		return head, fromTUF(path, err)
	}
	var known map[ID]*crl
	if prev != nil {
		known = prev.online
	}
	if v.logs, err = readLogs(r, m, v.officers.policy); err != nil {
		return head, err
	}
	// A reader of format 1 must not be shown what it does not know; so the format says whether there are logs.
	if (len(v.logs) > 0) != (head.format == formatLogs) {
		return head, refuse(ErrMalformed, path, "it lists %d logs in format %d", len(v.logs), head.format)
	}
	if v.online, err = readCRLs(r, m, onlineCRLPrefix, v.officers.cas, known, true); err != nil {
		return head, err
	}
	v.crlMeta, v.raw.crl = m, raw
	return head, nil
}

// checkFollows states what a later view may not undo.
func checkFollows(prev, next *View) error {
	a, b := prev.versions, next.versions
	roots, old := next.officers.roots, prev.officers.roots
	for _, s := range []struct {
		name         string
		was, is      int64
		wasRaw       []byte
		raw          []byte
		ids, keptIDs []string
		threshold    int
	}{
		{"timestamp", a.Timestamp, b.Timestamp, prev.raw.timestamp, next.raw.timestamp, roleIDs(roots, "timestamp"), roleIDs(old, "timestamp"), roots.last.Signed.Roles["timestamp"].Threshold},
		{"snapshot", a.Snapshot, b.Snapshot, prev.raw.snapshot, next.raw.snapshot, roleIDs(roots, "snapshot"), roleIDs(old, "snapshot"), roots.last.Signed.Roles["snapshot"].Threshold},
		{"targets", a.Targets, b.Targets, prev.officers.targetsRaw, next.officers.targetsRaw, roleIDs(roots, "targets"), roleIDs(old, "targets"), roots.last.Signed.Roles["targets"].Threshold},
		{"crl", a.CRL, b.CRL, prev.raw.crl, next.raw.crl, next.delegation().KeyIDs, prev.delegation().KeyIDs, next.delegation().Threshold},
	} {
		// When too few of the old keys are left to sign for the role, no old file can pass for a new one, and a version that
		// stolen keys have driven up may fall: TUF's recovery from fast-forward attacks (specification, 5.3.11).
		if kept := shared(s.ids, s.keptIDs); kept < s.threshold {
			continue
		}
		if s.is < s.was {
			return refuse(ErrRollback, s.name+" metadata", "from version %d to %d", s.was, s.is)
		}
		if s.is == s.was && !bytes.Equal(s.raw, s.wasRaw) {
			return refuse(ErrRollback, s.name+" metadata", "version %d has two contents", s.is)
		}
	}
	if err := checkLogs(prev, next); err != nil {
		return err
	}
	return checkTightens(prev, next)
}

func (v *View) delegation() metadata.DelegatedRole {
	return v.officers.targets.Signed.Delegations.Roles[0]
}

func roleIDs(c *chain, name string) []string { return c.last.Signed.Roles[name].KeyIDs }

func shared(a, b []string) int {
	n := 0
	for _, id := range a {
		if slices.Contains(b, id) {
			n++
		}
	}
	return n
}

// checkTightens refuses a next view that forgets a revocation: of each CA that the officers still name, the CRL is there, its
// number has not fallen, and every serial is still listed or released.
func checkTightens(prev, next *View) error {
	for _, id := range sortedIDs(prev.crls) {
		was, is := prev.crls[id], next.crls[id]
		if was == is || !next.officers.names(id) {
			continue
		}
		name := "the CRL of " + next.nameOf(id)
		if is == nil {
			return refuse(ErrLoosened, name, "it is gone")
		}
		if is.info.Number.Cmp(was.info.Number) < 0 {
			return refuse(ErrRollback, name, "from number %v to %v", was.info.Number, is.info.Number)
		}
		if s, lost := is.serials.lacks(was.serials, next.officers.released[id]); lost {
			return refuse(ErrLoosened, name, "serial %x is no longer revoked", trimSerial(s))
		}
	}
	return nil
}
