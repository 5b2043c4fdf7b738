package factory

import (
	"context"
	"time"
)

// WatchExpiries has the log tell of what ends, as Run does now and then.
func (s *Service) WatchExpiries() { s.watchExpiries() }

// What the client's tests ask.
var (
	ProxyFunc    = proxyFunc
	PauseBefore  = pauseBefore
	RetryAfterOf = retryAfterOf
)

// IssuerID is the name of a CA in the store.
var IssuerID = issuerID

// Metrics are what GET /metrics answers while nothing is in work.
func (s *Service) Metrics(ctx context.Context) []byte { return s.metrics(ctx, load{limit: 256}) }

// WatchLots notes how far the open lots have come, as Run does each minute.
func (s *Service) WatchLots(ctx context.Context) { s.watchLots(ctx) }

// SetBatchTimes shortens what a batch waits; it gives back what undoes that.
func SetBatchTimes(line, whole time.Duration) (undo func()) {
	l, w := lineTime, batchTime
	lineTime, batchTime = line, whole
	return func() { lineTime, batchTime = l, w }
}

// CheckAgain sets after how long a damaged store is looked at again, and gives what it was.
func CheckAgain(d time.Duration) (was time.Duration) {
	was, checkAgain = checkAgain, d
	return was
}
