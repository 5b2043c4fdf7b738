package reposerver

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"

	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/strict"
	"github.com/hanaper/hanaper/uptane"
)

// Device is what the Director knows of an identity. A record that a Fleet gave out is shared by all who asked: it is
// changed in a Clone alone.
type Device struct {
	ID         string         `json:"device,omitempty"`
	Primary    string         `json:"primary_ecu_serial,omitempty"`
	ECUs       map[string]ECU `json:"ecus,omitempty"`
	Registered string         `json:"registered,omitempty"`
	// Assigned is by ECU serial.
	Assigned    map[string]Assigned `json:"assigned,omitempty"`
	Correlation string              `json:"correlation_id,omitempty"`
	// Outcomes is by ECU serial: how the last assignment of each ended. Assigning again forgets it.
	Outcomes map[string]Outcome `json:"outcomes,omitempty"`
	// Reported is by ECU serial, from the last manifest, whose arrival is Seen. Attacks is what ECUs said there of attacks.
	Reported map[string]Installed `json:"reported,omitempty"`
	Attacks  map[string]string    `json:"attacks_detected,omitempty"`
	Seen     string               `json:"seen,omitempty"`
	Manifest string               `json:"manifest_sha256,omitempty"`
	// Replace is until when the device may register once with other ECUs or keys.
	Replace string `json:"replacement_until,omitempty"`
	// Versions are the last that this identity was ever shown. They outlive the removal: a device remembers them too.
	Versions Versions `json:"versions,omitzero"`
	// Removed is when an operator removed the device. Nothing else is kept of it then but Versions.
	Removed string `json:"removed,omitempty"`
	// Root is the version of the root under which Targets, Snapshot and Timestamp were signed: base64 of their bytes.
	// Expires is when they end; empty in records of older releases.
	Root      int    `json:"root_version,omitempty"`
	Expires   string `json:"metadata_expires,omitempty"`
	Targets   []byte `json:"targets,omitempty"`
	Snapshot  []byte `json:"snapshot,omitempty"`
	Timestamp []byte `json:"timestamp,omitempty"`

	// Revision is the Fleet's: which state of the record this is.
	Revision int64 `json:"-"`
}

// Versions are the versions of a device's metadata.
type Versions struct {
	Targets   int `json:"targets"`
	Snapshot  int `json:"snapshot"`
	Timestamp int `json:"timestamp"`
}

// raise makes no version lower than to.
func (v *Versions) raise(to int) {
	v.Targets, v.Snapshot, v.Timestamp = max(v.Targets, to), max(v.Snapshot, to), max(v.Timestamp, to)
}

// Clone is a copy that may be changed.
func (d *Device) Clone() *Device {
	out := *d
	out.ECUs, out.Assigned, out.Outcomes = maps.Clone(d.ECUs), maps.Clone(d.Assigned), maps.Clone(d.Outcomes)
	out.Reported, out.Attacks = maps.Clone(d.Reported), maps.Clone(d.Attacks)
	return &out
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

// Device returns a device's record, which is not to be changed; found is false for one that never registered, or was removed.
func (d *Director) Device(ctx context.Context, id string) (dev *Device, found bool, err error) {
	dev, err = d.record(ctx, id)
	return dev, err == nil && dev.Removed == "" && dev.Registered != "", err
}

// record is what is known of an identity: of one that never registered a record with nothing in it.
func (d *Director) record(ctx context.Context, id string) (*Device, error) {
	if err := CheckDeviceID(id); err != nil {
		return nil, err
	}
	dev, err := d.fleet.Device(ctx, id)
	if err != nil {
		return nil, err
	}
	if dev == nil {
		dev = &Device{ID: id}
	}
	if dev.Removed == "" && dev.ID != id {
		return nil, fmt.Errorf("the record of device %s is another's", show.Text(id))
	}
	return dev, nil
}

// EncodeDevice is a record as a Fleet keeps it, without the signed metadata.
func EncodeDevice(dev *Device) ([]byte, error) {
	out := *dev
	out.Targets, out.Snapshot, out.Timestamp = nil, nil, nil
	return json.Marshal(out)
}

// DecodeDevice reads what EncodeDevice wrote, and the records of the releases that kept each device in a file of its own;
// name says in errors where it lies.
func DecodeDevice(name string, data []byte) (*Device, error) {
	dev := &Device{}
	if err := strict.JSON(name, data, dev); err != nil {
		return nil, err
	}
	if dev.Removed == "" && dev.ECUs[dev.Primary].HardwareID == "" {
		return nil, fmt.Errorf("%s: the primary ECU is missing", show.Text(name))
	}
	if dev.Versions == (Versions{}) && dev.Targets != nil {
		f, err := dev.files()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", show.Text(name), err)
		}
		dev.Versions = Versions{f.targets.Version(), f.snapshot.Version(), f.stamp.Version()}
	}
	return dev, nil
}

type deviceFiles struct {
	targets  *uptane.Targets
	snapshot *uptane.Snapshot
	stamp    *uptane.Timestamp
}

// entries writes the assignments into a targets document: one entry for each target, with the ECUs that it is for.
func (dev *Device) entries(c *uptane.TargetsConfig) error {
	ecus := map[string]map[string]string{}
	for serial, a := range dev.Assigned {
		if was, ok := c.Targets[a.Target]; ok && (was.SHA256 != a.SHA256 || was.Length != a.Length) {
			return refuseHint(409, codeBadRequest, "assign it to all of them again", "target %s is not the same file for all ECUs", show.Text(a.Target))
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

// The states of a device.
const (
	StateNever      = "never heard of"
	StateNothing    = "nothing assigned"
	StateAssigned   = "update assigned"
	StateUpToDate   = "up to date"
	StateFailed     = "failed"
	StateRolledBack = "rolled back"
)

// States are all of them.
func States() []string {
	return []string{StateNever, StateNothing, StateAssigned, StateUpToDate, StateFailed, StateRolledBack}
}

// State says in words how far the device is.
func (d *Device) State() string {
	worst := ""
	for _, o := range d.Outcomes {
		if o.Result == ResultFailed || o.Result == ResultRolledBack && worst == "" {
			worst = o.Result
		}
	}
	switch {
	case worst == ResultFailed:
		return StateFailed
	case worst == ResultRolledBack:
		return StateRolledBack
	case len(d.Assigned) > 0 && d.UpToDate():
		return StateUpToDate
	case len(d.Assigned) > 0:
		return StateAssigned
	case d.Seen == "":
		return StateNever
	default:
		return StateNothing
	}
}
