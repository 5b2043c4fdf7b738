package gateway

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/pires/go-proxyproto"

	"github.com/hanaper/hanaper/internal/show"
)

// balanced is a listener behind load balancers, which say in a PROXY protocol header (versions 1 and 2, haproxy's proxy-protocol.txt) whose connection
// it is that they hand on. Its connections have that address: limits and log lines are about the device's way here, not about the balancer.
//
// An attacker who is not in the list of balancers gets no further than the accept: whoever may send the header chooses the address that he is counted
// under. One behind a balancer has no say in the header, which the balancer sends before anything of his.
type balanced struct {
	net.Listener
	gateway *Gateway
	from    []netip.Prefix
	ready   chan accepted
	places  chan struct{}
	done    chan struct{}
	once    sync.Once
}

type accepted struct {
	conn net.Conn
	err  error
}

// behindBalancers is l itself where the configuration names no balancers.
func (g *Gateway) behindBalancers(l net.Listener) net.Listener {
	if len(g.settings.balancers) == 0 {
		return l
	}
	b := &balanced{Listener: l, gateway: g, from: g.settings.balancers, ready: make(chan accepted), places: make(chan struct{}, maxHeadersRead), done: make(chan struct{})}
	go b.run()
	return b
}

func (b *balanced) run() {
	for {
		select {
		case b.places <- struct{}{}:
		case <-b.done:
			return
		}
		raw, err := b.Listener.Accept()
		if err != nil {
			<-b.places
			if !b.hand(accepted{err: err}) {
				return
			}
			continue
		}
		go func() {
			defer func() { <-b.places }()
			conn, err := b.introduce(raw)
			if err != nil {
				b.gateway.refuseHandshake(refuse(BadIntroduction, "%v", err), nil, raw.RemoteAddr().String())
				if t, ok := raw.(*net.TCPConn); ok {
					_ = t.SetLinger(0)
				}
				raw.Close()
				return
			}
			if !b.hand(accepted{conn: conn}) {
				raw.Close()
			}
		}()
	}
}

func (b *balanced) hand(a accepted) bool {
	select {
	case b.ready <- a:
		return true
	case <-b.done:
		return false
	}
}

// Accept gives the next connection whose header was read.
func (b *balanced) Accept() (net.Conn, error) {
	select {
	case a := <-b.ready:
		return a.conn, a.err
	case <-b.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (b *balanced) Close() error {
	b.once.Do(func() { close(b.done) })
	return b.Listener.Close()
}

// introduce reads the header, which must be there, be well-formed and be about TCP.
func (b *balanced) introduce(raw net.Conn) (net.Conn, error) {
	peer := peerAddress(raw)
	known := false
	for _, p := range b.from {
		known = known || p.Contains(peer)
	}
	if !known {
		return nil, fmt.Errorf("the peer is none of proxy_protocol")
	}
	if err := raw.SetReadDeadline(time.Now().Add(headerWait)); err != nil {
		return nil, err
	}
	r := bufio.NewReaderSize(raw, 512)
	h, err := proxyproto.Read(r)
	if err != nil {
		return nil, err
	}
	if _, err := h.TLVs(); err != nil {
		return nil, err
	}
	conn := &introducedConn{Conn: raw, ahead: r, remote: raw.RemoteAddr()}
	if h.Command.IsProxy() {
		from, _, ok := h.TCPAddrs()
		if !ok || !h.TransportProtocol.IsStream() {
			return nil, fmt.Errorf("it is not about TCP")
		}
		ip, ok := netip.AddrFromSlice(from.IP)
		if !ok || ip.IsUnspecified() || ip.IsMulticast() {
			return nil, fmt.Errorf("%s is no peer's address", from.IP)
		}
		conn.remote = from
	}
	return conn, raw.SetReadDeadline(time.Time{})
}

// introducedConn has the address that its balancer named.
type introducedConn struct {
	net.Conn
	ahead  *bufio.Reader // what came with the header; nil once it is read
	remote net.Addr
}

func (c *introducedConn) RemoteAddr() net.Addr { return c.remote }

func (c *introducedConn) Read(p []byte) (int, error) {
	if c.ahead == nil {
		return c.Conn.Read(p)
	}
	if c.ahead.Buffered() == 0 {
		c.ahead = nil
		return c.Conn.Read(p)
	}
	return c.ahead.Read(p)
}

// checkBalancers reads the list of addresses and networks of the balancers.
func (s *Settings) checkBalancers(list []string) error {
	for _, text := range list {
		p, err := netip.ParsePrefix(text)
		if err != nil && !strings.Contains(text, "/") {
			var a netip.Addr
			if a, err = netip.ParseAddr(text); err == nil {
				if a.Zone() != "" {
					err = fmt.Errorf("it has a zone")
				} else {
					p = netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen())
				}
			}
		}
		switch {
		case err != nil:
			return wrong("proxy_protocol", "write addresses, such as 10.0.0.5, or networks, such as 10.0.0.0/24", "%s is neither", show.Text(text))
		case p != p.Masked():
			return wrong("proxy_protocol", fmt.Sprintf("write %s", p.Masked()), "%s is no network", show.Text(text))
		case p.Bits() == 0:
			return wrong("proxy_protocol", "name the balancers", "%s is everybody: each peer could name the address that it is counted under", show.Text(text))
		}
		s.balancers = append(s.balancers, p)
	}
	return nil
}
