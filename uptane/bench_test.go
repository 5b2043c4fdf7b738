package uptane

import (
	"maps"
	"testing"
	"time"
)

// cycle does what a release does: read what there is, add, compare, sign, verify.
func cycle(tb testing.TB, w world, old []byte, added map[string]Target, l Limits) {
	prev, err := ParseTargets(Image, old, WithLimits(l))
	if err != nil {
		tb.Fatal(err)
	}
	next, err := prev.Next(soon, func(c *TargetsConfig) error { maps.Copy(c.Targets, added); return nil })
	if err != nil {
		tb.Fatal(err)
	}
	if d := DiffDocuments(prev, next); len(d.Targets) != len(added) || len(d.String()) == 0 {
		tb.Fatal("wrong diff")
	}
	out, err := Sign(next, w.targets)
	if err != nil {
		tb.Fatal(err)
	}
	back, err := ParseTargets(Image, out, WithLimits(l))
	if err != nil {
		tb.Fatal(err)
	}
	root := must(NewRoot(w.rootConfig(tb)))
	if err := RoleAuthority(root, RoleTargets).Verify(back); err != nil {
		tb.Fatal(err)
	}
}

func benchmarkTargets(b *testing.B, n int) {
	w, l := newWorld(), DefaultLimits()
	l.ImageTargets = 256 << 20 // 100,000 targets are more than the stock client reads
	added := map[string]Target{}
	for i := range n {
		name, x := imageTarget(i)
		added[name] = x
	}
	old := must(Sign(must(NewTargets(TargetsConfig{Version: 1, Expires: soon, Limits: &l})), w.targets))
	for b.Loop() {
		cycle(b, w, old, added, l)
	}
}

func BenchmarkTargets10k(b *testing.B)  { benchmarkTargets(b, 10_000) }
func BenchmarkTargets100k(b *testing.B) { benchmarkTargets(b, 100_000) }

// TestTenThousandTargets holds the figure that issue 4 asks for.
func TestTenThousandTargets(t *testing.T) {
	w := newWorld()
	added := map[string]Target{}
	for i := range 10_000 {
		name, x := imageTarget(i)
		added[name] = x
	}
	old := must(Sign(must(NewTargets(TargetsConfig{Version: 1, Expires: soon})), w.targets))
	best := time.Duration(1<<63 - 1)
	for range 3 { // other tests share the machine
		start := time.Now()
		cycle(t, w, old, added, DefaultLimits())
		best = min(best, time.Since(start))
	}
	if best > slowdown*2*time.Second {
		t.Errorf("add, diff, sign and verify of 10,000 targets took %v", best)
	}
}
