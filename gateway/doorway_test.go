package gateway_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hanaper/hanaper/gateway"
	"github.com/hanaper/hanaper/gateway/fleettest"
)

// from is a client of the device whose connections come from an address of this machine.
func (s *stand) from(d *fleettest.Entity, addr string) *http.Client {
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(addr)}, Timeout: 10 * time.Second}
	tr := &http.Transport{TLSClientConfig: s.tlsConfig(d), DialContext: dialer.DialContext}
	s.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second}
}

// counted waits until the metrics count n refusals for the reason, in both stages together.
func (s *stand) counted(r gateway.Reason, n int) {
	s.t.Helper()
	figure := regexp.MustCompile(`hanaper_gateway_refused_total\{reason="` + string(r) + `",stage="[a-z]+"\} (\d+)`)
	sum := 0
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		sum = 0
		for _, m := range figure.FindAllStringSubmatch(s.metrics(), -1) {
			one, _ := strconv.Atoi(m[1])
			sum += one
		}
		if sum == n {
			return
		}
	}
	s.t.Errorf("%d refusals are counted for %s, want %d", sum, r, n)
}

// faulty is a listener that says for a while that the process has no descriptor left, as the kernel does.
type faulty struct {
	net.Listener
	mu  sync.Mutex
	out bool
}

func (f *faulty) set(out bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.out = out
}

func (f *faulty) Accept() (net.Conn, error) {
	f.mu.Lock()
	out := f.out
	f.mu.Unlock()
	if out {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	}
	return f.Listener.Accept()
}

// TestAccepting: a gateway that can take no connection says so, until it can; that nobody comes, or all places are taken, is no fault.
func TestAccepting(t *testing.T) {
	f := &faulty{}
	s := newStandBehind(t, func(l net.Listener) net.Listener { f.Listener = l; return f }, func(c *gateway.Config) {
		c.Limits.Connections = 8
		c.Limits.Handshakes = 8
		c.Limits.Header = time.Minute
	})
	const patience = 50 * time.Millisecond
	until := func(what string, ok func(err error) bool) {
		t.Helper()
		for end := time.Now().Add(time.Minute); !ok(s.gateway.Accepting(patience)); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s: %v", what, s.gateway.Accepting(patience))
			}
		}
	}
	fine := func(err error) bool { return err == nil }
	time.Sleep(2 * patience)
	until("nobody came", fine)
	// Whoever waits for a connection gets it first; then there is no descriptor.
	f.set(true)
	dial := func() net.Conn {
		c, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	dial()
	until("no descriptor", func(err error) bool { return err != nil && strings.Contains(err.Error(), "no connection was taken") })
	f.set(false)
	until("there are descriptors", fine)
	// All places are taken by those who wait.
	for range 7 {
		dial()
	}
	time.Sleep(2 * patience)
	until("no place", fine)
}

// TestHalfOpen: an address that begins handshakes and ends none takes its own places, and nobody else's.
func TestHalfOpen(t *testing.T) {
	s := newStand(t, func(c *gateway.Config) { c.Limits.Handshakes, c.Limits.Header = 8, time.Minute })
	var held []net.Conn
	closed := 0
	for range 60 {
		c, err := net.Dial("tcp", s.addr)
		if err != nil { // reset before connect returned
			closed++
			continue
		}
		defer c.Close()
		held = append(held, c)
	}
	s.counted(gateway.AddressBusy, 52)
	for _, c := range held {
		c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		var timeout net.Error
		if _, err := c.Read(make([]byte, 1)); err != nil && !(asError(err, &timeout) && timeout.Timeout()) {
			closed++
		}
	}
	if closed != 52 {
		t.Errorf("%d were closed", closed)
	}
	d := s.fleet.Device(t, "device-1")
	s.wellServed(s.from(d, "127.0.0.2"), d)
	if _, _, err := s.get(s.from(d, "127.0.0.1"), "/x"); err == nil {
		t.Error("the address has a place")
	}
	for _, c := range held {
		c.Close()
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if _, _, err := s.get(s.from(d, "127.0.0.1"), "/x"); err == nil {
			break
		} else if time.Now().After(end) {
			t.Fatal("its places are not given back: ", err)
		}
	}
}

func asError(err error, to *net.Error) bool {
	e, ok := err.(net.Error)
	*to = e
	return ok
}

// TestIdleConnectionsCount: connections count from the handshake on, without a request, and those far beyond the bound are closed.
func TestIdleConnectionsCount(t *testing.T) {
	s := newStand(t, func(c *gateway.Config) { c.Limits.OfOneDevice, c.Limits.Header = 3, time.Minute })
	d := s.fleet.Device(t, "device-1")
	for range 3 + 4 + 5 {
		c, err := tls.Dial("tcp", s.addr, s.tlsConfig(d))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	s.counted(gateway.DeviceBusy, 5)
	other := s.fleet.Device(t, "device-2")
	s.wellServed(s.client(other, true), other)
}

// TestRequestsInFlight: one device's requests are bounded, and all are.
func TestRequestsInFlight(t *testing.T) {
	s := newStand(t, func(c *gateway.Config) { c.Limits.OfOneRequests, c.Limits.Requests = 2, 3 })
	release := make(chan struct{})
	s.mu.Lock()
	s.respond = func(http.ResponseWriter, *http.Request) { <-release }
	s.mu.Unlock()
	var done sync.WaitGroup
	hold := func(d *fleettest.Entity, n int) {
		c, before := s.client(d, true), len(s.requests())
		for range n {
			done.Go(func() { _, _, _ = s.get(c, "/slow") })
		}
		for end := time.Now().Add(time.Minute); len(s.requests()) < before+n; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("they do not come")
			}
		}
	}
	one, two, three := s.fleet.Device(t, "device-1"), s.fleet.Device(t, "device-2"), s.fleet.Device(t, "device-3")
	hold(one, 2)
	if status, body, err := s.get(s.client(one, true), "/x"); err != nil || status != 429 || !strings.Contains(body, string(gateway.DeviceBusy)) {
		t.Errorf("%d %s %v", status, body, err)
	}
	hold(two, 1)
	if status, body, err := s.get(s.client(three, true), "/x"); err != nil || status != 503 || !strings.Contains(body, string(gateway.GatewayBusy)) {
		t.Errorf("%d %s %v", status, body, err)
	}
	s.counted(gateway.DeviceBusy, 1)
	s.counted(gateway.GatewayBusy, 1)
	if n := len(s.requests()); n != 3 {
		t.Errorf("%d requests reached the upstream", n)
	}
	close(release)
	done.Wait()
	s.mu.Lock()
	s.respond = nil
	s.mu.Unlock()
	s.wellServed(s.client(three, true), three)
}

// TestEndedHandshakes: each way in which a handshake ends has a line and a count.
func TestEndedHandshakes(t *testing.T) {
	s := newStand(t, func(c *gateway.Config) { c.Limits.Header = 500 * time.Millisecond })
	d := s.fleet.Device(t, "device-1")
	old := s.tlsConfig(d)
	old.MaxVersion = tls.VersionTLS12
	if _, err := tls.Dial("tcp", s.addr, old); err == nil {
		t.Error("TLS 1.2 is taken")
	}
	s.counted(gateway.TLSVersion, 1)
	distrusts := s.tlsConfig(d)
	distrusts.RootCAs = x509.NewCertPool()
	if _, err := tls.Dial("tcp", s.addr, distrusts); err == nil {
		t.Error("it trusts")
	}
	s.counted(gateway.ClientAlert, 1)
	plain, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	io.WriteString(plain, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	_, _ = bufio.NewReader(plain).ReadString('\n')
	s.counted(gateway.NotTLS, 1)
	slow, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	s.counted(gateway.HandshakeSlow, 1)
	for _, r := range []gateway.Reason{gateway.TLSVersion, gateway.ClientAlert, gateway.NotTLS, gateway.HandshakeSlow} {
		s.logged("reason=" + string(r))
	}
	gone, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	s.counted(gateway.HandshakeBroken, 1)
	s.wellServed(s.client(d, true), d)
}

// TestFloodOfRefusals: a flood has fewer lines than refusals, and none is missing from the sums.
func TestFloodOfRefusals(t *testing.T) {
	s := newStand(t, func(c *gateway.Config) { c.Limits.Handshakes, c.Limits.Header = 1, time.Minute })
	const n = 300
	for range n + 1 {
		// One that is reset before connect returned is refused like the others.
		if c, err := net.Dial("tcp", s.addr); err == nil {
			defer c.Close()
		}
	}
	s.counted(gateway.AddressBusy, n)
	sums := regexp.MustCompile(`(?m)msg="refused, and more of the same" reason=address-limit count=(\d+)$`)
	told := 0
	for end := time.Now().Add(time.Minute); told != n; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d of %d are told:\n%s", told, n, s.log)
		}
		text := s.log.String()
		told = strings.Count(text, "msg=refused reason=address-limit")
		if told >= n {
			t.Fatalf("each of %d has a line", told)
		}
		for _, m := range sums.FindAllStringSubmatch(text, -1) {
			one, _ := strconv.Atoi(m[1])
			told += one
		}
	}
}
