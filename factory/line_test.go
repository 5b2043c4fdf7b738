package factory_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/factory/record"
	"github.com/hanaper/hanaper/internal/postgrestest"
)

// TestLine is a shift: two servers on one PostgreSQL, stations that each know both, and more boards than the lot has places. One server is killed in
// the middle and comes back, and a part of the stations loses the way to the other. Exactly as many certificates leave as the lot has places, and every
// further board is told why. make soak runs it with 20 stations, 5,000 boards and a lot of 4,900.
func TestLine(t *testing.T) {
	boards, quantity, lines, away := 500, 490, 4, 500*time.Millisecond
	if os.Getenv("HANAPER_SOAK") != "" {
		boards, quantity, lines, away = 5000, 4900, 20, 3*time.Second
	}
	c := newCrash(t, 2, postgrestest.Start(t))
	ctx, stop := context.WithTimeout(context.Background(), 10*time.Minute)
	defer stop()
	c.start(0)
	c.start(1)
	way := newRelay(t, c.addresses[1])
	client := func(who identity, address string) *factory.Client {
		cl, err := factory.NewClient(factory.ClientConfig{URL: "https://" + address, CA: []*x509.Certificate{c.operations.cert}, Identity: who.tls(), Timeout: 5 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		return cl
	}
	olga := c.operator(t, "olga")
	env := signed(t, newOrder(&olga, "shift", int64(quantity)), olga.key)
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if _, err := client(olga, c.addresses[0]).OpenLot(ctx, env); err == nil {
			break
		} else if time.Now().After(end) {
			t.Fatal(err)
		}
	}

	waiting := make(chan string, boards)
	for n := range boards {
		waiting <- fmt.Sprintf("board-%05d", n)
	}
	close(waiting)
	pace := newPace()
	var stations sync.WaitGroup
	var told sync.Map
	var refused atomic.Int64
	for i := range lines {
		second := c.addresses[1]
		if i%2 == 0 {
			second = way.address // the way that is cut
		}
		who := c.station(t, fmt.Sprintf("line-%02d", i))
		clients := []*factory.Client{client(who, c.addresses[0]), client(who, second)}
		stations.Go(func() {
			for id := range waiting {
				q := inLot(t, newKey(t), id, "shift")
				pause := 5 * time.Millisecond
				for to := i; ; to++ {
					a, _, err := clients[to%2].Enroll(ctx, q)
					var f *factory.Fault
					switch {
					case ctx.Err() != nil:
						return
					case err == nil:
						c.got.add(id, a.Certificate)
						pace.tick()
					case errors.As(err, &f) && f.Code == factory.CodeLotFull:
						told.Store(id, f.Text)
						refused.Add(1)
						pace.tick()
					default:
						time.Sleep(pause)
						pause = min(2*pause, 250*time.Millisecond)
						continue
					}
					break
				}
			}
		})
	}
	reached := func(n int) {
		for end := time.Now().Add(2 * time.Minute); c.got.answers() < n && time.Now().Before(end); time.Sleep(time.Millisecond) {
		}
	}
	reached(quantity / 3)
	c.daemons[0].kill()
	time.Sleep(away)
	c.start(0)
	reached(quantity * 2 / 3)
	way.cut()
	time.Sleep(away)
	way.mend()
	stations.Wait()
	gap, whole := pace.end()

	if refused.Load() != int64(boards-quantity) || len(c.got.certs) != quantity {
		t.Errorf("%d boards got certificates and %d were told that the lot is full, of %d and %d", len(c.got.certs), refused.Load(), quantity, boards-quantity)
	}
	told.Range(func(id, text any) bool {
		if !strings.Contains(text.(string), `lot "shift" has as many devices as it may have`) {
			t.Errorf("%v was told %q", id, text)
		}
		if _, both := c.got.certs[id.(string)]; both {
			t.Errorf("%v was refused and has a certificate", id)
		}
		return true
	})
	s := c.store()
	lot, err := s.Lot(context.Background(), "shift")
	if err != nil || lot.Taken != int64(quantity) {
		t.Errorf("%d of %d are taken, %v", lot.Taken, quantity, err)
	}
	keys := map[[32]byte]bool{}
	for after := (record.Cursor{}); ; {
		list, err := s.Devices(context.Background(), record.DeviceFilter{Lot: "shift", After: after, Limit: 1000})
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range list {
			keys[l.SPKIDigest], after = true, l.Place
		}
		if len(list) < 1000 {
			break
		}
	}
	if len(keys) != quantity {
		t.Errorf("%d keys are on record, of %d", len(keys), quantity)
	}
	s.Close()
	t.Logf("figure gap %.2f s, the longest time without an answer", gap.Seconds())
	t.Logf("figure devices-an-hour %.0f", float64(quantity)/whole.Hours())
	c.end(stop, &stations)
}

// pace measures the time between answers.
type pace struct {
	mu          sync.Mutex
	began, last time.Time
	longest     time.Duration
}

func newPace() *pace { return &pace{began: time.Now(), last: time.Now()} }

func (p *pace) tick() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.longest, p.last = max(p.longest, now.Sub(p.last)), now
}

func (p *pace) end() (longest, whole time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.longest, p.last.Sub(p.began)
}

// relay is a network: a way to a server that can be cut and mended.
type relay struct {
	address, to string
	listener    net.Listener
	mu          sync.Mutex
	down        bool
	open        map[net.Conn]bool
}

func newRelay(t *testing.T, to string) *relay {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	r := &relay{address: l.Addr().String(), to: to, listener: l, open: map[net.Conn]bool{}}
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go r.carry(in)
		}
	}()
	return r
}

func (r *relay) carry(in net.Conn) {
	defer in.Close()
	out, err := net.Dial("tcp", r.to)
	if err != nil {
		return
	}
	defer out.Close()
	r.mu.Lock()
	if r.down {
		r.mu.Unlock()
		return
	}
	r.open[in], r.open[out] = true, true
	r.mu.Unlock()
	go func() { _, _ = io.Copy(out, in); out.Close() }()
	_, _ = io.Copy(in, out)
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.open, in)
	delete(r.open, out)
}

// cut ends all connections and lets none through; what was on the way is lost.
func (r *relay) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down = true
	for c := range r.open {
		c.Close()
	}
}

func (r *relay) mend() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down = false
}
