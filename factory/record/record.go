// Package record says what the factory keeps: devices, their enrolments, certificates, what happened to them, and the
// revocation lists. It holds types and the interface of a store, and no database: factory/record/sqlite keeps them in one
// file, factory/record/postgres in a database that several hanaperd share, and factory/record/recordtest is the suite that
// both must pass.
//
// The store decides, not the memory of a process: an intent is taken or refused by a constraint, a result is recorded only
// while its intent is open, and a revocation list only by the one who took its number last. An attacker who can write to
// the store can make devices be forgotten, refused or shown as revoked; he can make no certificate.
package record

import (
	"errors"
	"strings"
	"time"
	"unicode"
)

// Intent is what the service is about to sign, recorded durably before the token is asked.
type Intent struct {
	// DeviceID is the id in the form in which it will be certified. Ids are compared without case (Fold).
	DeviceID string
	// Generation counts the enrolments of a device from 1; 0 means 1.
	Generation int
	HardwareID string
	Lot        string
	// LotRevision is that of the lot that the request was held against; 0 where there was none.
	LotRevision int64
	// Permitted asks for a further generation that an operator permitted, and makes use of that permit.
	Permitted bool
	// Station is the name in the caller's certificate. Of a renewal stands here "gateway NAME", which is no station's name.
	Station string
	// SPKI is the DER of the device's SubjectPublicKeyInfo, SPKIDigest its SHA-256.
	SPKI       []byte
	SPKIDigest [32]byte
	// CSRDigest is the SHA-256 of the request's DER.
	CSRDigest [32]byte
	// Evidence is what was shown of where the key was born, as it came; empty if nothing was. EvidenceDigest is its SHA-256, which
	// stays where the evidence itself is kept elsewhere.
	Evidence       []byte
	EvidenceDigest []byte
	// Profile is the name of the profile that the certificate is made by; empty for the built-in one. Asked is what the request asked beyond
	// its name, and what became of that (JSON; the store does not read it).
	Profile string
	Asked   []byte
	// Issuer names the issuing CA: the SHA-256 of its subject and key, so that a renewed issuing certificate is the same CA.
	Issuer [32]byte
	// Serial is the certificate's serial number, big endian without leading zeros.
	Serial []byte
	// TBSDigest is the SHA-256 of the DER that will be signed.
	TBSDigest [32]byte
	// Seconds, UTC.
	NotBefore, NotAfter, At time.Time
}

// State is what became of an intent.
type State int

// The states.
const (
	// StateIntent: the certificate is not recorded yet, and so was handed to nobody.
	StateIntent State = iota
	// StateIssued: it is recorded, and may have been handed out.
	StateIssued
	// StateAbandoned: the intent was closed without a certificate; its serial number is not used again.
	StateAbandoned
)

func (s State) String() string {
	switch s {
	case StateIntent:
		return "intent"
	case StateIssued:
		return "issued"
	}
	return "abandoned"
}

// Record is an intent as stored, with what became of it.
type Record struct {
	Intent
	// ID is the store's own handle of the certificate.
	ID    int64
	State State
	// Certificate is the DER, IssuedAt the moment and Sequence the number of its event; empty unless it is issued.
	Certificate []byte
	IssuedAt    time.Time
	Sequence    int64
	// RevokedAt is zero unless the serial is revoked; Reason is the CRL reason code (RFC 5280, section 5.3.1).
	RevokedAt time.Time
	Reason    int
}

// Open says that the certificate is not recorded yet, and so was handed to nobody.
func (r *Record) Open() bool { return r.State == StateIntent }

// Result is what the token made of an intent.
type Result struct {
	// ID and TBSDigest are the intent's, as it was recorded.
	ID          int64
	TBSDigest   [32]byte
	Generation  int
	Certificate []byte
	At          time.Time
	// Who has it recorded: "station line-1".
	Who string
}

// Done is the certificate on record for an intent, and the number of its event.
type Done struct {
	Certificate []byte
	At          time.Time
	Sequence    int64
}

// Revocation is one line of a CRL. The serial need not be one that the store knows.
type Revocation struct {
	Issuer [32]byte
	Serial []byte
	At     time.Time
	// Reason is the CRL reason code (RFC 5280, section 5.3.1).
	Reason int
	// Who revoked: "operator olga".
	Who string
	// Note is what stands in its event beside it, in words; it is not read back from a list.
	Note string
	// Sequence is the number of its event.
	Sequence int64
}

// CRL is a signed revocation list as stored.
type CRL struct {
	Number     int64
	DER        []byte
	ThisUpdate time.Time
	NextUpdate time.Time
	// UpTo is the sequence number of the last revocation that it was made with.
	UpTo int64
}

// KeepCRLs is how many lists of each issuer a store keeps.
const KeepCRLs = 5

// Kind is what an event tells.
type Kind string

// The kinds of events.
const (
	Issue    Kind = "issue"
	Reissue  Kind = "reissue"   // a further generation of a device
	Abandon  Kind = "abandon"   // an intent was closed for a new one
	Revoke   Kind = "revoke"    // of any serial of the issuer, known or not
	OtherKey Kind = "other_key" // a device id was asked for with another key than it has; refused
	Scrap    Kind = "scrap"
	LotWas   Kind = "lot"     // a lot was opened, closed or changed, or a device asked for under another lot than before
	TakenIn  Kind = "take_in" // a certificate of this issuer that the store did not know was taken in from elsewhere
	Lost     Kind = "lost"    // stands for one that is known to have been, and of which nothing else is known
	Held     Kind = "held"    // the store was found to lag, and is not served
	Accepted Kind = "accept"  // an operator accepted it
	Swap     Kind = "swap"    // the keys of two device ids were exchanged
	Permits  Kind = "permit"  // a device may have a further generation, with another key
)

// Event is one thing that happened. Events are only ever appended, and numbered from 1 without a gap.
type Event struct {
	Sequence int64
	Kind     Kind
	At       time.Time
	// Who did it: "station line-1", "operator olga", "hanaperd".
	Who string
	// DeviceID is the form in the certificate; empty where no device is concerned or known.
	DeviceID string
	// CertificateID is the store's handle of the certificate concerned; 0 for none, or one that the store does not know.
	CertificateID int64
	// Issuer and Serial name the certificate concerned; SPKIDigest is filled in where it is known, and Certificate where it was
	// recorded by then: what an event says never changes.
	Issuer      [32]byte
	Serial      []byte
	SPKIDigest  [32]byte
	Certificate []byte
	Reason      int
	// Note is the rest, in words; foreign text may be in it.
	Note string
}

// The answers of a store that are results, not failures.
var (
	// ErrNotFound: the store has no such record.
	ErrNotFound = errors.New("no such record")
	// ErrKeyKnown: the key of an intent is recorded for another device id.
	ErrKeyKnown = errors.New("the key belongs to another device")
	// ErrQuota: the lot of an intent has as many devices as it may have.
	ErrQuota = errors.New("the lot is full")
	// ErrHeld: the store lags, and takes no intent until an operator accepts it.
	ErrHeld = errors.New("the store is held")
	// ErrAbandoned: the intent was closed meanwhile, and its certificate must not be handed out.
	ErrAbandoned = errors.New("the intent was closed meanwhile")
	// ErrDamaged: what lies on the disk is not what was written. It is a failure, and wraps what the database says.
	ErrDamaged = errors.New("the store is damaged")
	// ErrOvertaken: another list was numbered meanwhile; nothing was stored.
	ErrOvertaken = errors.New("another revocation list was numbered meanwhile")
)

// Fold is the form in which device ids are compared: two ids are the same where strings.EqualFold says so.
func Fold(id string) string {
	return strings.Map(func(r rune) rune {
		least := r
		for n := unicode.SimpleFold(r); n != r; n = unicode.SimpleFold(n) {
			least = min(least, n)
		}
		return unicode.ToLower(least)
	}, id)
}
