// Package feed follows a trust repository, in a folder or behind an HTTPS URL, and gives a gateway the newest View.
//
// It trusts the pinned root, its own state folder and the clock; not the source, and not the way to it. An attacker who
// controls the source can withhold updates until the last good View expires, after which nothing is admitted. An
// attacker who can change the state folder can make the feed refuse to start; one who deletes the whole of it makes the
// gateway a new one, which believes the newest repository that verifies from the pinned root.
package feed

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/hanaper/hanaper/trust"
)

// Config says what to follow.
type Config struct {
	// Source is a folder, or an https URL (http only for a loopback address) under which metadata/ and targets/ lie.
	Source string
	// Pin is the root that the gateway was set up with.
	Pin trust.Pin
	// Environment, if not empty, must be the repository's.
	Environment string
	// StateDir keeps the trusted root chain and the last accepted repository; created with mode 0700.
	StateDir string
	// Interval between two looks at the source; 0 means 30 s, the least is 100 ms.
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
}

// Feed follows one repository. It is safe for concurrent use.
type Feed struct{}

// New checks the config and loads the state. If the state folder holds an accepted repository, Current gives it at once.
func New(c Config) (*Feed, error) { return nil, errors.New("not implemented") }

// Refresh looks at the source now. An error leaves the current view as it was.
func (f *Feed) Refresh(ctx context.Context) error { return errors.New("not implemented") }

// Run looks at the source now and then at every interval until ctx ends, and calls changed with each new view, and once
// more with the same view when it has expired (View.Valid says so). changed is called first, from Run's goroutine, with the view
// in force when Run begins, if there is one. It returns ctx's error; a failed look is in Status and does not end it.
func (f *Feed) Run(ctx context.Context, changed func(*trust.View)) error {
	return errors.New("not implemented")
}

// Current is the last good view; nil if there has been none. It may have expired: ask View.Valid.
func (f *Feed) Current() *trust.View { return nil }

// Status is that of the last look.
func (f *Feed) Status() Status { return Status{} }

// NewClient is an HTTP client for Config: it trusts the CAs in caPEM (nil: the system's), follows no redirect to another
// host, and gives up after bounded times.
func NewClient(caPEM []byte) (*http.Client, error) { return nil, errors.New("not implemented") }
