package reposerver

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/strict"
	"github.com/hanaper/hanaper/uptane"
)

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

// Device returns a device's record; found is false for one that never registered.
func (d *Director) Device(id string) (dev *Device, found bool, err error) {
	if err := CheckDeviceID(id); err != nil {
		return nil, false, err
	}
	data, err := input.ReadFile(d.devicePath(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	dev, err = parseDevice(d.devicePath(id), data)
	if err != nil || dev.ID != id {
		return nil, false, errors.Join(err, fmt.Errorf("%s is not the record of the device", show.Text(d.devicePath(id))))
	}
	return dev, true, nil
}

func parseDevice(name string, data []byte) (*Device, error) {
	dev := &Device{}
	if err := strict.JSON(name, data, dev); err != nil {
		return nil, err
	}
	if dev.ECUs[dev.Primary].HardwareID == "" {
		return nil, fmt.Errorf("%s: the primary ECU is missing", show.Text(name))
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
