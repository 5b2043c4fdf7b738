package record

import (
	"context"
	"errors"
	"time"
)

// LotState is whether devices may be enrolled under a lot.
type LotState string

// The states. A closed lot is not opened again.
const (
	LotOpen   LotState = "open"
	LotClosed LotState = "closed"
)

// Lot says how many devices may be enrolled under a lot's name, and which. A name without a row has no bound.
type Lot struct {
	Name string
	// Quota is how many devices the lot may have; Taken counts the intents of new devices, those that are open included, less the places
	// that were given back.
	Quota, Taken int64
	State        LotState
	// Revision rises with each change of the lot. An intent names the one that its request was held against; 0 is a lot without an order.
	Revision int64
	// Profile and Environment are names; empty where the order says nothing.
	Profile, Environment string
	// IDPattern is what a whole device id must match (RE2), Listed how many ids the order lists; empty and 0 do not restrict.
	IDPattern string
	Listed    int64
	// Stations and HardwareIDs are those allowed; empty for any.
	Stations, HardwareIDs []string
	// From and Until bound when devices may be enrolled: from From on, before Until. Zero does not.
	From, Until time.Time
	// OpenedAt and ClosedAt are when; ClosedAt is zero while the lot is open.
	OpenedAt, ClosedAt time.Time
	// Order is the digest of the order in force: the SHA-256 of what was signed. Zeros for a lot without an order.
	Order [32]byte
}

// LotOrder is an order as it is applied. Of Lot it holds what the order says; the store sets the rest.
type LotOrder struct {
	Lot
	// IDs are the ids that the order lists; none for any that match the pattern.
	IDs []string
	// Envelope is the order with its signatures.
	Envelope []byte
	// Issued is when the order was made, as it says itself.
	Issued time.Time
	// Replaces is the digest of the order that this one changes; zeros for a new lot.
	Replaces [32]byte
	Who      string
	At       time.Time
}

// Lots are what orders opened.
type Lots interface {
	// OpenLot applies an order. One that was applied before changes nothing, whatever became of the lot, and changed is false. A name that
	// has a lot is ErrLotKnown, unless the order replaces the one in force: then quota, list and all else are the new order's, ErrQuota
	// where that is less than was taken. ErrLotClosed for a closed lot, ErrOrderOld for an order of before the store was accepted,
	// ErrHeld while it is held.
	OpenLot(ctx context.Context, o LotOrder) (on Lot, changed bool, err error)
	// CloseLot ends a lot for good. Closing again changes nothing. ErrNotFound.
	CloseLot(ctx context.Context, name, who, note string, at time.Time) (on Lot, changed bool, err error)
	// SetLot makes or changes the bound of a lot without an order; what it has taken stays.
	SetLot(ctx context.Context, name string, quota int64, who string) error
	// Lot finds one, or ErrNotFound. Lots lists up to limit behind the name after, in order of name; a state that is not empty selects.
	Lot(ctx context.Context, name string) (Lot, error)
	Lots(ctx context.Context, state LotState, after string, limit int) ([]Lot, error)
	// LotOrder is the envelope of an order that was applied, or ErrNotFound.
	LotOrder(ctx context.Context, digest [32]byte) ([]byte, error)
}

// Permit lets a device have a further generation.
type Permit struct {
	// Key is the SHA-256 of the only key that may have it; nil for any other key than the device's last.
	Key []byte
	At  time.Time
	// Who permitted it: "operator olga".
	Who, Note string
}

// Act is what an operator has done to a device.
type Act struct {
	DeviceID  string
	Who, Note string
	At        time.Time
}

// Exchange is a swap of the keys of two device ids.
type Exchange struct {
	A, B      string
	Who, Note string
	At        time.Time
	// KeyA and KeyB are the SHA-256 of the keys that the ids have now, as who asks for the swap saw them: empty for none. The swap is
	// made only where they are right, so that one that is asked for twice is not undone. Both nil: whatever they are.
	KeyA, KeyB []byte
}

// CRL reason codes (RFC 5280, section 5.3.1) of what operators do to devices.
const (
	ReasonSuperseded = 4
	ReasonCessation  = 5
)

// Acts are what operators do to devices. Each is one step: the certificates of the devices that are not revoked yet are revoked in it, events
// say who did it. ErrNotFound where no device has the id, ErrHeld while the store is held.
type Acts interface {
	// Reissue revokes a device's certificates as superseded and permits a further generation with another key. Where that is permitted
	// already it changes nothing. ErrOpen while an enrolment of the device is open, ErrScrapped.
	Reissue(ctx context.Context, a Act) (changed bool, err error)
	// Scrap revokes a device's certificates, closes its open intent, and lets it have no further one. freeSlot gives its place in the lot
	// back, once, also to a device that was scrapped before. Scrapping again changes nothing.
	Scrap(ctx context.Context, a Act, freeSlot bool) (changed bool, err error)
	// Swap gives each of two ids the key of the other: it moves the keys, revokes the certificates of both as superseded, and permits each
	// id a further generation with its new key only. An id that has no device is made one that waits for the key; one that is left
	// without a key may be enrolled with any. ErrChanged where the keys are not those of the Exchange, ErrOpen, ErrScrapped.
	Swap(ctx context.Context, x Exchange) error
	// Permit is what a device may do next, or ErrNotFound.
	Permit(ctx context.Context, deviceID string) (Permit, error)
	// Scrapped tells whether a device is.
	Scrapped(ctx context.Context, deviceID string) (bool, error)
}

// Cursor is a place in a list of devices: that behind the enrolment with this time and number.
type Cursor struct{ At, ID int64 }

// DeviceFilter selects enrolments; what is empty does not restrict.
type DeviceFilter struct {
	// Key is the SHA-256 of a key. What a swap took from a device is found too.
	Key          *[32]byte
	Station, Lot string
	// From and Until bound the time of the intent: from From on, before Until.
	From, Until time.Time
	// After is where the last list ended.
	After Cursor
	Limit int
}

// Listed is one enrolment of a list, without the evidence, and its place in it.
type Listed struct {
	Record
	Place Cursor
	// Scrapped says that the device is.
	Scrapped bool
}

// Devices finds devices.
type Devices interface {
	// Devices lists enrolments whose intent was not closed, in the order in which they were begun, all generations of a device.
	Devices(ctx context.Context, f DeviceFilter) ([]Listed, error)
}

// Answers of a store on lots and acts that are results, not failures.
var (
	// ErrLotKnown: the lot's name has a lot, and the order does not replace the order in force.
	ErrLotKnown = errors.New("the lot is there already")
	// ErrLotClosed: the lot is closed.
	ErrLotClosed = errors.New("the lot is closed")
	// ErrLotChanged: the lot is not the one that the intent's request was held against.
	ErrLotChanged = errors.New("the lot was changed meanwhile")
	// ErrLotID: the lot has a list of ids, and this one is not on it.
	ErrLotID = errors.New("the id is not on the lot's list")
	// ErrOrderOld: the order was made before the store was accepted, and may have been applied before.
	ErrOrderOld = errors.New("the order is older than the store's last acceptance")
	// ErrScrapped: the device was scrapped.
	ErrScrapped = errors.New("the device was scrapped")
	// ErrOpen: an enrolment of the device is open.
	ErrOpen = errors.New("an enrolment of the device is open")
	// ErrReserved: the device's next generation is for another key.
	ErrReserved = errors.New("the id waits for another key")
	// ErrChanged: the keys of the devices are not those that were said.
	ErrChanged = errors.New("the devices have other keys")
)
