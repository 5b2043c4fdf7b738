package factory_test

import (
	"context"
	"crypto/ed25519"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/factory/issuancelog"
	"github.com/hanaper/hanaper/factory/logbook"
	"github.com/hanaper/hanaper/internal/bench"
	"github.com/hanaper/hanaper/journal"
)

// follow has an issuance log follow the service's store until the benchmark ends.
func (r *running) follow(b *testing.B, dir string) *issuancelog.Log {
	b.Helper()
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	vkey, err := journal.VerifierKey(logName, key.Public())
	if err != nil {
		b.Fatal(err)
	}
	policy, err := logbook.NewPolicy(logbook.PolicyConfig{Key: vkey})
	if err != nil {
		b.Fatal(err)
	}
	l, err := issuancelog.New(issuancelog.Config{Folder: dir, Policy: policy, Key: key, Record: issuancelog.Of(r.store), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); l.Run(ctx) }()
	b.Cleanup(func() { stop(); <-done })
	return l
}

// BenchmarkCompareRecordLog is enrolment over HTTPS with a log that follows beside enrolment without one, in turns: no request
// waits for the log. It also tells how long after the last answer a checkpoint covers everything.
func BenchmarkCompareRecordLog(b *testing.B) {
	const each = 3000
	p := newPlant(b)
	var log *issuancelog.Log
	with := serve(b, p, func(c *factory.ServiceConfig) {})
	log = with.follow(b, filepath.Join(b.TempDir(), "log"))
	without := serve(b, p)
	sides := map[string]*running{"log": with, "nolog": without}
	var lag []float64
	rate := func(name string) func() (float64, error) {
		r := sides[name]
		clients := stations(b, r)
		return func() (float64, error) {
			pile := newPile(b, each)
			got := overHTTPS(b, r, clients, pile)
			if name == "log" {
				began := time.Now()
				for end := began.Add(time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
					n, err := r.store.Sequence(context.Background())
					if s := log.State(); err == nil && s.Signed == uint64(n) {
						break
					}
				}
				lag = append(lag, time.Since(began).Seconds())
			}
			return got, nil
		}
	}
	bench.Compare(b, "log/nolog", "enrolments/s", bench.Side{Name: "enroll-log", Rate: rate("log")}, bench.Side{Name: "enroll-nolog", Rate: rate("nolog")})
	bench.Figure("log-lag", bench.Median(lag), "s after the last answer until a checkpoint covers it")
}
