package apart

import (
	"fmt"
	"sync"
	"time"
)

// health is what is known of how the token stands.
type health struct {
	mu       sync.Mutex
	since    time.Time // when it went down; zero while a child is at work
	why      error
	restarts int
	silent   time.Time // nobody is told anything before
	untold   int
}

// toldPause is how far apart two remarks about a library that keeps failing are.
const toldPause = 10 * time.Second

// Health is nil while a child is at work, and otherwise says since when, and why, none is.
func (t *Token) Health() error {
	t.mu.Lock()
	gaveUp := t.gaveUp
	t.mu.Unlock()
	if gaveUp != nil {
		return gaveUp
	}
	h := &t.health
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.why == nil {
		return nil
	}
	return fmt.Errorf("the token is away since %s: %w", h.since.UTC().Format(time.RFC3339), h.why)
}

// Restarts is how often a child was started anew.
func (t *Token) Restarts() int {
	t.health.mu.Lock()
	defer t.health.mu.Unlock()
	return t.health.restarts
}

// down notes that no child is at work, and tells so.
func (h *health) down(t *Token, why error) {
	h.mu.Lock()
	now := time.Now()
	if h.why == nil {
		h.since = now
	}
	h.why = why
	h.untold++
	said := ""
	if !now.Before(h.silent) {
		said = fmt.Sprintf("%v; its library is started anew", t.fail(why, "away"))
		if h.untold > 1 {
			said = fmt.Sprintf("%s (%d times since this was said last)", said, h.untold)
		}
		h.silent, h.untold = now.Add(toldPause), 0
	}
	h.mu.Unlock()
	if said != "" {
		t.c.Tell(said)
	}
}

// up notes that a child is at work.
func (h *health) up(t *Token) {
	h.mu.Lock()
	was := h.why
	away := time.Since(h.since)
	h.why = nil
	if was != nil {
		h.restarts++
	}
	h.mu.Unlock()
	if was != nil && away > toldPause {
		t.c.Tell(fmt.Sprintf("%s: its library is at work again, after %v", t.Info().Name(), away.Round(time.Second)))
	}
}

// sickness keeps a child from being ended again and again for errors that a new one answers as well.
type sickness struct {
	mu    sync.Mutex
	after time.Time
	pause time.Duration
}

func (s *sickness) mayRestart(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Before(s.after) {
		return false
	}
	s.pause = min(max(2*s.pause, shortestSickPause), longestSickPause)
	s.after = now.Add(s.pause)
	return true
}

func (s *sickness) healed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pause = 0
}
