package ceremony

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
)

const (
	kindAbort     = "abort"
	kindDestroyed = "destroyed"
)

// errAborted ends the performance of a transcript at the entry that aborts it.
var errAborted = errors.New("ceremony: aborted here")

// abortLeaf: the run ends here without a result. What it lists is about to be removed; what cannot be undone is said.
type abortLeaf struct {
	Head
	Asserted string          `json:"asserted"`
	Reason   string          `json:"reason"`
	Tool     Tool            `json:"tool"`
	Officers []officerRecord `json:"officers"`
	// Destroys are the keys that this run made or may have made.
	Destroys []abortedKey `json:"destroys"`
	// Serials were signed, or may have been: they count as used.
	Serials    []string `json:"serials_used"`
	Signatures int      `json:"signatures_made"`
	// Remains is what else cannot be undone, in plain words.
	Remains []string `json:"remains"`
}

type abortedKey struct {
	Name  string `json:"name"`
	Token string `json:"token"`
	Label string `json:"label"`
	ID    string `json:"id"`
}

// destroyedLeaf: the key is gone, or was never there.
type destroyedLeaf struct {
	Head
	Name  string `json:"name"`
	Found bool   `json:"found"`
}

// Aborting says what Abort would do.
type Aborting struct {
	// Destroys are the keys, by label and token name.
	Destroys []string
	// Remains is what cannot be undone, in plain words.
	Remains []string
}

// AbortConfig is what Abort needs beside RunConfig.
type AbortConfig struct {
	RunConfig
	Reason string
	// Agree is shown what will be removed and agrees, or returns an error.
	Agree func(Aborting) error
}

// Abort ends a run that was cut short: it removes the keys that this run made, and no other, and closes the folder with a
// signed transcript. The artefacts of the run were never written.
func Abort(ctx context.Context, c AbortConfig) (*Result, error) {
	r, pending, err := reopen(ctx, c.RunConfig)
	if err != nil {
		return nil, err
	}
	defer r.close()
	if n := len(pending); n > 0 {
		if h, err := headOf(pending[n-1]); err == nil && h.Kind == kindEnd && !abortedAlready(pending) {
			return nil, advice.New(advice.Usage, "finish it with `hanaper ceremony resume`", "%s: every step of this ceremony is done; only files and signatures are missing", c.Out)
		}
	}
	if err := r.openTokens(ctx); err != nil {
		return nil, err
	}
	s := r.session(ctx, pending)
	s.onResume = func() error { return errAborted }
	if len(pending) == 0 {
		s.onResume = nil
	}
	if err := s.emit(&r.begin, kindBegin); err != nil {
		return nil, err
	}
	s.onResume = func() error { return errAborted }
	if err := s.whole(); err != nil && !errors.Is(err, errAborted) {
		return nil, fmt.Errorf("the journal does not lead to a place to abort: %w", err)
	}
	// Where every step was done, only the last entry is missing.
	s.aborting = true
	s.failed, s.onResume, s.step = nil, nil, 0
	leaf := abortPlan(pending)
	leaf.Asserted, leaf.Reason, leaf.Tool, leaf.Officers = formatTime(c.Asserted), c.Reason, c.Tool, r.present()
	if len(s.pending) == 0 {
		if err := c.Agree(leaf.explain()); err != nil {
			return nil, err
		}
	}
	if err := s.abort(leaf); err != nil {
		return nil, err
	}
	return r.close1(s)
}

func abortedAlready(pending [][]byte) bool {
	for _, data := range pending {
		if h, err := headOf(data); err == nil && h.Kind == kindAbort {
			return true
		}
	}
	return false
}

// close1 ends an aborted session: the manifest lists the copies only.
func (r *run) close1(s *Session) (*Result, error) {
	s.state.artefacts, s.state.order = map[string][]byte{}, nil
	files := contents(r.script, r.Approvals, s.state)
	listing := encodeManifest(files)
	if err := s.emit(&endLeaf{Manifest: hexSHA256(listing)}, kindEnd); err != nil {
		return nil, err
	}
	return r.finish(s, files, listing)
}

// abortPlan reads from the leaves before it what an abort must remove.
func abortPlan(leaves [][]byte) *abortLeaf {
	a := &abortLeaf{Destroys: []abortedKey{}, Serials: []string{}, Remains: []string{}}
	// numbered is the step at work, where what it signs has a number of its own.
	numbered := ""
	for _, data := range leaves {
		h, err := headOf(data)
		if err != nil {
			continue
		}
		switch h.Kind {
		case kindAbort:
			return a
		case kindKeyIntent, kindRestoreIntent:
			var l keyIntentLeaf
			if decodeLeaf(data, &l, h.Kind) == nil {
				a.Destroys = append(a.Destroys, abortedKey{l.Name, l.Token, l.Label, l.ID})
			}
		case kindStep:
			var l stepLeaf
			numbered = ""
			if decodeLeaf(data, &l, kindStep) == nil && (l.What == "crl" || strings.HasPrefix(l.What, "uptane-") || l.What == "trust-repository") {
				numbered = fmt.Sprintf("step %d: signed, or partly, and never to be released; the signatures are in the transcript: %s", h.Step, l.Describe)
			}
		case kindSerial:
			var l serialLeaf
			if decodeLeaf(data, &l, kindSerial) == nil {
				a.Serials = append(a.Serials, l.Serial)
			}
		case kindSignature:
			if a.Signatures++; numbered != "" {
				a.Remains = append(a.Remains, numbered)
				numbered = ""
			}
		case kindInitIntent:
			a.Remains = append(a.Remains, fmt.Sprintf("step %d: the token is initialised, or may be", h.Step))
		case kindPINIntent:
			a.Remains = append(a.Remains, fmt.Sprintf("step %d: the PIN was changed, or may have been, to what its new shares hold; keep them", h.Step))
		case kindBackupIntent:
			a.Remains = append(a.Remains, fmt.Sprintf("step %d: the key was wrapped, or may have been; its wrapped form is in the transcript", h.Step))
		case kindCloneIntent:
			var l cloneIntentLeaf
			if decodeLeaf(data, &l, kindCloneIntent) == nil {
				a.Remains = append(a.Remains, fmt.Sprintf("step %d: people copied a key into token %q, label %q, or may have: have them destroy the copy before the witness %s", h.Step, l.Token, l.Label, l.Witness))
			}
		case kindDestroyIntent:
			a.Remains = append(a.Remains, fmt.Sprintf("step %d: the key was destroyed, or may have been", h.Step))
		}
	}
	return a
}

func (a *abortLeaf) explain() Aborting {
	var x Aborting
	for _, k := range a.Destroys {
		x.Destroys = append(x.Destroys, fmt.Sprintf("key %q in token %q", k.Label, k.Token))
	}
	if a.Signatures > 0 {
		x.Remains = append(x.Remains, fmt.Sprintf("%d signatures were made; none was written to a file", a.Signatures))
	}
	x.Remains = append(x.Remains, a.Remains...)
	for _, n := range a.Serials {
		x.Remains = append(x.Remains, "serial number "+n+" counts as used")
	}
	return x
}

// abort follows or makes the entries that end a session early.
func (s *Session) abort(want *abortLeaf) error {
	var got abortLeaf
	if err := s.outcome(&got, kindAbort, func(bool) error { h := got.Head; got = *want; got.Head = h; return nil }); err != nil {
		return err
	}
	if fmt.Sprint(got.Destroys, got.Serials, got.Signatures, got.Remains) != fmt.Sprint(want.Destroys, want.Serials, want.Signatures, want.Remains) {
		return s.fail(s.entryError(errors.New("(abort) does not list what the entries before it made")))
	}
	s.resumes = append(s.resumes, resumedLeaf{Head: got.Head, Asserted: got.Asserted, Tool: got.Tool, Officers: got.Officers})
	for _, k := range got.Destroys {
		l := destroyedLeaf{}
		if err := s.outcome(&l, kindDestroyed, func(bool) error {
			var err error
			l.Name = k.Name
			l.Found, err = s.removeOwn(k)
			return err
		}); err != nil {
			return err
		}
		if l.Name != k.Name {
			return s.fail(s.entryError(errors.New("(destroyed) is about another key")))
		}
	}
	return nil
}

// removeOwn destroys the key with this label and id, if it is there; a key with the label but another id is not ours.
func (s *Session) removeOwn(k abortedKey) (bool, error) {
	if _, ok := s.infos[k.Token]; !ok && s.script.Initialises(k.Token) {
		return false, nil
	}
	t, err := s.token(k.Token)
	if err != nil {
		return false, err
	}
	id, err := hex.DecodeString(k.ID)
	if err != nil || len(id) == 0 {
		return false, fmt.Errorf("key %q has no id", k.Label)
	}
	keys, err := t.Keys(s.ctx)
	if err != nil {
		return false, err
	}
	for _, found := range keys {
		a := found.Attributes()
		if a.Label == k.Label && hex.EncodeToString(a.ID) == k.ID {
			return true, t.Destroy(s.ctx, hsm.Query{Label: k.Label, ID: id})
		}
	}
	return clearRemnant(s.ctx, t, hsm.Query{Label: k.Label, ID: id})
}

// appended is called after each entry that became durable, and appending before; tests end the process or the run there.
var (
	appended  func(entries int64)
	appending func(entries int64) error
)

// session is a session of this run.
func (r *run) session(ctx context.Context, pending [][]byte) *Session {
	return &Session{ctx: ctx, script: r.script, state: r.script.startState(), pending: pending, tokens: r.tokens, began: r.begin.Officers,
		infos: map[string]hsm.TokenInfo{}, progress: r.Progress, custodians: r.Custodians, confirm: r.Confirm, rehearsal: r.Rehearsal, login: r.login, ask: r.Remarks, initialise: r.Init,
		clock: func() time.Time { return r.Asserted.Add(r.Elapsed()).UTC().Truncate(time.Second) },
		write: func(l []byte) error {
			if appending != nil {
				if err := appending(r.log.Size() + 1); err != nil {
					return err
				}
			}
			n, err := r.log.Append(l)
			if err == nil && appended != nil {
				appended(n + 1)
			}
			return err
		}}
}
