package factory

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/hanaper/hanaper/factory/record"
)

const (
	// paceEvery is how often it is noted how far each open lot has come, paceOver for how long that is remembered.
	paceEvery, paceOver = time.Minute, time.Hour
	// maxOpenLots is how many open lots are followed and measured, by name.
	maxOpenLots = 200
)

// LotProgress is a lot, how fast it fills, and when it will be full.
type LotProgress struct {
	record.Lot
	// PerHour is how many devices an hour the lot has taken on all servers, over the last Over; Over is 0 while that is not known yet.
	PerHour float64
	Over    time.Duration
	// End is when the lot will be full at this pace; zero where it is full, closed, or stands still.
	End time.Time
}

// pace remembers how far the open lots had come. The store is asked, so that what other servers do is seen too.
type pace struct {
	mu    sync.Mutex
	last  time.Time
	marks map[string][]paceMark
}

type paceMark struct {
	at    time.Time
	taken int64
}

// watchLots notes how far the open lots have come, once a minute.
func (s *Service) watchLots(ctx context.Context) {
	now := s.c.Elapsed()
	at := time.Time{}.Add(now)
	s.pace.mu.Lock()
	due := s.pace.last.IsZero() || at.Sub(s.pace.last) >= paceEvery
	s.pace.mu.Unlock()
	if !due {
		return
	}
	open, err := s.c.Store.Lots(ctx, record.LotOpen, "", maxOpenLots)
	if err != nil {
		return // the probe tells of a store that does not answer
	}
	s.pace.mu.Lock()
	defer s.pace.mu.Unlock()
	s.pace.last = at
	marks := map[string][]paceMark{}
	for _, l := range open {
		kept := append(s.pace.marks[l.Name], paceMark{at, l.Taken})
		for len(kept) > 2 && at.Sub(kept[1].at) >= paceOver {
			kept = kept[1:]
		}
		marks[l.Name] = kept
	}
	s.pace.marks = marks
}

// progress is how a lot fills.
func (s *Service) progress(l record.Lot) LotProgress {
	p := LotProgress{Lot: l}
	if l.State == record.LotClosed {
		return p
	}
	at := time.Time{}.Add(s.c.Elapsed())
	s.pace.mu.Lock()
	marks := s.pace.marks[l.Name]
	s.pace.mu.Unlock()
	if len(marks) == 0 {
		return p
	}
	if p.Over = at.Sub(marks[0].at); p.Over < paceEvery {
		p.Over = 0
		return p
	}
	p.PerHour = max(0, float64(l.Taken-marks[0].taken)) / p.Over.Hours()
	if left := l.Quota - l.Taken; left > 0 && p.PerHour > 0 {
		p.End = s.clock.best().Add(time.Duration(float64(left) / p.PerHour * float64(time.Hour)))
	}
	return p
}

// OpenLots tells how the open lots fill, in order of name, 200 at most.
func (s *Service) OpenLots(ctx context.Context) ([]LotProgress, error) {
	open, err := s.c.Store.Lots(ctx, record.LotOpen, "", maxOpenLots)
	if err != nil {
		return nil, away("the store", err)
	}
	all := make([]LotProgress, 0, len(open))
	for _, l := range open {
		all = append(all, s.progress(l))
	}
	return all, nil
}

// LotProgress tells how a lot fills.
func (s *Service) LotProgress(ctx context.Context, name string) (LotProgress, error) {
	if err := checkText("lot", name); err != nil {
		return LotProgress{}, err
	}
	l, err := s.c.Store.Lot(ctx, name)
	if errors.Is(err, record.ErrNotFound) {
		return LotProgress{}, fault(CodeNotFound, "", "there is no lot %.80q", name)
	}
	if err != nil {
		return LotProgress{}, away("the store", err)
	}
	return s.progress(l), nil
}

// writeLots writes how the open lots fill.
func (s *Service) writeLots(ctx context.Context, e *exposition) {
	open, err := s.c.Store.Lots(ctx, record.LotOpen, "", maxOpenLots)
	if err != nil {
		return
	}
	for _, m := range []struct {
		name, help string
		value      func(record.Lot) int64
	}{
		{"hanaperd_lot_quota", "How many devices an open lot may have; 200 lots at most.", func(l record.Lot) int64 { return l.Quota }},
		{"hanaperd_lot_remaining", "How many devices an open lot may still take.", func(l record.Lot) int64 { return max(0, l.Quota-l.Taken) }},
	} {
		e.family(m.name, "gauge", m.help)
		for _, l := range open {
			e.sample(float64(m.value(l)), "lot", l.Name)
		}
	}
}
