package ceremony

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hanaper/hanaper/attest"
	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/format"
	"github.com/hanaper/hanaper/internal/show"
)

// Session performs a script. What is random or comes from a token passes through outcome, everything else through
// emit, so that a session which is given the leaves of an earlier one arrives at the same state without acting.
type Session struct {
	ctx    context.Context
	script *Script
	state  *state
	how    performance
	// format is that of the transcript: the rules of its time hold.
	format format.Version

	// pending are leaves of an earlier session still to be followed; index counts all leaves followed or written.
	pending [][]byte
	index   int
	// takeOver is called once, when pending is used up and the session begins to act.
	takeOver func() error
	// aborting is set once the entry that aborts the ceremony was met.
	aborting bool
	// unvouched is set where nothing vouches for the entries that an abort follows: it then removes nothing.
	unvouched bool

	last  time.Time
	step  int
	infos map[string]hsm.TokenInfo
	// nonce is that of the approvals; empty where there are none.
	nonce string
	// activations are the TPMs that answered the script's challenges, by the token's name.
	activations map[string]attest.Activation

	// began are those present at the beginning.
	began   []officerRecord
	resumes []resumedLeaf
	// platforms are what the machine said of itself, in order.
	platforms []PlatformReport
	said      []Remark
	// stays are keys that an aborted ceremony could not remove.
	stays     []abortedKey
	witnesses []witnessRecord
	warnings  []string
	// notes are what a verified ceremony would not have passed by rules that are newer than it.
	notes []string
	// found are signatures of an aborted ceremony that were read and not yet matched.
	found []recordedSignature
	// here are the entries of the step at work, for the people who look on.
	here []leaf
	// exceptions are those that people had recorded at stops.
	exceptions []ExceptionRecord
	excepted   int
	// changes are what steps change against the last version, by the number of the step.
	changes map[int]*change
	// will are the signatures that keys of earlier ceremonies make in steps, which a session on specimens does not have them make.
	will map[int]map[string]int
	// failed is the first error of an effect: some callers of crypto.Signer swallow errors.
	failed error
}

// newSession is a session before its first entry; pending are those of an earlier one.
func newSession(ctx context.Context, script *Script, how performance, pending [][]byte) *Session {
	return &Session{ctx: ctx, script: script, state: script.startState(), how: how, format: newest, pending: pending, infos: map[string]hsm.TokenInfo{}, activations: map[string]attest.Activation{}, changes: map[int]*change{}, will: map[int]map[string]int{}}
}

// present are those who are there now.
func (s *Session) present() []officerRecord {
	if n := len(s.resumes); n > 0 {
		return s.resumes[n-1].Officers
	}
	return s.began
}

// fail remembers and returns err.
func (s *Session) fail(err error) error {
	if s.failed == nil {
		s.failed = err
	}
	return err
}

// stamp fills in the head that all leaves share.
func (s *Session) stamp(l leaf, kind string) {
	h := l.head()
	h.Kind, h.Step, h.Rehearsal = kind, s.step, s.how.marked()
	now := s.how.clock()
	if now.Before(s.last) {
		now = s.last
	}
	h.At = formatTime(now)
}

// next gives the next pending leaf, after taking note of resumptions before it. At the end of the pending leaves it
// returns nil once the session may act.
func (s *Session) next() ([]byte, error) {
	for len(s.pending) > 0 {
		data := s.pending[0]
		h, err := headOf(data)
		if err != nil {
			return nil, s.entryError(err)
		}
		if h.Kind == kindAbort && !s.aborting {
			s.aborting = true
			return nil, errAborted
		}
		if h.Kind != kindResumed {
			return data, nil
		}
		var l resumedLeaf
		if err := s.follow(data, &l, kindResumed); err != nil {
			return nil, err
		}
		if err := s.took(kindResumed, l.Platform, l.Asserted); err != nil {
			s.index--
			return nil, s.entryError(err)
		}
		s.resumes = append(s.resumes, l)
	}
	if !s.how.acts() {
		return nil, s.entryError(errors.New("is missing: the transcript ends before the script does"))
	}
	if f := s.takeOver; f != nil {
		s.takeOver = nil
		if err := f(); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// follow decodes the pending leaf data into l and moves past it.
func (s *Session) follow(data []byte, l leaf, kind string) error {
	if err := decodeLeaf(data, l, kind); err != nil {
		return s.entryError(err)
	}
	at, err := parseTime(l.head().At)
	if err != nil {
		return s.entryError(err)
	}
	if at.Before(s.last) {
		return s.entryError(fmt.Errorf("is dated %s, before the entry it follows", show.Text(l.head().At)))
	}
	if l.head().Rehearsal != s.how.marked() {
		return s.entryError(errors.New("is marked as of a rehearsal in a ceremony, or not marked in a rehearsal"))
	}
	if l.head().Step != s.step {
		return s.entryError(fmt.Errorf("belongs to step %d where step %d is at work", l.head().Step, s.step))
	}
	s.last = at
	s.pending = s.pending[1:]
	s.index++
	s.here = append(s.here, l)
	return nil
}

func (s *Session) add(l leaf, kind string) error {
	s.stamp(l, kind)
	if at, err := parseTime(l.head().At); err == nil {
		s.last = at
	}
	if err := s.how.write(encodeLeaf(l)); err != nil {
		return s.fail(fmt.Errorf("journal: %w", err))
	}
	s.index++
	s.here = append(s.here, l)
	return nil
}

// emit states l, which follows from the script and the leaves before it. Sentences for people are not compared. An
// older transcript has no entry of a kind that is newer than its format.
func (s *Session) emit(l leaf, kind string) error {
	if !s.knows(kind) {
		return nil
	}
	data, err := s.next()
	if err != nil {
		return s.fail(err)
	}
	if data == nil {
		return s.add(l, kind)
	}
	h, err := headOf(data)
	if err != nil {
		return s.fail(s.entryError(err))
	}
	if h.Kind != kind {
		return s.fail(s.entryError(fmt.Errorf("is a %.20q where the script wants %q", h.Kind, kind)))
	}
	was := leafKinds[kind].empty()
	if err := s.follow(data, was, kind); err != nil {
		return s.fail(err)
	}
	s.stamp(l, kind)
	l.head().At = h.At
	settle(l, was, s.format)
	if !bytes.Equal(encodeLeaf(l), data) {
		s.index--
		return s.fail(s.entryError(fmt.Errorf("(%s) is not what the script and the entries before it lead to", kind)))
	}
	return nil
}

// knows says whether transcripts of the session's format have a kind of entry.
func (s *Session) knows(kind string) bool { return !s.format.Before(leafKinds[kind].since) }

// outcome fills l from the pending leaf, or by act and then states it. again is true when an earlier session may have
// begun to act and was cut short: the intent is in its journal, the result is not. check says what is wrong with l, of
// either origin. A result that is wrong is not written down: the transcript then ends with the intent, from which people
// can resume or abort.
//
// An older transcript has no entry of a kind that is newer than its format: l stays empty then, which the caller asks
// knows about.
func (s *Session) outcome(l leaf, kind string, act func(again bool) error, check func() error) error {
	if !s.knows(kind) {
		return nil
	}
	resuming := s.takeOver != nil
	data, err := s.next()
	if err != nil {
		return s.fail(err)
	}
	if data != nil {
		if err := s.follow(data, l, kind); err != nil {
			return s.fail(err)
		}
		if err := check(); err != nil {
			// The entry is not taken into account, and stands in the error.
			s.pending, s.index = append([][]byte{data}, s.pending...), s.index-1
			return s.fail(s.wrongResult(kind, err))
		}
		return nil
	}
	if err := s.ctx.Err(); err != nil {
		return s.fail(fmt.Errorf("interrupted: %w", err))
	}
	if err := act(resuming); err != nil {
		return s.fail(err)
	}
	if err := check(); err != nil {
		return s.fail(fmt.Errorf("the result (%s) is refused, and not in the transcript: %w", kind, err))
	}
	return s.add(l, kind)
}

// wrongResult names the entry, and keeps the rule that it breaks.
func (s *Session) wrongResult(kind string, err error) error {
	if advice.KindOf(err) == advice.Refused {
		return err
	}
	return s.entryError(fmt.Errorf("(%s): %w", kind, err))
}

// entryError names the transcript entry at which the session stands.
func (s *Session) entryError(err error) error {
	return advice.New(advice.Unverified, "do not use this folder; fetch it again, or ask those who performed the ceremony",
		"%s: entry %d %w", transcriptFile, s.index, err)
}

// perform walks the script.
func (s *Session) perform() error {
	if err := s.openedBySuperseded(); err != nil {
		return err
	}
	for _, name := range s.script.tokensAtStart() {
		if err := s.admit(name); err != nil {
			return err
		}
	}
	if err := s.pause(scriptStep{}); err != nil {
		return err
	}
	for _, st := range s.script.steps {
		s.step, s.here = st.number, nil
		if err := s.performStep(st); err != nil {
			return err
		}
	}
	s.step = 0
	return s.rewrapped()
}

func (s *Session) performStep(st scriptStep) error {
	text := st.step.describe(s)
	s.found = nil
	s.how.progress.Step("step %d of %d: %s", st.number, len(s.script.steps), text)
	if err := s.emit(&stepLeaf{What: st.kind, Describe: text}, kindStep); err != nil {
		return err
	}
	err := st.step.perform(s)
	if s.failed != nil {
		err = s.failed
	}
	if err != nil {
		return stepError(s.script, st, err)
	}
	if err := s.pause(st); err != nil {
		return err
	}
	return s.emit(&stepDoneLeaf{}, kindStepDone)
}

// stepError names the step; what breaks a rule of package ca is a refusal.
func stepError(script *Script, st scriptStep, err error) error {
	err = fmt.Errorf("%s:%d: step %d (%s): %w", script.name, st.line, st.number, st.kind, err)
	if rule := (*ca.RuleError)(nil); errors.As(err, &rule) && advice.KindOf(err) == advice.Failed {
		err = advice.Wrap(advice.Refused, err, "rule "+rule.Rule.ID+": "+rule.Rule.Text)
	}
	return err
}
