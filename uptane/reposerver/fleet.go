package reposerver

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"
)

// Fleet keeps the Director's devices. Its one implementation is uptane/fleet.
type Fleet interface {
	// Device returns the record of an identity, removed ones included, which the caller must not change; nil where there is
	// none.
	Device(ctx context.Context, id string) (*Device, error)
	// Save makes a record durable, with what came beside it. It writes all or nothing, and ErrChanged if the record is
	// not in the state dev.Revision any more. A new record has revision 0.
	Save(ctx context.Context, id string, dev *Device, with With) error
	// Each calls do with every device that is not removed, in no order. The records come without their metadata.
	Each(ctx context.Context, do func(*Device) error) error
	// Count is how many devices are not removed.
	Count(ctx context.Context) (int, error)
	// Revision is the number of changes; an older copy of the store has a lower one.
	Revision(ctx context.Context) (int64, error)
	// Raise makes the revision at least this one.
	Raise(ctx context.Context, revision int64) error
	// Told is what a device has told beside its manifests, by kind, and Events its last events, the newest last.
	Told(ctx context.Context, id string) ([]Told, error)
	// Manifest is the last manifest as it came; nil where there is none.
	Manifest(ctx context.Context, id string) ([]byte, error)
	Events(ctx context.Context, id string) ([]Event, error)
	// Tell keeps what a device tells, and Report its events; one with an id that is known already is no change. Of events
	// the last KeepEvents stay.
	Tell(ctx context.Context, id string, t Told) error
	Report(ctx context.Context, id string, list []Event) error
}

// With is what is saved in one step with a record.
type With struct {
	// Manifest is the last manifest as it came; nil leaves the one that is there.
	Manifest []byte
	// Forget drops everything else that is known of the identity.
	Forget bool
}

// ErrChanged says that somebody else changed the record meanwhile.
var ErrChanged = errors.New("the device's record was changed meanwhile")

// Told is something that a device tells of itself, unsigned.
type Told struct {
	Kind string `json:"kind"`
	At   string `json:"at"`
	Body []byte `json:"body"`
}

// What devices tell: hardware, network addresses, their client's configuration, and the packages that are installed.
const (
	ToldSystem   = "system_info"
	ToldNetwork  = "network"
	ToldConfig   = "config"
	ToldPackages = "packages"
)

// Event is one event that a device reports, unsigned. Body is the event as it came.
type Event struct {
	ID   string `json:"id"`
	Kind string `json:"kind"`
	At   string `json:"at"`
	Body []byte `json:"body"`
}

// Filter chooses devices; what is empty chooses all.
type Filter struct {
	State    string // one of States
	Target   string // assigned, or reported as installed
	Hardware string // of one of its ECUs
	Prefix   string // of its identity
	// SilentSince chooses those whose last manifest is older, and those that never sent one.
	SilentSince time.Time
}

// Matches reports whether the filter chooses the device.
func (f Filter) Matches(d *Device) bool {
	if f.State != "" && d.State() != f.State || !strings.HasPrefix(d.ID, f.Prefix) {
		return false
	}
	if seen, err := time.Parse(time.RFC3339, d.Seen); !f.SilentSince.IsZero() && err == nil && !seen.Before(f.SilentSince) {
		return false
	}
	if f.Hardware != "" {
		has := false
		for _, e := range d.ECUs {
			has = has || e.HardwareID == f.Hardware
		}
		if !has {
			return false
		}
	}
	if f.Target == "" {
		return true
	}
	for _, a := range d.Assigned {
		if a.Target == f.Target {
			return true
		}
	}
	for _, r := range d.Reported {
		if r.Target == f.Target {
			return true
		}
	}
	return false
}

// Devices lists the devices that the filter chooses, by identity, without their metadata.
func (d *Director) Devices(ctx context.Context, f Filter) ([]*Device, error) {
	var out []*Device
	err := d.fleet.Each(ctx, func(dev *Device) error {
		if f.Matches(dev) {
			out = append(out, dev)
		}
		return nil
	})
	slices.SortFunc(out, func(a, b *Device) int { return strings.Compare(a.ID, b.ID) })
	return out, err
}
