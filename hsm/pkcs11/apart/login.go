package apart

import (
	"errors"
	"fmt"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/secret"
	"github.com/hanaper/hanaper/internal/show"
)

// purse keeps the PIN and decides who gets it. The child asks for it at each login, so that every login is known here.
//
// It is not given any more once a token refused it, once the token shows that it counted a wrong try, or with the last try before the
// PIN locks. Two children in a row that got it and ended without a single good answer are the last: what they did with it is not known.
type purse struct {
	source hsm.PINSource
	kept   *secret.Secret // nil before the first login, and where memory cannot be locked
	known  bool           // a login with it succeeded
	low    bool           // the token said, when it was last seen well, that tries are low
	doubts int
	killed bool // a child that had it was ended by somebody else before it answered
}

// givePIN answers a child that wants to log in.
//
// A child that asks for the PIN of another token than its own would have a person type that: it is ended. The words that a library's child could put
// into the question are left out, for the library of a token that has any runs elsewhere.
func (t *Token) givePIN(c *child, id uint64, info hsm.TokenInfo) {
	t.mu.Lock()
	ours := t.c.URI.MatchesToken(info)
	t.mu.Unlock()
	if !ours {
		c.kill(fmt.Errorf("the library's process asked for the PIN of another token, %s: %w", info.Name(), errFrame))
		return
	}
	if info.PINState = show.Line(info.PINState); t.c.Program == "" {
		info.PINState = "" // PKCS#11 has no words for it
	}
	pin, err := t.pinFor(c, info)
	if err != nil {
		_ = c.out.send(id, kindNoPIN, failure(err))
		return
	}
	defer clear(pin)
	c.mu.Lock()
	c.trusted = true
	c.mu.Unlock()
	c.allow(t.c.Limits.Login)
	_ = c.out.send(id, kindPIN, pin)
}

// pinFor gives the PIN, which the caller wipes, or the reason why not.
func (t *Token) pinFor(c *child, info hsm.TokenInfo) ([]byte, error) {
	t.mu.Lock()
	if err := t.refusePIN(info); err != nil {
		t.giveUp(err)
		t.mu.Unlock()
		return nil, err
	}
	if t.purse.kept != nil {
		defer t.mu.Unlock()
		return append([]byte(nil), t.purse.kept.Bytes()...), nil
	}
	source := t.purse.source
	t.mu.Unlock()
	if source == nil {
		return nil, advice.New(advice.Usage, "add pin-source= to the URI, or let the program ask", "%s wants a login and there is no PIN", info.Name())
	}
	c.allow(longestPrompt)
	pin, err := source(t.life, info)
	if err != nil {
		return nil, err
	}
	if err := hsm.CheckPIN(pin); err != nil {
		clear(pin)
		return nil, advice.New(advice.Usage, "type the PIN again", "%s: %w", info.Name(), err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.purse.kept == nil && t.gaveUp == nil && !t.closed {
		t.purse.kept = secret.New(pin)
	}
	return pin, nil
}

// refusePIN says no to a login that is hopeless, or that may cost a try which nobody is there to answer for. The caller holds t.mu.
func (t *Token) refusePIN(info hsm.TokenInfo) error {
	p := &t.purse
	switch {
	case t.gaveUp != nil:
		return t.gaveUp
	case t.closed:
		return fmt.Errorf("%s: %w", info.Name(), hsm.ErrClosed)
	case p.known && info.PINLocked:
		return advice.New(advice.Refused, "the security officer can set a new user PIN with the SO PIN", "%s: %w", info.Name(), hsm.ErrPINLocked)
	case p.known && info.PINFinalTry:
		return advice.New(advice.Refused, "somebody gave wrong PINs: find out who, then start the program anew",
			"%s: not logging in again by itself with the final PIN try: %w", info.Name(), hsm.ErrPIN)
	case (p.doubts > 0 || p.killed) && info.PINLow && !p.low:
		return advice.New(advice.Failed, "look at the token's own log, then start the program anew",
			"%s: user PIN: %w: a login ended without an answer, and the token counted a wrong try; it is not sent again by itself", info.Name(), hsm.ErrPIN)
	case p.doubts >= maxDoubts:
		return advice.New(advice.Failed, "the token may count tries that it does not report: look at its own log, then start the program anew",
			"%s: user PIN: %w: %d logins in a row ended without an answer; it is not sent again by itself", info.Name(), hsm.ErrPIN, p.doubts)
	}
	return nil
}

// giveUp ends the use of the PIN for good. The caller holds t.mu.
func (t *Token) giveUp(err error) {
	if t.gaveUp == nil {
		t.gaveUp = err
	}
	t.purse.kept.Wipe()
	t.purse.kept = nil
}

// refused says whether an error means that the PIN must not be sent again.
func refused(err error) bool { return errors.Is(err, hsm.ErrPIN) || errors.Is(err, hsm.ErrPINLocked) }

// judge looks, when a child is gone, at what it may have done with the PIN. One that somebody else killed proves nothing, unless the token then
// shows that it counted a wrong try.
func (t *Token) judge(c *child) {
	c.mu.Lock()
	trusted, foreign := c.trusted, c.foreign
	c.mu.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case trusted && foreign:
		t.purse.killed = true
	case trusted:
		t.purse.doubts++
	case c.sessions > 0:
		t.purse.doubts, t.purse.killed = 0, false
	}
}

var errStopped = errors.New("the token is being closed")
