package pkcs11

import (
	"context"
	"sync"
)

// gate lets calls into a library in, and lets C_Finalize be alone: a call in flight during C_Finalize has undefined
// behaviour (PKCS#11 v2.40, section 5.4). Unlike a sync.RWMutex its waits end with their context. Whoever is
// inside must not enter again.
type gate struct {
	mu     sync.Mutex
	inside int
	shut   chan struct{} // not nil while somebody is, or waits to be, alone; closed when it is over
	empty  chan struct{} // not nil while somebody waits to be alone; closed when the last one left
}

func (g *gate) enter(ctx context.Context) error {
	for {
		g.mu.Lock()
		if g.shut == nil {
			g.inside++
			g.mu.Unlock()
			return nil
		}
		shut := g.shut
		g.mu.Unlock()
		select {
		case <-shut:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inside--; g.inside == 0 && g.empty != nil {
		close(g.empty)
		g.empty = nil
	}
}

// alone waits until nobody is inside and keeps others out until open.
func (g *gate) alone(ctx context.Context) error {
	for {
		g.mu.Lock()
		if g.shut == nil {
			break
		}
		shut := g.shut
		g.mu.Unlock()
		select {
		case <-shut:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	g.shut = make(chan struct{})
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
		g.open()
		return context.Cause(ctx)
	}
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.shut)
	g.shut = nil
}
