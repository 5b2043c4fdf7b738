package registry

import (
	"context"
	"errors"
	"runtime"
	"sync"
)

// maxBatch bounds the meetings of one transaction.
const maxBatch = 256

var errClosed = errors.New("the registry is closed")

// queue hands meetings to one goroutine, those that wait together. Unlike internal/batch's, who asks waits no longer than his context, and where a
// transaction fails nobody is tried alone: a database that is away would be asked 256 times.
type queue struct {
	asked chan *meeting
	meet  func([]*meeting)
	quit  chan struct{}
	once  sync.Once
	ended chan struct{}
}

func newQueue(meet func([]*meeting)) *queue {
	q := &queue{asked: make(chan *meeting, maxBatch), meet: meet, quit: make(chan struct{}), ended: make(chan struct{})}
	go q.loop()
	return q
}

// ask waits until m is done. What is queued runs to its end, even if ctx ends meanwhile.
func (q *queue) ask(ctx context.Context, m *meeting) error {
	select {
	case <-q.quit:
		return errClosed
	default:
	}
	select {
	case q.asked <- m:
	case <-ctx.Done():
		return ctx.Err()
	case <-q.quit:
		return errClosed
	}
	select {
	case <-m.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-q.ended:
		select {
		case <-m.done:
			return nil
		default:
			return errClosed
		}
	}
}

// end waits for the transaction at work.
func (q *queue) end() {
	q.once.Do(func() { close(q.quit) })
	<-q.ended
}

func (q *queue) loop() {
	defer close(q.ended)
	for {
		select {
		case <-q.quit:
			return
		case m := <-q.asked:
			q.meet(q.gather([]*meeting{m}))
		}
	}
}

// gather takes what waits. Whoever can run now may be about to ask: they run first, and come along.
func (q *queue) gather(list []*meeting) []*meeting {
	for idle := 0; len(list) < maxBatch && idle < 3; {
		select {
		case m := <-q.asked:
			list, idle = append(list, m), 0
		default:
			idle++
			runtime.Gosched()
		}
	}
	return list
}
