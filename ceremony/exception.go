package ceremony

import (
	"encoding/hex"
	"fmt"

	"github.com/hanaper/hanaper/internal/advice"
)

const kindException = "exception"

var _ = register[exceptionLeaf](kindException)

// Exception is what the people present had recorded at a stop: something that differed from the script or the form.
type Exception struct {
	ReportedBy string `json:"reported_by"`
	Expected   string `json:"expected"`
	Happened   string `json:"happened"`
	// Decided is what was decided and done, and why it is safe to go on.
	Decided string `json:"decided"`
}

// exceptionLeaf: an exception, at the stop after a step, or before the first step. Nothing leads to it but people, so
// Verify asks only that it is well formed, in its place, and counted.
type exceptionLeaf struct {
	Head
	// Number counts the exceptions of a ceremony from 1.
	Number int `json:"number"`
	Exception
}

func (l *exceptionLeaf) record() string {
	return fmt.Sprintf("exception %d, reported by %s. Expected: %s. Happened: %s. Decided: %s", l.Number, l.ReportedBy, l.Expected, l.Happened, l.Decided)
}

func (e Exception) check() error {
	for _, text := range []string{e.ReportedBy, e.Expected, e.Happened, e.Decided} {
		if err := checkRemarks([]Remark{{About: "exception", Text: text}}); err != nil {
			return err
		}
	}
	return nil
}

// Stop is where a ceremony waits for the people present: after a step, or before the first one.
type Stop struct {
	// At is the asserted time plus what has passed since.
	At string
	// Steps is how many steps the script has.
	Steps int
	// Done is the step that was done; its number is 0 before the first, and its values are then of the tokens.
	Done StepView
	// Next is the step that comes; nil after the last.
	Next *StepView
	// Exceptions is how many were recorded so far.
	Exceptions int
	// Entries and Transcript are the size and the digest, in hexadecimal, of the transcript so far. People who wrote the digest
	// down can have a machine that remembers nothing go on from here.
	Entries    int64
	Transcript string
}

// StepView is what people see of a step, on the screen as on the form.
type StepView struct {
	Number int
	Kind   string
	// Text says in plain words what is done, Who who does it.
	Text, Who string
	// Remarks must not be overlooked.
	Remarks []string
	// Facts are known before the step.
	Facts []Value
	// Values are known when the step is done: the boxes of the form.
	Values []Value
	// Asks are the questions that the program will ask in the step.
	Asks []string
	// Writes are the files that the step leaves.
	Writes []string
}

// Answer is what the people present say at a stop.
type Answer int

const (
	// GoOn performs the next step.
	GoOn Answer = iota
	// StopHere ends the run; Resume takes it up.
	StopHere
	// Except records an exception and asks again.
	Except
)

// pause shows what was done, and waits until the people present go on. Along a journal it follows the exceptions that
// they had recorded.
func (s *Session) pause(done scriptStep) error {
	seen := showLeaves(s.here)
	for n, count := range s.will[done.number] {
		seen.signs[n] += count
	}
	if st, ok := done.step.(showing); ok {
		st.shows(s, seen)
	}
	if s.how.seen != nil {
		s.how.seen(done.number, seen)
	}
	for {
		data, err := s.next()
		if err != nil {
			return s.fail(err)
		}
		if data != nil {
			h, err := headOf(data)
			if err != nil {
				return s.fail(s.entryError(err))
			}
			if h.Kind != kindException {
				return nil
			}
		}
		if data == nil && s.how.stop == nil {
			return nil
		}
		var said Exception
		if data == nil {
			answer, e, err := s.how.stop(s.stopAfter(done, seen))
			switch {
			case err != nil:
				return s.fail(err)
			case answer == StopHere:
				return s.fail(advice.New(advice.Failed, "go on with `hanaper ceremony resume`, or end it with `hanaper ceremony abort`", "%s", stoppedAt(done.number)))
			case answer != Except:
				return nil
			}
			said = e
		}
		if err := s.except(said); err != nil {
			return err
		}
	}
}

func stoppedAt(step int) string {
	if step == 0 {
		return "stopped before the first step, as the people present said"
	}
	return fmt.Sprintf("stopped after step %d, as the people present said", step)
}

// except records an exception, or follows one.
func (s *Session) except(said Exception) error {
	var l exceptionLeaf
	if err := s.outcome(&l, kindException, func(bool) error {
		l.Number, l.Exception = s.excepted+1, said
		return nil
	}, func() error {
		if l.Number != s.excepted+1 {
			return fmt.Errorf("has the number %d, not %d", l.Number, s.excepted+1)
		}
		return l.check()
	}); err != nil {
		return err
	}
	s.excepted++
	s.exceptions = append(s.exceptions, ExceptionRecord{Number: l.Number, Step: l.Step, At: l.At, Exception: l.Exception})
	return nil
}

// ExceptionRecord is an exception as the transcript has it.
type ExceptionRecord struct {
	Number int    `json:"number"`
	Step   int    `json:"step"`
	At     string `json:"at"`
	Exception
}

func (s *Session) stopAfter(done scriptStep, seen *shown) Stop {
	stop := Stop{At: formatTime(s.how.clock()), Steps: len(s.script.steps), Done: StepView{Number: done.number, Kind: done.kind, Values: seen.values, Writes: seen.writes, Remarks: seen.remarks},
		Exceptions: s.excepted}
	if s.how.written != nil {
		size, digest := s.how.written()
		stop.Entries, stop.Transcript = size, hex.EncodeToString(digest[:])
	}
	if done.step != nil {
		stop.Done.Text = done.step.describe(s)
	}
	if done.number < len(s.script.steps) && s.how.expect != nil {
		next := s.how.expect(done.number + 1)
		stop.Next = &next
	}
	return stop
}
