package factory_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/factory/record"
	"github.com/hanaper/hanaper/internal/postgrestest"
)

// TestKillLot: of a lot of 160, exactly 160 certificates leave, whatever is killed meanwhile: the only server of a record in SQLite, or one of two, and
// their database, in PostgreSQL. Every further board is told why.
func TestKillLot(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) { killLot(t, newCrash(t, 1, nil)) })
	t.Run("postgres", func(t *testing.T) { killLot(t, newCrash(t, 2, postgrestest.Start(t))) })
}

func killLot(t *testing.T, c *crash) {
	const quantity = 160
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	for n := range c.daemons {
		c.start(n)
	}
	olga := c.operator(t, "olga")
	client := func(who identity, n int) *factory.Client {
		cl, err := factory.NewClient(factory.ClientConfig{URL: "https://" + c.addresses[n%len(c.addresses)], CA: []*x509.Certificate{c.operations.cert}, Identity: who.tls(), Timeout: 5 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		return cl
	}
	env := signed(t, newOrder(&olga, "l", quantity), olga.key)
	for n := range 2 { // brought twice, to any server
		if _, err := client(olga, n).OpenLot(ctx, env); err != nil {
			t.Fatal(err)
		}
	}
	var stations sync.WaitGroup
	var full tally
	for i := range 8 {
		who := c.station(t, fmt.Sprintf("line-%d", i))
		clients := []*factory.Client{client(who, 0), client(who, 1)}
		stations.Go(func() {
			for n, refused := 0, 0; refused < 3; n++ {
				id := fmt.Sprintf("dev-%d-%d", i, n)
				q := inLot(t, newKey(t), id, "l")
				for to := i + n; ; to++ {
					if ctx.Err() != nil {
						return
					}
					a, _, err := clients[to%2].Enroll(ctx, q)
					var f *factory.Fault
					switch {
					case err == nil:
						c.got.add(id, a.Certificate)
					case errors.As(err, &f) && f.Code == factory.CodeLotFull:
						refused++
						full.add(id)
					default:
						time.Sleep(5 * time.Millisecond)
						continue
					}
					break
				}
			}
		})
	}
	for n := range max(4, rounds()/5) {
		for end := time.Now().Add(30 * time.Second); c.got.answers() < min(25*(n+1), quantity-20) && time.Now().Before(end); time.Sleep(time.Millisecond) {
		}
		switch {
		case c.cluster != nil && n%4 == 3:
			c.cluster.Kill()
			c.cluster.Run()
		default:
			d := n % len(c.daemons)
			c.daemons[d].kill()
			c.start(d)
		}
	}
	stations.Wait()
	s := c.store()
	listed := 0
	for after := (record.Cursor{}); ; {
		list, err := s.Devices(ctx, record.DeviceFilter{Lot: "l", After: after, Limit: 50})
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range list {
			listed, after = listed+1, l.Place
		}
		if len(list) < 50 {
			break
		}
	}
	lot, err := s.Lot(ctx, "l")
	if err != nil || lot.Taken != quantity || listed != quantity || len(c.got.certs) != quantity {
		t.Errorf("of %d: %d taken, %d on record, %d handed out, %v", quantity, lot.Taken, listed, len(c.got.certs), err)
	}
	if full.count() != 24 {
		t.Errorf("%d boards were told that the lot is full, of 24", full.count())
	}
	s.Close()
	c.end(stop, &stations)
}

// tally counts what was told.
type tally struct {
	mu sync.Mutex
	n  int
}

func (t *tally) add(string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.n++
}

func (t *tally) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.n
}
