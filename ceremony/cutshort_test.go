package ceremony

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"
)

var errCut = errors.New("the power is cut")

// TestCutShort cuts a custody ceremony short after each act and before its result is journalled, and then resumes or
// aborts it: tokens initialised, PINs changed, keys wrapped, restored or destroyed, of which the journal knows the intent
// only.
func TestCutShort(t *testing.T) {
	defer func() { appending = nil }()
	stride := int64(7)
	if os.Getenv("HANAPER_SOAK") != "" {
		stride = 1
	}
	size := int64(1000)
	for n := int64(2); n <= size+stride; n += stride {
		for _, abort := range []bool{false, true} {
			if stride > 1 && (n/stride%2 == 1) != abort {
				continue
			}
			s, d, c := custodyStage(t)
			last := int64(0)
			appending = func(entry int64) error {
				if last = entry; entry == n {
					return errCut
				}
				return nil
			}
			_, err := Run(context.Background(), c)
			appending = nil
			if err == nil {
				if size = last; n <= size {
					t.Fatalf("entry %d of %d: the run was not cut short", n, size)
				}
				return
			}
			if !errors.Is(err, errCut) {
				t.Fatalf("entry %d: %v", n, err)
			}
			next := c
			next.Asserted = asserted.Add(time.Hour)
			if err = unfinished(&next); err != nil {
				t.Fatalf("entry %d: %v", n, err)
			}
			if abort {
				_, err = Abort(context.Background(), AbortConfig{RunConfig: next, Reason: "power cut", Agree: func(Aborting) error { return nil }})
			} else {
				_, err = Resume(context.Background(), next)
			}
			if err != nil {
				t.Fatalf("entry %d, abort %v: %v", n, abort, err)
			}
			report, err := s.verify(c.Out)
			if err != nil || report.Aborted != abort {
				t.Fatalf("entry %d, abort %v: %v", n, abort, err)
			}
			want := 1
			if abort {
				want = 0
			}
			if got := s.objects(); got != want {
				t.Fatalf("entry %d, abort %v: %d keys in the spare token, want %d", n, abort, got, want)
			}
			_ = d
		}
	}
}
