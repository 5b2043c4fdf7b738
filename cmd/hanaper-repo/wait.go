package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hanaper/hanaper/trust"
)

// Gateways wait for the next timestamp: they ask for it unless it is still the one they have (If-None-Match), and to have the answer held back until it is
// not, for some seconds (Prefer: wait, RFC 7240). So a revocation reaches them when it is published. Nobody needs a certificate to wait, as
// nobody needs one to read: somebody who takes all places sends the gateways back to looking every interval.

const (
	// maxWait is for how long an answer is held back at most.
	maxWait = time.Minute
	// maxWaiters are the requests that wait at once; maxWaitersOf those of one address.
	maxWaiters   = 2048
	maxWaitersOf = 64
)

// waiters are the places for those who wait.
type waiters struct {
	mu    sync.Mutex
	all   int
	of    map[string]int
	ended chan struct{}
	once  sync.Once
}

func newWaiters() *waiters { return &waiters{of: map[string]int{}, ended: make(chan struct{})} }

// end has nobody wait any more.
func (q *waiters) end() { q.once.Do(func() { close(q.ended) }) }

// enter takes a place for an address, if there is one; leave gives it back.
func (q *waiters) enter(address string) (leave func(), ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.all >= maxWaiters || q.of[address] >= maxWaitersOf {
		return nil, false
	}
	q.all++
	q.of[address]++
	return func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.all--
		if q.of[address]--; q.of[address] == 0 {
			delete(q.of, address)
		}
	}, true
}

// timestamp serves timestamp.json, at once or when it has changed.
func (s *site) timestamp(w http.ResponseWriter, r *http.Request) {
	deadline := time.Now()
	if wait := preferredWait(r.Header.Values("Prefer")); wait > 0 && r.Header.Get("If-None-Match") != "" {
		address, _, _ := net.SplitHostPort(r.RemoteAddr)
		if leave, ok := s.waiters.enter(address); ok {
			defer leave()
			deadline = deadline.Add(wait)
			w.Header().Set("Preference-Applied", fmt.Sprintf("wait=%d", int(wait.Seconds())))
			// The server's deadline for a request is for reading it.
			_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
		}
	}
	for {
		// Asked for before the file is read, so that no change falls between.
		changed := s.publisher.Changed()
		if err := s.publisher.View().Valid(now()); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		data, err := s.readTimestamp()
		if errors.Is(err, fs.ErrNotExist) {
			http.NotFound(w, r)
			return
		}
		if err != nil {
			http.Error(w, "not readable", http.StatusInternalServerError)
			return
		}
		tag := tagOf(sha256.Sum256(data))
		same := hasTag(r.Header.Values("If-None-Match"), tag)
		if same && s.wait(r.Context(), changed, time.Until(deadline)) {
			continue
		}
		setHeader(w, "application/json", "no-cache")
		w.Header().Set("ETag", tag)
		if same {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		_, _ = w.Write(data)
		return
	}
}

func (s *site) readTimestamp() ([]byte, error) {
	f, err := s.root.Open(trust.TimestampPath)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, trust.MaxTimestampSize))
}

// wait says whether something was published before the time was over, the client went, or the server ends.
func (s *site) wait(ctx context.Context, changed <-chan struct{}, d time.Duration) bool {
	if d <= 0 {
		return false
	}
	late := time.NewTimer(d)
	defer late.Stop()
	select {
	case <-changed:
		return true
	case <-late.C:
	case <-ctx.Done():
	case <-s.waiters.ended:
	}
	return false
}

// preferredWait reads the preference wait, in seconds (RFC 7240, section 4.3); 0 for none.
func preferredWait(values []string) time.Duration {
	for _, v := range values {
		for _, p := range strings.Split(v, ",") {
			name, value, _ := strings.Cut(strings.TrimSpace(p), "=")
			if n, err := strconv.ParseUint(strings.TrimSpace(value), 10, 16); err == nil && strings.EqualFold(strings.TrimSpace(name), "wait") {
				return min(time.Duration(n)*time.Second, maxWait)
			}
		}
	}
	return 0
}

// hasTag says whether If-None-Match names the tag, or any (RFC 9110, section 13.1.2).
func hasTag(values []string, tag string) bool {
	for _, v := range values {
		for _, t := range strings.Split(v, ",") {
			if t = strings.TrimPrefix(strings.TrimSpace(t), "W/"); t == tag || t == "*" {
				return true
			}
		}
	}
	return false
}
