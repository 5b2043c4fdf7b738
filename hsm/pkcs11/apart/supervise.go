package apart

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
)

// supervise keeps a child at work until the token is closed or the PIN must not be sent any more.
func (t *Token) supervise(c *child) {
	defer close(t.over)
	defer t.farewell()
	pause := firstPause
	for {
		select {
		case <-c.dead:
		case <-t.life.Done():
			c.kill(errStopped)
			<-c.dead
		}
		t.judge(c)
		if !t.without(c) {
			return
		}
		if t.worked(c) {
			pause = firstPause
		}
		for {
			select {
			case <-time.After(pause):
			case <-t.life.Done():
				return
			}
			pause = min(2*pause, longestPause)
			next, err := t.start(t.life)
			if err == nil {
				c = next
				break
			}
			if !t.failedToStart(err) {
				return
			}
		}
	}
}

// without notes that the child is gone, and says whether another one is to be started.
func (t *Token) without(c *child) bool {
	t.mu.Lock()
	t.at = nil
	t.changed()
	stop := t.closed || t.gaveUp != nil || t.life.Err() != nil
	t.mu.Unlock()
	if !stop {
		t.health.down(t, c.why())
	}
	return !stop
}

// failedToStart notes why no child is at work, and says whether it is tried again.
func (t *Token) failedToStart(err error) bool {
	t.mu.Lock()
	stop := t.closed || t.gaveUp != nil || t.life.Err() != nil
	t.changed()
	t.mu.Unlock()
	if !stop {
		t.health.down(t, err)
	}
	return !stop
}

// farewell tells why no child is started any more, unless the token was closed.
func (t *Token) farewell() {
	t.mu.Lock()
	gaveUp, closed := t.gaveUp, t.closed
	t.mu.Unlock()
	if gaveUp != nil && !closed {
		t.c.Tell(fmt.Sprintf("%v; the token is not used any more until the program is started anew", gaveUp))
	}
}

// worked says whether the child answered a call after it had opened the token: then it did not crash at once.
func (t *Token) worked(c *child) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.answered > 1
}

// ready gives the child that is at work, waiting for one within ctx.
func (t *Token) ready(ctx context.Context) (*child, error) {
	for {
		t.mu.Lock()
		c, change, gaveUp, closed := t.at, t.change, t.gaveUp, t.closed
		t.mu.Unlock()
		switch {
		case closed:
			return nil, fmt.Errorf("%s: %w", t.Info().Name(), hsm.ErrClosed)
		case gaveUp != nil:
			return nil, gaveUp
		case c != nil && !c.ending.Load(): // otherwise its successor is on the way
			return c, nil
		}
		select {
		case <-change:
		case <-ctx.Done():
			return nil, t.gone(context.Cause(ctx))
		}
	}
}

// gone is the error of a call that found no child at work in its time.
func (t *Token) gone(cause error) error {
	why := t.Health()
	if why == nil {
		why = errEnded
	}
	return advice.New(advice.Failed, "look at the token and its connection; the program goes on by itself when it answers", "%w: %w (%w)", hsm.ErrGone, why, cause)
}

// errMaybe is added where a call ended with its child that is not made again.
var errMaybe = errors.New("it may have been done all the same")

// call has a child at work answer a request that make makes for it. Where again is true a request whose child ended is made again of the next one, and so is one
// whose error only a new process heals; check, if not nil, looks at the answer, and its error ends the child as well.
func (t *Token) call(ctx context.Context, again bool, k kind, make func(context.Context, *child) ([][]byte, error), check func(*child, []byte) error) ([]byte, *child, error) {
	if ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}
	if _, has := ctx.Deadline(); !has {
		var cancel context.CancelFunc
		wait := patience
		if k == kindGenerate {
			wait += t.c.Limits.Generate
		}
		ctx, cancel = context.WithTimeout(ctx, wait)
		defer cancel()
	}
	for try := 0; ; {
		c, err := t.ready(ctx)
		if err != nil {
			return nil, nil, err
		}
		parts, err := make(ctx, c)
		var body []byte
		sent := false
		if err == nil {
			body, sent, err = c.request(ctx, k, parts...)
		}
		if sent {
			try++
		}
		if err == nil && check != nil {
			if err = check(c, body); err != nil {
				c.kill(err)
				if try < tries {
					continue
				}
			}
		}
		var d *distant
		switch {
		case err == nil:
			t.sick.healed()
			return body, c, nil
		case refused(err):
			t.mu.Lock()
			t.giveUp(err)
			t.changed()
			t.mu.Unlock()
			c.kill(err)
			return nil, nil, err
		case errors.Is(err, errEnded):
			<-c.dead
			err = c.why()
			if again && try < tries || !sent {
				continue
			}
			if again {
				return nil, nil, advice.New(advice.Failed, "the library does not survive this call: look at its own log", "%w, each of the %d times that it was asked", err, try)
			}
			return nil, nil, advice.New(advice.Failed, "look with `hanaper token show` before trying again", "%w: %w: %w", hsm.ErrGone, err, errMaybe)
		case ctx.Err() != nil && !errors.As(err, &d):
			if sent && !again {
				return nil, nil, advice.New(advice.Failed, "look with `hanaper token show` before trying again", "%w: %w", err, errMaybe)
			}
			return nil, nil, advice.New(advice.Failed, "the token is slow or busy; allow more time or more sessions", "no answer in time: %w", err)
		case again && errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
			continue // the child's time was over and the caller's is not: it was busy, or hangs and is about to be ended
		case errors.As(err, &d) && d.newProcess && t.sick.mayRestart(time.Now()):
			c.kill(fmt.Errorf("only a new process may heal it: %w", err))
			if again && try < tries {
				<-c.dead
				continue
			}
		}
		return nil, nil, err
	}
}

// fail names the token and what was tried.
func (t *Token) fail(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	t.mu.Lock()
	name := t.named()
	t.mu.Unlock()
	if strings.Contains(err.Error(), name.Name()) {
		return err
	}
	return advice.New(advice.KindOf(err), advice.Hint(err), "%s: %s: %w", name.Name(), fmt.Sprintf(format, args...), err)
}
