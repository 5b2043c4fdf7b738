package issuancelog

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hanaper/hanaper/factory/logbook"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/journal"
)

const origin = "factory.example/plant-7/issuance"

var errAway = errors.New("the database is away")

// testRecord is a record whose events follow from their numbers, but for those in other. It stands for the factory's store.
type testRecord struct {
	mu    sync.Mutex
	size  uint64
	other map[uint64]Event
	note  []byte
	noted uint64
	root  [32]byte
	// file, if it is named, keeps the checkpoint from process to process.
	file   string
	locked bool
	away   bool
	puts   []uint64
}

func event(i uint64) Event {
	e := Event{Index: i, Kind: logbook.Issue, At: time.Unix(1_764_000_000+int64(i), 0).UTC(), DeviceID: fmt.Sprintf("vin-%07d", i), Issuer: sha256.Sum256([]byte("issuer")),
		Serial: fmt.Appendf(nil, "s%d", i), SPKI: sha256.Sum256(fmt.Append(nil, "spki", i)), Certificate: sha256.Sum256(fmt.Append(nil, "der", i))}
	if i%10 == 9 {
		e.Kind, e.Reason = logbook.Revoke, 1
	}
	return e
}

func (r *testRecord) LogEvents(_ context.Context, from uint64, limit int) ([]Event, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.away {
		return nil, errAway
	}
	var out []Event
	for i := from; i < r.size && len(out) < limit; i++ {
		e, ok := r.other[i]
		if !ok {
			e = event(i)
		}
		out = append(out, e)
	}
	return out, nil
}

func (r *testRecord) LogSize(context.Context) (uint64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.away {
		return 0, errAway
	}
	return r.size, nil
}

func (r *testRecord) LogSecret(context.Context) ([32]byte, error) { return [32]byte{7}, nil }

func (r *testRecord) PutCheckpoint(_ context.Context, size uint64, root [32]byte, note []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.away {
		return errAway
	}
	if r.note != nil && (size < r.noted || size == r.noted && root != r.root) {
		return ErrCheckpointBack
	}
	r.noted, r.root, r.note = size, root, note
	r.puts = append(r.puts, size)
	if r.file != "" {
		return durable.WriteFile(r.file, note, 0o644)
	}
	return nil
}

func (r *testRecord) LastCheckpoint(context.Context) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.away {
		return nil, errAway
	}
	return r.note, nil
}

func (r *testRecord) LeadLog(ctx context.Context) (context.Context, func(), error) {
	for {
		r.mu.Lock()
		if !r.locked && !r.away {
			r.locked = true
			r.mu.Unlock()
			ctx, cancel := context.WithCancel(ctx)
			return ctx, func() {
				cancel()
				r.mu.Lock()
				defer r.mu.Unlock()
				r.locked = false
			}, nil
		}
		r.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (r *testRecord) add(n uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.size += n
}

func (r *testRecord) set(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
}

func key(seed byte) ed25519.PrivateKey {
	raw := make([]byte, ed25519.SeedSize)
	raw[0] = seed
	return ed25519.NewKeyFromSeed(raw)
}

func policy(t testing.TB, more ...func(*logbook.PolicyConfig)) *logbook.Policy {
	t.Helper()
	vkey, err := journal.VerifierKey(origin, key(1).Public())
	if err != nil {
		t.Fatal(err)
	}
	c := logbook.PolicyConfig{Key: vkey}
	for _, f := range more {
		f(&c)
	}
	p, err := logbook.NewPolicy(c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func config(t testing.TB, r *testRecord, dir string) Config {
	return Config{Folder: dir, Policy: policy(t), Key: key(1), Record: r, Every: 100 * time.Millisecond, Rest: 100 * time.Millisecond, Log: slog.New(slog.DiscardHandler)}
}

// running is a log that follows a record until the test, or stop, ends it.
type running struct {
	*Log
	t    testing.TB
	stop func()
}

func run(t testing.TB, c Config) *running {
	t.Helper()
	l, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.Run(ctx)
	}()
	r := &running{l, t, sync.OnceFunc(func() {
		cancel()
		<-done
	})}
	t.Cleanup(r.stop)
	return r
}

// until waits for a condition.
func (r *running) until(what string, ok func(State) bool) State {
	r.t.Helper()
	var last State
	for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		s := r.State()
		if ok(s) {
			return s
		}
		if s.Size != last.Size || s.Signed != last.Signed { // a slow disk takes long, but goes on
			last, end = s, time.Now().Add(time.Minute)
		}
		if time.Now().After(end) {
			r.t.Fatalf("%s does not happen: %+v", what, s)
		}
	}
}

func (r *running) signed(n uint64) {
	r.t.Helper()
	r.until(fmt.Sprint("a checkpoint of ", n), func(s State) bool { return s.Signed == n && s.Fault == "" })
}

// lay makes a log of n events and stops.
func lay(t testing.TB, n uint64) (*testRecord, string) {
	t.Helper()
	rec, dir := &testRecord{size: n}, filepath.Join(t.TempDir(), "log")
	r := run(t, config(t, rec, dir))
	r.signed(n)
	r.stop()
	return rec, dir
}
