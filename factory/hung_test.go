package factory_test

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/factory"
)

// hungKey is the token's key on a cable that can be held: it does not answer then, and does not fail either.
type hungKey struct {
	crypto.Signer
	mu   sync.Mutex
	held chan struct{} // closed when the key may answer
}

func (k *hungKey) SignContext(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	select {
	case <-k.may():
		return k.Sign(nil, digest, opts)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (k *hungKey) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	<-k.may()
	return k.Signer.Sign(rand, digest, opts)
}

// hold makes the key answer nothing until release.
func (k *hungKey) hold() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.held = make(chan struct{})
}

func (k *hungKey) release() {
	k.mu.Lock()
	defer k.mu.Unlock()
	close(k.held)
}

func (k *hungKey) may() chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.held
}

// TestHungKey: a token that does not answer keeps nobody longer than he wants to wait, not in the lock of a device either. A
// revocation is stored all the same, and what was begun is finished when the token answers again.
func TestHungKey(t *testing.T) {
	p := newPlant(t)
	key := &hungKey{Signer: p.key, held: make(chan struct{})}
	close(key.held)
	var err error
	if p.issuer, err = ca.NewIssuer(p.issuing, key, p.fleet.cert); err != nil {
		t.Fatal(err)
	}
	s := serve(t, p).service
	one := deviceRequest(t, newKey(t), "one")
	if _, _, err := s.Enroll(t.Context(), "line-1", one); err != nil {
		t.Fatal(err)
	}
	key.hold()
	two := deviceRequest(t, newKey(t), "two")
	const patience = 300 * time.Millisecond
	begin := time.Now()
	failed := make(chan error, 3)
	for range 3 { // one waits for the token, the others for the lock of the device
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			_, _, err := s.Enroll(ctx, "line-1", two)
			failed <- err
		}()
	}
	for range 3 {
		var f *factory.Fault
		if err := <-failed; !errors.As(err, &f) || f.Code != factory.CodeUnavailable {
			t.Errorf("%v, want code %s", err, factory.CodeUnavailable)
		}
	}
	if took := time.Since(begin); took > 50*patience {
		t.Errorf("answered after %v", took)
	}
	if h := s.Health(t.Context()); h.Token == "ok" {
		t.Errorf("health says %+v", h)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	a, err := s.Revoke(ctx, "operator", factory.RevokeRequest{DeviceID: "one", Reason: "key_compromise"})
	if err != nil || a.CRLNumber != 0 {
		t.Fatalf("%+v, %v", a, err)
	}
	key.release()
	if _, _, err := s.Enroll(t.Context(), "line-1", two); err != nil {
		t.Fatal(err)
	}
	if err := s.FreshCRL(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestHungKeyLeavesSlots: while a token hangs, those who enrol take not all slots, and once it is known to hang only one of them waits for it.
func TestHungKeyLeavesSlots(t *testing.T) {
	p := newPlant(t)
	key := &hungKey{Signer: p.key, held: make(chan struct{})}
	close(key.held)
	var err error
	if p.issuer, err = ca.NewIssuer(p.issuing, key, p.fleet.cert); err != nil {
		t.Fatal(err)
	}
	r := serve(t, p)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	station, olga := r.client(r.station(t, "line-1")), r.client(r.operator(t, "olga"))
	if _, _, err := station.Enroll(ctx, deviceRequest(t, newKey(t), "one")); err != nil {
		t.Fatal(err)
	}
	key.hold()
	var waiting sync.WaitGroup
	for i := range 300 { // more than there are slots
		q := deviceRequest(t, newKey(t), fmt.Sprintf("many-%d", i))
		waiting.Go(func() { _, _, _ = station.Enroll(ctx, q) })
	}
	// Somebody's patience ends while the token has his request: then the key is known to hang.
	for r.service.Health(ctx).Token == "ok" {
		short, stop := context.WithTimeout(ctx, 200*time.Millisecond)
		_, _, err := r.service.Enroll(short, "line-2", deviceRequest(t, newKey(t), "impatient"))
		stop()
		if err == nil {
			t.Fatal("signed")
		}
	}
	if a, err := olga.Revoke(ctx, factory.RevokeRequest{DeviceID: "one", Reason: "key_compromise"}); err != nil || a.DeviceID != "one" {
		t.Errorf("%+v, %v", a, err)
	}
	if _, err := olga.Device(ctx, "one"); err != nil {
		t.Error(err)
	}
	// At most one of these is the one who tries, and waits; the others are answered while the key is still held.
	next := make(chan error, 5)
	for i := range cap(next) {
		go func() {
			_, _, err := r.service.Enroll(ctx, "line-2", deviceRequest(t, newKey(t), fmt.Sprintf("next-%d", i)))
			next <- err
		}()
	}
	for range cap(next) - 1 {
		if err := <-next; code(t, err) != factory.CodeUnavailable {
			t.Errorf("%v", err)
		}
	}
	if ctx.Err() != nil {
		t.Error("answered only when everybody's patience ended")
	}
	key.release()
	waiting.Wait()
	if _, _, err := station.Enroll(ctx, deviceRequest(t, newKey(t), "two")); err != nil {
		t.Error(err)
	}
}
