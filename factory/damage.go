package factory

import (
	"context"
	"errors"
	"time"

	"github.com/hanaper/hanaper/factory/record"
)

const (
	// checkEvery is how long after a reading of the whole store the next one begins, at least; a reading of a store of ten million devices takes
	// minutes, and so that it costs the line nothing to speak of it rests checkRest times as long as it has read.
	checkEvery = 6 * time.Hour
	checkRest  = 20
)

// checkAgain is when it is tried again where the store was away, and when damage is looked at again: an index may have been made anew. Tests
// have less time.
var checkAgain = time.Minute

// keepChecked reads the whole store for damage at the start, and now and then, until ctx ends.
func (s *Service) keepChecked(ctx context.Context) {
	for {
		begin := time.Now()
		err := s.c.Store.Check(ctx)
		if ctx.Err() != nil {
			return
		}
		took := time.Since(begin)
		wait := max(checkEvery, checkRest*took)
		switch {
		case err == nil:
			if s.damage.Swap(nil) != nil {
				s.c.Log.Warn("the store was damaged, and is whole again")
			}
			s.c.Log.Info("the whole store was read for damage: there is none", "took", took.Round(time.Millisecond))
		case errors.Is(err, record.ErrDamaged):
			s.damaged(err)
			wait = max(checkAgain, checkRest*took)
		default:
			s.c.Log.Error("the store could not be read for damage; it is tried again", "error", err)
			wait = checkAgain
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// damaged notes that the store is damaged, until a reading of the whole store says otherwise.
func (s *Service) damaged(err error) {
	text := err.Error()
	if was := s.damage.Swap(&text); was == nil || *was != text {
		s.c.Log.Error("the store is damaged: no new device is enrolled; stop, and restore the last backup", "error", err)
	}
}

// damageFault refuses new devices while the store is damaged, for an index that lost a device would let it have a second certificate. It is nil otherwise.
func (s *Service) damageFault() *Fault {
	if s.damage.Load() == nil {
		return nil
	}
	return fault(CodeDamaged, "an operator stops hanaperd and restores the last backup; see the runbook's \"Restoring the store\"", "no new device is enrolled: the factory's record is damaged")
}
