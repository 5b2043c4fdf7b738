package logbook

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/journal"
)

// Kept is the last checkpoint of a log that this machine accepted, in a file: the signed note as it came. Several processes may
// share the file. An attacker who can write to it can make an older log pass; he who removes it makes the next checkpoint be
// believed on its signature alone.
type Kept struct {
	path   string
	policy *Policy
	now    func() time.Time
}

// NewKept names the file; it need not exist. now is the clock, nil for time.Now.
func NewKept(path string, policy *Policy, now func() time.Time) *Kept {
	if now == nil {
		now = time.Now
	}
	return &Kept{path: path, policy: policy, now: now}
}

// Last is the checkpoint in the file; ok is false where there is none yet.
func (k *Kept) Last() (c Checkpoint, ok bool, err error) {
	data, err := input.Read(k.path, journal.MaxCheckpoint)
	if errors.Is(err, fs.ErrNotExist) {
		return c, false, nil
	}
	if err == nil {
		// What was demanded of witnesses may have changed since.
		c, err = k.policy.VerifySigned(data)
	}
	if err != nil {
		return c, false, advice.Wrap(advice.Unverified, fmt.Errorf("the kept checkpoint %s: %w", show.Text(k.path), err),
			"it is a checkpoint of the log that the configuration names; if the log's key was changed on purpose, move the file away and keep it")
	}
	return c, true, nil
}

// Size is how many entries the kept checkpoint covers; 0 where there is none.
func (k *Kept) Size() (int64, error) {
	c, _, err := k.Last()
	return c.Size, err
}

// Offer is a checkpoint that somebody shows, with the proof that it follows the one of from entries.
type Offer struct {
	Note  []byte
	From  int64
	Proof []journal.Hash
	// Files is where a proof can be made from when From is no longer what is kept: another process of this machine may have
	// accepted a checkpoint meanwhile. nil: nowhere.
	Files Files
	// Source says in words who showed it; it stands in the evidence.
	Source string
}

// Accept checks what is offered against what is kept, and keeps it. One that is older, or that does not agree, or whose
// signatures do not verify, is refused; the evidence is kept in a file beside, which the error names.
func (k *Kept) Accept(ctx context.Context, o Offer) (Checkpoint, error) {
	release, err := k.lock(ctx)
	if err != nil {
		return Checkpoint{}, err
	}
	defer release()
	last, have, err := k.Last()
	if err != nil {
		return Checkpoint{}, err
	}
	c, err := k.policy.Verify(o.Note)
	if err != nil {
		return Checkpoint{}, k.refuse(o, last, err)
	}
	if !have {
		return c, durable.WriteFile(k.path, o.Note, 0o644)
	}
	proof, behind := o.Proof, c
	if last.Size != o.From && last.Size != c.Size && last.Size > 0 {
		// Another process was faster. Whichever of the two is longer must begin with the other.
		if o.Files == nil {
			return Checkpoint{}, advice.New(advice.Failed, "try again", "the kept checkpoint %s changed meanwhile", show.Text(k.path))
		}
		if proof, err = Consistency(ctx, o.Files, min(last.Size, c.Size), max(last.Size, c.Size)); err != nil {
			return Checkpoint{}, advice.Wrap(advice.Failed, err, "try again; without the log's tiles the checkpoint cannot be compared with the one that is kept")
		}
		if c.Size < last.Size && c.Size >= o.From {
			// Not older than what was asked for: it is held against the one that came first, which stays.
			if err := Follows(c.Checkpoint, last.Checkpoint, proof); err != nil {
				return Checkpoint{}, k.refuse(o, last, err)
			}
			return last, nil
		}
	}
	if err := Follows(last.Checkpoint, behind.Checkpoint, proof); err != nil {
		return Checkpoint{}, k.refuse(o, last, err)
	}
	if c.Size == last.Size {
		return last, nil
	}
	return c, durable.WriteFile(k.path, o.Note, 0o644)
}

// lock waits for other processes that accept a checkpoint into the same file.
func (k *Kept) lock(ctx context.Context) (func(), error) {
	if err := durable.Mkdir(filepath.Dir(k.path), 0o755); err != nil {
		return nil, err
	}
	for {
		l, err := durable.Lock(k.path + ".lock")
		if err == nil {
			return func() { _ = l.Close() }, nil
		}
		if !errors.Is(err, durable.ErrLocked) {
			return nil, fmt.Errorf("the kept checkpoint: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("the kept checkpoint: %w", ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// evidence is what is kept of a checkpoint that was refused.
type evidence struct {
	Format  string   `json:"format"`
	Time    string   `json:"time"`
	Reason  string   `json:"reason"`
	Source  string   `json:"source"`
	Kept    string   `json:"kept"`
	Offered string   `json:"offered"`
	From    int64    `json:"from"`
	Proof   []string `json:"proof"`
}

// refuse writes the evidence and gives the error that names it.
func (k *Kept) refuse(o Offer, last Checkpoint, why error) error {
	note := o.Note
	if len(note) > journal.MaxCheckpoint {
		note = note[:journal.MaxCheckpoint]
	}
	// One file for one pair of checkpoints: whoever shows the same again and again does not fill the disk.
	pair := sha256.Sum256(append(append([]byte(nil), last.Note...), note...))
	at := fmt.Sprintf("%s.refused-%s.json", k.path, hex.EncodeToString(pair[:8]))
	data, err := json.MarshalIndent(evidence{"hanaper-refused-checkpoint/1", k.now().UTC().Format(time.RFC3339), why.Error(), o.Source, string(last.Note), string(note), o.From,
		FormatHashes(o.Proof)}, "", "  ")
	if err == nil {
		err = durable.Create(at, append(data, '\n'), 0o644)
	}
	if errors.Is(err, fs.ErrExist) {
		err = nil
	}
	hint := "keep " + show.Text(at) + " and tell the security officer: it holds both checkpoints, signed by the log's key"
	if err != nil {
		hint = "the evidence could not be written: " + err.Error()
	}
	return advice.Wrap(advice.Unverified, fmt.Errorf("issuance log %s: %w", show.Text(k.policy.Origin()), why), hint)
}
