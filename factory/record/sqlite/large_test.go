package sqlite

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hanaper/hanaper/factory/record"
	"github.com/hanaper/hanaper/factory/record/recordtest"
)

// generate fills a store with so many devices, without waiting for the disk.
func generate(t testing.TB, dir string, from, to int) {
	t.Helper()
	s := opened(t, dir)
	defer s.Close()
	tx := &transaction{context.Background(), s.writer}
	recordtest.Fill(t, func(query string, args ...any) error {
		_, err := tx.Exec(query, args...)
		return err
	}, from, to)
}

// rate enrols with 16 callers, and gives intents with results a second.
func rate(t testing.TB, s *Store, name string, n int) float64 {
	ctx := context.Background()
	var next atomic.Int64
	var group sync.WaitGroup
	begin := time.Now()
	for range 16 {
		group.Go(func() {
			for {
				i := next.Add(1)
				if i > int64(n) {
					return
				}
				r, _, err := s.Begin(ctx, recordtest.Intent(fmt.Sprint(name, i), fmt.Sprint(name, "k", i)))
				if err == nil {
					_, err = s.Finish(ctx, record.Result{ID: r.ID, TBSDigest: r.TBSDigest, Certificate: make([]byte, 650), At: recordtest.At, Who: "station line-1"})
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	return float64(n) / time.Since(begin).Seconds()
}

// size is how many devices the large store has: 10,000, or as HANAPER_DEVICES says (make soak: ten million).
func size() int {
	if n, err := strconv.Atoi(os.Getenv("HANAPER_DEVICES")); err == nil && n > 0 {
		return n
	}
	return 10_000
}

// TestLargeStore: a store with many devices opens in under two seconds, answers, takes
// intents nearly as fast as an empty one, and needs no more memory.
func TestLargeStore(t *testing.T) {
	n, dir := size(), filepath.Join(t.TempDir(), "large")
	begin := time.Now()
	generate(t, dir, 0, n)
	t.Logf("%d devices were generated in %v", n, time.Since(begin).Round(time.Second))
	small := opened(t, filepath.Join(t.TempDir(), "small"))
	defer small.Close()
	begin = time.Now()
	large := opened(t, dir)
	defer large.Close()
	if _, err := large.OpenIntents(t.Context(), 0, 500); err != nil {
		t.Fatal(err)
	}
	limit := 2 * time.Second
	if n < 1_000_000 {
		limit = time.Minute // make test: the machine is busy, and the race detector is slow
	}
	if took := time.Since(begin); took > limit {
		t.Errorf("opened after %v", took)
	} else {
		t.Logf("opened after %v", took.Round(time.Millisecond))
	}
	var heap [2]uint64
	measure := func(i int) {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		heap[i] = m.HeapAlloc + m.StackInuse
	}
	measure(0)
	// In turns, for the machine is not quiet; the medians of the halves are compared.
	var ratios []float64
	asked := 1000
	if n < 1_000_000 {
		asked = 300
	}
	for i := range 5 {
		a := rate(t, small, fmt.Sprint("s", i, "-"), asked)
		b := rate(t, large, fmt.Sprint("l", i, "-"), asked)
		t.Logf("%.0f/s in an empty store, %.0f/s in the large one", a, b)
		ratios = append(ratios, b/a)
	}
	measure(1)
	if grown := int64(heap[1]) - int64(heap[0]); grown > 64<<20 {
		t.Errorf("%d MB more memory", grown>>20)
	}
	begin = time.Now()
	const asks = 500
	for i := range asks {
		if r, err := large.ByDevice(t.Context(), fmt.Sprintf("vin-%012d", 1+i*(n/asks))); err != nil || r.State != record.StateIssued {
			t.Fatal(r, err)
		}
	}
	t.Logf("asked %v a device", time.Since(begin)/asks)
	slower := median(ratios)
	t.Logf("ratio large/empty %.3f", slower)
	// This is the rate of the store alone: the rest of an enrolment (TLS, the request's checks, the signature) costs the same whatever the
	// store's size, so that enrolments fall by less. On a busy machine few devices say nothing.
	if n >= 1_000_000 && slower < 0.6 {
		t.Errorf("the large store takes intents at %.2f of an empty one's rate", slower)
	}
}

func median(v []float64) float64 {
	for i := range v {
		for j := i; j > 0 && v[j] < v[j-1]; j-- {
			v[j], v[j-1] = v[j-1], v[j]
		}
	}
	return v[len(v)/2]
}

// TestStoreGrowsLinearly: revocations one after another, each with a list of all so far, leave a store that grows with their number, for
// only the last few lists stay. HANAPER_SOAK: a hundred thousand of them.
func TestStoreGrowsLinearly(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	s := opened(t, dir)
	defer s.Close()
	sizes := map[int]int64{}
	step := 500
	if os.Getenv("HANAPER_SOAK") != "" {
		step = 25_000
	}
	for i := 1; i <= 4*step; i++ {
		if _, _, err := s.Revoke(ctx, record.Revocation{Issuer: recordtest.Issuer, Serial: fmt.Appendf(nil, "\x01serial-%012d", i), Reason: 1, At: recordtest.At, Who: "operator olga"}); err != nil {
			t.Fatal(err)
		}
		if i%(step/25) == 0 { // as the interval between lists has it, at this speed
			if _, err := s.NextCRL(ctx, recordtest.Issuer, func(ctx context.Context, turn record.ListTurn) (*record.CRL, error) {
				n, err := turn.Number(ctx, 0)
				return &record.CRL{Number: n, DER: make([]byte, 38*recordtest.Revoked(t, turn)), ThisUpdate: recordtest.At, NextUpdate: recordtest.At, UpTo: turn.UpTo}, err
			}); err != nil {
				t.Fatal(err)
			}
		}
		if i%step == 0 {
			var pages, free int64
			if err := s.DB.QueryRowContext(ctx, "SELECT (SELECT page_count FROM pragma_page_count()), (SELECT freelist_count FROM pragma_freelist_count())").Scan(&pages, &free); err != nil {
				t.Fatal(err)
			}
			sizes[i/step] = pages * 4096
		}
	}
	t.Log(sizes)
	if first, last := sizes[2]-sizes[1], sizes[4]-sizes[3]; last > 2*first+1<<20 {
		t.Errorf("the fourth part took %d bytes, the second %d", last, first)
	}
}
