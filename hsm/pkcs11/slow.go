package pkcs11

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hanaper/hanaper/internal/show"
)

// SlowAfter is after what time without an answer the programs call a library slow. A token needs seconds for an RSA key;
// people need to hear that it hangs before they pull the cable.
const SlowAfter = 20 * time.Second

// slowly says after what time whom to tell of a library that is slow.
type slowly struct {
	after time.Duration
	tell  func(said string)
}

var tellSlow atomic.Pointer[slowly] // nil tells nobody

// OnSlow has tell called, with words for people, while a library does not answer: when after has passed without an answer
// to any call, loading it and C_Initialize among them, and again each time as much has passed. A call into a library cannot
// be ended from outside: all that a program can do is to say so. tell runs on another goroutine.
func OnSlow(after time.Duration, tell func(said string)) { tellSlow.Store(&slowly{after, tell}) }

// watch sees whether the calls in progress get an answer.
type watch struct {
	mu     sync.Mutex
	inside int
	timer  *time.Timer
	since  time.Time
	after  time.Duration
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
	w.start(library, tell)
}

func (w *watch) start(library string, s *slowly) {
	var mine *time.Timer
	w.after = s.after
	mine = time.AfterFunc(s.after, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.timer != mine {
			return // there was an answer meanwhile
		}
		go s.tell(fmt.Sprintf("the token library %s has not answered for %.0f s: look at the token and its reader", show.Text(library), time.Since(w.since).Seconds()))
		w.start(library, s)
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
		w.timer.Reset(w.after)
		w.since = time.Now()
	}
}
