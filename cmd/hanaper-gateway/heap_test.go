package main

import (
	"runtime"
	"runtime/metrics"
	"testing"
)

func TestGrowth(t *testing.T) {
	for _, c := range []struct {
		live uint64
		want int
	}{{0, 1500}, {1 << 20, 1500}, {4 << 20, 1500}, {32 << 20, 100}, {48 << 20, 40}, {64 << 20, 40}, {1 << 34, 40}} {
		if got := growth(c.live); got != c.want {
			t.Errorf("%d in use: %d, want %d", c.live, got, c.want)
		}
	}
}

// TestGiveBack: once when it has become quiet, and not again for little.
func TestGiveBack(t *testing.T) {
	var r rest
	for i, c := range []struct {
		asked uint64 // in this second
		want  bool
	}{{5 << 20, false}, {20 << 20, false}, {1 << 10, true}, {1 << 10, false}, {2 << 20, false}, {1 << 10, false}, {15 << 20, false}, {1 << 10, true}} {
		if got := r.due(r.before + c.asked); got != c.want {
			t.Errorf("second %d: %v", i, got)
		}
	}
}

// TestPaceHeap: what is set follows what is in use, collection after collection.
func TestPaceHeap(t *testing.T) {
	set := func() int {
		s := []metrics.Sample{{Name: "/gc/gogc:percent"}}
		metrics.Read(s)
		return int(s[0].Value.Uint64())
	}
	paceHeap(t.Context())
	held := make([][]byte, 0, 200)
	settle := func(want func(int) bool) bool {
		for range 200 {
			runtime.GC()
			runtime.Gosched()
			if want(set()) {
				return true
			}
		}
		return false
	}
	if !settle(func(n int) bool { return n > 100 }) {
		t.Errorf("with little in use it is %d", set())
	}
	// The runtime multiplies 4 MB at least.
	goal := []metrics.Sample{{Name: "/gc/heap/goal:bytes"}}
	if metrics.Read(goal); goal[0].Value.Uint64() > heapFloor*5/4 {
		t.Errorf("with little in use the heap may grow to %d MB", goal[0].Value.Uint64()>>20)
	}
	for range 200 {
		held = append(held, make([]byte, 1<<20))
	}
	if !settle(func(n int) bool { return n == heapGrowth }) {
		t.Errorf("with 200 MB in use it is %d", set())
	}
	runtime.KeepAlive(held)
	held = nil
	if !settle(func(n int) bool { return n > 100 }) {
		t.Errorf("with little in use again it is %d", set())
	}
}
