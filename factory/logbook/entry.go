package logbook

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hanaper/hanaper/journal"
)

// Kind is what an entry tells, and the first byte of its leaf.
type Kind byte

// The kinds of layout 1: the kinds of events of the factory's record. Numbers are never given to another kind.
const (
	Issue    Kind = 1  // a certificate was issued
	Revoke   Kind = 2  // a serial number was revoked
	Reissue  Kind = 3  // a certificate of a device's further generation was issued
	Scrap    Kind = 4  // a device was scrapped
	Abandon  Kind = 5  // an intent was closed without a certificate
	OtherKey Kind = 6  // a device id was asked for with another key, and refused
	Lot      Kind = 7  // a lot was opened, closed or changed, or a device asked for under another one
	TakeIn   Kind = 8  // a certificate that the record had lost was taken in
	Lost     Kind = 9  // stands for an event that the record had lost
	Held     Kind = 10 // the record was found to lag
	Accept   Kind = 11 // an operator accepted it
)

// The further kinds of layout 2, which is layout 1 otherwise. A reader that knows layout 1 only refuses a log that holds one.
const (
	Swap   Kind = 12 // the keys of two device ids were exchanged
	Permit Kind = 13 // a device was allowed a further generation with another key
)

var kindNames = map[Kind]string{Issue: "issue", Revoke: "revoke", Reissue: "reissue", Scrap: "scrap", Abandon: "abandon", OtherKey: "other_key",
	Lot: "lot", TakeIn: "take_in", Lost: "lost", Held: "held", Accept: "accept", Swap: "swap", Permit: "permit"}

// Kinds lists the kinds in the order of their numbers.
func Kinds() []Kind { return slices.Sorted(maps.Keys(kindNames)) }

// KindNamed finds a kind by its name.
func KindNamed(name string) (Kind, bool) {
	for k, n := range kindNames {
		if n == name {
			return k, true
		}
	}
	return 0, false
}

func (k Kind) String() string {
	if s, ok := kindNames[k]; ok {
		return s
	}
	return fmt.Sprintf("kind %d", byte(k))
}

// LeafSize is the size of a leaf of layouts 1 and 2, in bytes.
const LeafSize = 1 + 2*sha256.Size

// Leaf is an entry of the log: kind, SHA-256 of the certificate and SHA-256 of the details' text. Nobody learns a device id
// from it.
type Leaf [LeafSize]byte

// Kind is what the leaf tells.
func (l Leaf) Kind() Kind { return Kind(l[0]) }

// Certificate is the SHA-256 of the certificate's DER; zeros where the entry has none.
func (l Leaf) Certificate() [32]byte { return [32]byte(l[1:33]) }

// Rest is the SHA-256 of the details' text.
func (l Leaf) Rest() [32]byte { return [32]byte(l[33:]) }

// Hash is the leaf's hash in the tree (RFC 6962, section 2.1).
func (l Leaf) Hash() journal.Hash { return journal.LeafHash(l[:]) }

// ErrLeaf means bytes that are no leaf of a layout that this release knows.
var ErrLeaf = errors.New("logbook: not a leaf that this release knows")

// ParseLeaf reads a leaf.
func ParseLeaf(data []byte) (Leaf, error) {
	if len(data) != LeafSize || kindNames[Kind(data[0])] == "" {
		return Leaf{}, ErrLeaf
	}
	return Leaf(data), nil
}

// Details is what an entry says besides its kind and certificate. It names no device: DeviceDigest is salted.
type Details struct {
	// Index is the entry's place in the log and its number in the record, from 0.
	Index uint64
	Kind  Kind
	// Time is when the record was written, in whole seconds, UTC.
	Time time.Time
	// Issuer is the SHA-256 of the issuing CA's subject and key (both DER), zeros if there is no certificate.
	Issuer [32]byte
	// Serial is the certificate's serial number, big endian without leading zeros; empty if there is no certificate.
	Serial []byte
	// SPKI is the SHA-256 of the device's SubjectPublicKeyInfo; zeros if there is none.
	SPKI [32]byte
	// DeviceDigest hides the device id with the entry's salt, RecordDigest what else the record says: who did it, and a note.
	// Zeros where there is no device.
	DeviceDigest, RecordDigest [32]byte
	// Reason is the CRL reason code (RFC 5280, section 5.3.1); 0 unless the entry revokes.
	Reason uint8
}

// detailsVersion is the first line of an entry's details.
const detailsVersion = "hanaper-issuance/1"

// DeviceDigest hides a device id: SHA-256 of "hanaper-issuance-device/1", the salt and the id as the certificate has it.
func DeviceDigest(salt [32]byte, id string) [32]byte {
	h := sha256.New()
	h.Write([]byte("hanaper-issuance-device/1\n"))
	h.Write(salt[:])
	h.Write([]byte(id))
	return [32]byte(h.Sum(nil))
}

// RecordDigest hides who did something and the record's note: SHA-256 of "hanaper-issuance-record/1", the salt, the length of who
// in bytes (8 bytes, big endian), who, and the note.
func RecordDigest(salt [32]byte, who, note string) [32]byte {
	h := sha256.New()
	h.Write([]byte("hanaper-issuance-record/1\n"))
	h.Write(salt[:])
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(who))))
	h.Write([]byte(who))
	h.Write([]byte(note))
	return [32]byte(h.Sum(nil))
}

func hexOrDash(b []byte) string {
	for _, c := range b {
		if c != 0 {
			return hex.EncodeToString(b)
		}
	}
	return "-"
}

// Text is the one spelling of the details, whose SHA-256 is in the leaf.
func (d Details) Text() []byte {
	return fmt.Appendf(nil, "%s\nindex %d\nkind %s\ntime %s\nissuer %s\nserial %s\nspki %s\ndevice %s\nrecord %s\nreason %d\n",
		detailsVersion, d.Index, d.Kind, d.Time.UTC().Format(time.RFC3339), hexOrDash(d.Issuer[:]), hexOrDash(d.Serial), hexOrDash(d.SPKI[:]),
		hexOrDash(d.DeviceDigest[:]), hexOrDash(d.RecordDigest[:]), d.Reason)
}

// Leaf is the entry with these details and this certificate (DER; nil if there is none).
func (d Details) Leaf(certificate []byte) Leaf {
	var digest [32]byte
	if certificate != nil {
		digest = sha256.Sum256(certificate)
	}
	return d.LeafOf(digest)
}

// LeafOf is Leaf for a certificate of which only the SHA-256 is at hand.
func (d Details) LeafOf(certificate [32]byte) Leaf {
	var l Leaf
	l[0] = byte(d.Kind)
	rest := sha256.Sum256(d.Text())
	copy(l[1:33], certificate[:])
	copy(l[33:], rest[:])
	return l
}

// ErrDetails means a text that is not the one spelling of an entry's details.
var ErrDetails = errors.New("logbook: malformed details of an entry")

// ParseDetails reads the text of details; only their one spelling is accepted.
func ParseDetails(text []byte) (Details, error) {
	var d Details
	bad := func(what string) (Details, error) { return Details{}, fmt.Errorf("%w: %s", ErrDetails, what) }
	if len(text) > MaxDetails {
		return bad("too long")
	}
	lines := strings.Split(string(text), "\n")
	names := []string{"index", "kind", "time", "issuer", "serial", "spki", "device", "record", "reason"}
	if len(lines) != len(names)+2 || lines[len(lines)-1] != "" || lines[0] != detailsVersion {
		return bad("it does not begin with " + detailsVersion + ", or has another number of lines")
	}
	value := map[string]string{}
	for i, name := range names {
		v, ok := strings.CutPrefix(lines[i+1], name+" ")
		if !ok {
			return bad("line " + name + " is missing")
		}
		value[name] = v
	}
	var err error
	if d.Index, err = strconv.ParseUint(value["index"], 10, 63); err != nil {
		return bad("index")
	}
	d.Kind, _ = KindNamed(value["kind"])
	if d.Time, err = time.Parse(time.RFC3339, value["time"]); err != nil || d.Kind == 0 {
		return bad("kind or time")
	}
	for name, into := range map[string]*[32]byte{"issuer": &d.Issuer, "spki": &d.SPKI, "device": &d.DeviceDigest, "record": &d.RecordDigest} {
		if value[name] == "-" {
			continue
		}
		raw, err := hex.DecodeString(value[name])
		if err != nil || len(raw) != 32 {
			return bad(name)
		}
		*into = [32]byte(raw)
	}
	if value["serial"] != "-" {
		if d.Serial, err = hex.DecodeString(value["serial"]); err != nil || len(d.Serial) == 0 || len(d.Serial) > 20 || d.Serial[0] == 0 {
			return bad("serial")
		}
	}
	r, err := strconv.ParseUint(value["reason"], 10, 8)
	if err != nil {
		return bad("reason")
	}
	d.Reason = uint8(r)
	if string(d.Text()) != string(text) {
		return bad("not in its one spelling")
	}
	return d, nil
}
