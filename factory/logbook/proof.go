package logbook

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/strict"
	"github.com/hanaper/hanaper/journal"
)

const proofVersion = "c2sp.org/tlog-proof@v1"

// Proof is an inclusion proof with its checkpoint, in the form of C2SP tlog-proof.
type Proof struct {
	Index      int64
	Hashes     []journal.Hash
	Checkpoint []byte
}

// ErrProof means a proof that is malformed or does not hold.
var ErrProof = errors.New("the proof does not hold")

// Text is the proof's one spelling.
func (p Proof) Text() []byte {
	b := fmt.Appendf(nil, "%s\nindex %d\n", proofVersion, p.Index)
	for _, h := range FormatHashes(p.Hashes) {
		b = append(append(b, h...), '\n')
	}
	return append(append(b, '\n'), p.Checkpoint...)
}

// ParseProof reads a proof; the optional line of extra data is passed over, for it proves nothing.
func ParseProof(data []byte) (Proof, error) {
	bad := func(what string) (Proof, error) { return Proof{}, fmt.Errorf("%w: %s", ErrProof, what) }
	if len(data) > MaxProof {
		return bad("it is too long")
	}
	head, checkpoint, ok := bytes.Cut(data, []byte("\n\n"))
	lines := strings.Split(string(head), "\n")
	if !ok || lines[0] != proofVersion {
		return bad("it is no " + proofVersion)
	}
	lines = lines[1:]
	if len(lines) > 0 && strings.HasPrefix(lines[0], "extra ") {
		if _, err := base64.StdEncoding.Strict().DecodeString(lines[0][len("extra "):]); err != nil {
			return bad("its extra data are not base64")
		}
		lines = lines[1:]
	}
	if len(lines) == 0 || len(lines)-1 > maxHashes {
		return bad("it has no index, or too many hashes")
	}
	number, ok := strings.CutPrefix(lines[0], "index ")
	index, err := strconv.ParseInt(number, 10, 64)
	if !ok || err != nil || index < 0 || strconv.FormatInt(index, 10) != number {
		return bad("its index")
	}
	hashes, err := ParseHashes(lines[1:])
	if err != nil {
		return bad(err.Error())
	}
	return Proof{Index: index, Hashes: hashes, Checkpoint: checkpoint}, nil
}

// Check verifies the proof's checkpoint, and that this leaf is in the log at the proof's index.
func (p Proof) Check(policy *Policy, leaf Leaf) (Checkpoint, error) {
	c, err := policy.Verify(p.Checkpoint)
	if err != nil {
		return c, fmt.Errorf("%w: %w", ErrProof, err)
	}
	if p.Index >= c.Size || tlog.CheckRecord(p.Hashes, c.Size, c.Root, p.Index, leaf.Hash()) != nil {
		return c, fmt.Errorf("%w: the entry is not at index %d of the %d that the checkpoint covers", ErrProof, p.Index, c.Size)
	}
	return c, nil
}

// Opening shows what one entry says: its details with the device id, and the salt that ties the two together. With a proof it
// convinces somebody who has the log's verifier key; it names a device, which is personal data.
type Opening struct {
	// Details is the text that the leaf has the SHA-256 of.
	Details string `json:"details"`
	// Certificate is the SHA-256 of the certificate's DER, hex; empty if there is none.
	Certificate string `json:"certificate,omitempty"`
	DeviceID    string `json:"device_id"`
	// Salt is 32 bytes, hex.
	Salt string `json:"salt"`
	// Proof is the text of the inclusion proof.
	Proof string `json:"proof"`
}

// Openings is a file of openings: all that a log says about a device.
type Openings struct {
	Format   string    `json:"format"`
	Openings []Opening `json:"openings"`
}

// openingsVersion is the format of a file of openings.
const openingsVersion = "hanaper-issuance-opening/1"

// MarshalOpenings writes a file of openings.
func MarshalOpenings(list []Opening) ([]byte, error) {
	data, err := json.MarshalIndent(Openings{openingsVersion, list}, "", "  ")
	return append(data, '\n'), err
}

// ParseOpenings reads a file of openings; nothing in it is checked yet.
func ParseOpenings(name string, data []byte) ([]Opening, error) {
	var o Openings
	if err := strict.JSON(name, data, &o); err != nil {
		return nil, err
	}
	if o.Format != openingsVersion || len(o.Openings) == 0 {
		return nil, advice.New(advice.Usage, "'hanaperd log prove' writes one", "%s has format %.40q, not %s, or no opening", name, o.Format, openingsVersion)
	}
	return o.Openings, nil
}

// Check verifies that the log has an entry with these details about this device.
func (o Opening) Check(policy *Policy) (Details, Checkpoint, error) {
	bad := func(what string) (Details, Checkpoint, error) {
		return Details{}, Checkpoint{}, fmt.Errorf("%w: %s", ErrProof, what)
	}
	d, err := ParseDetails([]byte(o.Details))
	if err != nil {
		return bad(err.Error())
	}
	salt, err := hex.DecodeString(o.Salt)
	if err != nil || len(salt) != 32 || o.DeviceID == "" || len(o.DeviceID) > maxID {
		return bad("its salt is not 32 bytes in hex, or its device id is empty or too long")
	}
	if DeviceDigest([32]byte(salt), o.DeviceID) != d.DeviceDigest {
		return bad("the entry is not about this device id")
	}
	var certificate [32]byte
	if o.Certificate != "" {
		raw, err := hex.DecodeString(o.Certificate)
		if err != nil || len(raw) != 32 {
			return bad("its certificate is not a SHA-256 in hex")
		}
		certificate = [32]byte(raw)
	}
	p, err := ParseProof([]byte(o.Proof))
	if err != nil {
		return Details{}, Checkpoint{}, err
	}
	if uint64(p.Index) != d.Index {
		return bad("its details are of another index than its proof")
	}
	c, err := p.Check(policy, d.LeafOf(certificate))
	return d, c, err
}
