package station

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
)

// LineConfig says how many boards are enrolled in one run.
type LineConfig struct {
	Boards []Board
	// Ends is the file in which each board's end is kept durably, Summary the CSV of all ends.
	Ends, Summary string
	// Concurrent is how many boards are at work at once; 1 to 64.
	Concurrent int
	// Progress is told after each board; nil tells nobody.
	Progress func(Tally)
}

// maxConcurrent bounds LineConfig.Concurrent: more only wait for the token at the other end.
const maxConcurrent = 64

// Tally counts a run's boards.
type Tally struct {
	Boards int `json:"boards"`
	// Enrolled in this run; Before were enrolled by an earlier one.
	Enrolled int `json:"enrolled"`
	Before   int `json:"enrolled_before"`
	Refused  int `json:"refused"`
	Failed   int `json:"failed"`
	NotBegun int `json:"not_begun"`
	// Stopped says why boards were not begun; empty where all were.
	Stopped string `json:"stopped,omitempty"`
	// Seconds is how long the run took.
	Seconds float64 `json:"seconds"`
	Summary string  `json:"summary"`
}

// Line is a run of many boards.
type Line struct {
	c        LineConfig
	base     *Station
	stations []*Station // of the boards, in their order
	now      func() time.Time
}

// NewLine checks every board of the list before anything is made or sent: all rows that are wrong are named at once.
func NewLine(conf *Config, c LineConfig, w With) (*Line, error) {
	if c.Concurrent < 1 || c.Concurrent > maxConcurrent {
		return nil, advice.New(advice.Usage, "4 is a good value", "%d boards at once: 1 to %d can be", c.Concurrent, maxConcurrent)
	}
	base, err := load(conf, w)
	if err != nil {
		return nil, err
	}
	l := &Line{c: c, base: base, now: base.now}
	var wrong []string
	seen := map[string]string{}
	for _, b := range c.Boards {
		s, err := base.forBoard(b)
		if err == nil {
			err = s.checkRequest()
		}
		for what, value := range map[string]string{"device id": strings.ToLower(b.ID), "token": tokenOf(s), "import folder": importOf(s)} {
			if other := seen[what+value]; err == nil && value != "" && other != "" {
				err = fmt.Errorf("its %s is that of %s", show.Line(what), show.Line(other))
			}
			seen[what+value] = b.Where
		}
		if err != nil {
			wrong = append(wrong, fmt.Sprintf("%s: %v", b.Where, err))
		}
		l.stations = append(l.stations, s)
	}
	if len(wrong) > 0 {
		more := ""
		if n := len(wrong) - 10; n > 0 {
			wrong, more = wrong[:10], fmt.Sprintf("; and %d more", n)
		}
		return nil, advice.New(advice.Usage, "mend the list; nothing was made or sent", "%s%s", show.Line(strings.Join(wrong, "; ")), more)
	}
	return l, nil
}

func tokenOf(s *Station) string {
	if s == nil {
		return ""
	}
	return s.c.Device.Token
}

func importOf(s *Station) string {
	if s == nil {
		return ""
	}
	return filepath.Clean(s.c.Import)
}

// forBoard is s for another board.
func (s *Station) forBoard(b Board) (*Station, error) {
	n := *s
	n.c = s.c.on(b)
	if err := n.c.Check(); err != nil {
		return nil, err
	}
	// Many boards have nobody who types a PIN for each.
	if n.c.Device.KeyStore != storeFile && n.c.token.PINSource == "" {
		return nil, advice.New(advice.Usage, "add pin-source to its URI", "the token's URI names no file with its PIN")
	}
	n.folder = &folder{c: n.c, files: s.folder.files, done: s.done}
	return &n, nil
}

// Run enrols every board that has not been, and returns what came of all of them. An error means that ends could not be kept.
func (l *Line) Run(ctx context.Context) (*Tally, error) {
	begun := l.now()
	ends, err := openResults(l.c.Ends)
	if err != nil {
		return nil, err
	}
	defer ends.close()
	run := &lineRun{Line: l, ends: ends, tally: Tally{Boards: len(l.c.Boards), NotBegun: len(l.c.Boards), Summary: l.c.Summary}}
	work := make(chan int)
	var workers sync.WaitGroup
	for range min(l.c.Concurrent, len(l.c.Boards)) {
		workers.Go(func() {
			for i := range work {
				run.board(ctx, i)
			}
		})
	}
	for i := range l.c.Boards {
		if run.stopped(ctx) {
			break
		}
		work <- i
	}
	close(work)
	workers.Wait()
	t := run.count(func(t *Tally) { t.Seconds = l.now().Sub(begun).Seconds() })
	if run.err != nil {
		return nil, fmt.Errorf("the boards' ends: %w", run.err)
	}
	return &t, writeSummary(l.c.Summary, l.c.Boards, ends)
}

// lineRun is one Run at work.
type lineRun struct {
	*Line
	ends  *results
	mutex sync.Mutex
	tally Tally
	err   error
}

func (r *lineRun) count(f func(*Tally)) Tally {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	f(&r.tally)
	return r.tally
}

func (r *lineRun) stopped(ctx context.Context) bool {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if ctx.Err() != nil && r.tally.Stopped == "" {
		r.tally.Stopped = "interrupted"
	}
	return r.tally.Stopped != "" || r.err != nil
}

// board brings one board to its end, unless an earlier run has.
func (r *lineRun) board(ctx context.Context, i int) {
	b, s := r.c.Boards[i], r.stations[i]
	if r.stopped(ctx) {
		return
	}
	if e, ok := r.ends.end(b.ID); ok && e.Outcome == Enrolled && e.Row == b.digest() && s.folder.holds(b.ID, e.Serial) {
		r.tell(r.count(func(t *Tally) { t.Before++; t.NotBegun-- }))
		return
	}
	result, err := s.Enroll(ctx)
	if err != nil && ctx.Err() != nil {
		return // It has no end: the next run goes on.
	}
	e := endOf(b, result, err, r.now())
	if failed := r.ends.add(e); failed != nil {
		r.mutex.Lock()
		r.err = failed
		r.mutex.Unlock()
		return
	}
	r.tell(r.count(func(t *Tally) {
		t.NotBegun--
		switch e.Outcome {
		case Enrolled:
			t.Enrolled++
		case Refused:
			t.Refused++
		default:
			t.Failed++
		}
		if err != nil && standsStill(err) && t.Stopped == "" {
			t.Stopped = e.Reason
		}
	}))
	if err != nil {
		s.done("%s: %v", show.Text(b.ID), err)
	}
}

func (r *lineRun) tell(t Tally) {
	if r.c.Progress != nil {
		r.c.Progress(t)
	}
}

// standsStill says that the next board would get the same: hanaperd cannot be reached, or enrols nobody.
func standsStill(err error) bool {
	if errors.Is(err, factory.ErrUnreached) {
		return true
	}
	var f *factory.Fault
	if !errors.As(err, &f) {
		return false
	}
	switch f.Code {
	case factory.CodeHeld, factory.CodeClock, factory.CodeEnding, factory.CodeDamaged, factory.CodeUnavailable:
		return true
	}
	return false
}

// Err is the error that a run ends with; nil where every board is enrolled.
func (t *Tally) Err() error {
	if t.Refused+t.Failed+t.NotBegun == 0 {
		return nil
	}
	kind := advice.Failed
	if t.Refused > 0 && t.Failed+t.NotBegun == 0 {
		kind = advice.Refused
	}
	why := ""
	if t.Stopped != "" {
		why = "; stopped: " + t.Stopped
	}
	return advice.New(kind, "the reasons are in "+show.Text(t.Summary)+"; the same command again goes on with those that are not enrolled",
		"%d of %d boards are not enrolled: %d refused, %d failed, %d not begun%s", t.Refused+t.Failed+t.NotBegun, t.Boards, t.Refused, t.Failed, t.NotBegun, show.Line(why))
}
