package ceremony

import (
	"context"
	"crypto"
	"fmt"
	"time"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/term"
)

// Opener opens and logs in to the token that a script calls name. Which module and where the PIN comes from is the
// opener's to know: a script says neither. Where the ceremony itself changed the PIN, it gives its own source.
type Opener func(ctx context.Context, name string, uri hsm.URI, pin hsm.PINSource) (hsm.Token, error)

// RunConfig is what a run needs beside its script.
type RunConfig struct {
	Plan *Plan
	// Out is the folder of the result; it must not exist, or be empty.
	Out string
	// Asserted is the time that the people present agreed on.
	Asserted time.Time
	// Officers are the keys of those present, at least one of role officer, who sign the transcript.
	Officers []crypto.Signer
	// Approvals are the DSSE envelopes of the quorum.
	Approvals [][]byte
	// Anchor says what this machine remembers, and what people gave to hold a folder against. A real run needs a state.
	Anchor Anchor
	Open   Opener
	// Custodians give the PINs and wrapping keys that steps ask for; nil where no step does.
	Custodians Custodians
	// Remarks asks the people present what to record, at AtBegin and AtEnd; nil asks nobody.
	Remarks func(when string) ([]Remark, error)
	// Stop shows what was done and asks the people present whether to go on, after each step and before the first; nil
	// stops nowhere.
	Stop func(Stop) (Answer, Exception, error)
	// Init initialises blank tokens; nil where no step does.
	Init Initialiser
	// Confirm asks the people present to agree to what cannot be undone; nil agrees.
	Confirm func(what string) error
	Tool    Tool
	// Rehearsal marks every leaf and artefact so that nothing of it can be imported.
	Rehearsal bool
	// AnswersFromFile records that nobody answered at a terminal.
	AnswersFromFile bool
	Progress        *term.Progress
	// Platform asks the machine what it was started from, and has its TPM sign that with qualifying; nil asks nothing.
	Platform func(ctx context.Context, qualifying []byte) (*Platform, error)
	// Elapsed is the time since Asserted was asserted; by default that of a monotonic clock from now on.
	Elapsed func() time.Duration
}

// Result is a finished ceremony.
type Result struct {
	Out        string   `json:"out"`
	Checkpoint string   `json:"checkpoint_sha256"`
	Artefacts  []string `json:"artefacts"`
	Entries    int      `json:"entries"`
	Officers   []string `json:"officers"`
	// Missing is how many officers have yet to sign until the transcript counts as attested.
	Missing int `json:"officers_missing"`
	// Stays are keys that an aborted ceremony could not remove: they are in their tokens still.
	Stays []string `json:"not_removed,omitempty"`
	// Ended is the asserted time of the last entry, and Exceptions how many were recorded at stops.
	Ended      string `json:"ended"`
	Exceptions int    `json:"exceptions"`
}

// Values are what the form has boxes for at its end.
func (r *Result) Values() []Value {
	return []Value{{EndedLabel, r.Ended}, {EntriesLabel, fmt.Sprint(r.Entries)}, {CheckpointLabel, r.Checkpoint}, {ExceptionsLabel, fmt.Sprint(r.Exceptions)}}
}
