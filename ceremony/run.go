package ceremony

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/term"
	"github.com/hanaper/hanaper/journal"
	"github.com/hanaper/hanaper/quorum"
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
	// Nonces remembers the nonces used on this machine; may be nil.
	Nonces Nonces
	Open   Opener
	// Custodians give the PINs and wrapping keys that steps ask for; nil where no step does.
	Custodians Custodians
	// Remarks asks the people present what to record, at AtBegin and AtEnd; nil asks nobody.
	Remarks func(when string) ([]Remark, error)
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
	// Elapsed is the time since Asserted was asserted; by default that of a monotonic clock from now on.
	Elapsed func() time.Duration
}

// Nonces remembers which approvals were used, beside what earlier transcripts say.
type Nonces interface {
	Used(nonce string) bool
	// Use marks a nonce as used, durably, and refuses one that is.
	Use(nonce string) error
}

// Lineage is what Nonces may know besides: which script carries on from a checkpoint. Two that carry on from one would
// each give out the numbers that follow it.
type Lineage interface {
	// Follow notes durably that script carries on from checkpoint, and refuses where another script does.
	Follow(checkpoint, script [32]byte) error
}

// Result is a finished ceremony.
type Result struct {
	Out        string   `json:"out"`
	Checkpoint string   `json:"checkpoint_sha256"`
	Artefacts  []string `json:"artefacts"`
	Entries    int      `json:"entries"`
	Officers   []string `json:"officers"`
}

// Run performs a plan on tokens. Until every check that can be made is made nothing is written, to the disk or to a
// token.
func Run(ctx context.Context, c RunConfig) (*Result, error) {
	r, err := newRun(c)
	if err != nil {
		return nil, err
	}
	if err := r.authorise(); err != nil {
		return nil, err
	}
	if err := r.checkWitnesses(); err != nil {
		return nil, err
	}
	if err := checkOut(c.Out); err != nil {
		return nil, err
	}
	defer r.close()
	if err := r.preflight(ctx, nil); err != nil {
		return nil, err
	}
	if l, ok := c.Nonces.(Lineage); ok && !c.Rehearsal && r.script.earlier != nil {
		if err := l.Follow(r.script.earlier.checkpoint, r.script.Digest()); err != nil {
			return nil, refuse(RuleEarlier, "%w", err)
		}
	}
	if c.Nonces != nil && !c.Rehearsal {
		if err := c.Nonces.Use(r.begin.Nonce); err != nil {
			return nil, err
		}
	}
	if err := r.start(); err != nil {
		return nil, err
	}
	return r.perform(ctx, nil)
}

// run is a run in progress.
type run struct {
	RunConfig
	script   *Script
	roster   *quorum.Roster
	begin    beginLeaf
	officers []officerKey
	tokens   map[string]hsm.Token
	log      *journal.Log
	login    *login
}

type officerKey struct {
	signer  *quorum.Signer
	officer quorum.Officer
}

func newRun(c RunConfig) (*run, error) {
	r := &run{RunConfig: c, script: c.Plan.script, roster: c.Plan.roster, tokens: map[string]hsm.Token{}, login: newLogin(c.Open, c.Custodians, nil)}
	if c.Elapsed == nil {
		start := time.Now()
		r.Elapsed = func() time.Duration { return time.Since(start) }
	}
	if err := r.script.checkAsserted(c.Asserted); err != nil {
		return nil, err
	}
	found := c.Rehearsal
	if c.Rehearsal && len(c.Officers) > 0 {
		return nil, advice.New(advice.Usage, "", "nobody signs a rehearsal")
	}
	for _, k := range c.Officers {
		signer, officer, err := r.roster.Signer(k)
		if err != nil {
			return nil, refuse(RuleQuorum, "a key of those present: %w", err)
		}
		if slices.ContainsFunc(r.officers, func(o officerKey) bool { return o.officer.KeyID == officer.KeyID }) {
			return nil, refuse(RuleQuorum, "%s is named twice among those present", officer.Name)
		}
		found = found || officer.Role == quorum.RoleOfficer
		r.officers = append(r.officers, officerKey{signer, officer})
	}
	if !found {
		return nil, advice.New(advice.Usage, "name the key of an officer present with --officer", "no officer is present to sign the transcript")
	}
	return r, nil
}

// start makes the folder and its journal.
func (r *run) start() error {
	if err := durable.Mkdir(r.Out, 0o755); err != nil {
		return refuse(RuleOutput, "the output folder: %w", err)
	}
	for name, data := range contents(r.script, r.Approvals, newState()) {
		if err := writeFile(r.Out, name, data); err != nil {
			return err
		}
	}
	note := "This ceremony has not ended. Use `hanaper ceremony resume` or `hanaper ceremony abort`.\n"
	if err := durable.Create(filepath.Join(r.Out, incompleteFile), []byte(note), 0o644); err != nil {
		return err
	}
	var err error
	r.log, err = journal.Create(filepath.Join(r.Out, transcriptFile), r.origin())
	return err
}

// Origin names a ceremony's transcript.
func Origin(s *Script, rehearsal bool) string {
	kind := "ceremony/"
	if rehearsal {
		kind = "rehearsal/"
	}
	return "hanaper/" + kind + s.config.Environment + "/" + s.config.Ceremony
}

func (r *run) origin() string { return Origin(r.script, r.Rehearsal) }

// perform performs the script, after the leaves in pending, and writes the result.
func (r *run) perform(ctx context.Context, pending [][]byte) (*Result, error) {
	s := r.session(ctx, pending)
	if len(pending) > 0 {
		s.onResume = func() error {
			l := r.resumption()
			s.resumes = append(s.resumes, *l)
			return s.add(l, kindResumed)
		}
	}
	if err := s.emit(&r.begin, kindBegin); err != nil {
		return nil, err
	}
	if err := s.whole(); err != nil {
		return nil, fmt.Errorf("%w; the folder %s is unfinished", err, r.Out)
	}
	files := contents(r.script, r.Approvals, s.state)
	listing := encodeManifest(files)
	if err := s.emit(&endLeaf{Manifest: hexSHA256(listing)}, kindEnd); err != nil {
		return nil, err
	}
	if len(s.pending) > 0 {
		return nil, s.entryError(errors.New("follows the end"))
	}
	return r.finish(s, files, listing)
}

func (r *run) resumption() *resumedLeaf {
	return &resumedLeaf{Asserted: formatTime(r.Asserted), Tool: r.Tool, Officers: r.present()}
}

// finish signs the checkpoint and writes what the journal has recorded.
func (r *run) finish(s *Session, files map[string][]byte, listing []byte) (*Result, error) {
	r.Progress.Step("signing the transcript")
	body := r.log.Checkpoint()
	var keys []crypto.Signer
	result := &Result{Out: r.Out, Checkpoint: hexSHA256(body), Artefacts: s.state.order, Entries: s.index}
	for _, o := range r.officers {
		keys = append(keys, o.signer)
		result.Officers = append(result.Officers, o.officer.Name)
	}
	if err := r.presentAsRecorded(s); err != nil {
		return nil, err
	}
	env, ok := r.signed(body)
	if !ok {
		var err error
		if env, err = r.seal(body, keys); err != nil {
			return nil, err
		}
	}
	for _, name := range sortedKeys(files) {
		if err := writeFile(r.Out, name, files[name]); err != nil {
			return nil, err
		}
	}
	for _, f := range []struct {
		name string
		data []byte
	}{{manifestFile, listing}, {checkpointFile, body}, {signatureFile, env}} {
		if err := writeFile(r.Out, f.name, f.data); err != nil {
			return nil, err
		}
	}
	// What an earlier process of this run left when it was killed in the middle of a file.
	if err := durable.Sweep(r.Out); err != nil {
		return nil, err
	}
	if err := r.log.Close(); err != nil {
		return nil, err
	}
	r.log = nil
	// Auditors read it under other accounts: there is no secret in it.
	if err := os.Chmod(filepath.Join(r.Out, transcriptFile), 0o644); err != nil {
		return nil, err
	}
	r.Progress.Done("done: %d entries, %d artefacts in %s", s.index, len(s.state.order), r.Out)
	return result, durable.Remove(filepath.Join(r.Out, incompleteFile))
}

// rehearsalPayload is the payload type of the envelope of a rehearsal.
const rehearsalPayload = "application/vnd.hanaper.rehearsal"

// seal signs the checkpoint: with the keys of those present, or for a rehearsal with a key that is thrown away.
func (r *run) seal(body []byte, keys []crypto.Signer) ([]byte, error) {
	if !r.Rehearsal {
		return quorum.SignDSSE(quorum.TranscriptPayload, body, keys...)
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	return quorum.SignDSSE(rehearsalPayload, body, key)
}

// presentAsRecorded asks that those who sign are those whom the transcript names as present last.
func (r *run) presentAsRecorded(s *Session) error {
	want := r.begin.Officers
	if n := len(s.resumes); n > 0 {
		want = s.resumes[n-1].Officers
	}
	if have := r.present(); !slices.Equal(have, want) {
		return refuse(RuleQuorum, "the transcript names %v as present: exactly their keys must sign it", want)
	}
	return nil
}

func (r *run) close() {
	for _, t := range r.tokens {
		_ = t.Close()
	}
	if r.log != nil {
		_ = r.log.Close()
	}
}
