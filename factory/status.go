package factory

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hanaper/hanaper/factory/record"
)

// IssuerStatus is how an issuing CA stands.
type IssuerStatus struct {
	// Name is the common name in its certificate.
	Name     string
	NotAfter time.Time
	// First says that new certificates come from it.
	First bool
	Keys  []KeyStatus
	// List is its latest revocation list, nil for none.
	List *ListStatus
}

// KeyStatus is how the key in one token stands.
type KeyStatus struct {
	// Signs says that its last signature succeeded; Failed is when it did not.
	Signs  bool
	Failed time.Time
}

// ListStatus is a revocation list.
type ListStatus struct {
	Number                 int64
	ThisUpdate, NextUpdate time.Time
}

// CAs tells how each issuing CA stands, in the configuration's order.
func (s *Service) CAs() (all []IssuerStatus) {
	first := s.first(s.clock.best())
	for _, by := range s.issuers {
		one := IssuerStatus{Name: by.cert.Subject.CommonName, NotAfter: by.cert.NotAfter.UTC(), First: by == first}
		for _, k := range by.keys {
			failed := k.failed.Load()
			state := KeyStatus{Signs: failed == 0}
			if failed != 0 {
				state.Failed = time.Unix(0, failed).UTC()
			}
			one.Keys = append(one.Keys, state)
		}
		if c := by.crl.Load(); c != nil {
			one.List = &ListStatus{c.Number, c.ThisUpdate.UTC(), c.NextUpdate.UTC()}
		}
		all = append(all, one)
	}
	return all
}

// LogStatus is how the issuance log stands.
type LogStatus struct {
	// Name is the log's, as its checkpoint says it.
	Name string
	// Size is how many events the last checkpoint covers, Events how many the record has.
	Size, Events int64
	// Age is for how long that checkpoint has been the last, and Behind for how long not all events have been covered, as far as this process saw.
	Age, Behind time.Duration
	// Words say why there is no checkpoint; empty where there is one.
	Words string
}

// logSeen is what LogStatus saw last.
type logSeen struct {
	mu          sync.Mutex
	size        int64
	since       time.Time
	behindSince time.Time
}

// LogStatus tells how the issuance log stands; false where none is kept.
func (s *Service) LogStatus(ctx context.Context) (l LogStatus, ok bool) {
	if s.c.IssuanceLog == nil {
		return l, false
	}
	a := s.c.IssuanceLog.Latest(ctx, 0)
	l.Words = a.Words
	// A checkpoint's first two lines are the log's name and how many entries it covers (C2SP tlog-checkpoint).
	if lines := strings.SplitN(a.Checkpoint, "\n", 3); len(lines) == 3 {
		l.Name = lines[0]
		l.Size, _ = strconv.ParseInt(lines[1], 10, 64)
	}
	events, err := s.c.Store.Sequence(ctx)
	if err == nil {
		l.Events = events
	}
	now := time.Now()
	seen := &s.logSeen
	seen.mu.Lock()
	defer seen.mu.Unlock()
	if seen.since.IsZero() || seen.size != l.Size {
		seen.size, seen.since = l.Size, now
	}
	l.Age = now.Sub(seen.since)
	switch {
	case l.Size >= l.Events:
		seen.behindSince = time.Time{}
	case seen.behindSince.IsZero():
		seen.behindSince = now
	default:
		l.Behind = now.Sub(seen.behindSince)
	}
	return l, true
}

// Recent tells the last events of the record, latest first, limit at most.
func (s *Service) Recent(ctx context.Context, limit int) ([]record.Event, error) {
	n, err := s.c.Store.Sequence(ctx)
	if err != nil {
		return nil, away("the store", err)
	}
	events, err := s.c.Store.Events(ctx, max(0, n-int64(limit)), limit)
	if err != nil {
		return nil, away("the store", err)
	}
	out := make([]record.Event, 0, len(events))
	for i := len(events) - 1; i >= 0; i-- {
		out = append(out, events[i])
	}
	return out, nil
}

// FindDevice looks for a device by its id ("id"), or by the serial number of one of its certificates in hex ("serial"), which may be an earlier one than the
// device has now.
func (s *Service) FindDevice(ctx context.Context, by, value string) (*DeviceAnswer, error) {
	switch by {
	case "id":
		return s.Device(ctx, value)
	case "serial":
		what, err := s.find(ctx, RevokeRequest{Serial: value})
		if err != nil {
			return nil, err
		}
		of := describe(what.rec)
		now, err := s.Device(ctx, of.DeviceID)
		if err != nil || now.Serial == of.Serial {
			return now, err
		}
		return of, nil
	}
	return nil, fault(CodeRequest, "look by id or serial", "there is no look-up by %.20q", by)
}
