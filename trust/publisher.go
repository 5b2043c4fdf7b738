package trust

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
)

// PublisherConfig says where the published repository lies and which online keys sign it.
type PublisherConfig struct {
	// Dir is the folder that is published: metadata/ and targets/. It is made if need be. Several processes may publish into it, one after
	// the other.
	Dir string
	Pin Pin
	// Environment must be the repository's.
	Environment string
	// Snapshot, Timestamp and CRL are the online keys that the officers named.
	Snapshot, Timestamp, CRL crypto.Signer
	// Lifetimes of what they sign; 0 means 7 days, 1 day and 7 days. Each is signed anew when half of it has passed.
	SnapshotLife, TimestampLife, CRLLife time.Duration
	// HighWater is a file outside of Dir that remembers the last publication, so that an older copy of Dir that was put back
	// is refused. Empty: nothing is remembered, and what Dir holds is believed if it verifies.
	HighWater string
	// LogEvery is how often the checkpoint of an issuance log that grows is published by itself; with every other publication it is
	// published anyhow. 0 means 10 minutes.
	LogEvery time.Duration
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Publisher writes the online half. It is safe for concurrent use.
type Publisher struct {
	config PublisherConfig
	mu     sync.Mutex
	view   *View
	// offered are checkpoints of logs to be published, by target; logged is when some were.
	offered map[string]LogInfo
	logged  time.Time
	// shown is view, for readers that must not wait for a publication; changed is closed when another one takes its place.
	shown   atomic.Pointer[View]
	changed atomic.Pointer[chan struct{}]
}

// lockName is the file in the published folder that keeps other publishers out.
const lockName = ".lock"

// lockPatience is how long one process waits for another's publication.
const lockPatience = 30 * time.Second

// NewPublisher finishes a publication that a crash interrupted, and verifies what is published, if anything is. Expired
// metadata is accepted here: Refresh signs anew what it may.
func NewPublisher(c PublisherConfig) (*Publisher, error) {
	if err := CheckEnvironment(c.Environment); err != nil {
		return nil, err
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.LogEvery == 0 {
		c.LogEvery = 10 * time.Minute
	}
	for _, l := range []struct {
		life *time.Duration
		is   time.Duration
	}{{&c.SnapshotLife, 7 * 24 * time.Hour}, {&c.TimestampLife, 24 * time.Hour}, {&c.CRLLife, 7 * 24 * time.Hour}} {
		if *l.life == 0 {
			*l.life = l.is
		}
		if *l.life < 2*time.Second || *l.life > 366*24*time.Hour {
			return nil, usage("", "a lifetime of %v is not between 2 s and a year", *l.life)
		}
	}
	for name, key := range map[string]crypto.Signer{"snapshot": c.Snapshot, "timestamp": c.Timestamp, crlRole: c.CRL} {
		if key == nil {
			return nil, usage("", "no %s key", name)
		}
		if err := CheckKey(key.Public()); err != nil {
			return nil, fmt.Errorf("%s key: %w", name, err)
		}
	}
	if err := checkHighWater(c.Dir, c.HighWater); err != nil {
		return nil, err
	}
	if err := durable.Mkdir(c.Dir, 0o755); err != nil {
		return nil, err
	}
	p := &Publisher{config: c}
	first := make(chan struct{})
	p.changed.Store(&first)
	return p, p.exclusively(func() error { return nil })
}

// exclusively runs do while no other process publishes into the folder, on what is published now.
func (p *Publisher) exclusively(do func() error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	deadline := time.Now().Add(lockPatience)
	for {
		lock, err := durable.Lock(filepath.Join(p.config.Dir, lockName))
		if err == nil {
			defer lock.Close()
			break
		}
		if !errors.Is(err, durable.ErrLocked) || time.Now().After(deadline) {
			return advice.Wrap(advice.Failed, err, "another process is publishing into this folder; wait for it")
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err := p.load(); err != nil {
		return err
	}
	if err := p.hold(); err != nil {
		return err
	}
	return do()
}

func (p *Publisher) load() error {
	if err := finishPending(p.config.Dir); err != nil {
		return err
	}
	timestamp, err := input.ReadFile(filepath.Join(p.config.Dir, filepath.FromSlash(timestampPath)))
	if errors.Is(err, fs.ErrNotExist) {
		if p.view != nil {
			return refuse(ErrIncomplete, p.config.Dir+"/"+timestampPath, "it was there before")
		}
		// To begin anew here would publish version 1 again, and forget every CRL: gateways would refuse it.
		left, err := filepath.Glob(filepath.Join(p.config.Dir, "metadata", "*.snapshot.json"))
		if err == nil && len(left) > 0 {
			return refuse(ErrIncomplete, p.config.Dir+"/"+timestampPath, "%s is there without it; put the folder back from a copy", filepath.Base(left[0]))
		}
		return err
	}
	if err != nil {
		return err
	}
	if p.view != nil && bytes.Equal(timestamp, p.view.raw.timestamp) {
		return nil
	}
	v, err := open(newReader(input.Dir(p.config.Dir)), nil, p.config.Pin, time.Unix(0, 0))
	if err != nil {
		return fmt.Errorf("what is published in %s does not verify: %w", show.Text(p.config.Dir), err)
	}
	if v.Environment() != p.config.Environment {
		return refuse(ErrEnvironment, p.config.Dir, "%s, not %s", v.Environment(), p.config.Environment)
	}
	p.show(v)
	return nil
}

// show makes v what is published.
func (p *Publisher) show(v *View) {
	p.view = v
	p.shown.Store(v)
	next := make(chan struct{})
	close(*p.changed.Swap(&next))
}

// Changed is closed when another view is published than the one that View gives from now on.
func (p *Publisher) Changed() <-chan struct{} { return *p.changed.Load() }

// View is what is published; nil if nothing is. It may have expired: ask Valid before serving it.
func (p *Publisher) View() *View { return p.shown.Load() }

// Import publishes the officers' offline half, new or newer than the one published. The same one again changes nothing.
func (p *Publisher) Import(offline fs.FS) error {
	return p.exclusively(func() error { return p.importOfficers(offline) })
}

func (p *Publisher) importOfficers(offline fs.FS) error {
	now := p.config.Now()
	rep, err := OpenRepository(offline, p.config.Pin, now)
	if err != nil {
		return err
	}
	if rep.Environment() != p.config.Environment {
		return refuse(ErrEnvironment, "the officers' part", "%s, not %s", rep.Environment(), p.config.Environment)
	}
	files, err := rep.Part(offline)
	if err != nil {
		return err
	}
	next := &publication{officers: rep, files: files}
	if p.view != nil {
		old := p.view.officers
		last := old.roots.raw[len(old.roots.raw)-1]
		if !rep.roots.contains(digestOf(last)) {
			return refuse(ErrRollback, "the officers' part", "it lacks root %d, which is published", old.RootVersion())
		}
		if rep.head.version == old.head.version && string(rep.targetsRaw) == string(old.targetsRaw) && len(rep.roots.raw) == len(old.roots.raw) {
			return p.refresh(now)
		}
	}
	return p.publish(next, now)
}

// AddCRL publishes a CA's CRL (DER or PEM). It may only tighten; the CRL that is published already changes nothing.
func (p *Publisher) AddCRL(data []byte) error {
	return p.exclusively(func() error { return p.addCRL(data) })
}

func (p *Publisher) addCRL(data []byte) error {
	if p.view == nil {
		return errNothing
	}
	der, err := derCRL(data)
	if err != nil {
		return advice.New(advice.Unverified, "", "the CRL %w", err)
	}
	if known := p.sameCRL(digestOf(der)); known {
		return nil
	}
	c, err := parseCRL(der, p.view.officers.cas)
	if err == nil {
		err = c.checkDates(p.config.Now(), p.view.officers.policy)
	}
	if err != nil {
		return advice.New(advice.Unverified, "publish CRLs of the CAs that the officers named", "the CRL %w", err)
	}
	id := c.info.Issuer
	if was := p.view.crls[id]; was != nil {
		name := "the CRL of " + p.view.nameOf(id)
		if c.info.Number.Cmp(was.info.Number) <= 0 {
			return refuse(ErrRollback, name, "number %v is not above %v, which is published", c.info.Number, was.info.Number)
		}
		if s, lost := c.serials.lacks(was.serials, p.view.officers.released[id]); lost {
			return refuse(ErrLoosened, name, "serial %x is no longer revoked", trimSerial(s))
		}
	}
	name := crlTarget(onlineCRLPrefix, id)
	if err := p.publish(&publication{officers: p.view.officers, files: Files{}, crlName: name, crl: der}, p.config.Now()); err != nil {
		return &UnpublishedError{id, show.Text(p.view.nameOf(id)), c.info.Number, err}
	}
	return nil
}

// UnpublishedError is a CRL that is in order, and newer than the one published, and could not be published.
type UnpublishedError struct {
	Issuer ID
	// Name is the issuer's, escaped.
	Name   string
	Number *big.Int
	Err    error
}

func (e *UnpublishedError) Error() string {
	return fmt.Sprintf("the CRL of %s, number %v, is not published: %v", e.Name, e.Number, e.Err)
}

// Unwrap implements the interface of package errors.
func (e *UnpublishedError) Unwrap() error { return e.Err }

func (p *Publisher) sameCRL(digest [32]byte) bool {
	for _, c := range p.view.online {
		if c.digest == digest {
			return true
		}
	}
	return false
}

// Refresh signs anew what has reached half of its life. An error of a key's token is returned and nothing is written.
func (p *Publisher) Refresh() error {
	return p.exclusively(func() error {
		if p.view == nil {
			return errNothing
		}
		return p.refresh(p.config.Now())
	})
}

var errNothing = advice.New(advice.Refused, "run `hanaper-repo init` first", "nothing is published yet")

func (p *Publisher) refresh(now time.Time) error {
	logs := len(p.newLogs(p.view.officers.policy)) > 0 && !now.Before(p.logged.Add(p.config.LogEvery))
	ends := p.view.onlineExpiry
	if !logs && !stale(ends.timestamp, p.config.TimestampLife, now) && !stale(ends.snapshot, p.config.SnapshotLife, now) && !stale(ends.crl, p.config.CRLLife, now) {
		return nil
	}
	return p.publish(&publication{officers: p.view.officers, files: Files{}}, now)
}
