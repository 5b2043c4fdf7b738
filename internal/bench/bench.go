// Package bench compares us with a peer in one run, on these noisy machines: the two take turns, and the median over
// rounds counts. It prints for people and programs alike: "figure NAME VALUE UNIT" and "ratio NAME VALUE", where a
// ratio is ours over theirs in work done per time, so that more is better.
package bench

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
)

// Side is one of the two that are compared: Rate does a fixed piece of work and returns how much of it was done a
// second.
type Side struct {
	Name string
	Rate func() (perSecond float64, err error)
}

// Rounds is how often each side takes its turn: five times, or as HANAPER_BENCH_ROUNDS says.
func Rounds() int {
	if n, err := strconv.Atoi(os.Getenv("HANAPER_BENCH_ROUNDS")); err == nil && n > 0 {
		return n
	}
	return 5
}

// Compare lets ours and theirs take turns, after one uncounted turn each, and prints the median rate of each and the
// median of the rounds' ratios under name.
func Compare(b *testing.B, name, unit string, ours, theirs Side) {
	b.Helper()
	sides := [2]Side{ours, theirs}
	var rates [2][]float64
	var ratios []float64
	for round := -1; round < Rounds(); round++ {
		var now [2]float64
		for i := range sides {
			// Who goes first changes, so that neither always meets the warmer machine.
			s := (i + round + 2) % 2
			rate, err := sides[s].Rate()
			if err != nil {
				b.Fatalf("%s: %v", sides[s].Name, err)
			}
			now[s] = rate
		}
		if round < 0 {
			continue
		}
		for s := range sides {
			rates[s] = append(rates[s], now[s])
		}
		ratios = append(ratios, now[0]/now[1])
	}
	for s := range sides {
		Figure(sides[s].Name, Median(rates[s]), unit)
	}
	Ratio(name, Median(ratios))
	b.ReportMetric(Median(ratios), "ratio")
	b.ReportMetric(0, "ns/op")
}

// Figure prints one figure.
func Figure(name string, value float64, unit string) {
	fmt.Printf("figure %s %s %s\n", name, number(value), unit)
}

// Ratio prints one ratio, ours over theirs.
func Ratio(name string, value float64) { fmt.Printf("ratio %s %.3f\n", name, value) }

func number(v float64) string {
	if v >= 100 {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'f', 3, 64)
}

// Median of vs, which is not changed; 0 for none.
func Median(vs []float64) float64 {
	if len(vs) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(vs))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}
