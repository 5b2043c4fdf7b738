package record

import "context"

// Store keeps what the service did. Every write is durable when it returns, all methods may be called at the same time,
// and where several processes share a store, by all of them. factory/record/recordtest says what each must do.
type Store interface {
	Enrolments
	Lots
	Acts
	Devices
	Revocations
	Journal
	// Probe writes a row of its own, durably, and reads it back.
	Probe(ctx context.Context) error
	// Check reads the whole store, tables and indexes, for damage that no question has met yet: ErrDamaged. It may take minutes; writes go on meanwhile.
	Check(ctx context.Context) error
	// Counts tells how many rows each table holds.
	Counts(ctx context.Context) (map[string]int64, error)
	Close() error
}

// Enrolments are the devices and their certificates.
type Enrolments interface {
	// Begin records an intent and returns it with isNew true. Where the device id has a record, and the intent is not of the
	// next generation, it changes nothing and returns the latest one; also where the next generation is asked for without a permit after
	// the latest was revoked, or a permit is asked for that there is not. Where it refuses, it changes nothing: ErrKeyKnown, ErrQuota,
	// ErrHeld, ErrLotChanged, ErrLotClosed, ErrLotID, ErrScrapped, ErrReserved.
	Begin(ctx context.Context, in Intent) (r Record, isNew bool, err error)
	// Finish records the certificate of an open intent, and its event, if the intent is still the one with this digest. Where a certificate is
	// recorded already it changes nothing. Either way it returns the one on record, the only one that may be handed out;
	// ErrAbandoned where the intent was closed.
	Finish(ctx context.Context, r Result) (Done, error)
	// Replace closes the open intent that has this id and digest, keeps its serial as abandoned, and records in its place an
	// intent of the same device and key. Where it is open no more, or another, it changes nothing. It returns the device's latest.
	Replace(ctx context.Context, id int64, tbs [32]byte, in Intent) (Record, error)
	// TakeIn records a certificate that this issuer is known to have issued, and that the store lacks. in.Station tells where it
	// comes from. Where it is there already nothing is changed, and isNew is false.
	TakeIn(ctx context.Context, in Intent, certificate []byte, who string) (r Record, isNew bool, err error)
	// OpenIntents lists up to limit intents without certificate, oldest first, beginning behind the ID after.
	OpenIntents(ctx context.Context, after int64, limit int) ([]Record, error)
	// ByDevice finds a device's latest record that is not abandoned, ByKey that of the device with a key, and BySerial the record of
	// one certificate; or ErrNotFound.
	ByDevice(ctx context.Context, deviceID string) (Record, error)
	ByKey(ctx context.Context, spkiDigest [32]byte) (Record, error)
	BySerial(ctx context.Context, issuer [32]byte, serial []byte) (Record, error)
	// Generations lists up to limit of a device's records that are not abandoned, the newest generation first.
	Generations(ctx context.Context, deviceID string, limit int) ([]Record, error)
}

// Revocations are the revoked serials and the signed lists of each issuer.
type Revocations interface {
	// Revoke records a revocation. Where the serial is revoked already it changes nothing, and changed is false. Either way it
	// returns the one on record.
	Revoke(ctx context.Context, r Revocation) (on Revocation, changed bool, err error)
	// Revoked finds the revocation of a serial, or ErrNotFound.
	Revoked(ctx context.Context, issuer [32]byte, serial []byte) (Revocation, error)
	// RevokedUpTo is the sequence number of this issuer's last revocation, 0 for none.
	RevokedUpTo(ctx context.Context, issuer [32]byte) (int64, error)
	// NextCRL lets make decide on the next list, under the issuer's lock: one caller at a time, in all processes, but that one who
	// holds it for long (a process that was stopped) is passed by, and what he makes is ErrOvertaken. make returns
	// nil for none. The list is stored, and returned, only if nobody took a number meanwhile (ErrOvertaken); older lists than
	// the last KeepCRLs are dropped. A list that was made is stored, even if ctx ends meanwhile. A store that lost its lock on the way stores nothing.
	NextCRL(ctx context.Context, issuer [32]byte, make func(ctx context.Context, t ListTurn) (*CRL, error)) (*CRL, error)
	// LatestCRL is the signed list of this issuer with the highest number, or ErrNotFound; LatestCRLNumber only its number, 0 for none.
	LatestCRL(ctx context.Context, issuer [32]byte) (CRL, error)
	LatestCRLNumber(ctx context.Context, issuer [32]byte) (int64, error)
	// Issuers lists the issuers that the store knows.
	Issuers(ctx context.Context) ([][32]byte, error)
}

// ListTurn is what a list is made from.
type ListTurn struct {
	// Last is the latest list, nil for none.
	Last *CRL
	// UpTo is the sequence number of the issuer's last revocation, 0 for none.
	UpTo int64
	// Revoked lists the issuer's revocations whose sequence number is above after, in order of serial and without Who, and tells how many there
	// are up to there. It may list some that were added since UpTo was read.
	Revoked func(ctx context.Context, after int64) (above []Revocation, upTo int64, err error)
	// Number takes the next number for good, whatever becomes of the list; it is greater than above and than all before.
	Number func(ctx context.Context, above int64) (int64, error)
}

// Journal is what happened, in order, and what followers of it keep beside it.
type Journal interface {
	// Append adds an event that no other method records, and gives it its number.
	Append(ctx context.Context, e Event) (sequence int64, err error)
	// Events lists up to limit events behind the sequence number after, in order. What was listed never changes: numbers have no
	// gap, and none below a listed one comes later.
	Events(ctx context.Context, after int64, limit int) ([]Event, error)
	// Sequence is the number of the last event, 0 for none.
	Sequence(ctx context.Context) (int64, error)
	// Mark reads a value that a follower keeps in the store (how far a log has come, a salt); nil for none. SwapMark writes one where it
	// is still old (nil: not there), and tells whether it did.
	Mark(ctx context.Context, name string) ([]byte, error)
	SwapMark(ctx context.Context, name string, old, value []byte) (bool, error)
	// Lead waits until this caller is the only one that leads under this name, in all processes that share the store. The context
	// that it returns ends when that is so no more; release gives it up.
	Lead(ctx context.Context, name string) (leading context.Context, release func(), err error)
	// Hold makes Begin refuse from now on, for the reason given in words; Accept ends that. Holding is the reason, empty for none.
	Hold(ctx context.Context, reason string) error
	Accept(ctx context.Context, who, note string) error
	Holding(ctx context.Context) (string, error)
}
