package factory_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
)

// TestProgress: how fast a lot fills is measured over what is remembered of it, an hour at most, and says when it will be full.
func TestProgress(t *testing.T) {
	r := serve(t, newPlant(t))
	ctx := t.Context()
	if err := r.store.SetLot(ctx, "lot-1", 100, "operator olga"); err != nil {
		t.Fatal(err)
	}
	take := func(n int) {
		t.Helper()
		for range n {
			if _, _, err := r.service.Enroll(ctx, "line-1", deviceRequest(t, newKey(t), fmt.Sprintf("dev-%d", time.Now().UnixNano()))); err != nil {
				t.Fatal(err)
			}
		}
	}
	if p, err := r.service.LotProgress(ctx, "lot-1"); err != nil || p.Over != 0 || !p.End.IsZero() {
		t.Errorf("nothing is known yet: %+v, %v", p, err)
	}
	for range 9 { // ten minutes at one a minute
		r.service.WatchLots(ctx)
		r.now.add(time.Minute)
		take(1)
	}
	r.now.add(time.Minute)
	take(1)
	p, err := r.service.LotProgress(ctx, "lot-1")
	if err != nil || p.Taken != 10 || math.Abs(p.PerHour-60) > 1 || math.Abs(p.End.Sub(r.now.Now()).Minutes()-90) > 3 {
		t.Fatalf("%+v, %v", p, err)
	}
	// An hour and more of nothing: it stands still.
	for range 70 {
		r.service.WatchLots(ctx)
		r.now.add(time.Minute)
	}
	if p, err = r.service.LotProgress(ctx, "lot-1"); err != nil || p.PerHour != 0 || !p.End.IsZero() || p.Over > 63*time.Minute || p.Over < time.Hour {
		t.Errorf("it stands still: %+v, %v", p, err)
	}
	all, err := r.service.OpenLots(ctx)
	if err != nil || len(all) != 1 || all[0].Name != "lot-1" {
		t.Errorf("%+v, %v", all, err)
	}
	if m := string(r.service.Metrics(ctx)); !strings.Contains(m, `hanaperd_lot_remaining{lot="lot-1"} 90`) || !strings.Contains(m, `hanaperd_lot_quota{lot="lot-1"} 100`) {
		t.Error(m)
	}
	if _, err := r.service.LotProgress(ctx, "lot-9"); code(t, err) != "not_found" {
		t.Error(err)
	}
}
