package ceremony

import (
	"fmt"

	"github.com/hanaper/hanaper/internal/show"
)

// leftover is what an aborted ceremony made and must remove, and what cannot be undone.
type leftover struct {
	// step is the number of the step at work.
	step int
	// destroys are the keys that were made, or may have been.
	destroys []abortedKey
	// serials were signed, or may have been.
	serials    []string
	signatures int
	// lasting are the acts that cannot be undone, and remains says so of each in plain words.
	lasting []lasting
	remains []string
}

// lasting is an act that cannot be undone.
type lasting struct {
	Step int `json:"step"`
	// Act is the kind of the entry that stands before it; "numbered" where what was signed has a number that counts as used.
	Act string `json:"act"`
}

// remain notes what cannot be undone.
func (o *leftover) remain(act, format string, args ...any) {
	o.lasting = append(o.lasting, lasting{o.step, act})
	o.remains = append(o.remains, fmt.Sprintf("step %d: ", o.step)+fmt.Sprintf(format, args...))
}

// leaves adds what each entry of a step leaves. It is what most steps answer.
func (o *leftover) leaves(own []entry) {
	for _, e := range own {
		e.leaf.left(o)
	}
}

// numbered is leaves for a step that signs what has a number of its own: the number counts as used.
func (o *leftover) numbered(own []entry) {
	before := o.signatures
	o.leaves(own)
	if o.signatures > before {
		o.remain("numbered", "signed, or partly, and never to be released; the signatures are in the transcript: %s", show.Line(describedBy(own)))
	}
}

// counter is a step that signs what has a number of its own.
type counter interface {
	// used counts the step's number as used, where nobody followed the step.
	used(s *Session)
}

// uses counts the numbers that an aborted ceremony used in steps that are not followed: a step whose key was about to sign may
// have signed, and where the transcript's end is lost every step after it may have. Those that are followed are counted already.
func (s *Session) uses(leaves [][]byte, l *abortLeaf) {
	signed, last := map[int]bool{}, 0
	for _, e := range entriesOf(leaves) {
		if e.head.Kind == kindAbort {
			break
		}
		last = max(last, e.head.Step)
		signed[e.head.Step] = signed[e.head.Step] || e.head.Kind == kindSignIntent
	}
	for _, st := range s.script.steps {
		if c, ok := st.step.(counter); ok && (signed[st.number] || l.Unreadable != nil && st.number >= last) {
			c.used(s)
		}
	}
}

// leftBehind asks the steps of a script what they left, by the entries of a transcript up to the one that aborts it.
func leftBehind(script *Script, leaves [][]byte) *leftover {
	o := &leftover{}
	own := map[int][]entry{}
	for _, e := range entriesOf(leaves) {
		if e.head.Kind == kindAbort {
			break
		}
		own[e.head.Step] = append(own[e.head.Step], e)
	}
	for _, st := range script.steps {
		if entries := own[st.number]; entries != nil {
			o.step = st.number
			st.step.left(o, entries)
		}
	}
	// After the last step keys make test signatures.
	o.step = 0
	o.leaves(own[0])
	return o
}
