package factory

import (
	"context"
	"sync"
	"time"
)

// Run compares the record with what others hold of it, finishes what a crash left open and keeps the CRLs fresh, until ctx
// ends. It tries again by itself while the token or the store is away.
func (s *Service) Run(ctx context.Context) {
	var marks sync.WaitGroup
	marks.Go(func() { s.keepMarks(ctx) })
	marks.Go(func() { s.watch(ctx) })
	marks.Go(func() { s.keepChecked(ctx) })
	marks.Go(func() { s.keepSuperseded(ctx) })
	defer marks.Wait()
	recovered := false
	for {
		wait := min(s.c.CRLRefresh/4+time.Second, time.Minute)
		if err := s.Compare(ctx); err != nil && ctx.Err() == nil {
			s.c.Log.Error("the record cannot be compared with what others hold of it; it is tried again", "error", err)
			wait = retryAfter
		}
		// At the start all that is open; later what is open for longer than any request: of a caller who hung up, or of another server
		// that died.
		until := s.c.Now()
		if recovered {
			until = until.Add(-2 * requestTime)
		}
		done, left, err := s.recoverUntil(ctx, until)
		if done > 0 || left > 0 {
			s.c.Log.Info("open intents", "finished", done, "left", left)
		}
		if !recovered {
			recovered = err == nil || asFault(err).Code != CodeUnavailable
		}
		if !recovered && ctx.Err() == nil {
			s.c.Log.Error("open intents are left; they are tried again", "error", err)
			wait = retryAfter
		}
		err = s.FreshCRL(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			s.c.Log.Error("no fresh CRL; it is tried again", "error", err)
			wait = retryAfter
		case s.waiting(ctx):
			wait = max(s.c.CRLInterval, 100*time.Millisecond)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-s.crlDue:
			timer.Stop()
			select {
			case <-ctx.Done():
				return
			case <-time.After(min(max(s.c.CRLInterval, 100*time.Millisecond), retryAfter)):
			}
		case <-timer.C:
		}
	}
}

// watch tries token and store, and looks at clock and expiries, until ctx ends.
func (s *Service) watch(ctx context.Context) {
	for {
		if err := s.keepClock(ctx); err != nil && ctx.Err() == nil {
			s.c.Log.Error("the clock cannot be held against the record", "error", err)
		}
		wait := probeEvery
		if !s.probe(ctx) {
			wait = probeSick
		}
		s.watchExpiries()
		s.LogStatus(ctx)
		s.watchLots(ctx)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}
