package factory_test

import (
	"context"
	"crypto"
	"errors"
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
	if took := time.Since(begin); took > 5*patience {
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
