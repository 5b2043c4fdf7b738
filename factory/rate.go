package factory

import (
	"math"
	"sync"
	"time"
)

// StationRule is what one station may do.
type StationRule struct {
	// Lots are the only lots that it may enrol under; empty for any.
	Lots []string
	Rate Rate
}

// Rate bounds how many new devices a station enrols at this server: so many a minute, and so many at once after a pause. Zero does not bound.
type Rate struct {
	PerMinute int
	// Burst is at least 1; 0 means PerMinute.
	Burst int
}

// meter counts what each station has left.
type meter struct {
	mu    sync.Mutex
	left  map[string]*bucket
	since func() time.Duration
}

type bucket struct {
	tokens float64
	at     time.Duration
}

// take takes one device from what a station has left, and tells how long to wait where nothing is.
func (m *meter) take(station string, r Rate) (wait time.Duration) {
	if r.PerMinute <= 0 {
		return 0
	}
	burst := float64(r.Burst)
	if burst < 1 {
		burst = float64(r.PerMinute)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.since()
	b := m.left[station]
	if b == nil {
		if m.left == nil {
			m.left = map[string]*bucket{}
		}
		b = &bucket{tokens: burst, at: now}
		m.left[station] = b
	}
	b.tokens = min(burst, b.tokens+float64(max(now-b.at, 0))*float64(r.PerMinute)/float64(time.Minute))
	b.at = now
	if b.tokens < 1 {
		return time.Duration(math.Ceil((1 - b.tokens) * float64(time.Minute) / float64(r.PerMinute)))
	}
	b.tokens--
	return 0
}

// giveBack returns what was taken for a device that was not new.
func (m *meter) giveBack(station string, r Rate) {
	if r.PerMinute <= 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if b := m.left[station]; b != nil {
		b.tokens++ // take bounds it
	}
}

// rateOf is the rate of a station.
func (s *Service) rateOf(station string) Rate {
	if rule, ok := s.c.Lots.Stations[station]; ok && rule.Rate.PerMinute > 0 {
		return rule.Rate
	}
	return s.c.Lots.Rate
}

// refuseRate takes one new device from what the station may enrol; the fault says how long to wait where it may not.
func (s *Service) refuseRate(station string, r Rate) *Fault {
	wait := s.meter.take(station, r)
	if wait == 0 {
		return nil
	}
	f := fault(CodeRate, "wait; if the line is faster than that, have the station's rate in hanaperd's configuration changed", "station %q enrols more than %d new devices a minute", station, r.PerMinute)
	f.RetryAfter = max(wait.Round(time.Second), time.Second)
	if f.RetryAfter < wait {
		f.RetryAfter += time.Second
	}
	return f
}
