// Package batch lets many callers share one commit: what waits while a commit is being synced to the disk goes into the next one
// together, so that sixteen callers wait for one sync, not for sixteen.
package batch

import (
	"context"
	"errors"
	"runtime"
	"sync"
)

// Max bounds the changes of one commit.
const Max = 256

// ErrClosed is the answer to those who come after Stop.
var ErrClosed = errors.New("the store is closed")

// Queue hands changes to commit, which is called by one goroutine.
type Queue[T any] struct {
	commit func([]T) error
	asked  chan asked[T]
	quit   chan struct{}
	once   sync.Once
	ended  chan struct{}
}

type asked[T any] struct {
	change T
	done   chan error
}

// New starts a queue. commit makes all changes that it is given, or none and an error; nil means that they are durable. Where several
// fail together each is tried again alone, for the failure of one is not its neighbours'.
func New[T any](commit func([]T) error) *Queue[T] {
	q := &Queue[T]{commit: commit, asked: make(chan asked[T], Max), quit: make(chan struct{}), ended: make(chan struct{})}
	go q.loop()
	return q
}

// Do waits until the change is durable or has failed. A change that is queued runs to its end, even if ctx ends meanwhile.
func (q *Queue[T]) Do(ctx context.Context, change T) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	a := asked[T]{change, make(chan error, 1)}
	select {
	case q.asked <- a:
	case <-ctx.Done():
		return ctx.Err()
	case <-q.quit:
		return ErrClosed
	}
	select {
	case err := <-a.done:
		return err
	case <-q.ended:
		select {
		case err := <-a.done:
			return err
		default:
			return ErrClosed
		}
	}
}

// Stop ends the queue when the commit in progress is done.
func (q *Queue[T]) Stop() {
	q.once.Do(func() { close(q.quit) })
	<-q.ended
}

// gather takes what waits. Whoever can run now may be about to ask: they run first, and come along, until none comes any more. Where
// nobody else runs this takes no time.
func (q *Queue[T]) gather(todo []asked[T]) []asked[T] {
	for idle := 0; len(todo) < Max && idle < patience; {
		select {
		case a := <-q.asked:
			todo, idle = append(todo, a), 0
		default:
			idle++
			runtime.Gosched()
		}
	}
	return todo
}

// patience is how often in a row others are let run without one who asks.
const patience = 3

func (q *Queue[T]) loop() {
	defer close(q.ended)
	for {
		var todo []asked[T]
		select {
		case a := <-q.asked:
			todo = append(todo, a)
		case <-q.quit:
			return
		}
		todo = q.gather(todo)
		changes := make([]T, len(todo))
		for i, a := range todo {
			changes[i] = a.change
		}
		err := q.commit(changes)
		for i, a := range todo {
			if err != nil && len(todo) > 1 {
				a.done <- q.commit(changes[i : i+1])
			} else {
				a.done <- err
			}
		}
	}
}
