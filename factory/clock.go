package factory

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hanaper/hanaper/factory/record"
)

const (
	// clockStep is how far the clock of the day may step against one that only counts seconds, or be behind what the record says.
	clockStep = time.Minute
	// clockEvery is how often the measure follows a clock that is well, by no more than a thousandth of the time that went by: that is more than
	// a crystal drifts, or a time service slews (500 parts in a million), and too little for who sets the clock by a little again and again.
	clockEvery, clockDrift = 10 * time.Minute, 1000
	// clockMark is the name under which the store keeps the last time that the clock was well.
	clockMark = "clock"
)

// Timekeeper is a store that has a clock of its own, as a database server has.
type Timekeeper interface {
	Now(ctx context.Context) (time.Time, error)
}

// clock decides whether the clock of the day may date what is signed. While the process runs it is held against one that only
// counts, and nobody sets; at the start against the record, which keeps the last time at which it was well; and where the store
// has a clock of its own, against that. A clock that jumped dates nothing: no certificate, no list. It is well again by itself
// when it shows what it should, or when an operator has said that it is right.
//
// An attacker who can set the clock can stop enrolment and new lists, for as long as nobody looks; what is signed keeps its dates.
type clock struct {
	now     func() time.Time
	elapsed func() time.Duration
	// gap is how long the record may be older than the clock at a start.
	gap time.Duration

	mu sync.Mutex
	// base is what the clock showed, and at what elapsed was, when it was well last.
	base time.Time
	at   time.Duration
	// record is the last time in the record while the clock does not fit to it; zero where it does.
	record time.Time
	// server is what is wrong with the clock beside the store's own.
	server string
}

// newClock takes the wall clock's readings alone: time.Now carries a reading of the counting clock too, by which Sub goes where both times have
// one, and no jump would ever show.
func newClock(wall func() time.Time, elapsed func() time.Duration, gap time.Duration) *clock {
	now := func() time.Time { return wall().Round(0) }
	return &clock{now: now, elapsed: elapsed, gap: gap, base: now(), at: elapsed()}
}

// boottime counts since the machine was started, its sleep included; nobody can set it.
func boottime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return time.Since(processStart)
	}
	return time.Duration(t.Nano())
}

var processStart = time.Now()

// counted counts nanoseconds from the process's start, and is never 0: what waits for a time to pass is no business of the clock of the day, which
// may be set.
func counted() int64 { return int64(time.Since(processStart)) + 1 }

// check gives the time, to the second, or says in words why the clock must date nothing.
func (c *clock) check() (time.Time, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, counted := c.now(), c.elapsed()
	if err := c.judge(now, counted); err != nil {
		return time.Time{}, err
	}
	if passed := counted - c.at; passed >= clockEvery {
		should := c.base.Add(passed)
		c.base, c.at = should.Add(min(max(now.Sub(should), -passed/clockDrift), passed/clockDrift)), counted
	}
	return now.UTC().Truncate(time.Second), nil
}

func (c *clock) judge(now time.Time, counted time.Duration) error {
	shows := "the clock shows " + stamp(now)
	if !c.record.IsZero() {
		switch behind := c.record.Sub(now); {
		case behind > clockStep:
			return fmt.Errorf("%s, and the record was written at %s", shows, stamp(c.record))
		case -behind > c.gap:
			return fmt.Errorf("%s, and the record was written last at %s, more than %s before", shows, stamp(c.record), c.gap)
		}
		c.record, c.base, c.at = time.Time{}, now, counted
	}
	if should := c.base.Add(counted - c.at); now.Sub(should).Abs() > clockStep {
		return fmt.Errorf("%s, and should show %s: it was set while hanaperd ran", shows, stamp(should))
	}
	if c.server != "" {
		return errors.New(c.server)
	}
	return nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// best is the time as well as it is known: what the clock should show, where it does not.
func (c *clock) best() time.Time {
	if now, err := c.check(); err == nil {
		return now
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.record.IsZero() {
		return c.record.UTC().Truncate(time.Second)
	}
	return c.base.Add(c.elapsed() - c.at).UTC().Truncate(time.Second)
}

// accept takes what the clock shows as right.
func (c *clock) accept() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.base, c.at, c.record = c.now(), c.elapsed(), time.Time{}
	return c.base.UTC().Truncate(time.Second)
}

// besides is what is wrong with the clock beside the store's own.
func (c *clock) besides() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.server
}

// startClock holds the clock against the record, once.
func (s *Service) startClock(ctx context.Context) error {
	if s.clockStarted.Load() {
		return nil
	}
	last, err := s.lastTime(ctx)
	if err != nil {
		return err
	}
	s.clock.mu.Lock()
	if s.clock.record = last; last.IsZero() {
		s.clock.base, s.clock.at = s.clock.now(), s.clock.elapsed()
	}
	s.clock.mu.Unlock()
	s.clockStarted.Store(true)
	return nil
}

// lastTime is the last time at which the record says that the clock was well; for a store that has no mark of it yet, the time
// of its last event and list.
func (s *Service) lastTime(ctx context.Context) (last time.Time, err error) {
	mark, err := s.c.Store.Mark(ctx, clockMark)
	if err != nil {
		return last, err
	}
	if mark != nil {
		if last, err = time.Parse(time.RFC3339, string(mark)); err != nil {
			return last, fmt.Errorf("the store's mark %q is no time", clockMark)
		}
		return last, nil
	}
	n, err := s.c.Store.Sequence(ctx)
	if err != nil || n == 0 {
		return last, err
	}
	events, err := s.c.Store.Events(ctx, n-1, 1)
	if err != nil {
		return last, err
	}
	for _, e := range events {
		last = e.At
	}
	for _, by := range s.issuers {
		l, err := s.c.Store.LatestCRL(ctx, by.id)
		if err != nil && !errors.Is(err, record.ErrNotFound) {
			return last, err
		}
		if err == nil && l.ThisUpdate.After(last) {
			last = l.ThisUpdate
		}
	}
	return last, nil
}

// keepClock looks at the clock, keeps in the record that it is well, and says once when it is not.
func (s *Service) keepClock(ctx context.Context) error {
	if err := s.startClock(ctx); err != nil {
		return err
	}
	if t, ok := s.c.Store.(Timekeeper); ok {
		before := s.clock.now()
		there, err := t.Now(ctx)
		if err != nil {
			return err
		}
		// The answer was made between the two moments.
		words := ""
		if d := before.Sub(there); d > clockStep || there.Sub(s.clock.now()) > clockStep {
			words = fmt.Sprintf("the clock shows %s, and the database's %s", stamp(before), stamp(there))
		}
		s.clock.mu.Lock()
		s.clock.server = words
		s.clock.mu.Unlock()
	}
	now, err := s.clock.check()
	text := ""
	if err != nil {
		text = "bad"
	}
	if was := s.clockSaid.Swap(&text); text != "" && (was == nil || *was == "") {
		s.c.Log.Error("the clock dates nothing now: no device is enrolled, and no list is signed. Set it right; if it is right, an operator says so with `hanaperd store clock`", "reason", err)
	} else if text == "" && was != nil && *was != "" {
		s.c.Log.Info("the clock is well again")
	}
	if err != nil {
		return nil
	}
	return s.markClock(ctx, now, false)
}

// markClock keeps a time at which the clock was well; an earlier one only where an operator said so.
func (s *Service) markClock(ctx context.Context, now time.Time, back bool) error {
	old, err := s.c.Store.Mark(ctx, clockMark)
	if err != nil {
		return err
	}
	value := []byte(stamp(now))
	if was, err := time.Parse(time.RFC3339, string(old)); bytes.Equal(old, value) || err == nil && was.After(now) && !back {
		return nil
	}
	_, err = s.c.Store.SwapMark(ctx, clockMark, old, value)
	return err
}

// AcceptClock takes the clock as right, because an operator who looked at it says so, and keeps that in the record. A list that was dated
// by a wrong clock is followed by one with the right date.
func (s *Service) AcceptClock(ctx context.Context, operator, note string) (*StoreAnswer, error) {
	if err := s.startClock(ctx); err != nil {
		return nil, away("the store", err)
	}
	now := s.clock.now()
	if words := s.clock.besides(); words != "" {
		return nil, fault(CodeClock, "set this machine's clock, or the database's", "%s", words)
	}
	if _, err := s.c.Store.Append(ctx, record.Event{Kind: record.Accepted, At: now.UTC().Truncate(time.Second), Who: "operator " + operator, Note: "the clock: " + note}); err != nil {
		return nil, away("the store", err)
	}
	now = s.clock.accept()
	if err := s.markClock(ctx, now, true); err != nil {
		return nil, away("the store", err)
	}
	s.c.Log.Warn("the clock was accepted", "operator", operator, "clock", stamp(now), "note", note)
	s.wakeCRL()
	return s.StoreState(ctx)
}

// clockFault refuses what a clock that is not well would date.
func clockFault(err error) *Fault {
	f := fault(CodeClock, "hanaperd's clock is set right, or an operator who knows that it is right says so: `hanaperd store clock`", "no device is enrolled now: %v", err)
	f.RetryAfter = retryAfter
	return f
}
