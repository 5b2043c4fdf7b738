package reposerver

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/strict"
	"github.com/hanaper/hanaper/uptane"
)

// Director says which device is to install what, from the Image repository beside it.
type Director struct {
	*Repository
	image *Image
}

// OpenDirector opens the Director's repository that Create made.
func OpenDirector(c Config, image *Image) (*Director, error) {
	c.Kind = uptane.Director
	r, err := newRepository(c)
	if err != nil {
		return nil, err
	}
	if _, err := r.files.index(); err != nil {
		return nil, err
	}
	if err := durable.Mkdir(filepath.Join(r.files.dir, "devices"), 0o755); err != nil {
		return nil, err
	}
	return &Director{r, image}, nil
}

// Device is what the Director knows of a device.
type Device struct {
	ID         string         `json:"device"`
	Primary    string         `json:"primary_ecu_serial"`
	ECUs       map[string]ECU `json:"ecus"`
	Registered string         `json:"registered"`
	// Assigned is by ECU serial.
	Assigned    map[string]Assigned `json:"assigned,omitempty"`
	Correlation string              `json:"correlation_id,omitempty"`
	// Reported is by ECU serial, from the last manifest, whose arrival is Seen.
	Reported map[string]Installed `json:"reported,omitempty"`
	Seen     string               `json:"seen,omitempty"`
	Manifest string               `json:"manifest_sha256,omitempty"`
	// Root is the version of the root under which Targets, Snapshot and Timestamp were signed: base64 of their bytes.
	Root      int    `json:"root_version,omitempty"`
	Targets   []byte `json:"targets,omitempty"`
	Snapshot  []byte `json:"snapshot,omitempty"`
	Timestamp []byte `json:"timestamp,omitempty"`
}

// ECU is a control unit of a device.
type ECU struct {
	HardwareID string          `json:"hardware_id"`
	Key        json.RawMessage `json:"key"`
}

// Assigned is a target that an ECU is to install.
type Assigned struct {
	Target string `json:"target"`
	Length int64  `json:"length"`
	SHA256 string `json:"sha256"`
	URI    string `json:"uri,omitempty"`
}

// Installed is what an ECU says it has.
type Installed struct {
	Target string `json:"target"`
	Length int64  `json:"length"`
	SHA256 string `json:"sha256"`
}

// UpToDate reports whether every ECU with an assignment says that it has it.
func (d *Device) UpToDate() bool {
	for serial, a := range d.Assigned {
		if r, ok := d.Reported[serial]; !ok || r.SHA256 != a.SHA256 {
			return false
		}
	}
	return true
}

// CheckDeviceID refuses an identity that is empty, too long, or no printable ASCII.
func CheckDeviceID(id string) error {
	if id == "" || len(id) > maxDeviceID || strings.ContainsFunc(id, func(r rune) bool { return r <= 0x20 || r > 0x7e }) {
		return refuse(400, codeBadRequest, "a device identity is 1 to %d printable ASCII characters without spaces", maxDeviceID)
	}
	return nil
}

// devicePath is named by a digest: an identity is no file name.
func (d *Director) devicePath(id string) string {
	return filepath.Join(d.files.dir, "devices", digestOf([]byte(id))+".json")
}

func (d *Director) manifestPath(id string) string {
	return filepath.Join(d.files.dir, "devices", digestOf([]byte(id))+".manifest")
}

// Device returns a device's record; found is false for one that never registered.
func (d *Director) Device(id string) (dev *Device, found bool, err error) {
	if err := CheckDeviceID(id); err != nil {
		return nil, false, err
	}
	data, err := os.ReadFile(d.devicePath(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	dev, err = parseDevice(d.devicePath(id), data)
	if err != nil || dev.ID != id {
		return nil, false, errors.Join(err, fmt.Errorf("%s is not the record of the device", d.devicePath(id)))
	}
	return dev, true, nil
}

func parseDevice(name string, data []byte) (*Device, error) {
	dev := &Device{}
	if err := strict.JSON(name, data, dev); err != nil {
		return nil, err
	}
	if dev.ECUs[dev.Primary].HardwareID == "" {
		return nil, fmt.Errorf("%s: the primary ECU is missing", name)
	}
	return dev, nil
}

// Devices lists the devices by identity.
func (d *Director) Devices() ([]*Device, error) {
	list, err := filepath.Glob(filepath.Join(d.files.dir, "devices", "*.json"))
	if err != nil {
		return nil, err
	}
	var out []*Device
	for _, at := range list {
		data, err := os.ReadFile(at)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		dev, err := parseDevice(at, data)
		if err != nil {
			return nil, err
		}
		out = append(out, dev)
	}
	slices.SortFunc(out, func(a, b *Device) int { return strings.Compare(a.ID, b.ID) })
	return out, nil
}

func (d *Director) save(dev *Device) error {
	data, err := json.Marshal(dev)
	if err != nil {
		return err
	}
	return durable.WriteFile(d.devicePath(dev.ID), data, 0o644)
}

// edit changes a device's record, and signs its metadata anew when do says so or when it is due.
func (d *Director) edit(ctx context.Context, id string, do func(*Device) (bool, error)) (*Device, error) {
	release, err := d.files.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	dev, found, err := d.Device(id)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, refuse(404, codeNotFound, "device %s is not registered", id)
	}
	again, err := do(dev)
	if err != nil {
		return nil, err
	}
	if err := d.sign(ctx, dev, again); err != nil {
		return nil, err
	}
	return dev, d.save(dev)
}

// Register takes up a device with its ECUs, as the device itself asks for with its registration document. The same again
// is no change; other ECUs or keys under a known identity are refused until the device is removed.
func (d *Director) Register(ctx context.Context, id string, data []byte) (created bool, err error) {
	if err := CheckDeviceID(id); err != nil {
		return false, err
	}
	reg, err := parseRegistration(data)
	if err != nil {
		return false, err
	}
	release, err := d.files.lock(ctx)
	if err != nil {
		return false, err
	}
	defer release()
	old, found, err := d.Device(id)
	if err != nil {
		return false, err
	}
	if found {
		same := func(a, b ECU) bool { return a.HardwareID == b.HardwareID && string(a.Key) == string(b.Key) }
		if old.Primary == reg.Primary && maps.EqualFunc(old.ECUs, reg.ECUs, same) {
			return false, nil
		}
		return false, refuseHint(409, codeECURegistered, "an administrator must remove the device first", "device %s is registered with other ECUs or keys", id)
	}
	list, err := filepath.Glob(filepath.Join(d.files.dir, "devices", "*.json"))
	if err != nil {
		return false, err
	}
	if len(list) >= maxDevices {
		return false, refuse(503, codeBusy, "%d devices are as many as this server keeps", maxDevices)
	}
	dev := &Device{ID: id, Primary: reg.Primary, ECUs: reg.ECUs, Registered: d.now().UTC().Format(time.RFC3339)}
	if err := d.sign(ctx, dev, true); err != nil {
		return false, err
	}
	return true, d.save(dev)
}

// Remove forgets a device.
func (d *Director) Remove(ctx context.Context, id string) error {
	release, err := d.files.lock(ctx)
	if err != nil {
		return err
	}
	defer release()
	if _, found, err := d.Device(id); err != nil {
		return err
	} else if !found {
		return refuse(404, codeNotFound, "device %s is not registered", id)
	}
	_ = os.Remove(d.manifestPath(id))
	return durable.Remove(d.devicePath(id))
}

// Assign tells ECUs of a device to install a target of the Image repository. No serials: every ECU whose hardware the
// image is for. What other ECUs were told stays.
func (d *Director) Assign(ctx context.Context, id, target string, serials ...string) (*Device, error) {
	entry, found, err := d.image.Find(target)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, refuseHint(404, codeNotFound, "push targets with it first", "the Image repository has no target %q", printable(target))
	}
	custom, err := entry.ImageCustom()
	if err != nil {
		return nil, refuseWith(400, codeBadRequest, err)
	}
	return d.edit(ctx, id, func(dev *Device) (bool, error) {
		chosen := serials
		if len(chosen) == 0 {
			for _, s := range slices.Sorted(maps.Keys(dev.ECUs)) {
				if slices.Contains(custom.HardwareIDs, dev.ECUs[s].HardwareID) {
					chosen = append(chosen, s)
				}
			}
			if len(chosen) == 0 {
				return false, refuse(409, codeBadRequest, "target %s is for hardware %s, and device %s has none of it", target, strings.Join(custom.HardwareIDs, ", "), id)
			}
		}
		if dev.Assigned == nil {
			dev.Assigned = map[string]Assigned{}
		}
		for _, s := range chosen {
			ecu, ok := dev.ECUs[s]
			if !ok {
				return false, refuse(404, codeNotFound, "device %s has no ECU %q", id, printable(s))
			}
			if !slices.Contains(custom.HardwareIDs, ecu.HardwareID) {
				return false, refuse(409, codeBadRequest, "target %s is for hardware %s, and ECU %s is %s", target, strings.Join(custom.HardwareIDs, ", "), s, ecu.HardwareID)
			}
			dev.Assigned[s] = Assigned{target, entry.Length, entry.SHA256, custom.URI}
		}
		b := make([]byte, 16)
		if _, err := rand.Read(b); err != nil {
			return false, err
		}
		dev.Correlation = "urn:hanaper:assignment:" + hex.EncodeToString(b)
		return true, nil
	})
}

// Unassign takes all assignments of a device back.
func (d *Director) Unassign(ctx context.Context, id string) (*Device, error) {
	return d.edit(ctx, id, func(dev *Device) (bool, error) {
		had := len(dev.Assigned) > 0
		dev.Assigned, dev.Correlation = nil, ""
		return had, nil
	})
}

// Fresh returns a device's record with metadata that is good: signed anew when half its life has passed or the root has
// changed. Where the keys are out of reach, fault says so, and the record is as it was signed last, if it has not expired.
func (d *Director) Fresh(ctx context.Context, id string) (dev *Device, fault, err error) {
	dev, err = d.refreshed(ctx, id)
	var ref *refusal
	if err == nil || errors.As(err, &ref) {
		return dev, nil, err
	}
	last, found, lerr := d.Device(id)
	if lerr != nil || !found {
		return nil, nil, err
	}
	f, ferr := last.files()
	if ferr != nil {
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
	dev, found, err := d.Device(id)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, refuse(404, codeNotFound, "device %s is not registered", id)
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

type deviceFiles struct {
	targets  *uptane.Targets
	snapshot *uptane.Snapshot
	stamp    *uptane.Timestamp
}

func (dev *Device) files() (f deviceFiles, err error) {
	if f.targets, err = uptane.ParseTargets(uptane.Director, dev.Targets); err != nil {
		return f, err
	}
	if f.snapshot, err = uptane.ParseSnapshot(dev.Snapshot); err != nil {
		return f, err
	}
	f.stamp, err = uptane.ParseTimestamp(dev.Timestamp)
	return f, err
}

func (d *Director) fresh(dev *Device) (bool, error) {
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
	var old deviceFiles
	versions := [3]int{}
	if dev.Targets != nil {
		if old, err = dev.files(); err != nil {
			return err
		}
		versions = [3]int{old.targets.Version(), old.snapshot.Version(), old.stamp.Version()}
		if ok, err := d.fresh(dev); err != nil || ok && !again && dev.Root == root.Version() {
			return err
		}
	}
	expires := d.now().UTC().Truncate(time.Second).Add(d.lives.Director).Truncate(time.Second)
	c := uptane.TargetsConfig{Repository: uptane.Director, Version: versions[0] + 1, Expires: expires, Targets: map[string]uptane.Target{}}
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
	snapshot, err := uptane.NewSnapshot(uptane.MetaConfig{Version: versions[1] + 1, Expires: expires,
		Meta: map[string]uptane.MetaItem{"root.json": uptane.MetaOf(root), "targets.json": uptane.MetaOf(targets)}})
	if err != nil {
		return err
	}
	if snapshot, err = signOnline(ctx, d.Repository, root, snapshot); err != nil {
		return err
	}
	stamp, err := uptane.NewTimestamp(uptane.MetaConfig{Version: versions[2] + 1, Expires: expires,
		Meta: map[string]uptane.MetaItem{"snapshot.json": uptane.MetaOf(snapshot)}})
	if err != nil {
		return err
	}
	if stamp, err = signOnline(ctx, d.Repository, root, stamp); err != nil {
		return err
	}
	dev.Root, dev.Targets, dev.Snapshot, dev.Timestamp = root.Version(), targets.Bytes(), snapshot.Bytes(), stamp.Bytes()
	return nil
}

// entries writes the assignments into a targets document: one entry for each target, with the ECUs that it is for.
func (dev *Device) entries(c *uptane.TargetsConfig) error {
	ecus := map[string]map[string]string{}
	for serial, a := range dev.Assigned {
		if was, ok := c.Targets[a.Target]; ok && (was.SHA256 != a.SHA256 || was.Length != a.Length) {
			return refuseHint(409, codeBadRequest, "assign it to all of them again", "target %s is not the same file for all ECUs", a.Target)
		}
		if ecus[a.Target] == nil {
			ecus[a.Target] = map[string]string{}
		}
		ecus[a.Target][serial] = dev.ECUs[serial].HardwareID
		c.Targets[a.Target] = uptane.Target{Length: a.Length, SHA256: a.SHA256}
	}
	for name, t := range c.Targets {
		uri := ""
		for serial := range ecus[name] {
			uri = dev.Assigned[serial].URI
		}
		custom, err := uptane.DirectorCustom{ECUs: ecus[name], URI: uri}.JSON()
		if err != nil {
			return err
		}
		t.Custom = custom
		c.Targets[name] = t
	}
	if dev.Correlation != "" {
		custom, err := json.Marshal(map[string]string{"correlationId": dev.Correlation})
		if err != nil {
			return err
		}
		c.Custom = custom
	}
	return nil
}

// Manifest stores a manifest after every signature in it has been verified under the keys that the ECUs registered.
func (d *Director) Manifest(ctx context.Context, id string, data []byte) error {
	m, err := parseManifest(data)
	if err != nil {
		return err
	}
	release, err := d.files.lock(ctx)
	if err != nil {
		return err
	}
	defer release()
	dev, found, err := d.Device(id)
	if err != nil {
		return err
	}
	if !found {
		return refuse(404, codeNotFound, "device %s is not registered", id)
	}
	if err := m.verify(dev); err != nil {
		return err
	}
	dev.Reported, dev.Seen, dev.Manifest = m.installed, d.now().UTC().Format(time.RFC3339), digestOf(data)
	// The record names the manifest's digest: a manifest without its record is one that never arrived.
	if err := durable.WriteFile(d.manifestPath(id), data, 0o644); err != nil {
		return err
	}
	return d.save(dev)
}

// LastManifest returns the last manifest of a device as it arrived.
func (d *Director) LastManifest(id string) (data []byte, found bool, err error) {
	if err := CheckDeviceID(id); err != nil {
		return nil, false, err
	}
	data, err = os.ReadFile(d.manifestPath(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	return data, err == nil, err
}

// State says in words how far the device is.
func (dev *Device) State() string {
	switch {
	case len(dev.Assigned) == 0:
		return "nothing assigned"
	case dev.UpToDate():
		return "up to date"
	default:
		return "update assigned"
	}
}
