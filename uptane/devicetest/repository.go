package devicetest

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
)

// The most bytes that are read of each kind of file.
const (
	maxRoot     = 64 << 10
	maxOnline   = 64 << 10
	maxDirector = 64 << 10
	maxTargets  = 8 << 20
)

// repository is one of the two, as far as the device has verified it. What is stored was verified before.
type repository struct {
	name                               string // "director" or "repo": the path of its files, and the folder in the state
	root, timestamp, snapshot, targets *document
}

func (d *Device) openRepository(name string, first []byte) (*repository, error) {
	r := &repository{name: name}
	for _, f := range []struct {
		file, typ string
		to        **document
	}{{"root", "Root", &r.root}, {"timestamp", "Timestamp", &r.timestamp}, {"snapshot", "Snapshot", &r.snapshot}, {"targets", "Targets", &r.targets}} {
		b, err := d.read(name + "/" + f.file + ".json")
		if err != nil {
			return nil, err
		}
		if b == nil && f.file == "root" {
			b = first // what the factory put into the device
		}
		if b == nil {
			continue
		}
		if *f.to, err = parse(b, f.typ); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// updateRoot follows the chain of roots until the server has no next one. The last one must not have expired.
func (d *Device) updateRoot(ctx context.Context, r *repository) error {
	for {
		data, err := d.get(ctx, fmt.Sprintf("/%s/%d.root.json", r.name, r.root.version()+1), maxRoot)
		if errors.Is(err, errNotFound) {
			break
		}
		if err != nil {
			return err
		}
		next, err := parse(data, "Root")
		if err != nil {
			return err
		}
		if err := nextRoot(r.root, next); err != nil {
			return err
		}
		// Files that a stolen online key made with a high version must not lock the device out once the key is replaced.
		if !sameKeys(r.root, next, "timestamp") || !sameKeys(r.root, next, "snapshot") {
			r.timestamp, r.snapshot = nil, nil
			if err := errors.Join(d.remove(r.name+"/timestamp.json"), d.remove(r.name+"/snapshot.json")); err != nil {
				return err
			}
		}
		if err := d.write(r.name+"/root.json", data); err != nil {
			return err
		}
		r.root = next
		if err := d.at(r.name + " root"); err != nil {
			return err
		}
	}
	return r.root.current(d.c.Now())
}

func sameKeys(a, b *document, name string) bool {
	list := func(d *document) []string {
		l := d.signed.object("roles").object(name).texts("keyids")
		slices.Sort(l)
		return l
	}
	return slices.Equal(list(a), list(b))
}

// fetch gets a file of a role, and checks signatures, version and expiry. older is what was stored before.
func (d *Device) fetch(ctx context.Context, r *repository, file, typ string, most int64, older *document) (*document, error) {
	data, err := d.get(ctx, "/"+r.name+"/"+file+".json", most)
	if err != nil {
		return nil, err
	}
	doc, err := parse(data, typ)
	if err != nil {
		return nil, err
	}
	by, err := r.root.role(file)
	if err != nil {
		return nil, err
	}
	if err := doc.verify(by); err != nil {
		return nil, err
	}
	if older != nil && doc.version() < older.version() {
		return nil, fmt.Errorf("%w: %s/%s.json has version %d, and had %d", ErrRollback, r.name, file, doc.version(), older.version())
	}
	return doc, doc.current(d.c.Now())
}

func (d *Device) keep(r *repository, file string, doc *document, to **document) error {
	*to = doc
	if err := d.write(r.name+"/"+file+".json", doc.raw); err != nil {
		return err
	}
	return d.at(r.name + " " + file)
}

// updateOnline follows root, timestamp and snapshot.
func (d *Device) updateOnline(ctx context.Context, r *repository) error {
	stamp, err := d.fetch(ctx, r, "timestamp", "Timestamp", maxOnline, r.timestamp)
	if err != nil {
		return err
	}
	snapshot, err := d.fetch(ctx, r, "snapshot", "Snapshot", maxOnline, r.snapshot)
	if err != nil {
		return err
	}
	if err := listed(stamp.signed.object("meta"), "snapshot.json", snapshot); err != nil {
		return err
	}
	if r.snapshot != nil {
		now := snapshot.signed.object("meta")
		for name := range r.snapshot.signed.object("meta") {
			if name == "root.json" {
				continue
			}
			was := r.snapshot.signed.object("meta").object(name).number("version")
			// A delegation may be taken away; targets may not.
			if is := now.object(name); is != nil && is.number("version") < was || is == nil && name == "targets.json" {
				return fmt.Errorf("%w: %s in the snapshot", ErrRollback, name)
			}
		}
	}
	if err := d.keep(r, "timestamp", stamp, &r.timestamp); err != nil {
		return err
	}
	return d.keep(r, "snapshot", snapshot, &r.snapshot)
}

// updateTargets follows the targets; what the snapshot lists is compared where there is one.
func (d *Device) updateTargets(ctx context.Context, r *repository, most int64, snapshot bool) error {
	doc, err := d.fetch(ctx, r, "targets", "Targets", most, r.targets)
	if err != nil {
		return err
	}
	if snapshot {
		if err := listed(r.snapshot.signed.object("meta"), "targets.json", doc); err != nil {
			return err
		}
	}
	return d.keep(r, "targets", doc, &r.targets)
}

// find looks for a target in the Image repository: in its targets, and then along the delegations that match, in their order.
func (d *Device) find(ctx context.Context, doc *document, name string, depth int) (target object, end bool, err error) {
	if t := doc.signed.object("targets").object(name); t != nil {
		return t, true, nil
	}
	if depth == 5 {
		return nil, false, nil
	}
	all := doc.signed.object("delegations")
	for _, v := range all.list("roles") {
		m, _ := v.(map[string]any)
		o := object(m)
		if !slices.ContainsFunc(o.texts("paths"), func(p string) bool { return matches(p, name) }) {
			continue
		}
		child, err := d.delegation(ctx, all.object("keys"), o)
		if err != nil {
			return nil, false, err
		}
		if child != nil {
			if t, end, err := d.find(ctx, child, name, depth+1); err != nil || end {
				return t, end, err
			}
		}
		if terminating, _ := o["terminating"].(bool); terminating {
			return nil, true, nil
		}
	}
	return nil, false, nil
}

// delegation fetches a delegation's document, which the snapshot must list; nil if it lists none.
func (d *Device) delegation(ctx context.Context, keys, rule object) (*document, error) {
	name := rule.text("name")
	if d.image.snapshot.signed.object("meta").object(name+".json") == nil {
		return nil, nil
	}
	data, err := d.get(ctx, "/repo/delegations/"+name+".json", maxTargets)
	if err != nil {
		return nil, err
	}
	doc, err := parse(data, "Targets")
	if err != nil {
		return nil, err
	}
	by, err := role(keys, rule)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(doc.verify(by), listed(d.image.snapshot.signed.object("meta"), name+".json", doc), doc.current(d.c.Now())); err != nil {
		return nil, err
	}
	return doc, nil
}

// wanted is a target that the Director gives to ECUs of this device.
type wanted struct {
	Image
	ecus []string
	uri  string
}

// assigned are the Director's targets for ECUs that have something else, each checked against the Image repository.
func (d *Device) assigned() ([]wanted, error) {
	var out []wanted
	given := map[string]bool{}
	all := d.director.targets.signed.object("targets")
	for _, name := range sortedNames(all) {
		t := all.object(name)
		w := wanted{Image: Image{name, t.number("length"), t.object("hashes").text("sha256")}, uri: t.object("custom").text("uri")}
		ecus := t.object("custom").object("ecuIdentifiers")
		for _, serial := range sortedNames(ecus) {
			ecu, ours := d.ecu(serial)
			if !ours || ecu.HardwareID != ecus.object(serial).text("hardwareId") {
				return nil, fmt.Errorf("%w: %s is for ECU %s, which this device does not have", ErrMismatch, name, serial)
			}
			if given[serial] {
				return nil, fmt.Errorf("%w: two targets for ECU %s", ErrMismatch, serial)
			}
			given[serial] = true
			if d.s.Installed[serial].SHA256 != w.SHA256 {
				w.ecus = append(w.ecus, serial)
			}
		}
		if b, err := hex.DecodeString(w.SHA256); err != nil || len(b) != 32 || w.Length < 0 {
			return nil, fmt.Errorf("%w: target %s", ErrMalformed, name)
		}
		if len(w.ecus) > 0 {
			out = append(out, w)
		}
	}
	return out, nil
}

// agree demands that the Image repository has exactly what the Director gives, for the hardware that it is given to.
func (d *Device) agree(ctx context.Context, w *wanted) error {
	t, _, err := d.find(ctx, d.image.targets, w.Name, 0)
	if err != nil {
		return err
	}
	if t == nil || t.number("length") != w.Length || t.object("hashes").text("sha256") != w.SHA256 {
		return fmt.Errorf("%w: the image repository does not have %s as the director gives it", ErrMismatch, w.Name)
	}
	for _, serial := range w.ecus {
		ecu, _ := d.ecu(serial)
		if !slices.Contains(t.object("custom").texts("hardwareIds"), ecu.HardwareID) {
			return fmt.Errorf("%w: %s is not for the hardware of ECU %s", ErrMismatch, w.Name, serial)
		}
	}
	if w.uri == "" {
		w.uri = t.object("custom").text("uri")
	}
	return nil
}

func sortedNames(o object) []string {
	var out []string
	for name := range o {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}
