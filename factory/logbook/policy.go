package logbook

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/journal"
)

// PolicyConfig says whose checkpoints are believed. The tags are those of configuration files.
type PolicyConfig struct {
	// Key is the log's verifier key, NAME+HASH+BASE64; its name is the log's origin.
	Key string `yaml:"key"`
	// Witnesses are the verifier keys of witnesses (cosignature/v1).
	Witnesses []string `yaml:"witnesses"`
	// Cosignatures is how many of the witnesses must have cosigned a checkpoint; 0 demands none.
	Cosignatures int `yaml:"cosignatures"`
}

// Policy is a PolicyConfig that was checked.
type Policy struct {
	key       note.Verifier
	vkey      string
	witnesses []*journal.Witness
	demand    int
}

// NewPolicy checks the keys.
func NewPolicy(c PolicyConfig) (*Policy, error) {
	p := &Policy{demand: c.Cosignatures, vkey: c.Key}
	var err error
	if p.key, err = journal.ParseVerifierKey(c.Key); err != nil {
		return nil, advice.Wrap(advice.Usage, err, "'hanaperd log key' prints the log's verifier key")
	}
	seen := map[string]bool{p.key.Name(): true}
	for _, w := range c.Witnesses {
		one, err := journal.ParseWitnessKey(w)
		if err != nil {
			return nil, advice.Wrap(advice.Usage, err, "the witness's operator gives its verifier key; it is of type 4")
		}
		if seen[one.Name()] {
			return nil, advice.New(advice.Usage, "name each witness once", "%s is named twice", show.Text(one.Name()))
		}
		seen[one.Name()] = true
		p.witnesses = append(p.witnesses, one)
	}
	if p.demand < 0 || p.demand > len(p.witnesses) {
		return nil, advice.New(advice.Usage, "demand at most as many cosignatures as there are witnesses", "%d cosignatures are demanded of %d witnesses", p.demand, len(p.witnesses))
	}
	return p, nil
}

// Origin is the log's name.
func (p *Policy) Origin() string { return p.key.Name() }

// Witnesses are those whose cosignatures count.
func (p *Policy) Witnesses() []*journal.Witness { return p.witnesses }

// Demand is how many of them must have cosigned.
func (p *Policy) Demand() int { return p.demand }

// Checkpoint is a checkpoint that a policy was met by.
type Checkpoint struct {
	journal.Checkpoint
	// Note is the signed note, as stock tools read it.
	Note []byte
	// Cosigned tells when each witness of the policy cosigned it.
	Cosigned map[string]time.Time
}

// ErrCosignatures means a checkpoint of the log that too few witnesses cosigned.
var ErrCosignatures = errors.New("too few witnesses cosigned the checkpoint")

// Verify checks a checkpoint's signature, origin and cosignatures.
func (p *Policy) Verify(data []byte) (Checkpoint, error) {
	c, err := p.VerifySigned(data)
	if err == nil && len(c.Cosigned) < p.demand {
		err = fmt.Errorf("%w: %d of %d demanded", ErrCosignatures, len(c.Cosigned), p.demand)
	}
	if err != nil {
		return Checkpoint{}, err
	}
	return c, nil
}

// VerifySigned is Verify without the demand for cosignatures: for the log's own side, which collects them.
func (p *Policy) VerifySigned(data []byte) (Checkpoint, error) {
	c, err := journal.VerifyCheckpoint(data, p.key)
	if err != nil {
		return Checkpoint{}, err
	}
	if c.Origin != p.Origin() {
		return Checkpoint{}, fmt.Errorf("the checkpoint is of log %s, not %s", show.Text(c.Origin), show.Text(p.Origin()))
	}
	if c.Size > MaxSize {
		return Checkpoint{}, fmt.Errorf("%w: %d entries", ErrLog, c.Size)
	}
	if c.Size == 0 && c.Root != emptyRoot() {
		return Checkpoint{}, fmt.Errorf("%w: a root of no entries that is not the empty one", ErrLog)
	}
	return Checkpoint{Checkpoint: c, Note: data, Cosigned: journal.Cosigned(data, p.witnesses...)}, nil
}

func emptyRoot() journal.Hash {
	h, err := tlog.TreeHash(0, nil)
	if err != nil {
		panic("logbook: " + err.Error())
	}
	return h
}

var (
	// ErrOlder means a checkpoint of fewer entries than one that was seen before: the log was cut back, or put back from a copy.
	ErrOlder = errors.New("the checkpoint is older than one that was seen before")
	// ErrFork means that two checkpoints of a log do not belong to one history.
	ErrFork = errors.New("the checkpoint does not agree with one that was seen before: entries were changed, left out or moved")
)

// Follows checks that newer is of the same history as older, which was seen before: proof is the consistency proof between the
// two sizes.
func Follows(older, newer journal.Checkpoint, proof []journal.Hash) error {
	switch {
	case older.Origin != newer.Origin:
		return fmt.Errorf("%w: it is of log %s, not %s", ErrFork, show.Text(newer.Origin), show.Text(older.Origin))
	case newer.Size < older.Size:
		return fmt.Errorf("%w: %d entries, %d were seen", ErrOlder, newer.Size, older.Size)
	case newer.Size == older.Size:
		if newer.Root != older.Root {
			return fmt.Errorf("%w: two roots of %d entries", ErrFork, newer.Size)
		}
		return nil
	case older.Size == 0:
		return nil
	}
	if len(proof) > 2*maxHashes {
		return fmt.Errorf("%w: a proof of %d hashes", ErrFork, len(proof))
	}
	if err := tlog.CheckTree(proof, newer.Size, newer.Root, older.Size, older.Root); err != nil {
		return fmt.Errorf("%w: from %d to %d entries", ErrFork, older.Size, newer.Size)
	}
	return nil
}

// FormatHashes writes the hashes of a proof in base64.
func FormatHashes(proof []journal.Hash) []string {
	out := make([]string, len(proof))
	for i, h := range proof {
		out[i] = base64.StdEncoding.EncodeToString(h[:])
	}
	return out
}

// ParseHashes reads what FormatHashes wrote.
func ParseHashes(list []string) ([]journal.Hash, error) {
	if len(list) > 2*maxHashes {
		return nil, fmt.Errorf("a proof of %d hashes; no proof has more than %d", len(list), 2*maxHashes)
	}
	out := make([]journal.Hash, len(list))
	for i, s := range list {
		raw, err := base64.StdEncoding.Strict().DecodeString(strings.TrimSpace(s))
		if err != nil || len(raw) != len(out[i]) {
			return nil, fmt.Errorf("hash %d of the proof is not 32 bytes in base64", i+1)
		}
		out[i] = journal.Hash(raw)
	}
	return out, nil
}

// Key is the log's verifier key.
func (p *Policy) Key() string { return p.vkey }
