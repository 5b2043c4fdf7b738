package factory

import (
	"context"
	"errors"
	"time"
)

// Intent is what the service is about to sign, recorded durably before the token is asked.
type Intent struct {
	DeviceID   string
	HardwareID string
	Lot        string
	// Station is the name in the caller's certificate.
	Station string
	// Serial is the certificate's serial number, big endian without leading zeros.
	Serial []byte
	// SPKI is the DER of the device's SubjectPublicKeyInfo, SPKIDigest its SHA-256.
	SPKI       []byte
	SPKIDigest [32]byte
	// CSRDigest is the SHA-256 of the request's DER.
	CSRDigest [32]byte
	// TBSDigest is the SHA-256 of the DER that will be signed, Issuer that of the issuing CA's name and key: a renewed
	// issuing certificate is the same CA, and its CRL lists what the earlier one issued.
	TBSDigest [32]byte
	Issuer    [32]byte
	// Seconds, UTC.
	NotBefore, NotAfter, At time.Time
}

// Record is an intent as stored, with what became of it.
type Record struct {
	Intent
	// ID is the store's own handle.
	ID int64
	// Certificate is the DER; nil while the intent is open.
	Certificate []byte
	IssuedAt    time.Time
	// RevokedAt is zero unless the certificate is revoked; Reason is the CRL reason code (RFC 5280, section 5.3.1).
	RevokedAt time.Time
	Reason    int
}

// Open says that the certificate is not recorded yet, and so was handed to nobody.
func (r *Record) Open() bool { return r.Certificate == nil }

// Revocation is one line of a CRL.
type Revocation struct {
	Serial []byte
	At     time.Time
	Reason int
}

// CRL is a signed revocation list as stored.
type CRL struct {
	Number     int64
	DER        []byte
	ThisUpdate time.Time
	NextUpdate time.Time
}

// ErrNotFound: the store has no such record.
var ErrNotFound = errors.New("no such record")

// ErrKeyKnown: the key of an intent is recorded for another device id.
var ErrKeyKnown = errors.New("the key belongs to another device")

// Store keeps what the service did. Every write is durable when it returns, and all methods may be called at the same time.
// The suite in factory/store/suite_test.go says what each must do.
type Store interface {
	// Begin records an intent and returns it with isNew true; where the device id has a record, it changes nothing and
	// returns that one. A key that belongs to another device id is ErrKeyKnown.
	Begin(ctx context.Context, in Intent) (r Record, isNew bool, err error)
	// Finish records the certificate of an open intent. Where one is recorded already it changes nothing. Either way it
	// returns the certificate on record, the only one that may be handed out.
	Finish(ctx context.Context, id int64, certificate []byte, at time.Time) ([]byte, error)
	// Replace closes the open intent with this id, keeps its serial as abandoned, and records in its place an intent of
	// the same device. An intent that is open no more is left as it is, and returned.
	Replace(ctx context.Context, id int64, in Intent) (Record, error)
	// OpenIntents lists up to limit intents without certificate, oldest first, beginning behind the ID after.
	OpenIntents(ctx context.Context, after int64, limit int) ([]Record, error)
	// ByDevice and BySerial find a record, or ErrNotFound.
	ByDevice(ctx context.Context, deviceID string) (Record, error)
	BySerial(ctx context.Context, serial []byte) (Record, error)
	// Revoke marks an issued certificate. Where it is marked already it changes nothing and changed is false.
	Revoke(ctx context.Context, id int64, reason int, at time.Time) (changed bool, err error)
	// Revocations lists every revoked certificate of an issuer, in order of serial.
	Revocations(ctx context.Context, issuer [32]byte) ([]Revocation, error)
	// NextCRLNumber takes the next number for good, whatever becomes of the list; it is greater than above.
	NextCRLNumber(ctx context.Context, above int64) (int64, error)
	PutCRL(ctx context.Context, issuer [32]byte, c CRL) error
	// LatestCRL is the signed list of this issuer with the highest number, or ErrNotFound.
	LatestCRL(ctx context.Context, issuer [32]byte) (CRL, error)
	Close() error
}
