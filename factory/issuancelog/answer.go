package issuancelog

import (
	"context"
	"errors"
	"time"

	"github.com/hanaper/hanaper/factory/logbook"
	"github.com/hanaper/hanaper/journal"
)

// Answer is what goes to a caller beside an answer of the factory's.
type Answer struct {
	// Note is the last checkpoint, nil if there is none to hand out; Proof shows that it follows the one of From entries.
	Note  []byte
	From  int64
	Proof []journal.Hash
	// Words say why there is no checkpoint.
	Words string
}

// ErrNoProof means that a proof could not be made in time.
var ErrNoProof = errors.New("no proof in time")

// Latest is the last checkpoint, with the proof that it follows the one of held entries, which the caller keeps; held is 0 if he
// keeps none. It does not wait for the log.
func (l *Log) Latest(ctx context.Context, held int64) Answer {
	last := l.last.Load()
	if last == nil || held > last.Size {
		// Another server may have signed a later one, which this caller has seen.
		ctx, cancel := context.WithTimeout(ctx, proofTime)
		err := l.refresh(ctx)
		cancel()
		if last = l.last.Load(); last == nil {
			return Answer{Words: l.none(err)}
		}
	}
	a := Answer{Note: last.Note, From: held}
	if held <= 0 || held >= last.Size {
		// One who holds a later one gets the last as it is: what that means he judges by himself.
		return a
	}
	proof, err := last.proof(logbook.Folder(l.c.Folder), held)
	if err != nil {
		return Answer{Words: "the log cannot prove now that its last checkpoint follows yours: " + err.Error()}
	}
	a.Proof = proof
	return a
}

func (l *Log) none(err error) string {
	if fault := l.State().Fault; fault != "" {
		return fault
	}
	if err != nil {
		return words(err)
	}
	return "no checkpoint is signed yet"
}

// proof makes or remembers the proof from a size. The files are read beside the caller, who waits only so long.
func (c *latest) proof(f logbook.Files, from int64) ([]journal.Hash, error) {
	c.mu.Lock()
	known, ok := c.proofs[from]
	c.mu.Unlock()
	if ok {
		return known, nil
	}
	type result struct {
		proof []journal.Hash
		err   error
	}
	done := make(chan result, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		p, err := logbook.Consistency(ctx, f, from, c.Size)
		if err == nil {
			c.mu.Lock()
			if len(c.proofs) < maxProofs {
				c.proofs[from] = p
			}
			c.mu.Unlock()
		}
		done <- result{p, err}
	}()
	select {
	case r := <-done:
		return r.proof, r.err
	case <-time.After(proofTime):
		return nil, ErrNoProof
	}
}

// Files are the log's files as readers see them: tiles, bundles, and the last checkpoint that is handed out.
func (l *Log) Files() logbook.Files { return published{l} }

type published struct{ l *Log }

// Read implements logbook.Files.
func (p published) Read(ctx context.Context, path string, limit int64) ([]byte, error) {
	return logbook.Folder(p.l.c.Folder).Read(ctx, path, limit)
}
