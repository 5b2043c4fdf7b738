package factory_test

import (
	"context"
	"testing"
	"time"

	"github.com/hanaper/hanaper/factory"
)

// TestLeftByAnotherServer: what a server that died left open, another one finishes, while it runs.
func TestLeftByAnotherServer(t *testing.T) {
	r := serve(t, newPlant(t))
	ctx, stop := context.WithCancel(context.Background())
	q := deviceRequest(t, newKey(t), "dev-1")
	if _, _, err := r.service.Enroll(ctx, "line-1", q); err != nil {
		t.Fatal(err)
	}
	rec, err := r.store.ByDevice(ctx, "dev-1")
	if err != nil {
		t.Fatal(err)
	}
	other := serve(t, r.plant, func(c *factory.ServiceConfig) { c.CRLValidity, c.CRLRefresh = time.Hour, time.Second })
	other.now.add(2 * time.Minute)
	ended := make(chan struct{})
	go func() { defer close(ended); other.service.Run(ctx) }()
	defer func() { stop(); <-ended }()
	for other.service.Health(ctx).CRLNumber == 0 { // it has looked at what was open at the start
		time.Sleep(5 * time.Millisecond)
	}
	if _, _, err := other.store.Begin(ctx, rec.Intent); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		got, err := other.store.ByDevice(ctx, "dev-1")
		if err == nil && !got.Open() {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("still open: %+v, %v", got, err)
		}
	}
}
