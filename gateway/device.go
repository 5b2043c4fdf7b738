package gateway

import (
	"context"
	"errors"
	"time"

	"github.com/hanaper/hanaper/internal/advice"
)

// State is how a device stands in the registry.
type State string

// The states.
const (
	// Pending: registered beforehand, and not met yet.
	Pending State = "pending"
	// Active: met.
	Active State = "active"
	// Blocked: an operator keeps it out until he unblocks it.
	Blocked State = "blocked"
	// Retired: its life has ended. It stays out, and is not unblocked by mistake.
	Retired State = "retired"
)

// States are all of them.
func States() []State { return []State{Pending, Active, Blocked, Retired} }

// The registry's answers about a device; any other error is a failure.
var (
	ErrBlocked = errors.New("the device is blocked")
	ErrRetired = errors.New("the device is retired")
	// ErrNotRegistered: only devices that are registered are taken, and this one is not.
	ErrNotRegistered = errors.New("the device is not registered")
	// ErrOldKey is about a key that a newer one has taken the place of, ErrOtherKey about one that is not the device's.
	ErrOldKey   = errors.New("a newer key has taken the place of this one")
	ErrOtherKey = errors.New("the device has another key")
	// ErrNoDevice: no such device is known.
	ErrNoDevice = errors.New("no such device")
	// ErrState: the device's state does not allow the act, or it is in that state already.
	ErrState = errors.New("the state of the device does not allow this")
	// ErrFull: an act, or a list that was to be imported, was not done, nor any part of it.
	ErrFull = advice.New(advice.Failed, "nothing was done: who was let in is let in, who was kept out is kept out. Make room on the disk of the registry, and do it again",
		"the registry's disk is full")
)

// RegistryReason is the reason of a refusal by the registry; "" where err is none.
func RegistryReason(err error) Reason {
	switch {
	case errors.Is(err, ErrBlocked):
		return DeviceBlocked
	case errors.Is(err, ErrRetired):
		return DeviceRetired
	case errors.Is(err, ErrNotRegistered):
		return NotRegistered
	case errors.Is(err, ErrOldKey):
		return KeySuperseded
	case errors.Is(err, ErrOtherKey):
		return OtherKey
	}
	return ""
}

// Meeting is a device that has proven its key, as the registry is told.
type Meeting struct {
	// Environment is the one whose roots the device was admitted by. The same id in two environments is two devices.
	Environment string
	// Device is the CN.
	Device string
	// Certificate is the SHA-256 of the leaf, Key that of its SubjectPublicKeyInfo.
	Certificate, Key [32]byte
	// Serial is the leaf's serial number in hex, Issuer its issuer as text.
	Serial, Issuer string
	// Generation is that in the certificate, 0 where it does not say. NotBefore takes its place then: a later certificate is a newer one.
	Generation          int
	NotBefore, NotAfter time.Time
	At                  time.Time
	// RegisteredOnly: a device that is not registered is refused and not recorded (the officers' policy, registered_only).
	RegisteredOnly bool
	// TestBench: the certificate is of one that came by a shared credential.
	TestBench bool
}

// Met says what was new about a Meeting.
type Met struct {
	// New: first contact of this device. Renewed: first contact with this certificate.
	New, Renewed bool
	// Rekeyed: the device is met with another key than before, which is its key from now on.
	Rekeyed bool
}

// Registry keeps the devices met. Implementations are safe for concurrent use, by several processes and gateways too: what one does binds the others
// within a second. registry/registrytest is the suite that each must pass. Ids are compared without case.
type Registry interface {
	// Meet records a meeting durably before it returns: one device, one record, however many first contacts race, at whatever gateways.
	// A device has one key. Another one is taken where its certificate's generation is higher than the one on record; where neither says, where it begins
	// later than all that were met with the first; or where an operator allowed it. Else the answer is ErrOtherKey, or ErrOldKey for a key that the device
	// had before, and the device is flagged. ErrBlocked, ErrRetired and ErrNotRegistered record nothing.
	Meet(ctx context.Context, m Meeting) (Met, error)
	// Seen notes that a device was there. It does not block; what it notes is written in batches, and at Close.
	Seen(environment, device string, at time.Time)
	// Standing is what is known in memory against a device that was met with a key (zero: not met yet): ErrBlocked, ErrRetired, or ErrOldKey where
	// another key has taken that one's place since. nil otherwise.
	Standing(environment, device string, key [32]byte) error
	// Err says why acts of others cannot be seen at present: the registry's file is gone or is another one, the database does not answer. Nobody is
	// admitted meanwhile. It does not block.
	Err() error
	// Trouble says why the last write failed: devices that are known are admitted, new ones cannot be. It does not block.
	Trouble() error
	// Figures are what it counts. It does not block.
	Figures() RegistryFigures
	// Changed receives a value after acts, by whomever, have become visible to Standing, and when Err changes.
	Changed() <-chan struct{}
	Records
	Close() error
}

// Records is what operators ask of a registry, and do in it.
type Records interface {
	// Devices lists those that f fits, in order of environment and id, at most f.Limit. Certificates are left out.
	Devices(ctx context.Context, f Filter) ([]Device, error)
	// Device is one device with its certificates; ErrNoDevice if it is not known.
	Device(ctx context.Context, environment, name string) (Device, error)
	// Do does an act and writes it into the log, durably, both or neither.
	Do(ctx context.Context, a Act) error
	// Import registers devices that were not met yet, all of them or none, as one act in the log. It fails with Duplicates where some are known.
	Import(ctx context.Context, list []Registration, by By) error
	// Log lists acts after the one with this number, at most limit. Device "" means all.
	Log(ctx context.Context, f LogFilter) ([]LogEntry, error)
	// Counts are the numbers of devices by environment and state, and of those with flags.
	Counts(ctx context.Context) ([]Count, error)
}

// Filter says which devices are meant; what is empty does not narrow.
type Filter struct {
	Environment string
	State       State
	// Flag is one of Flags, or "any".
	Flag string
	// Prefix of the id, without case.
	Prefix string
	// AfterEnvironment and After are where the page before has ended.
	AfterEnvironment, After string
	Limit                   int
}

// Device is what the registry knows of a device.
type Device struct {
	Environment string    `json:"environment"`
	Name        string    `json:"device_id"`
	State       State     `json:"state"`
	Generation  int       `json:"generation,omitempty"`
	FirstSeen   time.Time `json:"first_seen,omitzero"`
	LastSeen    time.Time `json:"last_seen,omitzero"`
	// Since is when the state was last changed by an operator, Why his reason.
	Since time.Time `json:"since,omitzero"`
	Why   string    `json:"why,omitempty"`
	Notes string    `json:"notes,omitempty"`
	// Key is the SHA-256 of the SubjectPublicKeyInfo by which the device is admitted, RekeyAllowed that its next other key is taken.
	Key          string `json:"key_sha256,omitempty"`
	RekeyAllowed bool   `json:"rekey_allowed,omitempty"`
	// LiveKeys counts the different keys among certificates that have not expired; it is 0 in lists. Flags name what an operator should look at.
	LiveKeys     int                 `json:"live_keys,omitempty"`
	Flags        []string            `json:"flags,omitempty"`
	Certificates []DeviceCertificate `json:"certificates,omitempty"`
}

// The flags.
const (
	FlagOtherKey = "other-key-refused"
	FlagOldKey   = "old-key-returned"
	// FlagTestBench marks a device that came by a shared credential: hanaperd made its key. It goes when the device comes with a certificate without that mark.
	FlagTestBench = "test-bench"
)

// Flags are all of them.
func Flags() []string { return []string{FlagOldKey, FlagOtherKey, FlagTestBench} }

// DeviceCertificate is a certificate that a device has used.
type DeviceCertificate struct {
	Certificate string    `json:"sha256"`
	Key         string    `json:"key_sha256"`
	Generation  int       `json:"generation,omitempty"`
	Serial      string    `json:"serial"`
	Issuer      string    `json:"issuer"`
	NotAfter    time.Time `json:"not_after"`
	FirstSeen   time.Time `json:"first_seen"`
	LastSeen    time.Time `json:"last_seen"`
}

// Verb is what an act does.
type Verb string

// The verbs. An operator does all but Rekeyed and Flagged, which are the registry's own, in the name of the gateway.
const (
	// Block keeps a device out, known or not. Unblock lets it in again, as it was.
	Block   Verb = "block"
	Unblock Verb = "unblock"
	// Forget unblocks, and has the device met anew, with whatever key it comes.
	Forget Verb = "forget"
	// Retire keeps a device out for good. Reinstate takes that back.
	Retire    Verb = "retire"
	Reinstate Verb = "reinstate"
	// AllowRekey lets the device's next other key take the place of its key, once.
	AllowRekey Verb = "allow-rekey"
	// Note replaces the device's notes. Unflag takes its flags away, once somebody has looked.
	Note   Verb = "note"
	Unflag Verb = "unflag"

	Imported Verb = "import"
	Restored Verb = "restore"
	Rekeyed  Verb = "rekeyed"
	Flagged  Verb = "flagged"
)

// By is who acts, when, and why.
type By struct {
	// Who is filled in by what lets him in: "uid 1000 (olga)".
	Who string
	// Why is for those who come after.
	Why string
	At  time.Time
}

// Act is an operator's act on one device. ErrNoDevice if the device must be known and is not, ErrState if it is not in a state for that.
type Act struct {
	Verb                Verb
	Environment, Device string
	// Text is the note of Note.
	Text string
	By
}

// Registration is a device that is registered before it is met.
type Registration struct {
	Environment, Device string
	// Key is the SHA-256 of the SubjectPublicKeyInfo that it will have; zero where any is taken.
	Key [32]byte
	// Generation is the least that its certificate may have; 0 for any.
	Generation int
	Notes      string
}

// Duplicates are devices of an import that are known already; some of them.
type Duplicates []string

func (Duplicates) Error() string { return "devices of the list are in the registry already" }

// LogFilter says which entries of the log are meant.
type LogFilter struct {
	// After is the number of the last entry that is known; with Newest the list goes backwards from before it, 0 meaning the end.
	After               int64
	Newest              bool
	Environment, Device string
	Limit               int
}

// LogEntry is one act in the log. Entries are only appended, and numbered from 1 without a gap.
type LogEntry struct {
	Number      int64     `json:"number"`
	At          time.Time `json:"at"`
	Who         string    `json:"who"`
	Verb        Verb      `json:"act"`
	Environment string    `json:"environment,omitempty"`
	Device      string    `json:"device_id,omitempty"`
	Why         string    `json:"why,omitempty"`
	// Detail is what the registry adds: which key went, how many devices came.
	Detail string `json:"detail,omitempty"`
}

// Count is how many devices an environment has in a state; Flag instead of State counts those that have it.
type Count struct {
	Environment string
	State       State
	Flag        string
	N           int64
}

// RegistryFigures are what a registry counts, since it was opened.
type RegistryFigures struct {
	// Meets are meetings by what became of them.
	Meets map[string]int64
	// WritesFailed are transactions that did not succeed; Blind is for how long acts of others were not seen; LastAct is the number of the last act seen.
	WritesFailed int64
	Blind        time.Duration
	LastAct      int64
}
