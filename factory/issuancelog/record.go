package issuancelog

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"time"

	"github.com/hanaper/hanaper/factory/logbook"
)

// Event is one entry as the record has it.
type Event struct {
	// Index counts from 0 without gaps.
	Index    uint64
	Kind     logbook.Kind
	At       time.Time
	DeviceID string
	// Issuer, Serial, SPKI and Certificate are those of the certificate concerned: SHA-256 of the issuing CA's subject and key,
	// the serial number, SHA-256 of the key and SHA-256 of the DER. All are empty where there is no certificate.
	Issuer      [32]byte
	Serial      []byte
	SPKI        [32]byte
	Certificate [32]byte
	// Reason is the CRL reason code of a revocation.
	Reason uint8
	// Who did it, and what else is noted.
	Who, Note string
}

// Record is what the log needs of the factory's record. Its methods may be called at the same time.
type Record interface {
	// LogEvents lists up to limit events from the index on, in order, without gaps.
	LogEvents(ctx context.Context, from uint64, limit int) ([]Event, error)
	// LogSize is how many events there are: one more than the last index.
	LogSize(ctx context.Context) (uint64, error)
	// LogSecret is 32 random bytes that the record made once and keeps: salts of entries come from them.
	LogSecret(ctx context.Context) ([32]byte, error)
	// PutCheckpoint keeps a signed checkpoint. One that covers fewer entries than the one kept, or as many with another root, is
	// ErrCheckpointBack.
	PutCheckpoint(ctx context.Context, size uint64, root [32]byte, note []byte) error
	// LastCheckpoint is the one kept; nil where there is none.
	LastCheckpoint(ctx context.Context) (note []byte, err error)
	// LeadLog waits until no other server writes the log. The context that it returns ends when that is so no more; release lets
	// another server write it.
	LeadLog(ctx context.Context) (leading context.Context, release func(), err error)
}

// ErrCheckpointBack means a checkpoint that would take the record's last one back.
var ErrCheckpointBack = errors.New("the record holds a checkpoint that this one does not follow")

// Salt is an entry's own: HMAC-SHA-256 under the record's secret, so that the opening of one entry says nothing of another's.
func Salt(secret [32]byte, index uint64) [32]byte {
	h := hmac.New(sha256.New, secret[:])
	h.Write([]byte("hanaper-issuance-salt/1\n"))
	h.Write(binary.BigEndian.AppendUint64(nil, index))
	return [32]byte(h.Sum(nil))
}

// Details are what the entry's leaf has the digest of.
func (e Event) Details(secret [32]byte) logbook.Details {
	salt := Salt(secret, e.Index)
	d := logbook.Details{Index: e.Index, Kind: e.Kind, Time: e.At, Issuer: e.Issuer, Serial: e.Serial, SPKI: e.SPKI, RecordDigest: logbook.RecordDigest(salt, e.Who, e.Note), Reason: e.Reason}
	if e.DeviceID != "" {
		d.DeviceDigest = logbook.DeviceDigest(salt, e.DeviceID)
	}
	return d
}

// Leaf is the event's entry in the log.
func (e Event) Leaf(secret [32]byte) logbook.Leaf { return e.Details(secret).LeafOf(e.Certificate) }
