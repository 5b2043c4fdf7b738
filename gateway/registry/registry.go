// Package registry keeps the devices that gateways have met, and what operators say of them: what becomes of a meeting, of an act, what is kept in
// memory, and how it is learnt what others did. It holds no database: gateway/registry/sqlite keeps the devices in a file,
// gateway/registry/postgres in a database that several gateways share, and registrytest is the suite that both must pass.
//
// It trusts its database. An attacker who can write there can make gateways refuse a device, forget one, let in one that was blocked, or bind an id to
// another key; what the trust view refuses stays refused, and he can make no certificate. Device ids and notes are personal data. A device chooses its
// id, serial and issuer only as far as a CA of the fleet certified them; they are bound values in statements and never part of one.
package registry

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/hanaper/hanaper/gateway"
)

const (
	// keptInMind bounds the devices whose last certificate is kept in memory.
	keptInMind = 200_000
	// flushEvery is how often last-seen times are written, pollEvery how often acts of others are looked for.
	flushEvery = 2 * time.Second
	pollEvery  = 400 * time.Millisecond
	// lookTime bounds one look.
	lookTime = 5 * time.Second
	// probeEvery is for how long nothing is written before a write is tried.
	probeEvery = 10 * time.Second
	// DefaultBlind is for how long acts of others may not be seen before nobody is admitted.
	DefaultBlind = 15 * time.Second
	// maxUnwritten bounds the last-seen times in memory.
	maxUnwritten = 100_000
)

// Config is how a registry behaves.
type Config struct {
	// Who is in the log where the registry itself acts; "" means "gateway HOST".
	Who string
	// Blind is for how long the database may not answer before nobody is admitted; 0 means DefaultBlind. What others block meanwhile is not seen.
	Blind time.Duration
}

// Registry is a gateway.Registry on a Store.
type Registry struct {
	store  Store
	who    string
	blind  time.Duration
	memory memory

	queues  []*queue
	changed chan struct{}
	look    sync.Mutex
	wake    chan struct{}
	stop    chan struct{}
	done    sync.WaitGroup
	once    sync.Once
	closed  error

	// lost is why the database is not that which was opened; looked is when acts were last looked for, wrote when something was written, both on the
	// clock that began with opened; sick is why the last write failed.
	lost, sick    atomic.Pointer[error]
	looked, wrote atomic.Int64
	opened        time.Time
	wasDown       bool

	seenMu sync.Mutex
	seen   map[Key]Sighting

	figures figures
}

var _ gateway.Registry = (*Registry)(nil)

// New makes a registry of a store, which it closes in the end, also where it fails.
func New(store Store, c Config) (*Registry, error) {
	if c.Who == "" {
		host, _ := os.Hostname()
		c.Who = "gateway " + host
	}
	if c.Blind == 0 {
		c.Blind = DefaultBlind
	}
	r := &Registry{store: store, who: c.Who, blind: c.Blind, changed: make(chan struct{}, 1), wake: make(chan struct{}, 1),
		stop: make(chan struct{}), opened: time.Now(), seen: map[Key]Sighting{}}
	if err := r.memory.prepare(); err != nil {
		return nil, errors.Join(err, store.Close())
	}
	if err := r.reload(context.Background()); err != nil {
		return nil, errors.Join(err, store.Close())
	}
	for range max(store.Writers(), 1) {
		r.queues = append(r.queues, newQueue(r.meetAll))
	}
	r.done.Add(2)
	go r.follow()
	go r.keepUp()
	return r, nil
}

// reload reads all who are barred.
func (r *Registry) reload(ctx context.Context) error {
	fresh := map[print]State{}
	number, err := r.store.Barred(ctx, func(k Key, s State) { fresh[r.memory.print(k.Environment, k.Fold)] = s })
	if err != nil {
		return err
	}
	r.memory.replace(fresh, number)
	r.saw()
	return nil
}

// learn takes in what was done since the last look, by whomever.
func (r *Registry) learn(ctx context.Context) (changed bool, err error) {
	r.look.Lock()
	defer r.look.Unlock()
	last, err := r.store.Last(ctx)
	if err != nil {
		return false, err
	}
	for {
		at := r.memory.number.Load()
		switch {
		case last == at:
			r.saw()
			return changed, nil
		case last < at, last-at > maxCatchUp:
			// It was put back, or too much has happened.
			return true, r.reload(ctx)
		}
		entries, err := r.store.Log(ctx, gateway.LogFilter{After: at, Limit: 1000})
		if err != nil {
			return changed, err
		}
		if len(entries) == 0 {
			return true, r.reload(ctx)
		}
		for _, e := range entries {
			if !r.memory.learn(e) {
				return true, r.reload(ctx)
			}
		}
		changed = true
	}
}

// maxCatchUp is how many acts are read one after another; beyond them all who are barred are read anew.
const maxCatchUp = 20_000

func (r *Registry) saw() { r.looked.Store(int64(time.Since(r.opened))) }

// follow notices what others do.
func (r *Registry) follow() {
	defer r.done.Done()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		select {
		case <-r.stop:
			return
		case <-tick.C:
		case <-r.store.Wakes():
		}
		ctx, cancel := context.WithTimeout(context.Background(), lookTime)
		changed, err := r.learn(ctx)
		cancel()
		if lost := r.store.Lost(); lost != nil {
			r.lost.Store(&lost)
		} else {
			r.lost.Store(nil)
		}
		down := r.Err() != nil
		if err == nil && changed || down != r.wasDown {
			r.tell()
		}
		r.wasDown = down
	}
}

// keepUp writes last-seen times, and something where nothing else is written.
func (r *Registry) keepUp() {
	defer r.done.Done()
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for {
		select {
		case <-r.stop:
			return
		case <-r.wake:
			_ = r.flush()
		case <-tick.C:
			// A full disk shows at the next meeting, which waits for its answer; last-seen times are lost meanwhile.
			_ = r.flush()
			r.probe()
		}
	}
}

// Err implements gateway.Registry.
func (r *Registry) Err() error {
	if lost := r.lost.Load(); lost != nil {
		return *lost
	}
	if blind := r.Blind(); blind > r.blind {
		return fmt.Errorf("the registry has not answered for %s", blind.Round(time.Second))
	}
	return nil
}

// Blind is for how long acts of others were not seen.
func (r *Registry) Blind() time.Duration {
	return time.Since(r.opened) - time.Duration(r.looked.Load())
}

// Trouble implements gateway.Registry.
func (r *Registry) Trouble() error {
	if sick := r.sick.Load(); sick != nil {
		return *sick
	}
	return nil
}

// noteWrite notes how a write ended.
func (r *Registry) noteWrite(err error) {
	if err != nil {
		r.figures.failed.Add(1)
		r.sick.Store(&err)
		return
	}
	r.sick.Store(nil)
	r.wrote.Store(int64(time.Since(r.opened)))
}

// probe writes a row of its own where nobody else has written for some time: a disk that is full is known before a new device comes.
func (r *Registry) probe() {
	if r.sick.Load() == nil && time.Since(r.opened)-time.Duration(r.wrote.Load()) < probeEvery {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), writeTime)
	defer cancel()
	r.noteWrite(r.store.Probe(ctx, time.Now()))
}

// writeTime bounds one transaction.
const writeTime = 25 * time.Second

func (r *Registry) tell() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// Standing implements gateway.Registry.
func (r *Registry) Standing(environment, device string, key [32]byte) error {
	return r.memory.standing(environment, Fold(device), key)
}

// Changed implements gateway.Registry.
func (r *Registry) Changed() <-chan struct{} { return r.changed }

// Seen implements gateway.Registry.
func (r *Registry) Seen(environment, device string, at time.Time) {
	k := KeyOf(environment, device)
	r.seenMu.Lock()
	r.seen[k] = Sighting{Key: k, At: at.Unix()}
	full := len(r.seen) >= maxUnwritten
	r.seenMu.Unlock()
	if full {
		select {
		case r.wake <- struct{}{}:
		default:
		}
	}
}

func (r *Registry) flush() error {
	r.seenMu.Lock()
	seen := r.seen
	r.seen = make(map[Key]Sighting, len(seen))
	r.seenMu.Unlock()
	if len(seen) == 0 {
		return nil
	}
	list := make([]Sighting, 0, len(seen))
	for k, s := range seen {
		s.Certificate, _ = r.memory.certificate(k)
		list = append(list, s)
	}
	ctx, cancel := context.WithTimeout(context.Background(), writeTime)
	defer cancel()
	err := r.store.Seen(ctx, list)
	r.noteWrite(err)
	return err
}

// Close writes what is not written yet.
func (r *Registry) Close() error {
	r.once.Do(func() {
		close(r.stop)
		for _, q := range r.queues {
			q.end()
		}
		r.done.Wait()
		r.closed = errors.Join(r.flush(), r.store.Close())
	})
	return r.closed
}

// recent is the certificate by which each device was last met.
type recent = lru.Cache[print, [32]byte]
