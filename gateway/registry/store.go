package registry

import (
	"context"
	"strings"
	"time"

	"github.com/hanaper/hanaper/gateway"
)

// Key names a device: its environment, and its id in the form in which ids are compared.
type Key struct{ Environment, Fold string }

// KeyOf is the key of a device id.
func KeyOf(environment, device string) Key { return Key{environment, Fold(device)} }

// Fold is the form in which ids are compared: they are ASCII.
func Fold(device string) string { return strings.ToLower(device) }

// State is a gateway.State as the databases keep it.
type State int

// The states; the numbers stand in databases.
const (
	Pending State = iota
	Active
	Blocked
	Retired
)

var states = []gateway.State{gateway.Pending, gateway.Active, gateway.Blocked, gateway.Retired}

// StateOf is the number of a state, -1 for none.
func StateOf(s gateway.State) State {
	for i, one := range states {
		if one == s {
			return State(i)
		}
	}
	return -1
}

func (s State) barred() bool { return s == Blocked || s == Retired }

// The flags; the bits stand in databases.
const (
	flagOldKey = 1 << iota
	flagOtherKey
	flagTestBench
)

// Flags are the bits of a device's flags by name.
var Flags = map[string]int64{gateway.FlagOldKey: flagOldKey, gateway.FlagOtherKey: flagOtherKey, gateway.FlagTestBench: flagTestBench}

// Row is a device as a store keeps it. Times are Unix seconds, 0 for none.
type Row struct {
	// ID is the store's own number of the device; 0 before it is stored.
	ID int64
	Key
	// Name is the id in the form in which it came first.
	Name  string
	State State
	// Registered: an operator registered it, so that it is known even where it was not met.
	Registered bool
	FirstSeen  int64
	LastSeen   int64
	// Since is when State was last changed by an operator, Why his reason.
	Since int64
	Why   string
	Notes string
	// KeySum is the SHA-256 of the SubjectPublicKeyInfo by which the device is admitted; nil for none yet. KeyFrom is the latest notBefore of a
	// certificate by which it was met with that key.
	KeySum     []byte
	KeyFrom    int64
	Generation int
	// Rekey: an operator allows another key, once.
	Rekey bool
	Flags int64
	// Certificates are those that it has used, in the order in which they came. Only Find and Look fill them in.
	Certificates []Certificate
}

// Certificate is one that a device has used.
type Certificate struct {
	Sum, KeySum         []byte
	Generation          int
	Serial, Issuer      string
	NotAfter            int64
	FirstSeen, LastSeen int64
	// Turn is its place among the device's, from 1.
	Turn int64
}

// NewCertificate is a certificate to be stored with its device.
type NewCertificate struct {
	Device *Row
	Certificate
}

// Sighting is when a device was last there, and with which certificate (zero: not known).
type Sighting struct {
	Key
	At          int64
	Certificate [32]byte
}

// Tally is how many devices an environment has in a state.
type Tally struct {
	Environment string
	State       State
}

// Store is a database as a registry uses it. What it must do is held by registrytest.
type Store interface {
	// Look gives the devices of these keys that are there, with their certificates, and locks nothing.
	Look(ctx context.Context, keys []Key) (map[Key]*Row, error)
	// Do runs steps in one transaction, durable when it returns nil. It may run them again where the database asks for that.
	Do(ctx context.Context, steps func(Tx) error) error
	// Last is the number of the last act, and how many there were when this one's database was made anew: a change of either is looked at.
	Last(ctx context.Context) (number int64, err error)
	// Barred gives every device that is blocked or retired, and the number of the last act at that moment.
	Barred(ctx context.Context, each func(Key, State)) (number int64, err error)
	// Seen writes sightings: of those that are not there, or that others are changing, it forgets.
	Seen(ctx context.Context, list []Sighting) error
	// Probe writes something.
	Probe(ctx context.Context, at time.Time) error
	// Lost says why this is not the database any more that was opened; nil if it is.
	Lost() error
	// Wakes receives a value where the database says by itself that an act was done; nil where it cannot.
	Wakes() <-chan struct{}

	Devices(ctx context.Context, f gateway.Filter) ([]*Row, error)
	Log(ctx context.Context, f gateway.LogFilter) ([]gateway.LogEntry, error)
	Tallies(ctx context.Context) (map[Tally]int64, error)
	// Flagged counts devices by environment and bit of their flags.
	Flagged(ctx context.Context) (map[string]map[int64]int64, error)
	// Writers is how many transactions may run at a time.
	Writers() int
	Close() error
}

// Tx is a transaction. To have no two of them wait for each other, each calls these in this order: Find, Add, Change and Remove, AddCertificates, Tally, Enter.
type Tx interface {
	// Find is Look, and keeps others from changing what it gives until the transaction ends.
	Find(keys []Key) (map[Key]*Row, error)
	// Add stores new devices and fills in their IDs. Those that somebody else stored meanwhile are left out, and keep ID 0.
	Add(rows []*Row) error
	// Change writes devices back, without their certificates.
	Change(rows []*Row) error
	// Remove removes a device; with all, it, else only its certificates.
	Remove(row *Row, all bool) error
	AddCertificates(list []NewCertificate) error
	Tally(deltas map[Tally]int64) error
	// Enter appends to the log of acts, and numbers the entries.
	Enter(entries []gateway.LogEntry) error
}
