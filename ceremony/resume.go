package ceremony

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/journal"
)

// Unfinished reads the copies in the folder of a run that was cut short, and validates its script anew.
func Unfinished(ctx context.Context, out string) (*Plan, [][]byte, error) {
	if _, err := os.Stat(filepath.Join(out, incompleteFile)); err != nil {
		if _, err := os.Stat(filepath.Join(out, signatureFile)); err == nil {
			return nil, nil, advice.New(advice.Usage, "see hanaper ceremony verify", "%s: this ceremony has ended", out)
		}
		return nil, nil, advice.New(advice.Usage, "nothing was done to a token: remove the folder and run the ceremony anew",
			"%s holds no ceremony that began", out)
	}
	files := map[string][]byte{}
	folder := input.Dir(out)
	err := fs.WalkDir(folder, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files[name], err = readBounded(folder, name)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	script, err := loadCopy(files)
	if err != nil {
		return nil, nil, err
	}
	script.name = filepath.Join(out, scriptFile)
	plan, err := script.Validate(ctx)
	v := &verified{files: files}
	return plan, v.approvals(), err
}

// Resume goes on with a run that was cut short: c.Plan and c.Approvals are those of Unfinished, c.Asserted is the time
// now. What the journal has done is not done again; a key whose result it lacks is taken over if it has the random id of
// the intent.
func Resume(ctx context.Context, c RunConfig) (*Result, error) {
	r, pending, err := reopen(ctx, c)
	if err != nil {
		return nil, err
	}
	defer r.close()
	if has(entriesOf(pending), kindAbort) {
		return nil, advice.New(advice.Refused, "finish it with `hanaper ceremony abort`", "%s: this ceremony is being aborted", c.Out)
	}
	if err := r.preflight(ctx, journalled(pending)); err != nil {
		return nil, err
	}
	return r.perform(ctx, pending)
}

// reopen opens the journal of a run that was cut short, and checks that c fits it.
func reopen(ctx context.Context, c RunConfig) (*run, [][]byte, error) {
	r, err := newRun(c)
	if err != nil {
		return nil, nil, err
	}
	path := filepath.Join(c.Out, transcriptFile)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		r.log, err = journal.Create(path, r.origin())
		if err != nil {
			return nil, nil, err
		}
	} else if r.log, err = journal.Open(path); err != nil {
		if damage := (*journal.EntryError)(nil); !errors.As(err, &damage) {
			return nil, nil, err // held by another process, or not readable: nothing is said about what it holds
		}
		return nil, nil, advice.Wrap(advice.Unverified, err, "the journal is damaged: keep the folder and compare it with what officers remember")
	}
	if r.log.Origin() != r.origin() {
		r.close()
		return nil, nil, damaged(transcriptFile, "is that of another ceremony, %q", r.log.Origin())
	}
	var pending [][]byte
	for i := range r.log.Size() {
		l, err := r.log.Leaf(i)
		if err != nil {
			r.close()
			return nil, nil, err
		}
		pending = append(pending, l)
	}
	r.login = newLogin(c.Open, c.Custodians, pending)
	r.how.login = r.login
	if len(pending) == 0 {
		return r, nil, r.authorise()
	}
	if err := decodeLeaf(pending[0], &r.begin, kindBegin); err != nil {
		r.close()
		return nil, nil, damaged(transcriptFile, "entry 0 %w", err)
	}
	if err := r.sameBeginning(); err != nil {
		r.close()
		return nil, nil, err
	}
	last, err := headOf(pending[len(pending)-1])
	if err != nil {
		r.close()
		return nil, nil, err
	}
	if at, err := parseTime(last.At); err != nil || r.Asserted.Before(at) {
		r.close()
		return nil, nil, refuse(RuleAsserted, "the asserted time %s lies before the journal's last entry, %s", formatTime(r.Asserted), last.At)
	}
	if r.begin.Tool != r.Tool {
		r.close()
		return nil, nil, refuse(RuleQuorum, "the run was begun, and approved, with tool %s, not with this one, %s", r.begin.Tool.SHA256, r.Tool.SHA256)
	}
	return r, pending, nil
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
	want.Head, want.Answers, want.Officers = r.begin.Head, r.begin.Answers, r.begin.Officers
	if string(encodeLeaf(&want)) != string(encodeLeaf(&r.begin)) {
		return damaged(scriptFile, "script, inputs or approvals are not those that the run began with")
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
