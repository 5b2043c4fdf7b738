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
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/journal"
	"github.com/hanaper/hanaper/quorum"
)

// Anchor is what a folder that passed through other hands is held against before anything in it is believed.
type Anchor struct {
	// State is what this machine remembers.
	State machine.Store
	// Roster is the digest of the roster, as people give it; nil if they gave none.
	Roster *[32]byte
	// Earlier is the digest of the checkpoint of the ceremony that this one carries on from, as people wrote it down when
	// that one ended; nil if they gave none.
	Earlier *[32]byte
	// Transcript is the digest of the transcript so far (the SHA-256 of its checkpoint), as the program showed it and people wrote it
	// down; nil if they gave none. The roster's digest says who the officers are, and nothing of what was done: without
	// this one or the machine's memory somebody else may have written every entry.
	Transcript *[32]byte
}

// transcriptDigest is the SHA-256 of the checkpoint that a transcript of these entries has.
func transcriptDigest(r interface{ Checkpoint() []byte }) [32]byte { return quorum.Sum(r.Checkpoint()) }

// Standing is an unfinished ceremony's folder that is what its anchor says.
type Standing struct {
	Plan      *Plan
	Approvals [][]byte
	// By is machine.ByRun if this machine remembers the folder, and machine.ByRoster if people gave the roster's digest.
	By string
	// Vouched is false if neither the machine's memory nor a digest that people wrote down vouches for the entries.
	Vouched bool
	// Doubts are what the anchor cannot exclude, in plain words.
	Doubts []string
	// Entries is the number of entries that the transcript has.
	Entries int64
	// Ahead are the steps that Resume performs.
	Ahead []PlannedStep
	// Aborting is what Abort would do.
	Aborting Aborting
	// Damaged says why the transcript cannot be read to its end, so that the ceremony can only be aborted; nil where it can be read.
	Damaged error

	leaves [][]byte
	// tool is the program with which the run began, and last the time of the last entry.
	tool Tool
	last time.Time
}

// beginning reads by which program the run began, and when its last entry was written.
func (st *Standing) beginning(record *journal.Record) error {
	var first beginLeaf
	if err := decodeLeaf(record.Leaf(0), &first, kindBegin); err != nil {
		return damaged(transcriptFile, "entry 0 %w", err)
	}
	last, err := headOf(record.Leaf(record.Size() - 1))
	if err == nil {
		st.last, err = parseTime(last.At)
	}
	if err != nil {
		return damaged(transcriptFile, "entry %d: %w", record.Size()-1, err)
	}
	st.tool = first.Tool
	return nil
}

// Ready checks all of Resume, or of Abort, that needs neither a secret nor an answer, so that nobody types one in vain: the
// program, and whether enough officers brought their keys. Both check it again.
func (st *Standing) Ready(tool Tool, signers int, abort bool) error {
	if signers == 0 {
		return nobodyPresent()
	}
	if !abort && tool != st.tool {
		return otherTool(st.tool, tool)
	}
	if need := st.Plan.roster.Threshold(); st.By == machine.ByRoster && signers < need {
		return tooFew(need, signers)
	}
	return nil
}

// longAfter is after how many days people are asked whether they mean the time that they gave.
const longAfter = 31

// LongAfter says how many days after the last entry a time is, if that is so many that a slip is likely: no later ceremony
// can be held before a time that was given once.
func (st *Standing) LongAfter(asserted time.Time) (days int, long bool) {
	days = int(asserted.Sub(st.last) / (24 * time.Hour))
	return days, days > longAfter
}

// NotBefore refuses a time before the last entry.
func (st *Standing) NotBefore(asserted time.Time) error { return notBefore(asserted, st.last) }

// doubts are what nobody can know of a folder that this machine does not remember.
var doubts = []string{
	"that the ceremony was finished or aborted on another machine, or is being resumed there",
	"that this is an older copy of the folder, so that what it does not tell was done nevertheless, and is done again",
	"that what was done after the transcript's digest was written down is missing, so that keys are left over which abort does not remove",
}

// unvouched is the doubt about a transcript of which nobody wrote down the digest.
const unvouched = "that somebody else wrote the transcript, or any part of it"

// errUnvouched is why an aborted ceremony leaves a key where it is.
var errUnvouched = errors.New("the key stays: nothing vouches for the entry that says that this ceremony made it")

// Unfinished reads the folder of a run that was cut short, holds it against the anchor, and validates its script anew.
// Nothing is written.
func Unfinished(ctx context.Context, out string, a Anchor) (*Standing, error) {
	st, err := standing(out, a, false)
	if err != nil {
		return nil, err
	}
	if !st.Vouched {
		return nil, notVouched(out)
	}
	if st.Plan, err = st.Plan.script.Validate(ctx); err != nil {
		return nil, err
	}
	step := 0
	for _, e := range entriesOf(st.leaves) {
		if e.head.Kind == kindStepDone {
			step = e.head.Step
		}
	}
	for _, s := range st.Plan.Steps {
		if s.Number > step {
			st.Ahead = append(st.Ahead, s)
		}
	}
	return st, nil
}

// Abandoned is Unfinished for Abort: the script need not stand up to today's rules, and the transcript may be damaged at its
// end.
func Abandoned(out string, a Anchor) (*Standing, error) { return standing(out, a, true) }

func standing(out string, a Anchor, damagedToo bool) (*Standing, error) {
	if _, err := os.Stat(filepath.Join(out, incompleteFile)); err != nil {
		if _, err := os.Stat(filepath.Join(out, signatureFile)); err == nil {
			return nil, advice.New(advice.Usage, "see hanaper ceremony verify", "%s: this ceremony has ended", out)
		}
		return nil, nothingBegan(out)
	}
	files, err := copies(out)
	if err != nil {
		return nil, err
	}
	script, err := loadCopy(files)
	if err != nil {
		return nil, err
	}
	script.name = filepath.Join(out, scriptFile)
	roster, err := script.openRoster()
	if err != nil {
		return nil, err
	}
	v := &verified{files: files}
	st := &Standing{Plan: &Plan{script: script, roster: roster}, Approvals: v.approvals()}
	h := hold{anchor: a, script: script, out: out}
	data, ok := files[transcriptFile]
	if !ok {
		data = journal.Empty(Origin(script, false))
	}
	if err := h.read(data); err != nil {
		return nil, err
	}
	if len(st.Approvals) == 0 {
		return nil, damaged(approvalsDir, "holds no approvals")
	}
	if err := h.against(st.Approvals[0]); err != nil {
		return nil, err
	}
	defer h.close()
	if err := h.strangers(files, st.Approvals); err != nil {
		return nil, err
	}
	if st.Damaged = h.damage; st.Damaged != nil && !damagedToo {
		return nil, advice.Wrap(advice.Unverified, fmt.Errorf("%s: %w", out, st.Damaged),
			"keep the folder and compare it with what officers remember; `hanaper ceremony abort` can end the ceremony without the entries that cannot be read")
	}
	if h.memory != nil && h.memory.Cut() && !damagedToo {
		return nil, beingAborted(out)
	}
	st.By, st.Vouched, st.Entries, st.leaves = h.by, h.vouched, h.record.Size(), h.record.Leaves()
	leaf := aborts(script, st.leaves)
	leaf.Unreadable = h.unreadable()
	st.Aborting = leaf.explain(h.vouched)
	if err := st.beginning(h.record); err != nil {
		return nil, err
	}
	if st.By == machine.ByRoster {
		st.Doubts = slices.Clone(doubts)
	}
	if !st.Vouched {
		st.Doubts = append(st.Doubts, unvouched)
	}
	return st, nil
}

func nothingBegan(out string) error {
	return advice.New(advice.Usage, "nothing was done to a token, and the approvals are still good: remove the folder and run the ceremony anew",
		"%s holds no ceremony that began", out)
}

// notVouched refuses to go on with entries that anybody may have written: they say which shares hold a secret, which keys
// were made, and what is left to do.
func notVouched(out string) error {
	return advice.New(advice.Refused, "give the digest that the program showed when it stopped, as it was written down then, with --transcript; without it the ceremony can only be aborted, and abort removes no key",
		"%s: nothing vouches for what its transcript says", out)
}

func beingAborted(out string) error {
	return advice.New(advice.Refused, "finish it with `hanaper ceremony abort`", "%s: this ceremony is being aborted", out)
}

// hold holds an unfinished folder against its anchor.
type hold struct {
	anchor Anchor
	script *Script
	out    string

	record *journal.Record
	// data are the transcript's bytes.
	data []byte
	// damage says why the transcript cannot be read to its end; nil where it can.
	damage error
	// kept are the transcript's bytes as they were before an abort cut off its end, which could not be read because of
	// keptDamage; keptFrom are the entries before it. They are nil where nothing was cut off.
	kept       []byte
	keptDamage error
	keptFrom   *journal.Record
	by         string
	// vouched is true if the machine's memory or a digest that people wrote down vouches for the entries.
	vouched bool
	memory  *machine.Memory
	begun   machine.Begun
}

// read reads the transcript as far as it goes.
func (h *hold) read(data []byte) error {
	var err error
	h.record, _, err = journal.ParseCrashed(data)
	if h.record == nil {
		return damaged(transcriptFile, "%w", err)
	}
	h.damage = err
	if want := Origin(h.script, false); h.record.Origin() != want {
		return damaged(transcriptFile, "is that of another ceremony, %q", h.record.Origin())
	}
	return nil
}

// against asks the anchors. Nothing is written; the memory stays open, and locked, until close.
func (h *hold) against(approval []byte) error {
	first, err := quorum.ReadApproval(approval)
	if err != nil {
		return err
	}
	h.begun = begunBy(h.script, first.Nonce)
	if want := h.anchor.Roster; want != nil && quorum.Sum(h.script.roster) != quorum.Digest(*want) {
		return advice.New(advice.Unverified, "if you typed the digest rightly, the folder is not that of your officers: do not go on",
			"%s: the roster in the folder has the SHA-256 %s, not the one that was given", h.out, hexSHA256(h.script.roster))
	}
	if want := h.anchor.Transcript; want != nil && transcriptDigest(h.record) != *want {
		return advice.New(advice.Unverified, "if you typed the digest rightly, this is not the folder as it was when the digest was written down: do not go on with it",
			"%s: the transcript in the folder has %d entries and the digest %x, not the one that was given", h.out, h.record.Size(), transcriptDigest(h.record))
	}
	h.memory, err = h.anchor.State.Recall(first.Nonce)
	if errors.Is(err, machine.ErrUnknown) {
		return h.byRoster(err)
	}
	if err != nil {
		return err
	}
	if err := h.byState(); err != nil {
		h.close()
		return err
	}
	h.by, h.vouched = machine.ByRun, true
	return nil
}

func (h *hold) byRoster(unknown error) error {
	if h.record.Size() == 0 {
		return nothingBegan(h.out)
	}
	if h.anchor.Roster == nil {
		return advice.New(advice.Refused, "name the state folder of the machine on which it was begun with --state. If that is lost, have M officers come, and give the roster's digest from your paper with --roster",
			"%s: %w, and nothing else says whose folder this is", h.out, unknown)
	}
	if err := h.anchor.State.Stranger(h.begun); err != nil {
		return fmt.Errorf("%s: %w", h.out, err)
	}
	if err := h.script.earlierAnchored(h.anchor); err != nil {
		return err
	}
	h.by, h.vouched = machine.ByRoster, h.anchor.Transcript != nil
	h.begun.Anchor, h.begun.Size, h.begun.Root = machine.ByRoster, h.record.Size(), hexHash(h.record.Root())
	return h.anchor.State.CanFollow(h.begun)
}

func (h *hold) byState() error {
	was := h.memory.Begun()
	const hint = "this is not the folder that this machine wrote last: find that one. Do not go on with a copy"
	switch {
	case h.memory.Ended() != nil:
		return advice.New(advice.Refused, "see `hanaper ceremony verify`, with the folder in which it ended; another ceremony needs a new script and new approvals",
			"%s: this ceremony has ended on this machine (%s), with the checkpoint %s", h.out, show.Text(h.memory.Ended().How), show.Text(h.memory.Ended().Checkpoint))
	case was.Script != h.begun.Script:
		return advice.New(advice.Unverified, hint, "%s: %s is not the script that this machine began with under these approvals", h.out, scriptFile)
	case was.Roster != h.begun.Roster:
		return advice.New(advice.Unverified, hint, "%s: %s is not the roster that this machine began with", h.out, rosterFile)
	case was.Ceremony != h.begun.Ceremony || was.Environment != h.begun.Environment || was.Earlier != h.begun.Earlier:
		return advice.New(advice.Unverified, hint, "%s: is of another ceremony than the one that this machine began", h.out)
	}
	if h.damage == nil {
		if err := h.memory.Check(h.record.Size(), h.record.Root()); err != nil {
			return fmt.Errorf("%s: %w", h.out, err)
		}
	} else if _, err := h.memory.Lost(h.record.Size(), h.record.Root()); err != nil {
		return fmt.Errorf("%s: %w (%w)", h.out, h.damage, err)
	}
	if h.record.Size() == 0 {
		return nothingBegan(h.out)
	}
	if err := h.anchor.State.MayGoOn(h.memory); err != nil {
		return advice.Wrap(advice.KindOf(err), fmt.Errorf("%s: %w", h.out, err), advice.Hint(err))
	}
	return nil
}

func (h *hold) close() {
	if h.memory != nil {
		h.memory.Close()
		h.memory = nil
	}
}

// begunBy is what is remembered of a run of the script.
func begunBy(s *Script, nonce string) machine.Begun {
	b := machine.Begun{Nonce: nonce, Ceremony: s.config.Ceremony, Environment: s.config.Environment, Script: hexSHA256(s.raw), Roster: hexSHA256(s.roster),
		Anchor: machine.ByRun, Root: hexHash(machine.EmptyRoot)}
	if s.earlier != nil {
		b.Earlier = fmt.Sprintf("%x", s.earlier.checkpoint)
	}
	return b
}

func hexHash(h journal.Hash) string { return fmt.Sprintf("%x", h[:]) }

// earlierAnchored asks for an anchor of the ceremony that the script carries on from: its checkpoint is pinned by the
// script, and it takes more than those who wrote the script to say that it is the right one, and the last.
func (s *Script) earlierAnchored(a Anchor) error {
	if s.earlier == nil {
		if a.Earlier != nil {
			return advice.New(advice.Usage, "leave --earlier out", "the script carries on from no earlier ceremony")
		}
		return nil
	}
	if a.Earlier != nil {
		if *a.Earlier != s.earlier.checkpoint {
			return refuse(RuleEarlier, "the script carries on from a ceremony with the checkpoint %x, not from the one whose digest was given", s.earlier.checkpoint)
		}
		return nil
	}
	v := s.earlier.verified
	known, err := a.State.Wrote(Origin(v.script, false), s.earlier.checkpoint)
	if err != nil {
		return err
	}
	if !known {
		why := ""
		if damaged, err := a.State.Damaged(); err != nil {
			return err
		} else if len(damaged) > 0 {
			why = fmt.Sprintf(", and %s", damaged[0])
		}
		return advice.Wrap(advice.Refused, refuse(RuleEarlier, "this machine does not remember the ceremony %q, from which the script carries on, as ended with the checkpoint %x%s", v.script.config.Ceremony, s.earlier.checkpoint, show.Line(why)),
			"give the SHA-256 of its checkpoint, as people wrote it down when it ended, with --earlier")
	}
	return nil
}
