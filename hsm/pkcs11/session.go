package pkcs11

import (
	"context"
	"errors"
	"sync"

	p11 "github.com/miekg/pkcs11"

	"github.com/hanaper/hanaper/hsm"
)

var (
	// errStale: the session pool belongs to a login that is over.
	errStale = errors.New("session is of an earlier login")
	// errFull: the token opens no further session now.
	errFull = errors.New("no further session")
	// errCloseSession is what an operation answers that succeeded and wants its session closed: what it made as session
	// objects is then gone.
	errCloseSession = errors.New("done; close the session")
)

// session is an open session of the pool, in one caller's hands at a time.
type session struct {
	h     p11.SessionHandle
	slot  uint
	epoch uint64
	// acted is set by act.
	acted *bool
}

// act is called by an operation right before it does what must not be done twice. If the token goes away before that, the
// operation is run again when the token is back; after it, the caller gets the error.
func (s session) act() {
	if s.acted != nil {
		*s.acted = true
	}
}

// pool keeps up to its number of sessions open. A permit is a right to hold one.
type pool struct {
	ctx     *p11.Ctx
	permits chan struct{}
	// single is true for a token that takes one session: the one that is logged in does all the work. It is in idle while
	// nobody uses it, and is closed only by a new login.
	single bool

	mu   sync.Mutex
	idle []session
	size int // permits in being
}

// newPool makes a pool of up to n sessions; none is open yet.
func newPool(ctx *p11.Ctx, n int) *pool {
	p := &pool{ctx: ctx, permits: make(chan struct{}, n), size: n}
	for range n {
		p.permits <- struct{}{}
	}
	return p
}

// wait waits for a permit, outside the guard, until ctx or the pool's life is over.
func (p *pool) wait(ctx, life context.Context) error {
	select {
	case <-p.permits:
		return nil
	case <-life.Done():
		return hsm.ErrClosed
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// get gives a session of this epoch, opened if none is idle, to the holder of a permit, who is inside the guard. If the
// token takes fewer sessions than it said, the permit is gone for good and the answer is errFull: wait for another.
func (p *pool) get(slot uint, epoch uint64) (session, error) {
	p.mu.Lock()
	for len(p.idle) > 0 {
		s := p.idle[len(p.idle)-1]
		p.idle = p.idle[:len(p.idle)-1]
		if s.epoch == epoch {
			p.mu.Unlock()
			return s, nil
		}
	}
	p.mu.Unlock()
	if p.single {
		// Its session was lost, and only a new login gives another.
		p.permits <- struct{}{}
		return session{}, errStale
	}
	h, err := openSession(p.ctx, slot)
	if err == nil {
		return session{h: h, slot: slot, epoch: epoch}, nil
	}
	if code(err) == p11.CKR_SESSION_COUNT && p.shrink() {
		return session{}, errFull
	}
	p.permits <- struct{}{}
	return session{}, err
}

// shrink gives the permit in hand up for good; the last one is kept.
func (p *pool) shrink() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.size == 1 {
		return false
	}
	p.size--
	return true
}

// put takes a session back. One that answered with an error is closed, for an operation may be left open in it.
func (p *pool) put(s session, epoch uint64, err error) {
	s.acted = nil
	closes := code(err) != p11.CKR_OK || errors.Is(err, errCloseSession)
	if p.single {
		// Closing it would end the login, so only a session that is lost is given up, for the new login to close.
		closes = lost(err) || errors.Is(err, errCloseSession)
	}
	switch {
	case s.epoch == epoch && !closes:
		p.mu.Lock()
		p.idle = append(p.idle, s)
		p.mu.Unlock()
	case !p.single:
		_ = p.ctx.CloseSession(s.h)
	}
	p.permits <- struct{}{}
}

// add puts a session that is open and logged in among the idle ones.
func (p *pool) add(s session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle = append(p.idle, s)
}

// flush forgets the idle sessions. The caller is inside the guard; close is false when the handles are of an earlier
// initialisation, where they may by now mean another session.
func (p *pool) flush(close bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if close && !p.single {
		for _, s := range p.idle {
			_ = p.ctx.CloseSession(s.h)
		}
	}
	p.idle = nil
}

// takeAll takes all permits, so that nobody else uses a session, until restore.
func (p *pool) takeAll(ctx context.Context) (restore func(), err error) {
	n := 0
	restore = func() {
		for range n {
			p.permits <- struct{}{}
		}
	}
	for {
		p.mu.Lock()
		size := p.size
		p.mu.Unlock()
		if n >= size {
			return restore, nil
		}
		select {
		case <-p.permits:
			n++
		case <-ctx.Done():
			restore()
			return nil, context.Cause(ctx)
		}
	}
}

// openSession opens a read-write session (a read-only one would forbid the security officer's login), or a read-only
// one on a token that allows no other.
func openSession(ctx *p11.Ctx, slot uint) (p11.SessionHandle, error) {
	h, err := ctx.OpenSession(slot, p11.CKF_SERIAL_SESSION|p11.CKF_RW_SESSION)
	if code(err) == p11.CKR_TOKEN_WRITE_PROTECTED {
		return ctx.OpenSession(slot, p11.CKF_SERIAL_SESSION)
	}
	return h, err
}
