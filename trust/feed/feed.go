// Package feed follows a trust repository, in a folder or behind an HTTPS URL, and gives a gateway the newest View. A source that can be watched
// tells when something is new; what is unchanged is not fetched again.
//
// It trusts the pinned root, its own state folder and the clock; not the source, and not the way to it. An attacker who
// controls the source can withhold updates until the last good View expires, after which nothing is admitted. An
// attacker who can change the state folder can make the feed refuse to start; one who deletes the whole of it makes the
// gateway a new one, which believes the newest repository that verifies from the pinned root.
package feed

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/trust"
)

const (
	// DefaultInterval and MinInterval bound the time between two looks at the source.
	DefaultInterval = 30 * time.Second
	MinInterval     = 100 * time.Millisecond
	// lookTimeout bounds one look, downloads included.
	lookTimeout = 5 * time.Minute
	// slowest is how many bytes of a file come in a second, once patience has ended, from the slowest source that is still waited for.
	slowest = 64 << 10
	// large is how much a look may read, in bytes, without its memory being given back at once.
	large = 4 << 20
)

// patience is how long each file may take, whatever its size.
var patience = 15 * time.Second

// Config says what to follow.
type Config struct {
	// Source is a folder, or an https URL (http only for a loopback address) under which metadata/ and targets/ lie.
	Source string
	// Pin is the root that the gateway was set up with.
	Pin trust.Pin
	// Environment, if not empty, must be the repository's.
	Environment string
	// StateDir keeps the trusted root chain and the last accepted repository; created with mode 0700. One feed at a time
	// owns it.
	StateDir string
	// Interval between two looks at the source; 0 means DefaultInterval.
	Interval time.Duration
	// Client fetches from a URL; nil means NewClient(nil).
	Client *http.Client
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Status says how the feed fares.
type Status struct {
	Source string `json:"source"`
	// Checked is when the source was last seen to be in order; Tried when it was last looked at.
	Checked time.Time `json:"checked"`
	Tried   time.Time `json:"tried"`
	// Err is the error of the last look, nil if it went well.
	Err error `json:"-"`
	// Unkept is why the view in force is not kept in the state folder; nil if it is. Each look tries again.
	Unkept error `json:"-"`
}

// Feed follows one repository. It is safe for concurrent use.
type Feed struct {
	config  Config
	source  source
	state   *state
	current atomic.Pointer[trust.View]
	// history is what the next view must follow: the current one, or, until the pin has been seen again, a recalled one.
	look    sync.Mutex
	history *trust.View
	// unkept is what is in force and still has to be kept; nil for nothing.
	unkept *unkept
	mu     sync.Mutex
	status Status
}

// New checks the config and loads the state. If the state folder holds an accepted repository, Current gives it at once.
func New(c Config) (*Feed, error) {
	if c.Interval == 0 {
		c.Interval = DefaultInterval
	}
	if c.Interval < MinInterval {
		return nil, advice.New(advice.Usage, "", "trust feed: interval %v is shorter than %v", c.Interval, MinInterval)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.StateDir == "" {
		return nil, advice.New(advice.Usage, "name a folder of the gateway's own", "trust feed: no state folder")
	}
	f := &Feed{config: c, status: Status{Source: c.Source}}
	var err error
	if f.source, err = newSource(c.Source, c.Client); err != nil {
		return nil, err
	}
	if f.state, f.history, err = openState(c.StateDir); err != nil {
		return nil, err
	}
	if v := f.history; v != nil {
		if err := f.checkEnvironment(v); err != nil {
			f.Close()
			return nil, err
		}
		// One that was behind says what must follow, and admits nobody before the source has been seen.
		if slices.Contains(v.RootDigests(), c.Pin.Digest()) && !f.state.behind {
			f.current.Store(v)
		}
	}
	return f, nil
}

func (f *Feed) checkEnvironment(v *trust.View) error {
	if want := f.config.Environment; want != "" && v.Environment() != want {
		return advice.New(advice.Unverified, "check which environment's repository and root digest the config names",
			"trust repository %w: %s, not %s", trust.ErrEnvironment, show.Text(v.Environment()), show.Text(want))
	}
	return nil
}

// Refresh looks at the source now. An error leaves the current view as it was.
func (f *Feed) Refresh(ctx context.Context) error {
	f.look.Lock()
	defer f.look.Unlock()
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	// First what is owed, which is kept also while the source is away.
	f.keep()
	read, err := f.refresh(ctx)
	if read > large {
		// What a large CRL took is given back now; the next one would come on top of it otherwise. Not before what it says is in force.
		go debug.FreeOSMemory()
	}
	owed := f.owed()
	if err == nil {
		err = owed
	} else if f.state.behind && f.current.Load() == nil {
		err = advice.Wrap(advice.KindOf(err), fmt.Errorf("something newer than what is kept was in force, and could not be kept: nobody is admitted before the source is there: %w", err), advice.Hint(err))
	}
	if err != nil {
		err = advice.Wrap(advice.KindOf(err), fmt.Errorf("trust source %s: %w", show.Text(f.config.Source), err), advice.Hint(err))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.status.Tried, f.status.Err, f.status.Unkept = f.config.Now(), err, owed
	if err == nil {
		f.status.Checked = f.status.Tried
	}
	return err
}

// refresh gives how many bytes it has read.
func (f *Feed) refresh(ctx context.Context) (int64, error) {
	files := f.source.open(ctx)
	if f.history != nil {
		files = reused{files, f.state.stored(f.history)}
	}
	rec := f.state.newRecorder(files)
	accepted := false
	defer func() {
		if !accepted {
			rec.discardAll()
		}
	}()
	var next *trust.View
	var err error
	if f.history == nil {
		next, err = trust.Open(rec, f.config.Pin, f.config.Now())
	} else {
		next, err = trust.OpenAfter(rec, f.history, f.config.Pin, f.config.Now())
	}
	if err != nil {
		f.source.forget()
		return rec.size(), err
	}
	if next == f.history && f.current.Load() == next {
		return rec.size(), nil
	}
	if err := f.checkEnvironment(next); err != nil {
		return rec.size(), err
	}
	// Recorded before it is used. Where the disk fails the view is used all the same, for it may hold revocations; it is kept as soon
	// as the disk lets it, lest the next start forget them.
	accepted = true
	read := rec.size()
	if f.unkept != nil {
		// What has not changed since was not read again.
		rec.inherit(f.unkept.files)
	}
	f.unkept = &unkept{view: next, files: rec}
	f.keep()
	f.history = next
	f.current.Store(next)
	return read, nil
}

// unkept is an accepted repository that the state folder does not hold yet.
type unkept struct {
	view  *trust.View
	files *recorder
	why   error
}

// owed is why what is in force is not kept; nil if it is.
func (f *Feed) owed() error {
	if f.unkept == nil {
		return nil
	}
	return f.unkept.why
}

// keep writes what is owed to the state folder, or notes why it cannot.
func (f *Feed) keep() {
	if f.unkept == nil {
		return
	}
	err := f.state.save(f.unkept.view, f.unkept.files)
	if err == nil {
		f.unkept.files.discardAll()
		f.unkept = nil
		return
	}
	f.state.fallBehind()
	f.unkept.why = advice.Wrap(advice.Failed, fmt.Errorf("what it published last is in force, and not kept: a restart would forget it: %w", err),
		"is there room on the disk of trust.state, and may the gateway write there? It is tried again at each look")
}

// Run looks at the source now, then at every interval and whenever the source says that it has changed, until ctx ends, and calls changed with each new view, and once
// more with the same view when it has expired (View.Valid says so). changed is called first, from Run's goroutine, with the view
// in force when Run begins, if there is one. It returns ctx's error; a failed look is in Status and does not end it.
func (f *Feed) Run(ctx context.Context, changed func(*trust.View)) error {
	tick := time.NewTicker(f.config.Interval)
	defer tick.Stop()
	done := make(chan struct{}, 1)
	looking := false
	pushed := make(chan struct{}, 1)
	var watching sync.WaitGroup
	defer watching.Wait()
	watch := sync.OnceFunc(func() {
		watching.Go(func() {
			f.watch(ctx, func() {
				select {
				case pushed <- struct{}{}:
				default:
				}
			})
		})
	})
	look := func() {
		if !looking {
			looking = true
			go func() {
				// The outcome is in Status.
				_ = f.Refresh(ctx)
				done <- struct{}{}
			}()
		}
	}
	var told *trust.View
	var expired bool
	tell := func() {
		v := f.current.Load()
		if v == nil {
			return
		}
		over := v.Valid(f.config.Now()) != nil
		if v != told || over != expired {
			told, expired = v, over
			changed(v)
		}
	}
	tell()
	look()
	for {
		// Expiry is noticed by its own timer, also while a look hangs.
		var expiry <-chan time.Time
		if told != nil && !expired {
			expiry = time.After(max(told.Expires().Sub(f.config.Now()), time.Millisecond))
		}
		select {
		case <-ctx.Done():
			if looking {
				<-done
			}
			return ctx.Err()
		case <-tick.C:
			look()
		case <-done:
			looking = false
			// Not before the first look: what has changed since then is asked for.
			watch()
		case <-pushed:
		case <-expiry:
		}
		tell()
	}
}

// Current is the last good view; nil if there has been none. It may have expired: ask View.Valid.
func (f *Feed) Current() *trust.View { return f.current.Load() }

// Status is that of the last look.
func (f *Feed) Status() Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.status
}

// Close keeps what is not kept yet, and gives the state folder free. Run must have ended.
func (f *Feed) Close() error {
	f.look.Lock()
	defer f.look.Unlock()
	f.keep()
	if f.unkept != nil {
		f.unkept.files.discardAll()
	}
	return errors.Join(f.owed(), f.state.close())
}

var errDamaged = errors.New("is damaged")
