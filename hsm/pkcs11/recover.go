package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"time"

	p11 "github.com/miekg/pkcs11"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
)

// The pause between two tries to get a token back, which doubles from the first to the longest.
const firstPause, longestPause = 50 * time.Millisecond, time.Second

// errVanished: a key that was there before is not found any more. SoftHSM may answer so for good once its folder went away
// and came back; a restart of the library makes it look again.
var errVanished = errors.New("it was there before")

// remedy is what a recovery does, from the mildest to the strongest.
type remedy int

const (
	// newSessions drops the idle sessions if the login still stands, and logs in anew otherwise.
	newSessions remedy = iota
	// newLogin logs in anew whatever the token says of the login.
	newLogin
	// newLibrary starts the library anew, and logs in.
	newLibrary
)

// recovery is one recovery in progress, which all calls that lost the token wait for.
type recovery struct {
	done chan struct{}
	err  error // set before done is closed
	last error // the last try's error, guarded by Token.mu
}

// do runs f in a session of the pool. When the token went away it waits, within ctx, until it is back, and runs f again
// unless f had called session.act: then what it did may have happened, and the caller is told the error.
//
// An error that may be the library's own state is answered in three steps: other sessions, a new login, and, if f still fails,
// the library started anew. f is run three times at most, for an error may as well be the true answer to f.
func (t *Token) do(ctx context.Context, f func(s session) error) error {
	if _, has := ctx.Deadline(); !has && t.patience > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, t.patience)
		defer cancel()
	}
	for try := 0; ; {
		epoch, acted, err := t.once(ctx, f)
		if errors.Is(err, errFull) {
			continue
		}
		if err == nil {
			t.m.worked()
			return nil
		}
		vanished := errors.Is(err, errVanished)
		if !lost(err) && !vanished || try == 2 {
			return err
		}
		cure, worth := t.cure(err, try)
		if !worth {
			return err
		}
		if vanished {
			try = 1 // the library is started anew once a call
		}
		if e := t.recover(ctx, epoch, cure, err); e != nil {
			return e
		}
		if acted {
			return err
		}
		if !errors.Is(err, errStale) { // which says only that a recovery was under way
			try++
		}
	}
}

// cure chooses the remedy for an error at the first (0) or second (1) try. worth is false where nothing promises to help now.
func (t *Token) cure(err error, try int) (cure remedy, worth bool) {
	switch {
	case errors.Is(err, errVanished):
		return newLibrary, true
	case t.m.cards.Load():
		// OpenSC (0.23) may keep a lock of its own when a card was pulled during a command; the next call about the card would never return.
		return newLibrary, true
	case try == 0:
		return newSessions, true // a first failure may be one session's
	case sick(err) && t.m.mayRestart(time.Now()):
		// The token says that all is well, and still fails. Several libraries do so until they are started anew; others
		// answer the same way to a request that they do not like. Hence the limit on how often.
		return newLibrary, true
	}
	return newLogin, code(err) != p11.CKR_GENERAL_ERROR && code(err) != p11.CKR_FUNCTION_FAILED
}

// once runs f in a session. acted says whether f had begun what must not be done twice.
func (t *Token) once(ctx context.Context, f func(s session) error) (epoch uint64, acted bool, err error) {
	t.mu.Lock()
	if t.recovery != nil {
		epoch = t.epoch
		t.mu.Unlock()
		return epoch, false, errStale // recover waits for it
	}
	t.mu.Unlock()
	if err := t.pool.wait(ctx, t.life); err != nil {
		return 0, false, err
	}
	permit := true
	defer func() {
		if permit {
			t.pool.permits <- struct{}{}
		}
	}()
	if err := t.m.enter(ctx); err != nil {
		return 0, false, err
	}
	defer t.m.leave()
	t.mu.Lock()
	slot, epoch, generation, gaveUp, closed := t.slot, t.epoch, t.generation, t.gaveUp, t.closed
	t.mu.Unlock()
	switch {
	case closed:
		return epoch, false, fmt.Errorf("%s: %w", t.Info().Name(), hsm.ErrClosed)
	case gaveUp != nil:
		return epoch, false, gaveUp
	case generation != t.m.generation:
		return epoch, false, errStale
	}
	permit = false // get and put see to it
	s, err := t.pool.get(slot, epoch)
	if err != nil {
		return epoch, false, err
	}
	s.acted = &acted
	err = f(s)
	t.mu.Lock()
	now := t.epoch
	t.mu.Unlock()
	t.pool.put(s, now, err)
	if errors.Is(err, errCloseSession) {
		err = nil
	}
	return epoch, acted, err
}

// recover waits until the token is usable again after the login numbered epoch was lost, or ctx is over. One recovery
// runs for all.
func (t *Token) recover(ctx context.Context, epoch uint64, cure remedy, cause error) error {
	t.mu.Lock()
	switch {
	case t.closed:
		t.mu.Unlock()
		return fmt.Errorf("%s: %w", t.Info().Name(), hsm.ErrClosed)
	case t.gaveUp != nil:
		defer t.mu.Unlock()
		return t.gaveUp
	case t.recovery == nil && t.epoch != epoch:
		t.mu.Unlock()
		return nil // somebody else recovered since
	case t.recovery == nil:
		t.recovery = &recovery{done: make(chan struct{}), last: cause}
		go t.bringBack(t.recovery, cure)
	}
	r := t.recovery
	t.mu.Unlock()
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		t.mu.Lock()
		last := r.last
		t.mu.Unlock()
		if errors.Is(last, errStale) {
			last = cause
		}
		hint := t.m.hint(last)
		if hint == "" {
			hint = "bring the token back; the program goes on by itself"
		}
		return advice.New(advice.Failed, hint, "%s: %w: %w (%w)", t.Info().Name(), hsm.ErrGone, last, context.Cause(ctx))
	}
}

// bringBack tries until the token is there and logged in, a PIN was refused, or the Token is closed.
func (t *Token) bringBack(r *recovery, cure remedy) {
	finish := func(err, gaveUp error) {
		t.mu.Lock()
		r.err, t.gaveUp, t.recovery = err, gaveUp, nil
		t.mu.Unlock()
		close(r.done)
	}
	pause, said := firstPause, ""
	// A key that is not found is no reason to end the sessions of others, who see the token well.
	if cure == newLibrary && (!errors.Is(r.last, errVanished) || t.m.users() == 1) {
		t.mu.Lock()
		generation := t.generation
		t.mu.Unlock()
		_ = t.m.restart(t.life, generation) // if it fails, so does reopen, which says why
	}
	for {
		generation, err := t.reopen(cure != newSessions)
		if err != nil && !final(err) && (broken(err) || errors.Is(err, errStale) || t.m.users() == 1) {
			// The library may need a restart to see the token again. Others who share it lose their sessions too and
			// recover the same way; so a token that is merely absent is no reason while it is shared.
			if e := t.m.restart(t.life, generation); e == nil {
				_, err = t.reopen(true)
			} else if !errors.Is(e, context.Canceled) {
				err = e
			}
		}
		switch {
		case err == nil:
			if said != "" {
				t.tell(t.Info().Name() + " is back")
			}
			finish(nil, nil)
			return
		case t.life.Err() != nil:
			err = fmt.Errorf("%s: %w", t.Info().Name(), hsm.ErrClosed)
			finish(err, nil)
			return
		case final(err):
			hint := "the PIN was changed or the token is another one: start the program anew"
			if errors.As(err, new(doubt)) {
				hint = advice.Hint(err)
			}
			err = advice.New(advice.KindOf(err), hint, "recovering: %w", err)
			finish(err, err)
			return
		}
		t.mu.Lock()
		r.last = err
		t.mu.Unlock()
		if now := err.Error(); now != said { // another token may have been put in its place
			said = now
			t.tell(fmt.Sprintf("waiting for %s: put it back. %s", t.Info().Name(), now))
		}
		select {
		case <-time.After(pause):
		case <-t.life.Done():
		}
		pause = min(2*pause, longestPause)
	}
}
