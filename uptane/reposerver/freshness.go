package reposerver

import (
	"context"
	"errors"
	"time"

	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/uptane"
)

// Fresh returns a device's record with metadata that is good: signed anew when half its life has passed or the root has
// changed. Where the keys are out of reach, fault says so, and the record is as it was signed last, if it has not expired.
func (d *Director) Fresh(ctx context.Context, id string) (dev *Device, fault, err error) {
	dev, err = d.refreshed(ctx, id)
	var ref *refusal
	if err == nil || errors.As(err, &ref) {
		return dev, nil, err
	}
	last, found, lerr := d.Device(ctx, id)
	if lerr != nil || !found {
		return nil, nil, err
	}
	f, ferr := last.files()
	if ferr != nil {
		return nil, nil, err
	}
	if last.Versions.Targets <= d.mark.floor() {
		return nil, nil, err
	}
	for _, doc := range []uptane.Document{f.targets, f.snapshot, f.stamp} {
		if e := uptane.CheckExpiry(doc, d.now()); e != nil {
			return nil, nil, refuse(503, codeInternal, "the server's online keys are out of reach: %v", e)
		}
	}
	return last, err, nil
}

func (d *Director) refreshed(ctx context.Context, id string) (*Device, error) {
	dev, found, err := d.Device(ctx, id)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, notRegistered(id)
	}
	ix, err := d.files.index()
	if err != nil {
		return nil, err
	}
	if dev.Root == ix.First+len(ix.Roots)-1 {
		if ok, err := d.fresh(dev); err != nil || ok {
			return dev, err
		}
	}
	return d.edit(ctx, id, func(*Device) (bool, error) { return false, nil })
}

// fresh says whether the metadata need not be signed anew.
func (d *Director) fresh(dev *Device) (bool, error) {
	if dev.Versions.Targets <= d.mark.floor() {
		return false, nil // signed before a backup was put back
	}
	if expires, err := time.Parse(time.RFC3339, dev.Expires); err == nil {
		return lasting(expires, d.lives.Director, d.now()), nil
	}
	f, err := dev.files()
	if err != nil {
		return false, err
	}
	now := d.now()
	return !due(f.targets, d.lives.Director, now) && !due(f.snapshot, d.lives.Director, now) && !due(f.stamp, d.lives.Director, now), nil
}

// sign makes a device's targets, snapshot and timestamp, if they are due or again is true.
func (d *Director) sign(ctx context.Context, dev *Device, again bool) error {
	data, _, err := d.Root(0)
	if err != nil {
		return err
	}
	root, err := uptane.ParseRoot(data)
	if err != nil {
		return err
	}
	if dev.Targets != nil && !again && dev.Root == root.Version() {
		if ok, err := d.fresh(dev); err != nil || ok {
			return err
		}
	}
	versions := dev.Versions
	versions.raise(d.mark.floor())
	if versions.Targets >= maxVersion {
		return refuse(409, codeBadRequest, "device %s is at version %d of its targets, and cannot count further", show.Text(dev.ID), versions.Targets)
	}
	if err := d.mark.cover(ctx, versions.highest()+1); err != nil {
		return err
	}
	expires := d.now().UTC().Truncate(time.Second).Add(d.lives.Director).Truncate(time.Second)
	c := uptane.TargetsConfig{Repository: uptane.Director, Version: versions.Targets + 1, Expires: expires, Targets: map[string]uptane.Target{}}
	if err := dev.entries(&c); err != nil {
		return err
	}
	targets, err := uptane.NewTargets(c)
	if err != nil {
		return refuseWith(409, codeBadRequest, err)
	}
	if targets, err = signOnline(ctx, d.Repository, root, targets); err != nil {
		return err
	}
	snapshot, err := uptane.NewSnapshot(uptane.MetaConfig{Version: versions.Snapshot + 1, Expires: expires,
		Meta: map[string]uptane.MetaItem{"root.json": uptane.MetaOf(root), "targets.json": uptane.MetaOf(targets)}})
	if err != nil {
		return err
	}
	if snapshot, err = signOnline(ctx, d.Repository, root, snapshot); err != nil {
		return err
	}
	stamp, err := uptane.NewTimestamp(uptane.MetaConfig{Version: versions.Timestamp + 1, Expires: expires,
		Meta: map[string]uptane.MetaItem{"snapshot.json": uptane.MetaOf(snapshot)}})
	if err != nil {
		return err
	}
	if stamp, err = signOnline(ctx, d.Repository, root, stamp); err != nil {
		return err
	}
	dev.Expires = expires.Format(time.RFC3339)
	dev.Versions = Versions{targets.Version(), snapshot.Version(), stamp.Version()}
	dev.Root, dev.Targets, dev.Snapshot, dev.Timestamp = root.Version(), targets.Bytes(), snapshot.Bytes(), stamp.Bytes()
	return nil
}
