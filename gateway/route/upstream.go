package route

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hanaper/hanaper/internal/socket"
)

// upstream is a server, its addresses and the connections to it. Of connections there are never more than places: each request holds a place, and
// only one that finds no unused connection makes a new one.
type upstream struct {
	name      string
	base      string // the URL's path, escaped, without a slash at its end
	host      string // what Host says
	server    string // the name in its certificate
	tls       func() *tls.Config
	wait      time.Duration
	addresses []*address
	next      atomic.Uint32
	places    chan struct{}
	now       func() time.Time

	namespace                   string
	clientCert, clientCertChain bool

	mu   sync.Mutex
	idle []*conn // the one used last at the end
	// reaping is whether reap is going to be called.
	reaping bool
}

// address is one place where an upstream can be reached.
type address struct {
	network, text string

	mu     sync.Mutex
	faults int
	// down is since when it cannot be reached, again until when it is passed over; zero while it can.
	down, again time.Time
}

func newUpstream(name string, c UpstreamConfig, now func() time.Time) (*upstream, error) {
	if c.URL == nil || c.URL.Host == "" || c.URL.Scheme != "http" && c.URL.Scheme != "https" || (c.URL.Scheme == "https") != (c.TLS != nil) {
		return nil, errors.New("it needs an http URL, or an https one and TLS")
	}
	if c.Connections < 1 || c.Wait <= 0 || len(c.Addresses) > maxAddresses {
		return nil, fmt.Errorf("connections %d, timeout %s and %d addresses are not within bounds", c.Connections, c.Wait, len(c.Addresses))
	}
	if c.Namespace != "" && !visible(c.Namespace) {
		return nil, errors.New("the namespace is no text for a header")
	}
	u := &upstream{name: name, base: strings.TrimRight(c.URL.EscapedPath(), "/"), host: c.URL.Host, server: c.URL.Hostname(), tls: c.TLS, wait: c.Wait, places: make(chan struct{}, c.Connections), now: now,
		namespace: c.Namespace, clientCert: c.ClientCert || c.ClientCertChain, clientCertChain: c.ClientCertChain}
	switch {
	case c.Socket != "":
		u.addresses = []*address{{network: "unix", text: c.Socket}}
	case len(c.Addresses) == 0:
		u.addresses = []*address{{network: "tcp", text: withPort(c.URL)}}
	default:
		for _, a := range c.Addresses {
			u.addresses = append(u.addresses, &address{network: "tcp", text: a})
		}
	}
	return u, nil
}

func withPort(u *url.URL) string {
	if u.Port() != "" {
		return u.Host
	}
	port := "80"
	if u.Scheme == "https" {
		port = "443"
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// ErrBusy means that all connections to an upstream are in use, and none became free in time.
var ErrBusy = errors.New("all connections to the upstream are in use")

// enter takes a place, and waits for one as long as the upstream may take to answer.
func (u *upstream) enter(ctx context.Context) error {
	select {
	case u.places <- struct{}{}:
		return nil
	default:
	}
	timer := time.NewTimer(u.wait)
	defer timer.Stop()
	select {
	case u.places <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return ErrBusy
	}
}

func (u *upstream) leave() { <-u.places }

// take gives a connection that is not in use, or makes one. fresh wants a new one.
func (u *upstream) take(ctx context.Context, fresh bool) (*conn, error) {
	if fresh {
		// For the bound on connections: the new one takes the place of one that is not in use.
		if c := u.pop(); c != nil {
			c.Close()
		}
		return u.dial(ctx)
	}
	for c := u.pop(); c != nil; c = u.pop() {
		if u.now().Sub(c.idleSince) < idleFor && c.quiet() {
			return c, nil
		}
		c.Close()
	}
	return u.dial(ctx)
}

func (u *upstream) pop() *conn {
	u.mu.Lock()
	defer u.mu.Unlock()
	n := len(u.idle)
	if n == 0 {
		return nil
	}
	c := u.idle[n-1]
	u.idle[n-1] = nil
	u.idle = u.idle[:n-1]
	return c
}

// give takes a connection back whose response was read to its end. It must be called while the place is still held.
func (u *upstream) give(c *conn) {
	c.used, c.idleSince = true, u.now()
	u.mu.Lock()
	defer u.mu.Unlock()
	u.idle = append(u.idle, c)
	if !u.reaping {
		u.reaping = true
		time.AfterFunc(idleFor, u.reap)
	}
}

// reap closes what nobody has used for long: the first ones, for the last used is the next taken.
func (u *upstream) reap() {
	u.mu.Lock()
	n := 0
	for n < len(u.idle) && u.now().Sub(u.idle[n].idleSince) >= idleFor {
		n++
	}
	old := append([]*conn{}, u.idle[:n]...)
	u.idle = append(u.idle[:0], u.idle[n:]...)
	clear(u.idle[len(u.idle):cap(u.idle)])
	if u.reaping = len(u.idle) > 0; u.reaping {
		time.AfterFunc(idleFor/2, u.reap)
	}
	u.mu.Unlock()
	for _, c := range old {
		c.Close()
	}
}

func (u *upstream) closeIdle() {
	for c := u.pop(); c != nil; c = u.pop() {
		c.Close()
	}
}

// dial connects to one of the addresses, in turns; those that could not be reached lately come last. Nothing of a request has been sent yet when
// one of them fails, so that any request may go to the next.
func (u *upstream) dial(ctx context.Context) (*conn, error) {
	n, start := len(u.addresses), int(u.next.Add(1))
	wait := dialWait
	if n > 1 {
		wait = dialWaitOfMany
	}
	var first error
	for _, passedOver := range []bool{false, true} {
		for i := range n {
			a := u.addresses[(start+i)%n]
			if a.passedOver(u.now()) != passedOver {
				continue
			}
			c, err := u.connect(ctx, a, wait)
			if err == nil {
				a.reached()
				return c, nil
			}
			if ctx.Err() != nil {
				return nil, err // the device went away: this says nothing of the upstream
			}
			a.missed(u.now())
			if first == nil {
				first = err
			}
		}
	}
	if first == nil {
		// Another request changed what was passed over meanwhile.
		return u.connect(ctx, u.addresses[start%n], wait)
	}
	return nil, first
}

func (u *upstream) connect(ctx context.Context, a *address, wait time.Duration) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	raw, err := a.dial(ctx)
	if err != nil {
		return nil, err
	}
	if u.tls == nil {
		return newConn(raw, raw, a), nil
	}
	config := u.tls().Clone()
	config.ServerName = u.server
	config.NextProtos = []string{"http/1.1"}
	secure := tls.Client(raw, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, err
	}
	return newConn(secure, raw, a), nil
}

func (a *address) dial(ctx context.Context) (net.Conn, error) {
	if a.network == "unix" {
		return socket.Dial(ctx, a.text)
	}
	return new(net.Dialer).DialContext(ctx, a.network, a.text)
}

func (a *address) passedOver(now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return now.Before(a.again)
}

func (a *address) since() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.down
}

func (a *address) reached() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.faults, a.down, a.again = 0, time.Time{}, time.Time{}
}

func (a *address) missed(now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.down.IsZero() {
		a.down = now
	}
	a.again = now.Add(min(downFor<<min(a.faults, 10), downAtMost))
	a.faults++
}
