package factory

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// keptRefusals is how many refusals are remembered, and maxRoutes how many different pairs of path and status are counted.
const (
	keptRefusals = 500
	maxRoutes    = 500
)

// tally counts what the service did since this process began. It is memory only: what must last is in the record. A caller chooses
// none of the names that are counted under, so that it does not grow with what callers send; what they sent stands in recent, which is bounded.
type tally struct {
	// enrol is how long a request for enrolment took in the service, token and store how long their part took.
	enrol, token, store histogram
	// waiting are requests that wait for a slot.
	waiting atomic.Int64

	mu         sync.Mutex
	enrolments map[string]uint64
	renewals   map[string]uint64
	// benches are requests that came with a shared credential.
	benches  map[string]uint64
	refusals map[Code]RefusalCount
	requests map[answers]uint64
	// recent holds the last refusals, the one to be overwritten next at index next.
	recent []Refusal
	next   int
}

// Refusal is a request that was turned away, or failed.
type Refusal struct {
	At time.Time
	// Caller is who asked ("station line-1"), Device the id that was asked for, and Lot its lot; both are empty where the request did not come that far.
	Caller, Device, Lot string
	// What was asked for: "enrolment", or a path of the API.
	What string
	Code Code
	// Text and Hint are what the caller was told.
	Text, Hint string
}

// RefusalCount is how often there was a refusal with a code since this process began, and when last.
type RefusalCount struct {
	Code  Code
	Count uint64
	Last  time.Time
}

// The results of enrolments beside the codes of refusals.
const (
	resultNew    = "new"     // a certificate was issued
	resultKnown  = "known"   // the one on record was answered
	resultHungUp = "hung_up" // the caller did not wait for the answer
)

// enrolment counts one enrolment that is at its end, and gives its error back, as a fault that was told.
func (t *tally) enrolment(ctx context.Context, q Refusal, isNew bool, err error, took time.Duration) error {
	t.enrol.observe(took)
	result := resultKnown
	switch {
	case isNew:
		result = resultNew
	case err != nil && errors.Is(ctx.Err(), context.Canceled):
		result = resultHungUp
	case err != nil:
		f := asFault(err)
		f.told = true
		if !errors.Is(err, f) {
			err = f
		}
		result = string(f.Code)
		q.What = "enrolment"
		t.refused(q, f)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.enrolments == nil {
		t.enrolments = map[string]uint64{}
	}
	t.enrolments[result]++
	return err
}

// renewal counts a renewal that is at its end. Its refusals are kept where they are answered.
func (t *tally) renewal(ctx context.Context, isNew bool, err error) {
	result := resultKnown
	switch {
	case isNew:
		result = resultNew
	case err != nil && errors.Is(ctx.Err(), context.Canceled):
		result = resultHungUp
	case err != nil:
		result = string(asFault(err).Code)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.renewals == nil {
		t.renewals = map[string]uint64{}
	}
	t.renewals[result]++
}

// bench counts what a shared credential asked for.
func (t *tally) bench(err error) {
	result := resultNew
	if err != nil {
		result = string(asFault(err).Code)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.benches == nil {
		t.benches = map[string]uint64{}
	}
	t.benches[result]++
}

// refused keeps a refusal.
func (t *tally) refused(r Refusal, f *Fault) {
	r.Code, r.Text, r.Hint = f.Code, f.Text, f.Hint
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.refusals == nil {
		t.refusals = map[Code]RefusalCount{}
	}
	t.refusals[r.Code] = RefusalCount{r.Code, t.refusals[r.Code].Count + 1, r.At}
	if len(t.recent) < keptRefusals {
		t.recent = append(t.recent, r)
		return
	}
	t.recent[t.next] = r
	t.next = (t.next + 1) % keptRefusals
}

// answered counts an answer by the route that it was asked on (its pattern, not the path) and its status.
func (t *tally) answered(route string, status int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.requests == nil {
		t.requests = map[answers]uint64{}
	}
	key := answers{route, status}
	if _, known := t.requests[key]; known || len(t.requests) < maxRoutes {
		t.requests[key]++
	}
}

// answers are those of one route with one status.
type answers struct {
	route  string
	status int
}

// Refusals tells the last refusals, latest first, limit at most.
func (s *Service) Refusals(limit int) []Refusal {
	t := &s.tally
	t.mu.Lock()
	defer t.mu.Unlock()
	all := slices.Concat(t.recent[t.next:], t.recent[:t.next])
	slices.Reverse(all)
	return all[:min(limit, len(all))]
}

// RefusalCounts tells how often each code was answered since this process began, the most frequent first.
func (s *Service) RefusalCounts() []RefusalCount {
	s.tally.mu.Lock()
	defer s.tally.mu.Unlock()
	return slices.SortedFunc(maps.Values(s.tally.refusals), func(a, b RefusalCount) int {
		if a.Count != b.Count {
			return int(b.Count) - int(a.Count)
		}
		return strings.Compare(string(a.Code), string(b.Code))
	})
}

// buckets are the upper bounds of a histogram, in seconds.
var buckets = [...]float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}

// histogram counts how long something took.
type histogram struct {
	counts [len(buckets) + 1]atomic.Uint64
	nanos  atomic.Int64
}

func (h *histogram) observe(took time.Duration) {
	n := 0
	for n < len(buckets) && took.Seconds() > buckets[n] {
		n++
	}
	h.counts[n].Add(1)
	h.nanos.Add(int64(took))
}
