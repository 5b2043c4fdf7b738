package factory

import (
	"context"
	"sync"
)

// turns lets those of this process who ask about the same device do so one after the other. It saves signatures and decides nothing:
// what is right is decided in the store, for other servers do not see these turns.
type turns struct {
	mu   sync.Mutex
	held map[string]*turn
}

type turn struct {
	token chan struct{}
	users int
}

// wait waits for the key, no longer than ctx, and returns what frees it.
func (l *turns) wait(ctx context.Context, key string) (free func(), err error) {
	l.mu.Lock()
	if l.held == nil {
		l.held = map[string]*turn{}
	}
	k := l.held[key]
	if k == nil {
		k = &turn{token: make(chan struct{}, 1)}
		l.held[key] = k
	}
	k.users++
	l.mu.Unlock()
	leave := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if k.users--; k.users == 0 {
			delete(l.held, key)
		}
	}
	select {
	case k.token <- struct{}{}:
		return func() { <-k.token; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, away("hanaperd", context.Cause(ctx))
	}
}
