package uptane

import (
	"maps"
	"testing"
	"time"

	"github.com/hanaper/hanaper/internal/bench"
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

// BenchmarkCompareTargets prints the figures of a release: 10,000 and 100,000 targets read, added, compared, signed and verified.
// There is no peer to compare with: no other library holds this format.
func BenchmarkCompareTargets(b *testing.B) {
	w, l := newWorld(), DefaultLimits()
	l.ImageTargets = 256 << 20
	old := must(Sign(must(NewTargets(TargetsConfig{Version: 1, Expires: soon, Limits: &l})), w.targets))
	median := func(n int) float64 {
		added := map[string]Target{}
		for i := range n {
			name, x := imageTarget(i)
			added[name] = x
		}
		var seconds []float64
		for range bench.Rounds() {
			start := time.Now()
			cycle(b, w, old, added, l)
			seconds = append(seconds, time.Since(start).Seconds())
		}
		return bench.Median(seconds)
	}
	small, large := median(10_000), median(100_000)
	bench.Figure("targets-10k", small, "s")
	bench.Figure("targets-100k", large, "s")
	bench.Figure("targets-100k-over-10k", large/small, "times")
}

// TestTenThousandTargets goes through the same with what the stock client's limits allow.
func TestTenThousandTargets(t *testing.T) {
	w := newWorld()
	added := map[string]Target{}
	for i := range 10_000 {
		name, x := imageTarget(i)
		added[name] = x
	}
	cycle(t, w, must(Sign(must(NewTargets(TargetsConfig{Version: 1, Expires: soon})), w.targets)), added, DefaultLimits())
}
