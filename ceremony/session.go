package ceremony

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/term"
)

// Session performs a script. What is random or comes from a token passes through outcome, everything else through
// emit, so that a session which is given the leaves of an earlier one arrives at the same state without acting.
type Session struct {
	ctx    context.Context
	script *Script
	state  *state

	// pending are leaves of an earlier session still to be followed; index counts all leaves followed or written.
	pending [][]byte
	index   int
	// write makes a leaf durable; nil where nothing may be added (Verify).
	write func([]byte) error
	// onResume is called when pending is used up and the session begins to act.
	onResume func() error

	clock  func() time.Time
	last   time.Time
	step   int
	tokens map[string]hsm.Token
	infos  map[string]hsm.TokenInfo
	// specimen is true while a script is validated: keys are throw-aways, and those taken up cannot sign.
	specimen bool
	// rehearsal is true for a performance on throw-away tokens: keys of earlier ceremonies are not there, and nobody's
	// cards open shares.
	rehearsal bool
	// confirm asks the people present to agree to what cannot be undone; nil where nothing is.
	confirm func(what string) error
	// ask asks the people present for remarks; nil where nobody is asked.
	ask func(when string) ([]Remark, error)
	// custodians give PINs and wrapping keys; nil where nobody does.
	custodians Custodians
	// login and initialise open and make tokens; nil where a session does neither.
	login      *login
	initialise Initialiser
	// aborting is set once the entry that aborts the ceremony was met.
	aborting bool

	resumes  []resumedLeaf
	warnings []string
	progress *term.Progress
	// failed is the first error of an effect: some callers of crypto.Signer swallow errors.
	failed error
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
	h.Kind, h.Step, h.Rehearsal = kind, s.step, s.rehearsal
	now := s.clock()
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
		s.resumes = append(s.resumes, l)
	}
	if s.write == nil {
		return nil, s.entryError(errors.New("is missing: the transcript ends before the script does"))
	}
	if s.onResume != nil {
		f := s.onResume
		s.onResume = nil
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
		return s.entryError(fmt.Errorf("is dated %s, before the entry it follows", l.head().At))
	}
	if l.head().Rehearsal != s.rehearsal {
		return s.entryError(errors.New("is marked as of a rehearsal in a ceremony, or not marked in a rehearsal"))
	}
	if l.head().Step != s.step {
		return s.entryError(fmt.Errorf("belongs to step %d where step %d is at work", l.head().Step, s.step))
	}
	s.last = at
	s.pending = s.pending[1:]
	s.index++
	return nil
}

func (s *Session) add(l leaf, kind string) error {
	s.stamp(l, kind)
	if at, err := parseTime(l.head().At); err == nil {
		s.last = at
	}
	if err := s.write(encodeLeaf(l)); err != nil {
		return s.fail(fmt.Errorf("journal: %w", err))
	}
	s.index++
	return nil
}

// emit states l, which follows from the script and the leaves before it.
func (s *Session) emit(l leaf, kind string) error {
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
	s.stamp(l, kind)
	l.head().At = h.At
	want := encodeLeaf(l)
	if !bytes.Equal(want, data) {
		if h.Kind != kind {
			return s.fail(s.entryError(fmt.Errorf("is a %.20q where the script wants %q", h.Kind, kind)))
		}
		return s.fail(s.entryError(fmt.Errorf("(%s) is not what the script and the entries before it lead to", kind)))
	}
	return s.failIf(s.follow(data, l, kind))
}

// outcome fills l from the pending leaf, or by act and then states it. again is true when an earlier session may have
// begun to act and was cut short: the intent is in its journal, the result is not.
func (s *Session) outcome(l leaf, kind string, act func(again bool) error) error {
	resuming := s.onResume != nil
	data, err := s.next()
	if err != nil {
		return s.fail(err)
	}
	if data != nil {
		return s.failIf(s.follow(data, l, kind))
	}
	if err := s.ctx.Err(); err != nil {
		return s.fail(fmt.Errorf("interrupted: %w", err))
	}
	if err := act(resuming); err != nil {
		return s.fail(err)
	}
	return s.add(l, kind)
}

func (s *Session) failIf(err error) error {
	if err != nil {
		return s.fail(err)
	}
	return nil
}

// entryError names the transcript entry at which the session stands.
func (s *Session) entryError(err error) error {
	return advice.New(advice.Unverified, "do not use this folder; fetch it again, or ask those who performed the ceremony",
		"%s: entry %d %w", transcriptFile, s.index, err)
}

// perform walks the script.
func (s *Session) perform() error {
	for _, name := range s.script.tokensAtStart() {
		if err := s.admit(name); err != nil {
			return err
		}
	}
	for _, st := range s.script.steps {
		s.step = st.number
		if err := s.performStep(st); err != nil {
			return err
		}
	}
	s.step = 0
	return nil
}

func (s *Session) performStep(st scriptStep) error {
	text := st.step.describe(s)
	s.progress.Step("step %d of %d: %s", st.number, len(s.script.steps), text)
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

// admit takes note of a token as it was opened.
func (s *Session) admit(name string) error {
	var l tokenLeaf
	err := s.outcome(&l, kindToken, func(bool) error {
		t, err := s.token(name)
		if err != nil {
			return err
		}
		l.Name, l.Token = name, t.Info()
		return nil
	})
	if err != nil {
		return err
	}
	if l.Name != name {
		return s.fail(s.entryError(fmt.Errorf("is about token %q, not %q", l.Name, name)))
	}
	if !s.uri(name).MatchesToken(l.Token) {
		return s.fail(refuse(RuleToken, "the token opened as %q is %s, not %s", name, l.Token.Name(), s.uri(name)))
	}
	s.infos[name] = l.Token
	return nil
}

// uri names the token that the script means. A rehearsal's has another serial.
func (s *Session) uri(name string) hsm.URI {
	u := s.script.tokens[name]
	if s.rehearsal {
		u.Serial = ""
	}
	return u
}

// token gives an open token.
func (s *Session) token(name string) (hsm.Token, error) {
	if t, ok := s.tokens[name]; ok {
		return t, nil
	}
	info, ok := s.infos[name]
	if !ok || s.login == nil {
		return nil, refuse(RuleReference, "token %q does not exist at this step", name)
	}
	uri := s.script.tokens[name]
	uri.Serial = info.Serial
	t, err := s.login.token(s.ctx, name, uri)
	if err != nil {
		return nil, err
	}
	s.tokens[name] = t
	return t, nil
}

// generate makes a key as the script's name. Its id is random and journalled before, so that a session which resumes
// can tell a key that this ceremony made from any other.
func (s *Session) generate(name, token string, spec hsm.GenerateSpec) (*key, error) {
	in := keyIntentLeaf{Name: name, Token: token, Label: spec.Label, Algorithm: spec.Algorithm, Class: spec.Class}
	if err := s.outcome(&in, kindKeyIntent, func(bool) error {
		id := make([]byte, 20)
		if _, err := rand.Read(id); err != nil {
			return err
		}
		in.ID = hex.EncodeToString(id)
		return nil
	}); err != nil {
		return nil, err
	}
	id, err := hex.DecodeString(in.ID)
	if err != nil || len(id) != 20 {
		return nil, s.fail(s.entryError(errors.New("(key-intent) has no id of 20 octets")))
	}
	want := keyIntentLeaf{Head: in.Head, Name: name, Token: token, Label: spec.Label, Algorithm: spec.Algorithm, Class: spec.Class, ID: in.ID}
	if in != want {
		return nil, s.fail(s.entryError(errors.New("(key-intent) is not what the script asks for")))
	}
	spec.ID = id
	k := &key{session: s, name: name, token: token, label: spec.Label, id: id, algorithm: spec.Algorithm, class: spec.Class, bornHere: true}
	var out keyLeaf
	if err := s.outcome(&out, kindKey, func(again bool) error {
		t, err := s.token(token)
		if err != nil {
			return err
		}
		if again {
			k.live, err = adopt(s.ctx, t, spec)
		}
		if err == nil && k.live == nil {
			k.live, err = t.Generate(s.ctx, spec)
		}
		if err != nil {
			return err
		}
		out.Name, out.Attributes = name, k.live.Attributes()
		out.SPKI, out.Fingerprint, err = marshalSPKI(k.live.Public())
		return err
	}); err != nil {
		return nil, err
	}
	if err := k.accept(out); err != nil {
		return nil, s.fail(err)
	}
	return k, nil
}

// adopt finds the key that a session cut short may have generated: it has the intent's label and its random id.
func adopt(ctx context.Context, t hsm.Token, spec hsm.GenerateSpec) (hsm.Key, error) {
	keys, err := t.Keys(ctx)
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		a := k.Attributes()
		if a.Label == spec.Label && bytes.Equal(a.ID, spec.ID) {
			return k, nil
		}
		if a.Label == spec.Label {
			return nil, refuse(RuleLabel, "a key %q that this ceremony did not make is in %s", spec.Label, t.Info().Name())
		}
	}
	return nil, nil
}

// serial draws a certificate's serial number of 20 octets. It counts as used from then on.
func (s *Session) serial(what string) (*big.Int, error) {
	l := serialLeaf{}
	if err := s.outcome(&l, kindSerial, func(bool) error {
		b := make([]byte, 20)
		if _, err := rand.Read(b); err != nil {
			return err
		}
		b[0] = b[0]&0x7f | 0x40
		l.For, l.Serial = what, hex.EncodeToString(b)
		return nil
	}); err != nil {
		return nil, err
	}
	b, err := hex.DecodeString(l.Serial)
	if err != nil || len(b) != 20 || b[0]&0xc0 != 0x40 || l.For != what || hex.EncodeToString(b) != l.Serial {
		return nil, s.fail(s.entryError(errors.New("(serial) is not a serial number of 20 octets for this certificate")))
	}
	if s.state.serials[l.Serial] {
		return nil, s.fail(refuse(RuleSerial, "serial %s was drawn before", l.Serial))
	}
	s.state.serials[l.Serial] = true
	return new(big.Int).SetBytes(b), nil
}

// artefact states a file of the result.
func (s *Session) artefact(path string, data []byte) error {
	if len(path) > 250 || !fileForm.MatchString(path) {
		return s.fail(refuse(RuleOutput, "%q is no name for an output", path))
	}
	if s.rehearsal {
		path += rehearsalSuffix
	}
	if _, ok := s.state.artefacts[path]; ok {
		return s.fail(refuse(RuleOutput, "output %s would be written twice", path))
	}
	if err := s.emit(&artefactLeaf{Path: path, SHA256: hexSHA256(data), Size: len(data)}, kindArtefact); err != nil {
		return err
	}
	s.state.artefacts[path] = bytes.Clone(data)
	s.state.order = append(s.state.order, path)
	return nil
}

// warn keeps what a reader of check should know.
func (s *Session) warn(format string, args ...any) {
	s.warnings = append(s.warnings, fmt.Sprintf("step %d: ", s.step)+fmt.Sprintf(format, args...))
}

// unsigned is true where a script is validated and a key taken up from an earlier ceremony would sign.
func (s *Session) unsigned(keys ...crypto.Signer) bool {
	return (s.specimen || s.rehearsal) && slices.ContainsFunc(keys, func(k crypto.Signer) bool {
		own, ok := k.(*key)
		return ok && own.imported
	})
}
