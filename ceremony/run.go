package ceremony

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/hanaper/hanaper/ceremony/machine"
	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/journal"
	"github.com/hanaper/hanaper/quorum"
)

// Run performs a plan on tokens. Until every check that can be made is made nothing is written, to the disk or to a
// token.
func Run(ctx context.Context, c RunConfig) (*Result, error) {
	r, err := newRun(c)
	if err != nil {
		return nil, err
	}
	if err := r.script.checkAsserted(c.Asserted); err != nil {
		return nil, err
	}
	if err := r.authorise(); err != nil {
		return nil, err
	}
	if err := r.checkWitnesses(); err != nil {
		return nil, err
	}
	if err := r.checkHolders(); err != nil {
		return nil, err
	}
	if err := checkOut(c.Out); err != nil {
		return nil, err
	}
	defer r.close()
	if err := r.preflight(ctx, nil); err != nil {
		return nil, err
	}
	if err := r.checkTaken(ctx); err != nil {
		return nil, err
	}
	if r.begin.Platform, err = r.platform(ctx, r.begin.Asserted); err != nil {
		return nil, err
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
	// memory is what this machine remembers of the run; nil in a rehearsal.
	memory *machine.Memory
	// held is the folder of a run that is resumed or aborted, and by its anchor.
	held  *hold
	by    string
	login *login
	how   performance
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
	r.how = r.performance()
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
			return nil, refuse(RuleQuorum, "%s is named twice among those present", show.Text(officer.Name))
		}
		found = found || officer.Role == quorum.RoleOfficer
		r.officers = append(r.officers, officerKey{signer, officer})
	}
	if !found {
		return nil, nobodyPresent()
	}
	return r, nil
}

// start makes the folder and its journal, and has the machine remember the run: from its first entry on the approvals are
// used. If it fails nothing is left.
func (r *run) start() (err error) {
	_, before := os.Lstat(r.Out)
	defer func() {
		if err != nil {
			err = errors.Join(err, r.unmake(before == nil))
		}
	}()
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
	if r.log, err = journal.Create(filepath.Join(r.Out, transcriptFile), r.origin()); err != nil || r.Rehearsal {
		return err
	}
	r.memory, err = r.Anchor.State.Begin(begunBy(r.script, r.begin.Nonce))
	return err
}

// unmake removes what start wrote, before the first entry. The output folder itself stays if it was there.
func (r *run) unmake(keep bool) error {
	if r.log != nil {
		_ = r.log.Close()
		r.log = nil
	}
	if !keep {
		return os.RemoveAll(r.Out)
	}
	entries, err := os.ReadDir(r.Out)
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(r.Out, e.Name())))
	}
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
		s.takeOver = func() error {
			l, err := r.resumption(ctx)
			if err != nil {
				return err
			}
			s.resumes = append(s.resumes, *l)
			return s.add(l, kindResumed)
		}
	}
	if err := s.emit(&r.begin, kindBegin); err != nil {
		return nil, err
	}
	if err := s.whole(); err != nil {
		return nil, fmt.Errorf("%w; the folder %s is unfinished%s", err, r.Out, r.writeDown())
	}
	files := contents(r.script, r.Approvals, s.state)
	listing := encodeManifest(files)
	if err := s.emit(&endLeaf{Manifest: hexSHA256(listing)}, kindEnd); err != nil {
		return nil, err
	}
	if len(s.pending) > 0 {
		return nil, s.entryError(errors.New("follows the end"))
	}
	head := r.writeDown()
	result, err := r.finish(s, files, listing)
	if err != nil && result == nil {
		err = fmt.Errorf("%w; every step is done, but the folder %s is unfinished%s", err, r.Out, head)
	}
	return result, err
}

// writeDown has the people write down what a machine without this one's memory holds the folder against.
func (r *run) writeDown() string {
	if r.Rehearsal {
		return ""
	}
	return fmt.Sprintf(", its transcript has %d entries and the digest %x: write that down, to go on with it on another machine", r.log.Size(), transcriptDigest(r.log))
}

func (r *run) resumption(ctx context.Context) (*resumedLeaf, error) {
	l := &resumedLeaf{Asserted: formatTime(r.Asserted), Tool: r.Tool, Officers: r.present(), Anchor: r.by}
	var err error
	l.Platform, err = r.platform(ctx, l.Asserted)
	return l, err
}

func (r *run) close() {
	for _, t := range r.tokens {
		_ = t.Close()
	}
	if r.log != nil {
		_ = r.log.Close()
	}
	if r.memory != nil {
		r.memory.Close()
	}
}

// Tests end the process or the run where an entry is made durable: appending is called between what the machine remembers
// before and the entry itself, appended between the entry and what the machine remembers after, and remembered after that.
var (
	appending  func(entries int64) error
	appended   func(entries int64)
	remembered func(entries int64)
)

// performance is how this run performs its script.
func (r *run) performance() performance {
	p := performance{way: forReal, tokens: r.tokens, login: r.login, initialise: r.Init, custodians: r.Custodians, agree: r.Confirm, ask: r.Remarks,
		stop: r.Stop, expect: r.Plan.View, written: func() (int64, [32]byte) { return r.log.Size(), transcriptDigest(r.log) },
		progress: r.Progress, write: r.append,
		clock: func() time.Time { return r.Asserted.Add(r.Elapsed()).UTC().Truncate(time.Second) }}
	if r.Rehearsal {
		p.way = inRehearsal
	}
	return p
}

// append makes an entry durable. The machine remembers before what the transcript is about to be, and after that it is:
// only then may anything be done that the entry speaks of.
func (r *run) append(leaf []byte) error {
	size, root := r.log.After(leaf)
	if r.memory != nil {
		if err := r.memory.Prepare(size, root); err != nil {
			return err
		}
	}
	if appending != nil {
		if err := appending(size); err != nil {
			return err
		}
	}
	if _, err := r.log.Append(leaf); err != nil {
		return advice.Wrap(advice.Failed, fmt.Errorf("%s: %w", filepath.Join(r.Out, transcriptFile), err), "nothing was done after the entry before this one. Make room, or find what is wrong with the disk, and go on with `hanaper ceremony resume`")
	}
	if appended != nil {
		appended(size)
	}
	if r.memory != nil {
		if err := r.memory.Written(); err != nil {
			return err
		}
	}
	if remembered != nil {
		remembered(size)
	}
	return nil
}

// session is a session of this run.
func (r *run) session(ctx context.Context, pending [][]byte) *Session {
	s := newSession(ctx, r.script, r.how, pending)
	s.began, s.nonce = r.begin.Officers, r.begin.Nonce
	return s
}
