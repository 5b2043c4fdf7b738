package reposerver

import (
	"context"
	"sync"
	"time"

	"github.com/hanaper/hanaper/uptane"
)

// Image is the Image repository.
type Image struct {
	*Repository
	// parsed is the targets documents that Find looked into last, by digest: each is parsed once.
	parsed sync.Map
}

// OpenImage opens the Image repository that Create made.
func OpenImage(c Config) (*Image, error) {
	c.Kind = uptane.Image
	r, err := newRepository(c)
	if err != nil {
		return nil, err
	}
	if _, err := r.files.index(); err != nil {
		return nil, err
	}
	return &Image{Repository: r}, nil
}

// dress makes snapshot and timestamp for what the change holds.
func (r *Repository) dress(ctx context.Context, t *change) error {
	root, err := r.current(t)
	if err != nil {
		return err
	}
	now := r.now().UTC().Truncate(time.Second)
	version, files := 0, map[string]uptane.MetaItem{}
	if t.Snapshot != "" {
		data, err := t.get(t.Snapshot)
		if err != nil {
			return err
		}
		old, err := uptane.ParseSnapshot(data)
		if err != nil {
			return err
		}
		version = old.Version()
		for _, name := range old.Files() {
			files[name], _ = old.Meta(name)
		}
	}
	if t.above != nil {
		version = max(version, t.above.Snapshot)
	}
	meta := map[string]uptane.MetaItem{"root.json": uptane.MetaOf(root)}
	describe := func(name, digest string) error {
		// The objects are named by the very digest that a snapshot lists.
		if item, ok := files[name]; ok && item.SHA256 == digest {
			meta[name] = item
			return nil
		}
		data, err := t.get(digest)
		if err != nil {
			return err
		}
		doc, err := uptane.ParseTargets(uptane.Image, data)
		if err != nil {
			return err
		}
		meta[name] = uptane.MetaOf(doc)
		return nil
	}
	if err := describe("targets.json", t.Targets); err != nil {
		return err
	}
	for name, d := range t.Delegations {
		if d.Digest != "" {
			if err := describe(name+".json", d.Digest); err != nil {
				return err
			}
		}
	}
	snapshot, err := uptane.NewSnapshot(uptane.MetaConfig{Version: version + 1, Expires: now.Add(r.lives.Snapshot).Truncate(time.Second), Meta: meta})
	if err != nil {
		return err
	}
	if snapshot, err = signOnline(ctx, r, root, snapshot); err != nil {
		return err
	}
	t.Snapshot = t.put(snapshot.Bytes())
	return r.stamp(ctx, t, root, snapshot)
}

// stamp makes the timestamp for a snapshot.
func (r *Repository) stamp(ctx context.Context, t *change, root *uptane.Root, snapshot *uptane.Snapshot) error {
	now := r.now().UTC().Truncate(time.Second)
	version := 0
	if t.Timestamp != "" {
		data, err := t.get(t.Timestamp)
		if err != nil {
			return err
		}
		old, err := uptane.ParseTimestamp(data)
		if err != nil {
			return err
		}
		version = old.Version()
	}
	if t.above != nil {
		version = max(version, t.above.Timestamp)
	}
	stamp, err := uptane.NewTimestamp(uptane.MetaConfig{Version: version + 1, Expires: now.Add(r.lives.Timestamp).Truncate(time.Second),
		Meta: map[string]uptane.MetaItem{"snapshot.json": uptane.MetaOf(snapshot)}})
	if err != nil {
		return err
	}
	if stamp, err = signOnline(ctx, r, root, stamp); err != nil {
		return err
	}
	t.Timestamp = t.put(stamp.Bytes())
	return nil
}

// lasting says that what expires then need not be signed anew: half of its life is still to come, and no more than the whole of it. What has more was dated by a clock
// that was ahead; a device from which all later news is withheld would go on with it until then.
func lasting(expires time.Time, life time.Duration, now time.Time) bool {
	left := expires.Sub(now)
	return left >= life/2 && left <= life+maxClockSkew
}

// due says that a document should be signed anew.
func due(doc uptane.Document, life time.Duration, now time.Time) bool {
	return !lasting(doc.Expires(), life, now)
}

// Refresh signs snapshot and timestamp anew when half of their life has passed, or too much of it is to come.
func (i *Image) Refresh(ctx context.Context) error {
	ok, err := i.fresh()
	if err != nil || ok {
		return err
	}
	return i.files.update(ctx, func(t *change) error {
		root, err := i.current(t)
		if err != nil {
			return err
		}
		snapshot, stamp, err := i.online(t)
		if err != nil {
			return err
		}
		if due(snapshot, i.lives.Snapshot, i.now()) {
			return i.dress(ctx, t)
		}
		if due(stamp, i.lives.Timestamp, i.now()) {
			return i.stamp(ctx, t, root, snapshot)
		}
		return nil // another process was faster
	})
}

func (i *Image) online(t *change) (*uptane.Snapshot, *uptane.Timestamp, error) {
	data, err := t.get(t.Snapshot)
	if err != nil {
		return nil, nil, err
	}
	snapshot, err := uptane.ParseSnapshot(data)
	if err != nil {
		return nil, nil, err
	}
	if data, err = t.get(t.Timestamp); err != nil {
		return nil, nil, err
	}
	stamp, err := uptane.ParseTimestamp(data)
	return snapshot, stamp, err
}

// ends is when snapshot and timestamp end.
func (i *Image) ends() (snapshot, stamp time.Time, err error) {
	snapshot, err = i.files.expiry(func(ix *index) string { return ix.Snapshot }, func(data []byte) (uptane.Document, error) { return uptane.ParseSnapshot(data) })
	if err != nil {
		return snapshot, stamp, err
	}
	stamp, err = i.files.expiry(func(ix *index) string { return ix.Timestamp }, func(data []byte) (uptane.Document, error) { return uptane.ParseTimestamp(data) })
	return snapshot, stamp, err
}

func (i *Image) fresh() (bool, error) {
	snapshot, stamp, err := i.ends()
	now := i.now()
	return lasting(snapshot, i.lives.Snapshot, now) && lasting(stamp, i.lives.Timestamp, now), err
}

// Snapshot returns snapshot.json. Call Refresh first.
func (i *Image) Snapshot() ([]byte, error) {
	data, _, err := i.files.read(func(ix *index) string { return ix.Snapshot })
	return data, err
}

// Timestamp returns timestamp.json. Call Refresh first.
func (i *Image) Timestamp() ([]byte, error) {
	data, _, err := i.files.read(func(ix *index) string { return ix.Timestamp })
	return data, err
}

// Targets returns targets.json and its checksum, the SHA-256 of these bytes in hex.
func (i *Image) Targets() (data []byte, checksum string, err error) {
	return i.files.look(func(ix *index) string { return ix.Targets })
}

// Delegation returns a delegation's metadata; found is false where there is none.
func (i *Image) Delegation(name string) (data []byte, found bool, err error) {
	return i.files.read(func(ix *index) string { return ix.Delegations[name].Digest })
}
