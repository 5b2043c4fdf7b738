package reposerver

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
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

// devicePath is named by a digest: an identity is no file name.
func (d *Director) devicePath(id string) string {
	return filepath.Join(d.files.dir, "devices", digestOf([]byte(id))+".json")
}

func (d *Director) manifestPath(id string) string {
	return filepath.Join(d.files.dir, "devices", digestOf([]byte(id))+".manifest")
}

// Devices lists the devices by identity.
func (d *Director) Devices() ([]*Device, error) {
	list, err := filepath.Glob(filepath.Join(d.files.dir, "devices", "*.json"))
	if err != nil {
		return nil, err
	}
	var out []*Device
	for _, at := range list {
		data, err := input.ReadFile(at)
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
		return nil, refuse(404, codeNotFound, "device %s is not registered", show.Text(id))
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
		return false, refuseHint(409, codeECURegistered, "an administrator must remove the device first", "device %s is registered with other ECUs or keys", show.Text(id))
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
				return false, refuse(409, codeBadRequest, "target %s is for hardware %s, and device %s has none of it", show.Text(target), strings.Join(custom.HardwareIDs, ", "), id)
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
				return false, refuse(409, codeBadRequest, "target %s is for hardware %s, and ECU %s is %s", show.Text(target), strings.Join(custom.HardwareIDs, ", "), show.Text(s), show.Text(ecu.HardwareID))
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
		return refuse(404, codeNotFound, "device %s is not registered", show.Text(id))
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
