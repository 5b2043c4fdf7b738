package gateway

import (
	"context"
	"errors"
	"time"
)

// ErrDeleted is the registry's answer about a device that an operator deleted: it stays out until it is released.
var ErrDeleted = errors.New("the device was deleted and not released")

// ErrNoDevice is the registry's answer about a device that it has not met.
var ErrNoDevice = errors.New("no such device")

// ErrOldKey is the registry's answer about a key that a newer one has taken the place of, ErrOtherKey about one that is not the device's.
var (
	ErrOldKey   = errors.New("a newer key has taken the place of this one")
	ErrOtherKey = errors.New("the device has another key")
)

// Meeting is a device that has proven its key, as the registry is told.
type Meeting struct {
	// Device is the CN.
	Device string
	// Certificate is the SHA-256 of the leaf, Key that of its SubjectPublicKeyInfo.
	Certificate, Key [32]byte
	// Serial is the leaf's serial number in hex, Issuer its issuer as text.
	Serial, Issuer string
	// NotBefore orders the certificates of a device: a key in a later one takes the place of the device's.
	NotBefore, NotAfter time.Time
	At                  time.Time
}

// Met says what was new about a Meeting.
type Met struct {
	// New: first contact of this device. Renewed: first contact with this certificate.
	New, Renewed bool
	// Rekeyed: the device is met with another key than before, which is its key from now on.
	Rekeyed bool
}

// Registry keeps the devices met. Implementations are safe for concurrent use, by several processes too;
// registry/registrytest is the suite that each must pass.
type Registry interface {
	// Meet records a meeting durably before it returns: one device, one record, however many first contacts race. It
	// answers ErrDeleted for a deleted device, and records nothing then. A device has one key: another one is taken where its certificate begins later than
	// all that were met with the first (a reissue), or where an operator allows it; else the answer is ErrOtherKey, or ErrOldKey for a key that
	// it had before, and the device is flagged. Ids are compared without case.
	Meet(ctx context.Context, m Meeting) (Met, error)
	// Seen notes that a device was there. It does not block; what it notes is written in batches, and at Close.
	Seen(device string, at time.Time)
	// Deleted says whether a device is deleted, from memory.
	Deleted(device string) bool
	// Err says why deletions made by others cannot be seen at present: the registry's file is gone or is another one, its disk
	// does not answer. Nobody is admitted meanwhile. It does not block.
	Err() error
	// Trouble says why the last write failed: devices that are known are admitted, new ones cannot be. It does not block.
	Trouble() error
	// Changed receives a value after deletions or releases, made by whomever, have become visible to Deleted, and when Err
	// changes.
	Changed() <-chan struct{}

	// Devices lists those whose name is greater than after, in order of name, at most limit.
	Devices(ctx context.Context, after string, limit int) ([]Device, error)
	// Device is one device with its certificates; ErrNoDevice if it has not been met.
	Device(ctx context.Context, name string) (Device, error)
	// Delete bars a device, met or not, until Release. ErrDeleted if it is barred already.
	Delete(ctx context.Context, name, why string, at time.Time) error
	// Release lifts a deletion; the device is met anew at its next contact. ErrNoDevice if it is not deleted.
	Release(ctx context.Context, name string, at time.Time) error
	// AllowRekey lets the device's next other key take the place of its key, whenever its certificate begins. ErrNoDevice if it has not been met.
	AllowRekey(ctx context.Context, name string) error
	Close() error
}

// Device is what the registry knows of a device.
type Device struct {
	Name      string    `json:"device_id"`
	State     string    `json:"state"` // "known" or "deleted"
	FirstSeen time.Time `json:"first_seen,omitzero"`
	LastSeen  time.Time `json:"last_seen,omitzero"`
	Deleted   time.Time `json:"deleted,omitzero"`
	Why       string    `json:"why,omitempty"`
	// Key is the SHA-256 of the SubjectPublicKeyInfo by which the device is admitted, RekeyAllowed that its next other key is taken.
	Key          string `json:"key_sha256,omitempty"`
	RekeyAllowed bool   `json:"rekey_allowed,omitempty"`
	// LiveKeys counts the different keys among certificates that have not expired; Flags name what an operator should look
	// at: "two-live-keys", "old-key-returned", "other-key-refused".
	LiveKeys     int                 `json:"live_keys"`
	Flags        []string            `json:"flags,omitempty"`
	Certificates []DeviceCertificate `json:"certificates,omitempty"`
}

// DeviceCertificate is a certificate that a device has used.
type DeviceCertificate struct {
	Certificate string    `json:"sha256"`
	Key         string    `json:"key_sha256"`
	Serial      string    `json:"serial"`
	Issuer      string    `json:"issuer"`
	NotAfter    time.Time `json:"not_after"`
	FirstSeen   time.Time `json:"first_seen"`
	LastSeen    time.Time `json:"last_seen"`
}
