package console_test

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hanaper/hanaper/factory/console"
)

// TestSeals: a token works once, however many send it at the same time, for its certificate and page; those of another process are none.
func TestSeals(t *testing.T) {
	root := newRoot(t, "operations-root", "Operations Root")
	var late atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(late.Load())) }
	s := console.NewSeals(now)
	token := s.Make(root.cert, [32]byte{1})
	if err := s.Spend(token, newRoot(t, "fleet-root", "Fleet Root").cert, [32]byte{1}); err == nil {
		t.Error("another certificate")
	}
	if err := s.Spend(token, root.cert, [32]byte{2}); err == nil {
		t.Error("another page")
	}
	if err := console.NewSeals(now).Spend(token, root.cert, [32]byte{1}); err == nil {
		t.Error("another process")
	}
	for i := range token {
		for _, c := range "Aa0_" {
			if changed := token[:i] + string(c) + token[i+1:]; changed != token && s.Spend(changed, root.cert, [32]byte{1}) == nil {
				t.Fatalf("changed at %d", i)
			}
		}
	}
	var group sync.WaitGroup
	var won atomic.Int32
	for range 16 {
		group.Go(func() {
			if s.Spend(token, root.cert, [32]byte{1}) == nil {
				won.Add(1)
			}
		})
	}
	group.Wait()
	if won.Load() != 1 {
		t.Errorf("%d times", won.Load())
	}
	if err := s.Spend(token, root.cert, [32]byte{1}); err == nil || !strings.Contains(err.Error(), "sent already") {
		t.Error(err)
	}
	old := s.Make(root.cert, [32]byte{1})
	late.Store(int64(31 * time.Minute))
	if err := s.Spend(old, root.cert, [32]byte{1}); err == nil || !strings.Contains(err.Error(), "half an hour") {
		t.Error(err)
	}
}
