package reposerver

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/uptane"
)

// Director says which device is to install what, from the Image repository beside it.
type Director struct {
	*Repository
	image  *Image
	fleet  Fleet
	images *storage
	// busy keeps two changes of one device apart; one of 256 for each.
	busy [256]sync.Mutex
}

// DirectorConfig says what a Director works on.
type DirectorConfig struct {
	Config
	Image *Image
	Fleet Fleet
	// Storage is where images are uploaded: what is not there is not assigned.
	Storage StorageConfig
}

// OpenDirector opens the Director's repository that Create made.
func OpenDirector(c DirectorConfig) (*Director, error) {
	c.Kind = uptane.Director
	r, err := newRepository(c.Config)
	if err != nil {
		return nil, err
	}
	if _, err := r.files.index(); err != nil {
		return nil, err
	}
	d := &Director{Repository: r, image: c.Image, fleet: c.Fleet}
	if c.Storage.Dir != "" {
		if d.images, err = newStorage(c.Storage); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// change makes one change of an identity's record, durable when it returns. do changes a copy, and is called again if another
// process was faster. When do fails nothing is written.
func (d *Director) change(ctx context.Context, id string, do func(*Device) (With, error)) (*Device, error) {
	sum := sha256.Sum256([]byte(id))
	mu := &d.busy[sum[0]]
	mu.Lock()
	defer mu.Unlock()
	for {
		was, err := d.record(ctx, id)
		if err != nil {
			return nil, err
		}
		dev := was.Clone()
		with, err := do(dev)
		if errors.Is(err, errNoChange) {
			return was, nil
		}
		if err != nil {
			return nil, err
		}
		if err := d.fleet.Save(ctx, id, dev, with); !errors.Is(err, ErrChanged) {
			return dev, err
		}
	}
}

// errNoChange tells change that there is nothing to write.
var errNoChange = errors.New("no change")

// edit changes a registered device's record, and signs its metadata anew when do says so or when it is due.
func (d *Director) edit(ctx context.Context, id string, do func(*Device) (bool, error)) (*Device, error) {
	return d.change(ctx, id, func(dev *Device) (With, error) {
		if err := registered(dev, id); err != nil {
			return With{}, err
		}
		again, err := do(dev)
		if err != nil {
			return With{}, err
		}
		return With{}, d.sign(ctx, dev, again)
	})
}

func registered(dev *Device, id string) error {
	if dev.Removed != "" || dev.Registered == "" {
		return refuse(404, codeNotFound, "device %s is not registered", show.Text(id))
	}
	return nil
}

// notRegistered is what a device is told: 404 would say to it that there is no such route.
func notRegistered(id string) error {
	return refuseHint(409, codeNotRegistered, "it must register its ECUs first", "device %s is not registered", show.Text(id))
}

// Register takes up a device with its ECUs, as the device itself asks for with its registration document. The same again
// is no change; other ECUs or keys under a known identity are refused until an operator allows it. Versions go on where
// the identity's last ones ended.
func (d *Director) Register(ctx context.Context, id string, data []byte) (created bool, err error) {
	reg, err := parseRegistration(data)
	if err != nil {
		return false, err
	}
	_, err = d.change(ctx, id, func(dev *Device) (With, error) {
		created = true
		if registered(dev, id) != nil {
			if n, err := d.fleet.Count(ctx); err != nil {
				return With{}, err
			} else if n >= maxDevices {
				return With{}, refuse(503, codeBusy, "%d devices are as many as this server keeps", maxDevices)
			}
			*dev = Device{ID: id, Versions: dev.Versions, Revision: dev.Revision}
		} else {
			same := func(a, b ECU) bool { return a.HardwareID == b.HardwareID && string(a.Key) == string(b.Key) }
			if dev.Primary == reg.Primary && maps.EqualFunc(dev.ECUs, reg.ECUs, same) {
				created = false
				return With{}, errNoChange
			}
			if until, err := time.Parse(time.RFC3339, dev.Replace); err != nil || !d.now().Before(until) {
				return With{}, refuseHint(409, codeECURegistered, "an operator allows it with 'hanaper-repo director allow-replacement'", "device %s is registered with other ECUs or keys", show.Text(id))
			}
			dev.replace(reg)
		}
		dev.Primary, dev.ECUs, dev.Registered, dev.Replace = reg.Primary, reg.ECUs, d.stamp(), ""
		return With{}, d.sign(ctx, dev, true)
	})
	return created && err == nil, err
}

// replace forgets what was assigned to ECUs that are gone or are for other hardware now, and what they reported.
func (dev *Device) replace(reg *registration) {
	for serial, old := range dev.ECUs {
		if reg.ECUs[serial].HardwareID != old.HardwareID {
			delete(dev.Assigned, serial)
		}
		if e := reg.ECUs[serial]; e.HardwareID != old.HardwareID || string(e.Key) != string(old.Key) {
			delete(dev.Outcomes, serial)
			delete(dev.Reported, serial)
			delete(dev.Attacks, serial)
		}
	}
}

func (d *Director) stamp() string { return d.now().UTC().Format(time.RFC3339) }

// Remove forgets a device. The versions that it was shown last are kept for ever: should the identity register again, its
// metadata goes on above them, for a device that remembers them refuses lower ones.
func (d *Director) Remove(ctx context.Context, id string) error {
	_, err := d.change(ctx, id, func(dev *Device) (With, error) {
		if err := registered(dev, id); err != nil {
			return With{}, err
		}
		*dev = Device{Removed: d.stamp(), Versions: dev.Versions, Revision: dev.Revision}
		return With{Forget: true}, nil
	})
	return err
}

// AllowReplacement lets a device register once with other ECUs or keys, within a time of at most 30 days.
func (d *Director) AllowReplacement(ctx context.Context, id string, within time.Duration) (until string, err error) {
	if within < time.Minute || within > replacementLife {
		return "", refuse(400, codeBadRequest, "a replacement is allowed for between a minute and %d days, not %v", int(replacementLife/(24*time.Hour)), within)
	}
	_, err = d.change(ctx, id, func(dev *Device) (With, error) {
		until = d.now().Add(within).UTC().Format(time.RFC3339)
		dev.Replace = until
		return With{}, registered(dev, id)
	})
	return until, err
}

// Assign tells ECUs of a device to install a target of the Image repository. No serials: every ECU whose hardware the
// image is for. What other ECUs were told stays.
func (d *Director) Assign(ctx context.Context, id, target string, serials ...string) (*Device, error) {
	entry, custom, err := d.assignable(target)
	if err != nil {
		return nil, err
	}
	return d.edit(ctx, id, func(dev *Device) (bool, error) {
		chosen, err := dev.choose(target, custom.HardwareIDs, serials)
		if err != nil {
			return false, err
		}
		if dev.Assigned == nil {
			dev.Assigned = map[string]Assigned{}
		}
		for _, s := range chosen {
			dev.Assigned[s] = Assigned{target, entry.Length, entry.SHA256, custom.URI}
			delete(dev.Outcomes, s)
		}
		b := make([]byte, 16)
		if _, err := rand.Read(b); err != nil {
			return false, err
		}
		dev.Correlation = correlation(max(dev.Versions.Targets, d.mark.floor())+1, hex.EncodeToString(b))
		return true, nil
	})
}

// choose says which ECUs a target is assigned to.
func (dev *Device) choose(target string, hardware, serials []string) ([]string, error) {
	fits := strings.Join(hardware, ", ")
	if len(serials) == 0 {
		for _, s := range slices.Sorted(maps.Keys(dev.ECUs)) {
			if slices.Contains(hardware, dev.ECUs[s].HardwareID) {
				serials = append(serials, s)
			}
		}
		if len(serials) == 0 {
			return nil, refuse(409, codeBadRequest, "target %s is for hardware %s, and device %s has none of it", show.Text(target), fits, show.Text(dev.ID))
		}
	}
	for _, s := range serials {
		ecu, ok := dev.ECUs[s]
		if !ok {
			return nil, refuse(404, codeNotFound, "device %s has no ECU %q", show.Text(dev.ID), printable(s))
		}
		if !slices.Contains(hardware, ecu.HardwareID) {
			return nil, refuse(409, codeBadRequest, "target %s is for hardware %s, and ECU %s is %s", show.Text(target), fits, show.Text(s), show.Text(ecu.HardwareID))
		}
	}
	return serials, nil
}

// assignable finds a target that devices will find too, with its file.
func (d *Director) assignable(target string) (t uptane.Target, custom uptane.ImageCustom, err error) {
	t, why, err := d.image.search(target, true)
	if err != nil {
		return t, custom, err
	}
	if why != "" {
		return t, custom, refuseHint(404, codeNotFound, "push targets, or the delegation, with it first", "target %q cannot be assigned: %s", printable(target), why)
	}
	if custom, err = t.ImageCustom(); err != nil {
		return t, custom, refuseWith(400, codeBadRequest, err)
	}
	// Another server has the files of OSTree targets, and of those with a URI of their own.
	if d.images == nil || custom.Format == uptane.OSTree || custom.URI != "" {
		return t, custom, nil
	}
	st, err := d.images.find(target)
	if errors.Is(err, ErrNotFound) {
		return t, custom, refuseHint(409, codeNotUploaded, "upload it first", "the image of target %q was never uploaded", printable(target))
	}
	if err == nil && (st.SHA256 != t.SHA256 || st.Size != t.Length) {
		err = refuseHint(409, codeNotUploaded, "upload the file that the targets list", "what was uploaded as %q is not the file that the targets list", printable(target))
	}
	return t, custom, err
}

// Unassign takes all assignments of a device back.
func (d *Director) Unassign(ctx context.Context, id string) (*Device, error) {
	return d.edit(ctx, id, func(dev *Device) (bool, error) {
		had := len(dev.Assigned) > 0
		dev.Assigned, dev.Correlation, dev.Outcomes = nil, "", nil
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
	_, err = d.change(ctx, id, func(dev *Device) (With, error) {
		if registered(dev, id) != nil {
			return With{}, notRegistered(id)
		}
		if err := m.verify(dev); err != nil {
			return With{}, err
		}
		dev.Manifest = digestOf(data)
		again := dev.take(m, d.stamp())
		// After an older backup was put back, the device believes more than this record knows.
		if v := m.believed(); v > dev.Versions.Targets && d.mark.shown(v) {
			dev.Versions.raise(v)
			again = true
		}
		if again {
			return With{Manifest: data}, d.sign(ctx, dev, true)
		}
		return With{Manifest: data}, nil
	})
	return err
}
