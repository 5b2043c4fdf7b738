package pkcs11

import (
	"context"
	"sync"
)

// callGuard lets many calls into a library at once, and lets C_Finalize run alone: what a call in progress during
// C_Finalize does is undefined (PKCS#11 v2.40, section 5.4). It is a read-write lock whose waits end with their context,
// which those of sync.RWMutex do not. A caller that has entered must not enter again: it would wait for itself as soon as
// somebody else waits for the lock.
type callGuard struct {
	mu     sync.Mutex
	inside int           // how many calls are in progress
	locked chan struct{} // not nil while somebody has, or waits for, the lock; closed when that is over
	empty  chan struct{} // not nil while somebody waits for the calls in progress to end; closed when the last one did
}

// enter waits until nobody has the lock. Every enter needs one leave.
func (g *callGuard) enter(ctx context.Context) error {
	for {
		g.mu.Lock()
		if g.locked == nil {
			g.inside++
			g.mu.Unlock()
			return nil
		}
		locked := g.locked
		g.mu.Unlock()
		select {
		case <-locked:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// leave ends a call, and wakes who waits for the last one to end.
func (g *callGuard) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inside--; g.inside == 0 && g.empty != nil {
		close(g.empty)
		g.empty = nil
	}
}

// lock keeps new calls out, waits until those in progress have ended, and holds the library until unlock.
func (g *callGuard) lock(ctx context.Context) error {
	for {
		g.mu.Lock()
		if g.locked == nil {
			break
		}
		locked := g.locked
		g.mu.Unlock()
		select {
		case <-locked:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	g.locked = make(chan struct{})
	if g.inside == 0 {
		g.mu.Unlock()
		return nil
	}
	empty := make(chan struct{})
	g.empty = empty
	g.mu.Unlock()
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
		g.mu.Lock()
		g.empty = nil
		g.mu.Unlock()
		g.unlock()
		return context.Cause(ctx)
	}
}

// unlock lets calls in again.
func (g *callGuard) unlock() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.locked)
	g.locked = nil
}
