package gateway

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hanaper/hanaper/internal/show"
)

// doorway is the listener that the server sees. Connections get to it when their handshake is done: until then they are counted by
// address, from then on by device. So neither those who never finish a handshake nor one device take the places of the others, and no more
// connections are open than there are places: the descriptors that trust, registry and admin need are left to them.
type doorway struct {
	net.Listener
	gateway *Gateway
	config  *tls.Config
	places  chan struct{}
	ready   chan net.Conn
	done    chan struct{}
	once    sync.Once
	// busy is since when the loop is about a connection that it took (Unix time in nanoseconds); 0 while it waits for one, or for a place.
	busy atomic.Int64
	// failing is since when no connection could be taken, failed when that was tried last.
	failing, failed atomic.Int64

	mu sync.Mutex
	// half counts the connections of each address whose handshake is not done.
	half map[netip.Addr]int
}

func newDoorway(l net.Listener, g *Gateway) *doorway {
	d := &doorway{Listener: l, gateway: g, config: g.doorConfig(), places: make(chan struct{}, g.settings.limits.Connections),
		ready: make(chan net.Conn), done: make(chan struct{}), half: map[netip.Addr]int{}}
	return d
}

// run takes connections until the listener is closed.
func (d *doorway) run() error {
	for {
		d.busy.Store(0)
		select {
		case d.places <- struct{}{}:
		case <-d.done:
			return net.ErrClosed
		}
		raw, err := d.Listener.Accept()
		now := time.Now()
		if err != nil {
			<-d.places
			var passing interface{ Temporary() bool }
			if errors.As(err, &passing) && passing.Temporary() && !errors.Is(err, net.ErrClosed) {
				// A descriptor that is missing is given back by somebody.
				if now.Sub(time.Unix(0, d.failed.Load())) > lately {
					d.failing.Store(now.UnixNano())
				}
				d.failed.Store(now.UnixNano())
				time.Sleep(10 * time.Millisecond)
				continue
			}
			return err
		}
		d.busy.Store(now.UnixNano())
		conn := &placedConn{Conn: raw, release: func() { <-d.places }}
		from := peerAddress(raw)
		if !d.enter(from) {
			d.gateway.refuseHandshake(refuse(AddressBusy, "%d handshakes are under way", d.gateway.settings.limits.Handshakes), nil, raw.RemoteAddr().String())
			if t, ok := raw.(*net.TCPConn); ok {
				_ = t.SetLinger(0)
			}
			conn.Close()
			continue
		}
		go d.shake(conn, from)
	}
}

// Accepting is an error where the gateway has taken no connection for longer than patience although it has places: the loop that takes them hangs,
// or there is no descriptor for any. A new start helps then. That all places are taken is no fault; nor is it before Serve.
func (g *Gateway) Accepting(patience time.Duration) error {
	d := g.door.Load()
	if d == nil {
		return nil
	}
	since := d.busy.Load()
	if since == 0 && time.Since(time.Unix(0, d.failed.Load())) <= lately {
		since = d.failing.Load()
	}
	if since == 0 || time.Since(time.Unix(0, since)) < patience {
		return nil
	}
	return fmt.Errorf("no connection was taken since %s, although there are places", time.Unix(0, since).UTC().Format(time.RFC3339))
}

// lately is how long it takes at most, after a connection could not be taken, until that is tried again.
const lately = time.Second

func peerAddress(c net.Conn) netip.Addr {
	if a, err := netip.ParseAddrPort(c.RemoteAddr().String()); err == nil {
		return a.Addr().Unmap()
	}
	return netip.Addr{}
}

func (d *doorway) enter(from netip.Addr) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.half[from] >= d.gateway.settings.limits.Handshakes {
		return false
	}
	d.half[from]++
	return true
}

func (d *doorway) leave(from netip.Addr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.half[from]--; d.half[from] == 0 {
		delete(d.half, from)
	}
}

// shake does the handshake, in which the key is proven, and hands the connection on if its device has a place.
func (d *doorway) shake(raw *placedConn, from netip.Addr) {
	conn := tls.Server(raw, d.config)
	// A deadline costs no goroutine, as a context would.
	_ = raw.SetDeadline(time.Now().Add(d.gateway.settings.limits.Header))
	err := conn.Handshake()
	d.leave(from)
	if err != nil {
		d.gateway.handshakeFailed(raw, err)
		raw.Close()
		return
	}
	_ = raw.SetDeadline(time.Time{})
	s := d.gateway.sessions.add(conn, raw.env)
	s.bind(d.gateway, conn)
	if !d.gateway.sessions.count(s, d.gateway.settings.limits.OfOneDevice) {
		// Some are told so at their first request; the others are closed.
		if !d.gateway.sessions.count(s, d.gateway.settings.limits.OfOneDevice+toldMore) {
			d.gateway.refuseHandshake(Decision{Reason: DeviceBusy, Device: s.claimed()}, s.chain, raw.RemoteAddr().String())
			d.gateway.sessions.remove(conn)
			raw.Close()
			return
		}
		s.crowded.Store(true)
	}
	select {
	case d.ready <- conn:
	case <-d.done:
		d.gateway.sessions.remove(conn)
		raw.Close()
	}
}

// Accept gives the next connection whose handshake is done.
func (d *doorway) Accept() (net.Conn, error) {
	select {
	case c := <-d.ready:
		return c, nil
	case <-d.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (d *doorway) Close() error {
	d.once.Do(func() { close(d.done) })
	return d.Listener.Close()
}

// doorConfig finds the environment that a connection is for, by the server name that it calls.
func (g *Gateway) doorConfig() *tls.Config {
	// Without a certificate the handshake ends with the alert unrecognized_name (RFC 6066, section 3).
	nobody := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, nil }}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: nobody.GetCertificate,
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			conn := hello.Conn.(*placedConn)
			e, reason := g.served.Load().find(hello.ServerName)
			if e == nil {
				conn.refused = refuse(reason, "%s", show.Text(clip(hello.ServerName)))
				return nobody, nil
			}
			conn.env = e
			return e.tls, nil
		}}
}

// placedConn gives its place back when it is closed.
type placedConn struct {
	net.Conn
	// env is the environment that the connection is for, once it has said so; refused is why there is none.
	env     *environment
	refused Decision
	once    sync.Once
	release func()
}

func (c *placedConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(c.release)
	return err
}

// brokenHandshakes are crypto/tls's words, and what they mean to us. TestHandshakeLog sees that they are current.
var brokenHandshakes = []struct {
	words  string
	reason Reason
}{
	{"client didn't provide a certificate", NoCertificate},
	{"failed to parse client certificate", BadCertificate},
	{"invalid signature by the client certificate", NotProven},
	{"client offered only unsupported versions", TLSVersion},
	{"first record does not look like a TLS handshake", NotTLS},
	{"remote error: tls:", ClientAlert},
}

// handshakeFailed counts and tells why a handshake ended before the device was admitted.
func (g *Gateway) handshakeFailed(conn *placedConn, err error) {
	peer := conn.RemoteAddr().String()
	var r *refusal
	if errors.As(err, &r) {
		g.refuseHandshake(r.decision, r.chain, peer)
		return
	}
	if conn.refused.Reason != "" {
		g.refuseHandshake(conn.refused, nil, peer)
		return
	}
	why := err.Error()
	for _, b := range brokenHandshakes {
		if strings.Contains(why, b.words) {
			g.refuseHandshake(refuse(b.reason, "%s", why), nil, peer)
			return
		}
	}
	reason := HandshakeBroken
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		reason = HandshakeSlow
	}
	if errors.Is(err, io.EOF) {
		// Port scanners and health checks of load balancers: counted, and told to those who look closely.
		g.figures.refusedHandshake[reason].Add(1)
		g.log.Debug("handshake", "peer", peer, "why", why)
		return
	}
	g.refuseHandshake(refuse(reason, "%s", why), nil, peer)
}
