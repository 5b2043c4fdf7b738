package issuancelog

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/hanaper/hanaper/factory/logbook"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/journal"
)

// Config is what a Log is made of.
type Config struct {
	// Folder is the log's folder. Servers that share a record must share it too.
	Folder string
	// Policy names the log's key, and the witnesses whose cosignatures are demanded.
	Policy *logbook.Policy
	// Key signs checkpoints; Policy has its public half. A key with SignContext is asked within a deadline.
	Key crypto.Signer
	// Witnesses says where each of the policy's witnesses is asked.
	Witnesses []WitnessConfig
	Record    Record
	// Every is how often checkpoints are signed while there are new entries; 0 means once a second.
	Every time.Duration
	// Rest is the pause between two slow readings of the whole folder; 0 means ten seconds.
	Rest time.Duration
	Log  *slog.Logger
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

const (
	// poll is how often the record is asked for new events.
	poll = 250 * time.Millisecond
	// retry is the pause after a failure, and between two tries to get the lock.
	retry = time.Second
	// signTime bounds one signature of the checkpoint key.
	signTime = 5 * time.Second
	// lagTime is how far the log may be behind before health says so.
	lagTime = 10 * time.Second
	// proofTime bounds the making of a proof for an answer: a request does not wait for the log.
	proofTime = 200 * time.Millisecond
	// maxProofs bounds the proofs that are remembered for one checkpoint.
	maxProofs = 4096
)

// Log follows a record. It is safe for concurrent use.
type Log struct {
	c         Config
	signer    note.Signer
	witnesses []*witness
	last      atomic.Pointer[latest]

	mu    sync.Mutex
	state State
	// stuck says that the fault is that of this server's own attempt to write the log, when stuckAt entries were signed.
	stuck   bool
	stuckAt uint64
	// carried is the size of the largest checkpoint that callers have shown, accused what they have shown of the log.
	carried int64
	accused string
	// since is when the log was last known not to be behind.
	since time.Time
}

// latest is the checkpoint that is handed out, with proofs made for it.
type latest struct {
	logbook.Checkpoint
	mu     sync.Mutex
	proofs map[int64][]journal.Hash
}

// New checks the configuration; it touches no file.
func New(c Config) (*Log, error) {
	if c.Folder == "" || c.Policy == nil || c.Key == nil || c.Record == nil {
		return nil, errors.New("issuancelog: folder, policy, key and record are needed")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Every == 0 {
		c.Every = time.Second
	}
	if c.Rest == 0 {
		c.Rest = 10 * time.Second
	}
	l := &Log{c: c}
	var err error
	if l.signer, err = journal.NoteSigner(c.Policy.Origin(), bounded{c.Key}); err != nil {
		return nil, err
	}
	vkey, err := journal.VerifierKey(c.Policy.Origin(), c.Key.Public())
	if err != nil {
		return nil, err
	}
	if vkey != c.Policy.Key() {
		return nil, advice.New(advice.Unverified, "log.key names the key, log.verifier its public half as 'hanaperd log key' prints it", "the checkpoint key is %s, the configuration names %s", show.Text(vkey), show.Text(c.Policy.Key()))
	}
	if l.witnesses, err = newWitnesses(c.Policy, c.Witnesses); err != nil {
		return nil, err
	}
	l.since = c.Now()
	return l, nil
}

// bounded is a key whose signatures have a deadline, where it knows deadlines.
type bounded struct{ crypto.Signer }

type contextSigner interface {
	SignContext(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error)
}

// Sign implements crypto.Signer; the source of randomness is the token's own.
func (b bounded) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	k, ok := b.Signer.(contextSigner)
	if !ok {
		return b.Signer.Sign(rand, digest, opts)
	}
	ctx, cancel := context.WithTimeout(context.Background(), signTime)
	defer cancel()
	return k.SignContext(ctx, digest, opts)
}

// State is how the log stands.
type State struct {
	// Events are those of the record, Size those in the log, Signed those that the last checkpoint covers.
	Events, Size, Signed uint64
	// Leading says that this server writes the log.
	Leading bool
	// Fault is why nothing is logged or signed, "" if all is well.
	Fault string
	// Behind is for how long not all events have been covered by a checkpoint.
	Behind time.Duration
}

// State tells how the log stands.
func (l *Log) State() State {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.state
	if s.Signed < s.Events {
		s.Behind = l.c.Now().Sub(l.since)
	}
	return s
}

// Trouble says in words what is wrong with the log; "" if nothing is.
func (l *Log) Trouble() string {
	s := l.State()
	l.mu.Lock()
	accused := l.accused
	l.mu.Unlock()
	switch {
	case accused != "":
		return accused
	case s.Fault != "":
		return s.Fault
	case s.Behind > lagTime && !s.Leading:
		return fmt.Sprintf("no checkpoint covers the last %d events, for %s: no server writes the log", s.Events-s.Signed, s.Behind.Round(time.Second))
	case s.Behind > lagTime:
		return fmt.Sprintf("no checkpoint covers the last %d events, for %s", s.Events-s.Signed, s.Behind.Round(time.Second))
	}
	return ""
}

// note changes the state; it tells the log of a fault once, and once more when it is over.
func (l *Log) note(change func(*State)) {
	l.mu.Lock()
	was := l.state.Fault
	change(&l.state)
	if l.state.Signed >= l.state.Events {
		l.since = l.c.Now()
	}
	is := l.state.Fault
	l.mu.Unlock()
	if is == was {
		return
	}
	if is != "" {
		l.c.Log.Error("the issuance log stands still; enrolment goes on", "error", is)
	} else {
		l.c.Log.Info("the issuance log goes on")
	}
}

// Check compares the log's folder and the record before a server begins to serve. It writes nothing. Run checks again.
func (l *Log) Check(ctx context.Context) error {
	_, err := l.begin(ctx)
	return err
}

// Run follows the record until ctx ends: as the one that writes the log while it leads, else by taking up the checkpoints of the
// server that does.
func (l *Log) Run(ctx context.Context) {
	var group sync.WaitGroup
	defer group.Wait()
	group.Go(func() {
		for ctx.Err() == nil {
			if !l.State().Leading {
				l.listen(ctx)
			}
			pause(ctx, retry)
		}
	})
	for ctx.Err() == nil {
		leading, release, err := l.c.Record.LeadLog(ctx)
		if err == nil {
			l.note(func(s *State) { s.Leading = true })
			err = l.lead(leading)
			release()
		}
		if ctx.Err() == nil {
			l.note(func(s *State) { s.Fault, l.stuck, l.stuckAt = words(err), true, s.Signed })
			pause(ctx, retry)
		}
		l.note(func(s *State) { s.Leading = false })
	}
}

// listen is one look at the record by a server that does not lead.
func (l *Log) listen(ctx context.Context) {
	err := l.follow(ctx)
	l.note(func(s *State) {
		switch {
		case s.Leading || ctx.Err() != nil:
		case err != nil:
			s.Fault = words(err)
		case !l.stuck || s.Signed > l.stuckAt:
			// Another server has signed since.
			s.Fault, l.stuck = "", false
		}
	})
}

// words are an error with its hint.
func words(err error) string {
	if hint := advice.Hint(err); hint != "" {
		return err.Error() + " (" + hint + ")"
	}
	return err.Error()
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// follow takes up what the server that leads has signed.
func (l *Log) follow(ctx context.Context) error {
	events, err := l.c.Record.LogSize(ctx)
	if err != nil {
		return fmt.Errorf("the record: %w", err)
	}
	if err := l.refresh(ctx); err != nil {
		return err
	}
	l.note(func(s *State) {
		s.Events = events
		if last := l.last.Load(); last != nil {
			s.Signed, s.Size = uint64(last.Size), uint64(last.Size)
		}
	})
	return nil
}

// refresh takes up the record's last checkpoint.
func (l *Log) refresh(ctx context.Context) error {
	data, err := l.c.Record.LastCheckpoint(ctx)
	if err != nil || data == nil {
		return err
	}
	if last := l.last.Load(); last != nil && string(last.Note) == string(data) {
		return nil
	}
	c, err := l.c.Policy.Verify(data)
	if err != nil {
		return fmt.Errorf("the record's last checkpoint: %w", err)
	}
	l.take(c)
	return nil
}

// take makes c the checkpoint that is handed out, unless a later one is.
func (l *Log) take(c logbook.Checkpoint) {
	next := &latest{Checkpoint: c, proofs: map[int64][]journal.Hash{}}
	for {
		last := l.last.Load()
		if last != nil && last.Size > c.Size || l.last.CompareAndSwap(last, next) {
			return
		}
	}
}
