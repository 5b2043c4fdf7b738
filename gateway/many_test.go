package gateway_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hanaper/hanaper/gateway"
	"github.com/hanaper/hanaper/gateway/fleettest"
)

// pipes is a listener within the process: so many connections have no descriptors here.
type pipes struct {
	conns chan net.Conn
	ended chan struct{}
	once  sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.ended:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { p.once.Do(func() { close(p.ended) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes", Net: "unix"} }

func (p *pipes) dial() net.Conn {
	ours, theirs := net.Pipe()
	p.conns <- theirs
	return ours
}

// TestManyConnections: with very many connections open, new trust closes those whose device it revokes, all of them and no other, before SetTrust returns;
// and it verifies no signature again. How long that takes is told, and stands in docs/benchmarks.md.
func TestManyConnections(t *testing.T) {
	many, revoked := 400, 40
	if os.Getenv("HANAPER_SOAK") != "" {
		many, revoked = 20_000, 2000
	}
	s := newStand(t, nil)
	f := s.fleet
	g := s.another(func(c *gateway.Config) { c.Limits.Idle, c.Limits.Header = time.Hour, time.Hour })
	if err := g.SetTrust(f.View); err != nil {
		t.Fatal(err)
	}
	g.Bound(many)
	listener := &pipes{conns: make(chan net.Conn), ended: make(chan struct{})}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- g.Serve(ctx, listener, nil) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()

	devices, conns := make([]*fleettest.Entity, many), make([]*tls.Conn, many)
	key := fleettest.NewKey(t)
	var next, gone atomic.Int64
	var all, readers sync.WaitGroup
	for range 2 * runtime.NumCPU() {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < many; i = int(next.Add(1)) - 1 {
				d := fleettest.Issue(t, f.Factory, key, fleettest.DeviceTemplate(fmt.Sprintf("device-%d", i)))
				conn := tls.Client(listener.dial(), &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{{Certificate: [][]byte{d.Cert.Raw}, PrivateKey: d.Key}}})
				if err := conn.Handshake(); err != nil {
					t.Error(err)
					return
				}
				devices[i], conns[i] = d, conn
			}
		})
	}
	all.Wait()
	if t.Failed() {
		return
	}
	for until := time.Now().Add(time.Minute); g.Open() < many && time.Now().Before(until); {
		time.Sleep(10 * time.Millisecond)
	}
	open := make([]atomic.Bool, many)
	for i, c := range conns {
		open[i].Store(true)
		readers.Go(func() {
			_, err := c.Read(make([]byte, 1))
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				open[i].Store(false)
				gone.Add(1)
			}
		})
	}
	view := f.View
	for i := range revoked {
		view = view.Revoke(f.Factory.Cert, devices[i*(many/revoked)].Cert.SerialNumber)
	}
	begun := time.Now()
	if err := g.SetTrust(view); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d connections, %d devices revoked: %s", many, revoked, time.Since(begun))
	if g.Closed() != int64(revoked) {
		t.Errorf("%d of %d closed, want %d", g.Closed(), many, revoked)
	}
	for until := time.Now().Add(time.Minute); gone.Load() < int64(revoked) && time.Now().Before(until); {
		time.Sleep(10 * time.Millisecond)
	}
	for i := range conns {
		if want := i%(many/revoked) != 0 || i/(many/revoked) >= revoked; open[i].Load() != want {
			t.Errorf("connection %d: open %v", i, open[i].Load())
		}
	}
	for _, c := range conns {
		c.NetConn().Close()
	}
	readers.Wait()
}
