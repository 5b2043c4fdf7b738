package batch

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"testing"
)

// TestTogether: what waits goes into one commit, and one that fails does not take its neighbours with it.
func TestTogether(t *testing.T) {
	bad := errors.New("bad")
	first, release := make(chan struct{}), make(chan struct{})
	var sizes []int
	kept := map[int]bool{}
	q := New(func(list []int) error {
		if len(sizes) == 0 {
			close(first)
			<-release
		}
		sizes = append(sizes, len(list))
		if slices.Contains(list, 3) {
			return bad
		}
		for _, n := range list {
			kept[n] = true
		}
		return nil
	})
	var callers sync.WaitGroup
	ask := func(n int) {
		callers.Go(func() {
			want := error(nil)
			if n == 3 {
				want = bad
			}
			if err := q.Do(context.Background(), n); !errors.Is(err, want) {
				t.Errorf("%d: %v", n, err)
			}
		})
	}
	ask(0)
	<-first
	for n := 1; n <= 5; n++ {
		ask(n)
	}
	for len(q.asked) < 5 {
		runtime.Gosched()
	}
	close(release)
	callers.Wait()
	q.Stop()
	if !slices.Equal(sizes, []int{1, 5, 1, 1, 1, 1, 1}) || len(kept) != 5 || kept[3] {
		t.Errorf("commits of %v, kept %v", sizes, kept)
	}
	if err := q.Do(context.Background(), 9); !errors.Is(err, ErrClosed) || kept[9] {
		t.Errorf("after the end: %v", err)
	}
}

// TestNotBegun: who comes with a context that has ended changes nothing.
func TestNotBegun(t *testing.T) {
	called := false
	q := New(func([]int) error { called = true; return nil })
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := q.Do(ctx, 1); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if q.Stop(); called {
		t.Error("it was committed")
	}
}
