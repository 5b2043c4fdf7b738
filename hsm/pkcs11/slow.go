package pkcs11

import (
	"sync"
	"sync/atomic"
	"time"
)

// slowAfter is after what time without an answer a library is called slow. A token needs seconds for an RSA key; people
// need to hear that it hangs before they pull the cable.
var slowAfter = 20 * time.Second

// tellSlow is told of a library that is slow; nil tells nobody.
var tellSlow atomic.Pointer[func(library string, since time.Duration)]

// OnSlow has tell called while a library does not answer: after 20 s without an answer to any call, and again each time
// as much has passed. A call into a library cannot be ended from outside: all that a program can do is to say so. tell
// runs on another goroutine. It is for programs that people sit at; services bound their calls otherwise.
func OnSlow(tell func(library string, since time.Duration)) { tellSlow.Store(&tell) }

// watch sees whether the calls in progress get an answer.
type watch struct {
	mu     sync.Mutex
	inside int
	timer  *time.Timer
	since  time.Time
}

func (w *watch) enter(library string) {
	tell := tellSlow.Load()
	if tell == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.inside++
	w.stop()
	w.since = time.Now()
	w.start(library, *tell)
}

func (w *watch) start(library string, tell func(string, time.Duration)) {
	var mine *time.Timer
	mine = time.AfterFunc(slowAfter, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.timer != mine {
			return // there was an answer meanwhile
		}
		go tell(library, time.Since(w.since))
		w.start(library, tell)
	})
	w.timer = mine
}

func (w *watch) stop() {
	if w.timer != nil {
		w.timer.Stop()
		w.timer = nil
	}
}

// leave is an answer: whatever else is in progress is given its time anew.
func (w *watch) leave() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.inside == 0 {
		return // nobody was told to watch when the call began
	}
	if w.inside--; w.inside == 0 {
		w.stop()
	} else if w.timer != nil {
		w.timer.Reset(slowAfter)
		w.since = time.Now()
	}
}
