// Package kms opens keys in the key stores that go.step.sm/crypto/kms knows: cloud key management services, a YubiKey by its
// own protocol, ssh-agent, keys that smallstep's tools made in a TPM, and key files.
//
// It trusts a store to keep its keys, and with nothing else. Every signature is verified with the public key that the store
// named when the key was opened, and a store that names another one later is refused. Nobody can read a key's attributes
// there: keys are of class unread, and asking for a key of another class is refused. A call ends when its context does, also
// where the store hangs.
//
// An attacker who controls the store, or the account that it is used with, has the keys. One who controls the network
// between can delay and refuse, for the stores' own protocols are TLS. One who can change the URI, the environment (the cloud's
// libraries read it, and the files that it names) or the PATH (Azure's library runs az) can have another account or key used,
// which the public key gives away. The libraries of the clouds are large: the package is linked into cmd/hanaper-kms alone,
// which the services run as a child.
package kms

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
)

// DefaultTimeout bounds a call whose context has no end of its own.
const DefaultTimeout = 20 * time.Second

// Config says which store to open.
type Config struct {
	// URI names the store, and a key in it or none; see Parse.
	URI hsm.URI
	// PIN gives the PIN or the pass phrase, where the store has one; the URI's pin-source is used where it is nil.
	PIN hsm.PINSource
	// Sessions bounds the calls under way at once; 0 leaves it to the store, and a store that takes one at a time gets one.
	Sessions int
	// Timeout bounds a call whose context has no end; 0 means DefaultTimeout.
	Timeout time.Duration
}

// Open opens the store that a URI names. Nothing is asked of it yet, except where it must be told a PIN: a store that is out of
// reach shows when a key is opened.
func Open(ctx context.Context, c Config) (*Token, error) {
	a, err := Parse(c.URI)
	if err != nil {
		return nil, err
	}
	pin := hsm.PINFromURI(c.URI, c.PIN)
	t := newToken(a, c)
	t.connect = func(ctx context.Context) (manager, error) { return a.scheme.open(ctx, a, t.info, pin) }
	if a.scheme.early {
		// A wrong PIN is found out now, and tried once.
		err := t.within(ctx, "open it", func(ctx context.Context) error { _, err := t.manager(ctx); return err })
		if err != nil {
			return nil, err
		}
	}
	return t, nil
}

// manager is what is asked of a store.
type manager interface {
	signer(name string) (crypto.Signer, error)
	// create makes a key and gives the name that the store knows it by from then on.
	create(name string, a hsm.Algorithm) (string, error)
	list() ([]string, error)
	destroy(name string) error
	Close() error
}

// Token is an open store. It is safe for concurrent use.
type Token struct {
	address *Address
	info    hsm.TokenInfo
	timeout time.Duration
	connect func(context.Context) (manager, error)
	slots   chan struct{} // one for each call that may be under way

	dial sync.Mutex // held while the store is opened, which may hang
	mu   sync.Mutex
	// opened is the connection, where there is one.
	opened manager
	// closing is closed when the connection before is; nil where there was none.
	closing chan struct{}
	// final is the error after which the store is not tried again: each wrong PIN may be one of the last.
	final  error
	closed bool
}

func newToken(a *Address, c Config) *Token {
	n := a.scheme.parallel
	if c.Sessions > 0 {
		n = min(n, c.Sessions)
	}
	t := &Token{address: a, info: a.info(), timeout: c.Timeout, slots: make(chan struct{}, n)}
	if t.timeout <= 0 {
		t.timeout = DefaultTimeout
	}
	return t
}

var _ hsm.Token = (*Token)(nil)

// Info describes the store by what its URI says.
func (t *Token) Info() hsm.TokenInfo { return t.info }

// Close closes the store. It does not wait for a call that hangs.
func (t *Token) Close() error {
	t.mu.Lock()
	m := t.opened
	t.opened, t.closed = nil, true
	t.mu.Unlock()
	if m == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	closed := make(chan error, 1)
	go func() { closed <- m.Close() }()
	select {
	case err := <-closed:
		return t.fail(err, "close it")
	case <-ctx.Done():
		return nil // it hangs; the process's end closes it
	}
}

// state is the open connection, or nil where the store is to be opened.
func (t *Token) state() (manager, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, hsm.ErrClosed
	}
	return t.opened, t.final
}

// manager gives the open store, and opens it where it is not.
func (t *Token) manager(ctx context.Context) (manager, error) {
	if m, err := t.state(); m != nil || err != nil {
		return m, err
	}
	t.dial.Lock()
	defer t.dial.Unlock()
	if m, err := t.state(); m != nil || err != nil {
		return m, err
	}
	t.mu.Lock()
	closing := t.closing
	t.mu.Unlock()
	if closing != nil { // some libraries keep one connection for all
		select {
		case <-closing:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	m, err := t.connect(ctx)
	if err != nil {
		t.failed(nil, err)
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		_ = m.Close()
		return nil, hsm.ErrClosed
	}
	t.opened = m
	return m, nil
}

// failed takes note of an error: a PIN that was refused is never tried again, and a connection that broke is not used again.
func (t *Token) failed(m manager, err error) {
	err = plain(err)
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case errors.Is(err, hsm.ErrPIN), errors.Is(err, hsm.ErrPINLocked):
		t.final = err
	case m != nil && t.opened == m && (errors.Is(err, hsm.ErrGone) || t.address.scheme.fragile):
		closing := make(chan struct{})
		t.opened, t.closing = nil, closing
		go func() { // it may hang
			defer close(closing)
			_ = m.Close()
		}()
	}
}

// within does something that cannot be interrupted within a context. Where it outlasts the context it goes on, holding its slot,
// so that a store that hangs holds no more than its slots.
func (t *Token) within(ctx context.Context, what string, do func(context.Context) error) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, t.timeout, fmt.Errorf("%w: no answer within %s", hsm.ErrGone, t.timeout))
		defer cancel()
	}
	select {
	case t.slots <- struct{}{}:
	case <-ctx.Done():
		return t.fail(context.Cause(ctx), "%s", what)
	}
	done := make(chan error, 1)
	go func() {
		err := do(ctx)
		<-t.slots
		done <- err
	}()
	select {
	case err := <-done:
		return t.fail(err, "%s", what)
	case <-ctx.Done():
		return t.fail(context.Cause(ctx), "%s", what)
	}
}

// Key opens the key that q names by label, or, where q is empty, the one that the URI names. Stores know no ids.
func (t *Token) Key(ctx context.Context, q hsm.Query) (hsm.Key, error) {
	name, err := t.name(q)
	if err != nil {
		return nil, err
	}
	return t.key(ctx, name)
}

func (t *Token) key(ctx context.Context, name string) (hsm.Key, error) {
	k := &Key{t: t, name: name}
	err := t.within(ctx, fmt.Sprintf("open key %s", show.Text(name)), func(ctx context.Context) error {
		_, s, err := k.connection(ctx)
		if err == nil {
			k.public = s.Public()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if hsm.AlgorithmOf(k.public) == "" {
		return nil, t.fail(fmt.Errorf("%w: a key of type %T or of this size", hsm.ErrUnsupported, k.public), "open key %s", show.Text(name))
	}
	return k, nil
}

// name is the key that a query names.
func (t *Token) name(q hsm.Query) (string, error) {
	switch own := t.address.name; {
	case len(q.ID) > 0:
		return "", t.fail(fmt.Errorf("%w: a store has no key ids; name the key by its label", hsm.ErrUnsupported), "find key %s", q)
	case own == "" && q.Label == "":
		return "", advice.New(advice.Usage, "add "+t.address.scheme.example(), "key URI %s names no key", show.Text(t.info.Label))
	case own != "" && q.Label != "" && own != q.Label:
		return "", t.fail(fmt.Errorf("%w: the URI names key %s", hsm.ErrNoKey, show.Text(own)), "find key %s", q)
	case own != "":
		return own, nil
	}
	return q.Label, t.address.checkName(q.Label)
}

// Keys lists the keys of a store that tells them, and otherwise the one that the URI names.
func (t *Token) Keys(ctx context.Context) (keys []hsm.Key, err error) {
	names := []string{t.address.name}
	if t.address.name == "" {
		err := t.within(ctx, "list its keys", func(ctx context.Context) error {
			m, err := t.manager(ctx)
			if err == nil {
				names, err = m.list()
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	for _, name := range names {
		k, err := t.key(ctx, name)
		if errors.Is(err, hsm.ErrUnsupported) && t.address.name == "" {
			continue // a key that Hanaper has no use for, among others
		}
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// Sessions is how many calls can be under way at once.
func (t *Token) Sessions() int { return cap(t.slots) }
