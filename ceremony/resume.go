package ceremony

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/hanaper/hanaper/ceremony/machine"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/journal"
	"github.com/hanaper/hanaper/quorum"
)

// Resume goes on with a run that was cut short: c.Plan and c.Approvals are those of the Standing that Unfinished gave for
// the same anchor, c.Asserted is the time now. What the journal has done is not done again; a key whose result it lacks is
// taken over if it has the random id of the intent.
func Resume(ctx context.Context, c RunConfig) (*Result, error) {
	r, err := reopen(c, false)
	if err != nil {
		return nil, err
	}
	defer r.close()
	pending := r.held.record.Leaves()
	if has(entriesOf(pending), kindAbort) || r.memory != nil && r.memory.Cut() {
		return nil, beingAborted(c.Out)
	}
	if !ended(pending) {
		if err := r.preflight(ctx, journalled(pending)); err != nil {
			return nil, err
		}
	}
	if err := r.takeUp(); err != nil {
		return nil, err
	}
	return r.perform(ctx, pending)
}

// ended says whether nothing is left to do but to sign the transcript and to write the files.
func ended(leaves [][]byte) bool {
	if len(leaves) == 0 {
		return false
	}
	h, err := headOf(leaves[len(leaves)-1])
	return err == nil && h.Kind == kindEnd
}

// reopen reads the journal of a run that was cut short, holds the folder against its anchor once more, and checks that c
// fits it. Nothing is written. To abort it the people may come at any later time, and with a later program.
func reopen(c RunConfig, abort bool) (*run, error) {
	data, err := input.ReadFile(filepath.Join(c.Out, transcriptFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nothingBegan(c.Out)
	}
	if err != nil {
		return nil, err
	}
	if len(c.Approvals) == 0 {
		return nil, damaged(approvalsDir, "holds no approvals")
	}
	h := &hold{anchor: c.Anchor, script: c.Plan.script, out: c.Out, data: data}
	if err := h.read(data); err != nil {
		return nil, err
	}
	if h.damage != nil && !abort {
		return nil, h.damage
	}
	leaves := h.record.Leaves()
	r, err := newRun(c)
	if err == nil && !abort && !ended(leaves) {
		err = r.script.checkAsserted(c.Asserted)
	}
	if err == nil {
		err = h.against(c.Approvals[0])
	}
	if err != nil {
		return nil, err
	}
	if !h.vouched && !abort {
		h.close()
		return nil, notVouched(c.Out)
	}
	r.held, r.by, r.memory = h, h.by, h.memory
	files, err := copies(c.Out)
	if err == nil {
		err = h.strangers(files, c.Approvals)
	}
	if err != nil {
		r.close()
		return nil, err
	}
	if err := r.fits(leaves, abort); err != nil {
		r.close()
		return nil, err
	}
	r.login = newLogin(c.Open, c.Custodians, leaves)
	r.how.login = r.login
	return r, nil
}

// fits checks people, time and program against the transcript.
func (r *run) fits(leaves [][]byte, abort bool) error {
	if err := r.enough(); err != nil {
		return err
	}
	if err := decodeLeaf(leaves[0], &r.begin, kindBegin); err != nil {
		return damaged(transcriptFile, "entry 0 %w", err)
	}
	if err := r.sameBeginning(); err != nil {
		return err
	}
	last, err := headOf(leaves[len(leaves)-1])
	if err != nil {
		return err
	}
	at, err := parseTime(last.At)
	if err != nil {
		return damaged(transcriptFile, "entry %d: %w", len(leaves)-1, err)
	}
	if r.begin.Tool != r.Tool && !abort {
		return otherTool(r.begin.Tool, r.Tool)
	}
	return notBefore(r.Asserted, at)
}

func notBefore(asserted, last time.Time) error {
	if asserted.Before(last) {
		return refuse(RuleAsserted, "the asserted time %s lies before the journal's last entry, %s", formatTime(asserted), formatTime(last))
	}
	return nil
}

func otherTool(began, now Tool) error {
	return refuse(RuleQuorum, "the run was begun, and approved, with tool %s, not with this one, %s", show.Text(began.SHA256), show.Text(now.SHA256))
}

func tooFew(need, have int) error {
	return advice.Wrap(advice.Refused, refuse(RuleQuorum, "this machine does not remember the ceremony: %d officers must be present to go on with it, and %d are", need, have),
		"name the keys of all of them with --officer; or the state folder of the machine on which it was begun with --state")
}

// enough asks for M officers where nothing but the roster's digest says whose folder this is: they say that it is theirs.
func (r *run) enough() error {
	if r.by != machine.ByRoster {
		return nil
	}
	officers := 0
	for _, o := range r.officers {
		if o.officer.Role == quorum.RoleOfficer {
			officers++
		}
	}
	if officers < r.roster.Threshold() {
		return tooFew(r.roster.Threshold(), officers)
	}
	return nil
}

// sameBeginning asks that the folder's script, inputs and approvals are those that the run began with, so that nothing
// which was changed since then is performed.
func (r *run) sameBeginning() error {
	asserted, err := parseTime(r.begin.Asserted)
	if err != nil {
		return damaged(transcriptFile, "entry 0: %w", err)
	}
	want, err := firstLeaf(r.script, r.roster, r.Approvals, nil, r.begin.Tool, asserted, r.Rehearsal)
	if err != nil {
		return err
	}
	// A later program can abort what an earlier one began.
	want.Head, want.Format, want.Answers, want.Officers, want.Platform = r.begin.Head, r.begin.Format, r.begin.Answers, r.begin.Officers, r.begin.Platform
	if string(encodeLeaf(&want)) != string(encodeLeaf(&r.begin)) {
		return damaged(scriptFile, "script, inputs or approvals are not those that the run began with")
	}
	return nil
}

// takeUp opens the journal to add to it, after every check. A folder that came from elsewhere is remembered from now on.
// Where the transcript's end is damaged its bytes are kept beside it, and it goes on from its last whole entry.
func (r *run) takeUp() error {
	h, path := r.held, filepath.Join(r.Out, transcriptFile)
	if r.memory == nil {
		var err error
		if r.memory, err = r.Anchor.State.Begin(h.begun); err != nil {
			return err
		}
	}
	if h.damage != nil {
		if err := writeFile(r.Out, unreadableFile, h.data); err != nil {
			return err
		}
		if err := r.memory.CutBack(h.record.Size(), h.record.Root()); err != nil {
			return err
		}
		whole := h.record.Data()
		if !bytes.HasPrefix(h.data, whole) {
			return damaged(transcriptFile, "cannot be read anew")
		}
		if err := durable.WriteFile(path, whole, 0o600); err != nil {
			return err
		}
	}
	var err error
	if r.log, err = journal.Open(path); err != nil {
		return err
	}
	if r.log.Size() != h.record.Size() || r.log.Root() != h.record.Root() {
		return damaged(transcriptFile, "was changed meanwhile")
	}
	return nil
}

// journalled are the places of the keys that a journal intends, leaves to people, or has.
func journalled(pending [][]byte) map[place]bool {
	made := map[place]bool{}
	for _, e := range entriesOf(pending) {
		if m, ok := e.leaf.(maker); ok {
			made[m.makes()] = true
		}
	}
	return made
}
