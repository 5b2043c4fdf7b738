package ceremony

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"github.com/hanaper/hanaper/internal/advice"
)

const (
	kindAbort     = "abort"
	kindDestroyed = "destroyed"
)

var _ = register[abortLeaf](kindAbort) && register[destroyedLeaf](kindDestroyed)

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
	// Lasting is what else cannot be undone, and Remains says so in plain words.
	Lasting []lasting `json:"lasting"`
	Remains []string  `json:"remains" prose:"yes"`
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
		if h, err := headOf(pending[n-1]); err == nil && h.Kind == kindEnd && !has(entriesOf(pending), kindAbort) {
			return nil, advice.New(advice.Usage, "finish it with `hanaper ceremony resume`", "%s: every step of this ceremony is done; only files and signatures are missing", c.Out)
		}
	}
	if err := r.openTokens(ctx); err != nil {
		return nil, err
	}
	s := r.session(ctx, pending)
	if len(pending) > 0 {
		s.takeOver = func() error { return errAborted }
	}
	if err := s.emit(&r.begin, kindBegin); err != nil {
		return nil, err
	}
	s.takeOver = func() error { return errAborted }
	if err := s.whole(); err != nil && !errors.Is(err, errAborted) {
		return nil, fmt.Errorf("the journal does not lead to a place to abort: %w", err)
	}
	// Where every step was done, only the last entry is missing.
	s.aborting = true
	s.failed, s.takeOver, s.step = nil, nil, 0
	leaf := aborts(r.script, pending)
	leaf.Asserted, leaf.Reason, leaf.Tool, leaf.Officers = formatTime(c.Asserted), c.Reason, c.Tool, r.present()
	if len(s.pending) == 0 {
		if err := c.Agree(leaf.explain()); err != nil {
			return nil, err
		}
	}
	if err := s.abort(leaf); err != nil {
		return nil, err
	}
	return r.endAborted(s)
}

// endAborted ends an aborted session: the manifest lists the copies only.
func (r *run) endAborted(s *Session) (*Result, error) {
	s.state.artefacts, s.state.order = map[string][]byte{}, nil
	files := contents(r.script, r.Approvals, s.state)
	listing := encodeManifest(files)
	if err := s.emit(&endLeaf{Manifest: hexSHA256(listing)}, kindEnd); err != nil {
		return nil, err
	}
	return r.finish(s, files, listing)
}

// aborts is the leaf that aborts a ceremony after the leaves before it.
func aborts(script *Script, leaves [][]byte) *abortLeaf {
	o := leftBehind(script, leaves)
	return &abortLeaf{Destroys: append([]abortedKey{}, o.destroys...), Serials: append([]string{}, o.serials...), Signatures: o.signatures,
		Lasting: append([]lasting{}, o.lasting...), Remains: append([]string{}, o.remains...)}
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

// facts is what the entries before an abort lead to.
func facts(l abortLeaf) abortLeaf {
	return abortLeaf{Destroys: l.Destroys, Serials: l.Serials, Signatures: l.Signatures, Lasting: l.Lasting}
}

// abort follows or makes the entries that end a session early.
func (s *Session) abort(want *abortLeaf) error {
	var got abortLeaf
	if err := s.outcome(&got, kindAbort, func(bool) error { h := got.Head; got = *want; got.Head = h; return nil }); err != nil {
		return err
	}
	if !reflect.DeepEqual(facts(got), facts(*want)) {
		return s.fail(s.entryError(errors.New("(abort) does not list what the entries before it made")))
	}
	s.resumes = append(s.resumes, resumedLeaf{Head: got.Head, Asserted: got.Asserted, Tool: got.Tool, Officers: got.Officers})
	for _, k := range got.Destroys {
		l := destroyedLeaf{}
		if err := s.outcome(&l, kindDestroyed, func(bool) error {
			var err error
			l.Name = k.Name
			l.Found, err = s.undo(k)
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
