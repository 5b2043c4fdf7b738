package journal

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/hanaper/hanaper/internal/show"
)

// algCosignature is the signature type of a witness (C2SP tlog-cosignature, cosignature/v1): Ed25519 over the time and the
// checkpoint.
const algCosignature = 4

// Witness verifies the cosignatures of one witness. It is a note.Verifier.
type Witness struct {
	name string
	hash uint32
	pub  ed25519.PublicKey
	vkey string
}

// ParseWitnessKey reads a witness's verifier key: NAME+HASH+BASE64(0x04 || Ed25519 key). Keys of other types, those of logs
// among them, are refused.
func ParseWitnessKey(vkey string) (*Witness, error) {
	parts := strings.SplitN(vkey, "+", 3)
	if len(parts) != 3 || len(parts[1]) != 8 || len(vkey) > MaxCheckpoint || checkOrigin(parts[0]) != nil {
		return nil, errVerifierKey
	}
	hash, err := strconv.ParseUint(parts[1], 16, 32)
	if err != nil {
		return nil, errVerifierKey
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(parts[2])
	if err != nil || len(raw) != 1+ed25519.PublicKeySize {
		return nil, errVerifierKey
	}
	if raw[0] != algCosignature {
		return nil, fmt.Errorf("journal: verifier key of type %d: a witness's is of type %d (cosignature/v1)", raw[0], algCosignature)
	}
	sum := sha256.Sum256(append([]byte(parts[0]+"\n"), raw...))
	if binary.BigEndian.Uint32(sum[:]) != uint32(hash) {
		return nil, fmt.Errorf("journal: verifier key %s: hash %08x does not fit the key", show.Text(parts[0]), hash)
	}
	return &Witness{name: parts[0], hash: uint32(hash), pub: raw[1:], vkey: vkey}, nil
}

// Name implements note.Verifier.
func (w *Witness) Name() string { return w.name }

// KeyHash implements note.Verifier.
func (w *Witness) KeyHash() uint32 { return w.hash }

// String is the verifier key.
func (w *Witness) String() string { return w.vkey }

// Verify implements note.Verifier: sig is 8 bytes of Unix time and an Ed25519 signature over "cosignature/v1\ntime T\n" and the
// checkpoint's body.
func (w *Witness) Verify(body, sig []byte) bool {
	if len(sig) != 8+ed25519.SignatureSize {
		return false
	}
	t := binary.BigEndian.Uint64(sig)
	return t < 1<<62 && ed25519.Verify(w.pub, fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s", t, body), sig[8:])
}

// Cosigned tells when each of these witnesses cosigned the note, for those that did. The log's own signature is the caller's to
// check: VerifyCheckpoint.
func Cosigned(data []byte, witnesses ...*Witness) map[string]time.Time {
	times := map[string]time.Time{}
	if len(data) > MaxCheckpoint || len(witnesses) == 0 {
		return times
	}
	list := make([]note.Verifier, len(witnesses))
	for i, w := range witnesses {
		list[i] = w
	}
	n, err := note.Open(data, note.VerifierList(list...))
	if err != nil {
		return times
	}
	for _, s := range n.Sigs {
		raw, err := base64.StdEncoding.Strict().DecodeString(s.Base64)
		if err != nil || len(raw) < 4+8 {
			continue
		}
		times[s.Name] = time.Unix(int64(binary.BigEndian.Uint64(raw[4:])), 0).UTC()
	}
	return times
}
