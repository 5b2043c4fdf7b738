package gateway_test

import (
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hanaper/hanaper/gateway"
	"github.com/hanaper/hanaper/gateway/fleettest"
)

// long says whether the tests have the time for all that they can do (make soak).
var long = os.Getenv("HANAPER_SOAK") != ""

// crowd are devices that come and ask for as long as a test lasts: each on a connection that stays, and on new ones.
type crowd struct {
	s        *stand
	stop     chan struct{}
	done     sync.WaitGroup
	answered atomic.Int64
	fresh    atomic.Int64
	mu       sync.Mutex
	failed   []error
}

func newCrowd(s *stand, devices int, from string) *crowd {
	c := &crowd{s: s, stop: make(chan struct{})}
	for i := range devices {
		d := s.fleet.Device(s.t, fmt.Sprintf("crowd-%d", i))
		for _, stays := range []bool{true, false} {
			client := s.from(d, from)
			client.Transport.(*http.Transport).DisableKeepAlives = !stays
			c.done.Go(func() { c.ask(client, d, stays) })
		}
	}
	return c
}

func (c *crowd) ask(client *http.Client, d *fleettest.Entity, stays bool) {
	want := "hello " + d.Cert.Subject.CommonName
	for {
		select {
		case <-c.stop:
			return
		default:
		}
		status, body, err := c.s.get(client, "/x")
		if err != nil || status != http.StatusOK || body != want {
			c.mu.Lock()
			c.failed = append(c.failed, fmt.Errorf("%s (stays: %v): %d %q %v", d.Cert.Subject, stays, status, body, err))
			c.mu.Unlock()
			return
		}
		c.answered.Add(1)
		if !stays {
			c.fresh.Add(1)
		}
		time.Sleep(5 * time.Millisecond) // they are not the flood
	}
}

// goes waits until the crowd has had n more answers, each on a connection that was new and on one that was not.
func (c *crowd) goes(n int64) {
	c.s.t.Helper()
	all, fresh := c.answered.Load()+n, c.fresh.Load()+n/4
	for end := time.Now().Add(2 * time.Minute); c.answered.Load() < all || c.fresh.Load() < fresh; time.Sleep(5 * time.Millisecond) {
		c.mu.Lock()
		failed := len(c.failed)
		c.mu.Unlock()
		if failed > 0 || time.Now().After(end) {
			break
		}
	}
	if c.answered.Load() < all || c.fresh.Load() < fresh {
		c.s.t.Errorf("the others get no answers any more: %d of %d", c.answered.Load(), all)
	}
}

// end stops the crowd; not one of its requests may have failed.
func (c *crowd) end() {
	c.s.t.Helper()
	close(c.stop)
	c.done.Wait()
	for _, err := range c.failed {
		c.s.t.Errorf("another device was not served: %v", err)
	}
}

// TestOneDeviceFarBeyondItsLimits: a device that wants a hundred times as many connections and requests as it may have gets what it may have; not one
// request of the others fails.
func TestOneDeviceFarBeyondItsLimits(t *testing.T) {
	const mine = 2
	s := newStand(t, func(c *gateway.Config) {
		c.Limits.OfOneDevice, c.Limits.OfOneRequests, c.Limits.Connections, c.Limits.Requests, c.Limits.Upstream = mine, mine, 200, 100, 50
	})
	release := make(chan struct{})
	s.mu.Lock()
	s.respond = func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get(gateway.DefaultIdentityHeader)
		if id == "greedy" && r.URL.Path == "/hold" {
			<-release
		}
		fmt.Fprintf(w, "hello %s", id)
	}
	s.mu.Unlock()
	others := newCrowd(s, 2, "127.0.0.2")
	greedy := s.fleet.Device(t, "greedy")
	// Connections, held.
	var held []net.Conn
	for range 100 * mine {
		if conn, err := tls.Dial("tcp", s.addr, s.tlsConfig(greedy)); err == nil {
			held = append(held, conn)
		}
	}
	others.goes(20)
	for _, c := range held {
		c.Close()
	}
	// Requests, as many at once on one connection as HTTP/2 lets through, that stay under way.
	var asked sync.WaitGroup
	var busy, served atomic.Int64
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) { // until its places are given back
		if status, _, err := s.get(s.client(greedy, true), "/x"); err == nil && status == http.StatusOK {
			break
		}
		if time.Now().After(end) {
			t.Fatal("its places are not given back")
		}
	}
	client := s.client(greedy, true)
	for range 100 * mine {
		asked.Go(func() {
			switch status, _, err := s.get(client, "/hold"); {
			case err == nil && status == http.StatusOK:
				served.Add(1)
			case err == nil && status == http.StatusTooManyRequests:
				busy.Add(1)
			}
		})
	}
	others.goes(20)
	close(release)
	asked.Wait()
	if served.Load() > 100*mine-1 || busy.Load() == 0 {
		t.Errorf("of the greedy device's requests %d were served at once, %d refused", served.Load(), busy.Load())
	}
	others.goes(20)
	others.end()
}

// TestHalfOpenFlood: thousands of connections from one address on which nothing is said take that address's places; not one request from others fails.
func TestHalfOpenFlood(t *testing.T) {
	many := 600
	if long {
		many = 5000
	}
	s := newStand(t, func(c *gateway.Config) { c.Limits.Handshakes, c.Limits.Connections = 128, 200 })
	others := newCrowd(s, 2, "127.0.0.2")
	var held []net.Conn
	for range many {
		if c, err := net.Dial("tcp", s.addr); err == nil { // else reset before connect returned
			held = append(held, c)
		}
	}
	others.goes(20)
	for _, c := range held {
		c.Close()
	}
	others.goes(20)
	others.end()
	s.counted(gateway.AddressBusy, many-128)
}

// TestHundredTrustSwaps: a hundred times other trust comes into force while devices ask; whoever is admitted by all of it notices nothing.
func TestHundredTrustSwaps(t *testing.T) {
	s := newStand(t, nil)
	others := newCrowd(s, 2, "127.0.0.1")
	stranger := fleettest.New(t)
	for i := range 100 {
		v := *s.fleet.View
		switch i % 4 {
		case 0: // a revocation more
			v = *v.Revoke(s.fleet.Factory.Cert, big.NewInt(int64(1<<40+i)))
		case 1: // another factory comes
			v.Roots, v.Between = append(v.Roots[:1:1], stranger.Root.Cert), append(v.Between[:1:1], stranger.Factory.Cert)
			v.CRLInfos = stranger.View.CRLInfos
			for id, info := range s.fleet.View.CRLInfos {
				v.CRLInfos[id] = info
			}
		case 2: // it is gone, and the policy is another
			v.GatewayPolicy.MinRSABits = 3072
		}
		v.Print = sha256.Sum256(fmt.Append(nil, "swap ", i))
		s.trust(&v)
		others.goes(4)
	}
	others.end()
	// And who is revoked in the last of them is out, however fast they came.
	d := s.fleet.Device(t, "device-1")
	s.wellServed(s.client(d, true), d)
	conn, err := tls.Dial("tcp", s.addr, s.tlsConfig(d))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		s.trust(s.fleet.View)
	}
	s.trust(s.fleet.View.Revoke(s.fleet.Factory.Cert, d.Cert.SerialNumber))
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.Copy(io.Discard, conn); os.IsTimeout(err) {
		t.Error("the connection of a revoked device stays open")
	}
	s.refused(s.client(d, true), gateway.Revoked)
}
