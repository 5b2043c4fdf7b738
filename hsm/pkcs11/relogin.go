package pkcs11

import (
	"context"
	"fmt"

	p11 "github.com/miekg/pkcs11"

	"github.com/hanaper/hanaper/hsm"
)

// reopen makes the token usable again: if the login still stands, by dropping the idle sessions; otherwise, and where force is
// true, by finding the token and logging in anew, with one try. It says which initialisation of the library it saw.
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
	// On a token of one session the session that failed is the one that is logged in.
	if same && !force && !t.pool.single && t.stillLoggedIn(anchor, slot, info, pin != nil) {
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
	h, err := t.logIn(at, pin)
	if err != nil {
		if final(err) {
			t.forgetPIN()
		}
		return seen, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.anchor, t.slot, t.generation, t.info = h, at.slot, seen, at.info
	t.epoch++
	if t.pool.single {
		t.pool.add(session{h: h, slot: at.slot, epoch: t.epoch})
	}
	return seen, nil
}

// stillLoggedIn says whether the anchor session is still logged in to the same token.
func (t *Token) stillLoggedIn(anchor p11.SessionHandle, slot uint, info hsm.TokenInfo, loggedIn bool) bool {
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

// Renew ends every session and the login, starts the library anew (where no other part of this program started it), and
// logs in again with the PIN that is kept. What was a session object is gone then, and what a key is found by is what the token holds.
// Other tokens of the same library lose their sessions too, and get them back by themselves.
func (t *Token) Renew(ctx context.Context) error {
	t.loginChange.Lock()
	defer t.loginChange.Unlock()
	restore, err := t.pool.takeAll(ctx)
	if err != nil {
		return t.fail(err, "wait for the calls in progress")
	}
	defer restore()
	t.mu.Lock()
	closed, gaveUp, generation := t.closed, t.gaveUp, t.generation
	t.mu.Unlock()
	switch {
	case closed:
		return fmt.Errorf("%s: %w", t.Info().Name(), hsm.ErrClosed)
	case gaveUp != nil:
		return gaveUp
	}
	if !t.m.foreign {
		if err := t.m.restart(ctx, generation); err != nil {
			return t.fail(err, "start the library anew")
		}
	}
	return t.fail(t.signUserIn(), "log in again")
}
