package factory_test

import (
	"context"
	"crypto/x509"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/internal/postgrestest"
)

// TestStoppedAndCutOff: of two servers on one database now one, now the other is stopped for a while wherever it is, and goes on when the other has taken
// over; or the database ends all their connections. Stations enrol and an operator revokes all the while: nothing is lost or doubled, and what was
// revoked is on the list.
func TestStoppedAndCutOff(t *testing.T) {
	c := newCrash(t, 2, postgrestest.Start(t))
	ctx, stop := context.WithCancel(context.Background())
	c.start(0)
	c.start(1)
	stations := c.stations(ctx)
	var revoked []string
	done := make(chan struct{})
	who := c.operator(t, "olga").tls()
	go func() {
		defer close(done)
		for n := 0; ctx.Err() == nil; n++ {
			olga, err := factory.NewClient(factory.ClientConfig{URL: "https://" + c.addresses[n%2], CA: []*x509.Certificate{c.operations.cert}, Identity: who, Timeout: 3 * time.Second})
			if err != nil {
				t.Error(err)
				return
			}
			serial := strings.TrimLeft(strings.Repeat("7a", 8)+string("0123456789abcdef"[n%16])+string("0123456789abcdef"[n/16%16]), "0")
			if a, err := olga.Revoke(ctx, factory.RevokeRequest{Serial: serial, Reason: "superseded", Unknown: true}); err == nil {
				revoked = append(revoked, a.Serial)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
	for n := range rounds() {
		c.work()
		if n%3 == 2 {
			c.cluster.SQL("base1", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'hanaperd'")
			continue
		}
		p := c.daemons[n%2].cmd.Process
		_ = p.Signal(syscall.SIGSTOP)
		time.Sleep(time.Duration(rand.IntN(1200)) * time.Millisecond)
		c.work() // the other one alone
		_ = p.Signal(syscall.SIGCONT)
	}
	stop()
	<-done
	c.end(stop, stations)
	slices.Sort(revoked)
	revoked = slices.Compact(revoked)
	if len(revoked) < 5 {
		t.Fatalf("only %d revocations: the test shows nothing", len(revoked))
	}
	best := &x509.RevocationList{}
	for _, name := range []string{"factory-ca.crl", "factory-ca-2.crl"} {
		der, err := os.ReadFile(filepath.Join(c.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		list, err := x509.ParseRevocationList(der)
		if err != nil {
			t.Fatal(err)
		}
		if best.Number == nil || list.Number.Cmp(best.Number) > 0 {
			best = list
		}
	}
	on := map[string]bool{}
	for _, e := range best.RevokedCertificateEntries {
		on[e.SerialNumber.Text(16)] = true
	}
	for _, s := range revoked {
		if !on[s] {
			t.Errorf("%s was revoked and is not on list %v", s, best.Number)
		}
	}
	t.Logf("%d devices, %d revocations, list %v", len(c.got.certs), len(revoked), best.Number)
}
