package page

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestSeals: a token works once, however many send it at the same time, for whom and what it was made; those of another process are none.
func TestSeals(t *testing.T) {
	olga, other := []byte("olga"), []byte("viktor")
	var late atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(late.Load())) }
	s := NewSeals(now)
	token := s.Make(olga, [32]byte{1})
	if err := s.Spend(token, other, [32]byte{1}); err == nil {
		t.Error("somebody else")
	}
	if err := s.Spend(token, olga, [32]byte{2}); err == nil {
		t.Error("another page")
	}
	if err := NewSeals(now).Spend(token, olga, [32]byte{1}); err == nil {
		t.Error("another process")
	}
	for i := range token {
		for _, c := range "Aa0_" {
			if changed := token[:i] + string(c) + token[i+1:]; changed != token && s.Spend(changed, olga, [32]byte{1}) == nil {
				t.Fatalf("changed at %d", i)
			}
		}
	}
	var group sync.WaitGroup
	var won atomic.Int32
	for range 16 {
		group.Go(func() {
			if s.Spend(token, olga, [32]byte{1}) == nil {
				won.Add(1)
			}
		})
	}
	group.Wait()
	if won.Load() != 1 {
		t.Errorf("%d times", won.Load())
	}
	if err := s.Spend(token, olga, [32]byte{1}); err == nil || !strings.Contains(err.Error(), "sent already") {
		t.Error(err)
	}
	old := s.Make(olga, [32]byte{1})
	late.Store(int64(31 * time.Minute))
	if err := s.Spend(old, olga, [32]byte{1}); err == nil || !strings.Contains(err.Error(), "half an hour") {
		t.Error(err)
	}
}

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{0: "0 s", 59 * time.Second: "59 s", time.Minute: "1 min", 61 * time.Minute: "1 h 1 min", 25 * time.Hour: "1 d 1 h", 40 * 24 * time.Hour: "40 days", -time.Hour: "-1 h 0 min"} {
		if got := Span(d); got != want {
			t.Errorf("%v: %s", d, got)
		}
	}
}
