package factory_test

import (
	"context"
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/factory"
)

const day = 24 * time.Hour

// fine checks a list as a gateway looks at it: not from the future, and not ended.
func fine(t *testing.T, list *x509.RevocationList, now time.Time) {
	t.Helper()
	if list.ThisUpdate.After(now.Add(time.Second)) || !list.NextUpdate.After(now) {
		t.Errorf("at %s a list from %s to %s", now.UTC().Format(time.RFC3339), list.ThisUpdate, list.NextUpdate)
	}
}

// TestClockJumps: while a clock that jumped is wrong nothing is dated by it, known devices are answered and revocations kept; and
// when it is right again everything goes on by itself. (Before: four seconds with a clock 200 days ahead silenced revocation for 200 days.)
func TestClockJumps(t *testing.T) {
	for name, jump := range map[string]time.Duration{"200 days ahead": 200 * day, "an hour ahead": time.Hour, "an hour behind": -time.Hour, "a year behind": -365 * day} {
		t.Run(name, func(t *testing.T) {
			ctx := context.Background()
			d := &desk{}
			r := serve(t, newPlant(t), d.join)
			known := deviceRequest(t, newKey(t), "dev-1")
			got, _, err := r.service.Enroll(ctx, "line-1", known)
			if err != nil {
				t.Fatal(err)
			}
			if err := r.service.FreshCRL(ctx); err != nil {
				t.Fatal(err)
			}
			number, before := d.list(t).Number, r.rows()
			r.now.jump(jump)
			if _, _, err := r.service.Enroll(ctx, "line-1", deviceRequest(t, newKey(t), "dev-2")); code(t, err) != factory.CodeClock {
				t.Fatalf("a new device: %v", err)
			}
			if after := r.rows(); after != before {
				t.Errorf("a refusal wrote %s, was %s", after, before)
			}
			if a, _, err := r.service.Enroll(ctx, "line-1", known); err != nil || a.Certificate != got.Certificate {
				t.Errorf("a known device: %v", err)
			}
			right := r.now.Now().Add(-jump)
			a, err := r.service.Revoke(ctx, "olga", factory.RevokeRequest{DeviceID: "dev-1", Reason: "keyCompromise"})
			if err != nil || a.CRLNumber != 0 || a.RevokedAt.Sub(right).Abs() > 5*time.Second {
				t.Errorf("revoked at %v, on list %d, %v", a.RevokedAt, a.CRLNumber, err)
			}
			if err := r.service.FreshCRL(ctx); err == nil || d.list(t).Number.Cmp(number) != 0 {
				t.Errorf("a list was signed: %v", err)
			}
			if h := r.service.Health(ctx); h.Status != "degraded" || h.Clock == "ok" {
				t.Errorf("%+v", h)
			}
			r.now.jump(-jump)
			if err := r.service.FreshCRL(ctx); err != nil {
				t.Fatal(err)
			}
			fine(t, d.list(t), r.now.Now())
			if n := len(d.list(t).RevokedCertificateEntries); n != 1 {
				t.Errorf("%d entries", n)
			}
			if _, _, err := r.service.Enroll(ctx, "line-1", deviceRequest(t, newKey(t), "dev-2")); err != nil {
				t.Error(err)
			}
			if h := r.service.Health(ctx); h.Clock != "ok" {
				t.Errorf("%+v", h)
			}
		})
	}
}

// TestClockAccepted: a clock that was set for good is taken as right when an operator says so, and only then.
func TestClockAccepted(t *testing.T) {
	for name, jump := range map[string]time.Duration{"200 days ahead": 200 * day, "an hour ahead": time.Hour, "an hour behind": -time.Hour, "20 days behind": -20 * day} {
		t.Run(name, func(t *testing.T) {
			ctx := context.Background()
			d := &desk{}
			r := serve(t, newPlant(t), d.join)
			r.now.add(30 * day) // certificates of the plant begin before
			if _, _, err := r.service.Enroll(ctx, "line-1", deviceRequest(t, newKey(t), "dev-1")); err != nil {
				t.Fatal(err)
			}
			if err := r.service.FreshCRL(ctx); err != nil {
				t.Fatal(err)
			}
			r.now.jump(jump)
			if err := r.service.FreshCRL(ctx); err == nil {
				t.Fatal("a list was signed")
			}
			station, olga := r.client(r.station(t, "line-1")), r.client(r.operator(t, "olga"))
			if _, err := station.AcceptClock(ctx, "it is fine"); code(t, err) != factory.CodeForbidden {
				t.Errorf("a station: %v", err)
			}
			if _, err := olga.AcceptClock(ctx, ""); code(t, err) != factory.CodeRequest {
				t.Errorf("without a note: %v", err)
			}
			if _, err := olga.AcceptClock(ctx, "compared with the wall clock"); err != nil {
				t.Fatal(err)
			}
			if err := r.service.FreshCRL(ctx); err != nil {
				t.Fatal(err)
			}
			// Behind: the list before is from the future now, and is followed by one that is not.
			fine(t, d.list(t), r.now.Now())
			if _, _, err := r.service.Enroll(ctx, "line-1", deviceRequest(t, newKey(t), "dev-2")); err != nil {
				t.Error(err)
			}
			events, err := r.store.Events(ctx, 0, 100)
			if err != nil || !strings.Contains(events[len(events)-2].Note, "compared with the wall clock") {
				t.Errorf("%+v, %v", events, err)
			}
		})
	}
}

// TestClockAtStart: a service that starts on a record from the future, or on one that is much older, dates nothing before an operator has looked.
func TestClockAtStart(t *testing.T) {
	for name, c := range map[string]struct {
		off time.Duration
		bad bool
	}{"as it was": {0, false}, "six days later": {6 * day, false}, "200 days later": {200 * day, true}, "an hour before": {-time.Hour, true}} {
		t.Run(name, func(t *testing.T) {
			ctx := context.Background()
			d := &desk{}
			p := newPlant(t)
			r := serve(t, p, d.join)
			r.now.add(30 * day) // the plant's certificates begin before
			if _, _, err := r.service.Enroll(ctx, "line-1", deviceRequest(t, newKey(t), "dev-1")); err != nil {
				t.Fatal(err)
			}
			if err := r.service.FreshCRL(ctx); err != nil {
				t.Fatal(err)
			}
			r.store.Close()
			again := serveAt(t, p, r.dir, d.join, func(s *factory.ServiceConfig) {
				now := s.Now
				s.Now = func() time.Time { return now().Add(30*day + c.off) }
			})
			if err := again.service.Compare(ctx); err != nil {
				t.Fatal(err)
			}
			_, _, err := again.service.Enroll(ctx, "line-1", deviceRequest(t, newKey(t), "dev-2"))
			if (err != nil) != c.bad || err != nil && code(t, err) != factory.CodeClock {
				t.Errorf("%v", err)
			}
			if !c.bad {
				return
			}
			if _, err := again.service.AcceptClock(ctx, "olga", "compared"); err != nil {
				t.Fatal(err)
			}
			if err := again.service.FreshCRL(ctx); err != nil {
				t.Fatal(err)
			}
			if _, _, err := again.service.Enroll(ctx, "line-1", deviceRequest(t, newKey(t), "dev-2")); err != nil {
				t.Error(err)
			}
		})
	}
}
