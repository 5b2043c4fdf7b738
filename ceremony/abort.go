package ceremony

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"unicode"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
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
	// Anchor is that of a resumedLeaf.
	Anchor string `json:"anchor,omitempty"`
	// Wrong is set if an entry does not follow from those before it: it and the rest are not performed along.
	Wrong *wrongEntry `json:"wrong,omitempty"`
	// Unreadable is set if the transcript's end was damaged, and is lost.
	Unreadable *unreadableEnd `json:"unreadable,omitempty"`
	// Platform is that of a beginLeaf.
	Platform *Platform `json:"platform,omitempty" since:"1.3"`
}

func (l *abortLeaf) record() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Aborted, at %s as asserted, by %s; %s. Reason: %s. Program: %s.", show.Text(l.Asserted), presentWords(l.Officers), heldTo(l.Anchor), show.Line(l.Reason), toolWords(l.Tool))
	removed := []string{}
	for _, k := range l.Destroys {
		removed = append(removed, fmt.Sprintf("%s (label %s, id %s) in token %s", show.Text(k.Name), show.Text(k.Label), show.Text(k.ID), show.Text(k.Token)))
	}
	for _, part := range []struct {
		what string
		list []string
	}{{"Keys to be removed", removed}, {"Serial numbers that count as used", l.Serials}, {"Cannot be undone", l.Remains}} {
		if len(part.list) > 0 {
			fmt.Fprintf(&b, " %s: %s.", part.what, show.Line(strings.Join(part.list, "; ")))
		}
	}
	fmt.Fprintf(&b, " Signatures made: %d, none of them in a file.", l.Signatures)
	if l.Wrong != nil {
		fmt.Fprintf(&b, " Entry %d does not follow from those before it: %s.", l.Wrong.Entry, show.Line(l.Wrong.Why))
	}
	if l.Unreadable != nil {
		fmt.Fprintf(&b, " The transcript could not be read from entry %d on: %s.", l.Unreadable.Entry, show.Line(l.Unreadable.Why))
	}
	b.WriteString(l.Platform.record())
	return b.String()
}

// wrongEntry is the first entry that does not follow from those before it.
type wrongEntry struct {
	Entry int    `json:"entry"`
	Why   string `json:"why" prose:"yes"`
}

// unreadableEnd is where a transcript cannot be read any more; its bytes are in transcript.unreadable.
type unreadableEnd struct {
	Entry  int    `json:"entry"`
	Why    string `json:"why" prose:"yes"`
	SHA256 string `json:"sha256"`
	// Lost is the number of entries that are lost, if the machine remembers it.
	Lost int `json:"entries_lost,omitempty"`
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
	// Left is true for a key that an aborted ceremony could not remove, and Why says why not.
	Left bool   `json:"left,omitempty"`
	Why  string `json:"why,omitempty" prose:"yes"`
}

// Aborting says what Abort would do.
type Aborting struct {
	// Destroys are the keys, by label and token name.
	Destroys []string
	// Remains is what cannot be undone, in plain words.
	Remains []string
	// Wrong is set if an entry of the transcript does not follow from those before it.
	Wrong string
}

// AbortConfig is what Abort needs beside RunConfig.
type AbortConfig struct {
	RunConfig
	Reason string
	// Agree is shown what will be removed and agrees, or returns an error; nil agrees.
	Agree func(Aborting) error
	// Leave agrees that a key stays in its token because it could not be removed, or returns an error; nil never does.
	Leave func(key string, why error) error
}

// Abort ends a run that was cut short: it removes the keys that this run made, and no other, and closes the folder with a
// signed transcript. The artefacts of the run were never written. It works from every state in which a transcript has its
// first entry, at any later time, with or without the tokens: what it could not undo it writes down.
func Abort(ctx context.Context, c AbortConfig) (*Result, error) {
	if err := CheckReason(c.Reason); err != nil {
		return nil, err
	}
	r, err := reopen(c.RunConfig, true)
	if err != nil {
		return nil, err
	}
	defer r.close()
	pending := r.held.record.Leaves()
	aborting := has(entriesOf(pending), kindAbort)
	if ended(pending) && !aborting {
		return nil, advice.New(advice.Usage, "finish it with `hanaper ceremony resume`", "%s: every step of this ceremony is done; only files and signatures are missing", c.Out)
	}
	follow, _, err := upToAbort(pending)
	if err != nil {
		return nil, err
	}
	s := r.session(ctx, follow)
	// A later release follows a transcript by the format in which it was begun.
	if s.format, err = readFormat(r.begin.Format); err != nil {
		return nil, damaged(transcriptFile, "entry 0: %w", err)
	}
	s.takeOver = func() error { return errAborted }
	leaf := aborts(r.script, pending)
	if leaf.Wrong, err = s.upToHere(&r.begin); err != nil {
		return nil, err
	}
	leaf.Unreadable = r.held.unreadable()
	leaf.Asserted, leaf.Reason, leaf.Tool, leaf.Officers, leaf.Anchor = formatTime(c.Asserted), c.Reason, c.Tool, r.present(), r.by
	if s.hasPlatforms() && !aborting {
		if leaf.Platform, err = r.platform(ctx, leaf.Asserted); err != nil {
			return nil, err
		}
	}
	if !aborting && c.Agree != nil {
		if err := c.Agree(leaf.explain(r.held.vouched)); err != nil {
			return nil, err
		}
	}
	if err := r.takeUp(); err != nil {
		return nil, err
	}
	if !aborting {
		s.pending, s.index = nil, len(pending)
	}
	// Where every step was done, only the last entry is missing.
	s.aborting = true
	s.failed, s.takeOver, s.step = nil, nil, 0
	for _, e := range entriesOf(pending) {
		if l, ok := e.leaf.(*tokenLeaf); ok {
			s.infos[l.Name] = l.Token
		}
	}
	s.unvouched = !r.held.vouched
	if err := s.abort(leaf, c.Leave); err != nil {
		return nil, err
	}
	return r.endAborted(s)
}

// CheckReason asks for a reason that people can read in the transcript.
func CheckReason(reason string) error {
	if strings.TrimSpace(reason) == "" {
		return advice.New(advice.Usage, "say in a few words why, with --reason", "the reason is empty")
	}
	if err := checkRemarks([]Remark{{About: "note", Text: reason}}); err != nil {
		return advice.Wrap(advice.Usage, fmt.Errorf("the reason: %w", err), "say in a few words why, with --reason")
	}
	return nil
}

// upToHere follows the transcript of a ceremony that is to be aborted. An entry that does not follow from those before it,
// such as a signature that does not verify, does not keep people from ending the ceremony: it is named.
func (s *Session) upToHere(begin *beginLeaf) (*wrongEntry, error) {
	err := s.emit(begin, kindBegin)
	if err == nil {
		err = s.whole()
	}
	if err == nil || errors.Is(err, errAborted) {
		return nil, nil
	}
	if cause := s.ctx.Err(); cause != nil {
		return nil, fmt.Errorf("interrupted: %w", cause)
	}
	return &wrongEntry{s.index, oneLine(err)}, nil
}

// upToAbort gives the leaves that are followed of a transcript that may have been aborted, and where the abort stands; -1
// where there is none. What a wrong entry and those after it say is not followed.
func upToAbort(leaves [][]byte) (follow [][]byte, at int, err error) {
	for i, data := range leaves {
		h, err := headOf(data)
		if err != nil || h.Kind != kindAbort {
			continue
		}
		var l abortLeaf
		if err := decodeLeaf(data, &l, kindAbort); err != nil {
			return nil, i, damaged(transcriptFile, "entry %d %w", i, err)
		}
		if l.Wrong == nil {
			return leaves, i, nil
		}
		if l.Wrong.Entry < 1 || l.Wrong.Entry > i {
			return nil, i, damaged(transcriptFile, "entry %d (abort) names an entry %d that is not before it", i, l.Wrong.Entry)
		}
		return append(append([][]byte{}, leaves[:l.Wrong.Entry]...), leaves[i:]...), i, nil
	}
	return leaves, -1, nil
}

// unreadable says where the transcript cannot be read any more; nil where it can.
func (h *hold) unreadable() *unreadableEnd {
	record, why, data := h.record, h.damage, h.data
	if why == nil {
		record, why, data = h.keptFrom, h.keptDamage, h.kept
	}
	if why == nil {
		return nil
	}
	u := &unreadableEnd{Entry: int(record.Size()), Why: oneLine(why), SHA256: hexSHA256(data)}
	if h.memory != nil {
		lost, _ := h.memory.Lost(record.Size(), record.Root())
		u.Lost = int(lost)
	}
	return u
}

// oneLine is an error's text as a transcript holds it: printable, of one line, and not too long.
func oneLine(err error) string {
	text := strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(err.Error(), "?"))
	if len(text) > 500 {
		text = strings.ToValidUTF8(text[:500], "") + "..."
	}
	return text
}

// endAborted ends an aborted session: the manifest lists the copies only.
func (r *run) endAborted(s *Session) (*Result, error) {
	s.state.artefacts, s.state.order = map[string][]byte{}, nil
	files := contents(r.script, r.Approvals, s.state)
	if data, err := input.ReadFile(filepath.Join(r.Out, unreadableFile)); err == nil {
		files[unreadableFile] = data
	}
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

// explain says what an abort does; where nothing vouches for the entries it removes no key.
func (a *abortLeaf) explain(vouched bool) Aborting {
	var x Aborting
	for _, k := range a.Destroys {
		key := fmt.Sprintf("key %s in token %s, with the id %s", show.Text(k.Label), show.Text(k.Token), show.Text(k.ID))
		if vouched {
			x.Destroys = append(x.Destroys, key)
		} else {
			x.Remains = append(x.Remains, key+", if this ceremony made it: nothing vouches for that, and it is not removed")
		}
	}
	if a.Signatures > 0 {
		x.Remains = append(x.Remains, fmt.Sprintf("%d signatures were made; none was written to a file", a.Signatures))
	}
	x.Remains = append(x.Remains, a.Remains...)
	if u := a.Unreadable; u != nil {
		x.Remains = append(x.Remains, fmt.Sprintf("the transcript cannot be read from entry %d on (%s): what was done after that is unknown, and keys made after that are not removed", u.Entry, u.Why))
	}
	if a.Wrong != nil {
		x.Wrong = fmt.Sprintf("entry %d does not follow from those before it: %s", a.Wrong.Entry, a.Wrong.Why)
		x.Remains = append(x.Remains, x.Wrong)
	}
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
func (s *Session) abort(want *abortLeaf, leave func(string, error) error) error {
	var got abortLeaf
	if err := s.outcome(&got, kindAbort, func(bool) error { h := got.Head; got = *want; got.Head = h; return nil }, func() error {
		if !reflect.DeepEqual(facts(got), facts(*want)) {
			return errors.New("does not list what the entries before it made")
		}
		return s.took(kindAbort, got.Platform, got.Asserted)
	}); err != nil {
		return err
	}
	for _, n := range got.Serials {
		s.state.serials[n] = true
	}
	if w := got.Wrong; w != nil {
		s.note("when it was aborted, entry %d did not follow from those before it: %s", w.Entry, w.Why)
	}
	s.resumes = append(s.resumes, resumedLeaf{Head: got.Head, Asserted: got.Asserted, Tool: got.Tool, Officers: got.Officers})
	// unreachable are the tokens that were tried in vain.
	unreachable := map[string]error{}
	for _, k := range got.Destroys {
		l := destroyedLeaf{}
		if err := s.outcome(&l, kindDestroyed, func(bool) error {
			l.Name = k.Name
			if s.unvouched {
				l.Left, l.Why = true, oneLine(errUnvouched)
				return nil
			}
			err := unreachable[k.Token]
			if err == nil {
				l.Found, err = s.undo(k)
			}
			if err == nil {
				return nil
			}
			if s.how.tokens[k.Token] == nil {
				unreachable[k.Token] = err
			}
			if leave == nil {
				return err
			}
			if err := leave(fmt.Sprintf("key %q in token %q", k.Label, k.Token), err); err != nil {
				return err
			}
			l.Found, l.Left, l.Why = false, true, oneLine(err)
			return nil
		}, func() error {
			if l.Name != k.Name || l.Left && l.Found {
				return errors.New("is about another key")
			}
			return nil
		}); err != nil {
			return err
		}
		if l.Left {
			s.stays = append(s.stays, k)
		}
	}
	return nil
}
