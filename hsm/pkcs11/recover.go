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

// Backoff between two tries to get a token back.
const firstPause, longestPause = 50 * time.Millisecond, 2 * time.Second

// errVanished: a key that was there before is not found any more. SoftHSM answers so for good once its folder went away
// and came back; only a restart of the library makes it look again.
var errVanished = errors.New("it was there before")

// flight is one recovery, which all calls that lost the token wait for.
type flight struct {
	done chan struct{}
	err  error // set before done is closed
	last error // the last try's error, guarded by Token.mu
}

// do runs f in a session of the pool. When the token went away, it waits, within ctx, until it is back. f is then run again if again says that
// running it twice is harmless, or if it had not begun.
func (t *Token) do(ctx context.Context, again bool, f func(s session) error) error {
	if _, has := ctx.Deadline(); !has {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, t.patience)
		defer cancel()
	}
	for try := 0; ; {
		epoch, began, err := t.once(ctx, f)
		if errors.Is(err, errFull) {
			continue
		}
		vanished := errors.Is(err, errVanished)
		if err == nil || !lost(err) && !vanished || try == 2 {
			return err
		}
		if vanished {
			try = 1 // the library is started anew once a call
		}
		// A first failure may be one session's. If the token seems well and it happens again, log in anew.
		force := try == 1 && code(err) != p11.CKR_GENERAL_ERROR && code(err) != p11.CKR_FUNCTION_FAILED
		if e := t.recover(ctx, epoch, force, err); e != nil {
			return e
		}
		if began && !again {
			return err
		}
		if !errors.Is(err, errStale) { // which says only that a recovery was under way
			try++
		}
	}
}

// once runs f in a session. began is false if f was not run.
func (t *Token) once(ctx context.Context, f func(s session) error) (epoch uint64, began bool, err error) {
	t.mu.Lock()
	if fl := t.flight; fl != nil {
		epoch = t.epoch
		t.mu.Unlock()
		return epoch, false, errStale // recover waits for the flight
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
	slot, epoch, generation, verdict, closed := t.slot, t.epoch, t.generation, t.verdict, t.closed
	t.mu.Unlock()
	switch {
	case closed:
		return epoch, false, fmt.Errorf("%s: %w", t.Info().Name(), hsm.ErrClosed)
	case verdict != nil:
		return epoch, false, verdict
	case generation != t.m.generation:
		return epoch, false, errStale
	}
	permit = false // get and put see to it
	s, err := t.pool.get(slot, epoch)
	if err != nil {
		return epoch, false, err
	}
	err = f(s)
	t.mu.Lock()
	now := t.epoch
	t.mu.Unlock()
	t.pool.put(s, now, err)
	return epoch, true, err
}

// recover waits until the token is usable again after the login numbered epoch was lost, or ctx is over. One recovery
// runs for all.
func (t *Token) recover(ctx context.Context, epoch uint64, force bool, cause error) error {
	t.mu.Lock()
	switch {
	case t.closed:
		t.mu.Unlock()
		return fmt.Errorf("%s: %w", t.Info().Name(), hsm.ErrClosed)
	case t.verdict != nil:
		defer t.mu.Unlock()
		return t.verdict
	case t.flight == nil && t.epoch != epoch:
		t.mu.Unlock()
		return nil // somebody else recovered since
	case t.flight == nil:
		t.flight = &flight{done: make(chan struct{}), last: cause}
		go t.bringBack(t.flight, force)
	}
	f := t.flight
	t.mu.Unlock()
	select {
	case <-f.done:
		return f.err
	case <-ctx.Done():
		t.mu.Lock()
		last := f.last
		t.mu.Unlock()
		if errors.Is(last, errStale) {
			last = cause
		}
		hint := hintOf(last)
		if hint == "" {
			hint = "bring the token back; the program goes on by itself"
		}
		return advice.New(advice.Failed, hint, "%s: %w: %w (%w)", t.Info().Name(), hsm.ErrGone, last, context.Cause(ctx))
	}
}

// bringBack tries until the token is there and logged in, a PIN was refused, or the Token is closed.
func (t *Token) bringBack(f *flight, force bool) {
	finish := func(err, verdict error) {
		t.mu.Lock()
		f.err, t.verdict, t.flight = err, verdict, nil
		t.mu.Unlock()
		close(f.done)
	}
	pause := firstPause
	if errors.Is(f.last, errVanished) && t.m.users() == 1 {
		t.mu.Lock()
		generation := t.generation
		t.mu.Unlock()
		_ = t.m.restart(t.life, generation) // if it fails, so does reopen, which says why
	}
	for {
		generation, err := t.reopen(force)
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
			finish(nil, nil)
			return
		case t.life.Err() != nil:
			err = fmt.Errorf("%s: %w", t.Info().Name(), hsm.ErrClosed)
			finish(err, nil)
			return
		case final(err):
			err = advice.New(advice.KindOf(err), "the PIN was changed or the token is another one: start the program anew", "recovering: %w", err)
			finish(err, err)
			return
		}
		t.mu.Lock()
		f.last = err
		t.mu.Unlock()
		select {
		case <-time.After(pause):
		case <-t.life.Done():
		}
		pause = min(2*pause, longestPause)
	}
}

// reopen makes the token usable again: if the login still stands, by dropping the idle sessions; otherwise by finding the
// token and logging in anew, with one try. It says which initialisation of the library it saw.
func (t *Token) reopen(force bool) (seen uint64, err error) {
	t.mu.Lock()
	anchor, slot, generation, info := t.anchor, t.slot, t.generation, t.info
	t.mu.Unlock()
	var pin []byte
	if info.LoginRequired && !t.public {
		if pin, err = t.askPIN(t.life, info); err != nil {
			return generation, err
		}
		defer func() { clear(pin) }()
	}
	if err := t.m.enter(t.life); err != nil {
		return generation, err
	}
	defer t.m.leave()
	seen = t.m.generation
	same := generation == seen
	if same && !force && t.stands(anchor, slot, info, pin != nil) {
		t.pool.flush(true)
		return seen, nil
	}
	at, err := t.m.find(t.uri)
	if err != nil {
		return seen, err
	}
	if pin != nil {
		if err := refuseLocked(at.info, true); err != nil {
			return seen, err
		}
	}
	t.pool.flush(same)
	if same {
		_ = t.m.ctx.CloseSession(anchor)
	}
	h, err := t.enter(at, pin)
	if err != nil {
		if final(err) {
			t.m.mu.Lock()
			if t.login != nil {
				t.login.pin.wipe()
				t.login.pin = nil
			}
			t.m.mu.Unlock()
		}
		return seen, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.anchor, t.slot, t.generation, t.info = h, at.slot, seen, at.info
	t.epoch++
	return seen, nil
}

// stands says whether the anchor session is still logged in to the same token.
func (t *Token) stands(anchor p11.SessionHandle, slot uint, info hsm.TokenInfo, loggedIn bool) bool {
	state, err := t.m.ctx.GetSessionInfo(anchor)
	if err != nil {
		return false
	}
	if loggedIn && !userState(state.State) {
		return false
	}
	now, err := t.m.read(slot)
	return err == nil && now.info.Label == info.Label && now.info.Serial == info.Serial
}
