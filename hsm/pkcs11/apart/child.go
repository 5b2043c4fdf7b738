package apart

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/show"
)

// errEnded: the child ended before it answered.
var errEnded = errors.New("the library's process ended")

// child is one process with the library in it.
type child struct {
	limits Limits
	conn   *os.File
	out    *sender
	cmd    *exec.Cmd
	words  *tail // what it said on standard error
	// askPIN is called, on a goroutine of its own, when the child wants to log in.
	askPIN func(c *child, id uint64, info hsm.TokenInfo)

	heard  atomic.Bool  // something came since the last look
	asks   atomic.Int32 // how often it asked for a PIN since the last look
	ending atomic.Bool  // it gets no further request
	opened

	mu       sync.Mutex
	pending  map[uint64]*call // in work, by number
	queue    []*call          // those that wait for their turn
	most     int              // how many may be in work at once; 0 before the token is open
	last     uint64
	answered uint64
	cause    error // why it is ended
	foreign  bool  // somebody else killed it
	trusted  bool  // it was given the PIN, and answered nothing since

	dead chan struct{} // closed when the process is gone
	exit string        // how it ended, set before dead is closed
}

// opened is what the child told of its token.
type opened struct {
	info     hsm.TokenInfo
	sessions int
	unlocked string
}

// call is a request on its way. What follows answer is guarded by child.mu.
type call struct {
	kind   kind
	parts  [][]byte
	answer chan frame // holds one

	id       uint64
	deadline time.Time // from when it was sent
	sent     bool
	dropped  bool // its caller does not wait any more, before it was sent
}

// spawn starts the program once more as a child, which has nothing loaded yet, or another program.
func spawn(program string, l Limits, askPIN func(*child, uint64, hsm.TokenInfo)) (*child, error) {
	if program == "" && !hooked.Load() {
		return nil, errors.New("this program does not call apart.Main, and cannot run a library apart")
	}
	parent, theirs, err := pair()
	if err != nil {
		return nil, err
	}
	// The program's file as it is now, also where another has taken its name.
	cmd := exec.Command("/proc/self/exe", argument)
	cmd.Args[0] = os.Args[0]
	if program != "" {
		cmd = exec.Command(program, argument)
	}
	cmd.Env = environment(l.Environment, program != "")
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.WaitDelay = time.Second // its own children may keep standard error open
	c := &child{limits: l, conn: parent, out: &sender{w: parent}, cmd: cmd, words: &tail{}, askPIN: askPIN, pending: map[uint64]*call{}, dead: make(chan struct{})}
	cmd.Stderr = c.words
	prepare(cmd)
	started := make(chan error)
	go c.live(started)
	err = <-started
	theirs.Close()
	if err != nil {
		parent.Close()
		return nil, fmt.Errorf("start the library's process: %w", err)
	}
	go c.read()
	go c.watch()
	return c, nil
}

// live starts the process and waits for its end. It keeps its thread: the system ends the child when the thread that started
// it ends, not when the process does.
func (c *child) live(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := c.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	err = c.cmd.Wait()
	c.ending.Store(true)
	c.exit = "it ended by itself"
	if err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		c.exit = err.Error()
	}
	c.mu.Lock()
	if c.cause == nil {
		c.cause = fmt.Errorf("%w: %s%s", errEnded, c.exit, c.words.said())
		status, ok := c.cmd.ProcessState.Sys().(syscall.WaitStatus)
		c.foreign = ok && status.Signaled() && (status.Signal() == syscall.SIGKILL || status.Signal() == syscall.SIGTERM)
	}
	c.mu.Unlock()
	c.conn.Close()
	close(c.dead)
}

// kill ends the child, for the first cause given.
func (c *child) kill(cause error) {
	c.ending.Store(true)
	c.mu.Lock()
	if c.cause == nil {
		c.cause = cause
	}
	c.mu.Unlock()
	select {
	case <-c.dead:
	default:
		end(c.cmd.Process)
	}
}

// why is the cause of the child's end.
func (c *child) why() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cause
}

// read takes the child's frames until it is gone.
func (c *child) read() {
	in := newReceiver(c.conn, maxAnswer)
	for {
		f, err := in.next()
		if err != nil {
			if errors.Is(err, errFrame) {
				c.kill(fmt.Errorf("the library's process answered with %w", err))
				return
			}
			// It is gone, or closed its end: in both cases it is of no use. Its exit says more than the connection's end.
			select {
			case <-c.dead:
			case <-time.After(time.Second):
				c.kill(fmt.Errorf("%w: it closed its connection", errEnded))
			}
			return
		}
		c.heard.Store(true)
		switch f.kind {
		case kindBeat:
		case kindAskPIN:
			var info hsm.TokenInfo
			if err := decode(f.body, &info); err != nil {
				c.kill(fmt.Errorf("the library's process asked for a PIN with %w", errFrame))
				return
			}
			if c.asks.Add(1) > maxAsks {
				c.kill(fmt.Errorf("the library's process asks for the PIN again and again: %w", errFrame))
				return
			}
			go c.askPIN(c, f.id, info)
		case kindDone, kindFailed:
			c.mu.Lock()
			k := c.pending[f.id]
			delete(c.pending, f.id)
			c.answered++
			next := c.next()
			if f.kind == kindDone || !doubtful(f.body) {
				c.trusted = false
			}
			c.mu.Unlock()
			if k == nil {
				c.kill(fmt.Errorf("the library's process answered what nobody asked: %w", errFrame))
				return
			}
			if next != nil {
				c.out.add(next.id, next.kind, next.parts...)
			}
			if !in.more() { // what was read together is answered together
				if err := c.out.flush(); err != nil {
					c.kill(fmt.Errorf("%w: %w", errEnded, err))
				}
			}
			k.answer <- f
		default:
			c.kill(fmt.Errorf("the library's process answered with kind 0x%02x: %w", byte(f.kind), errFrame))
			return
		}
	}
}

// watch takes the child's pulse and ends it when that stops, or when a call exceeds its deadline. It counts its own looks, not the
// clock: a machine that was stopped whole ends no child.
func (c *child) watch() {
	tick := time.NewTicker(pulse)
	defer tick.Stop()
	silent, awake := 0, false
	deaf, taken := 0, uint64(0)
	for {
		select {
		case <-c.dead:
			return
		case <-tick.C:
		}
		if c.heard.Swap(false) {
			silent, awake = 0, true
		} else if silent++; awake && silent > c.maySilent() { // until it is awake, the deadline of opening counts
			c.kill(fmt.Errorf("the library's process has not answered for %v: it is stopped, or the machine has no time for it", time.Duration(silent-1)*pulse))
			return
		}
		c.asks.Store(0)
		if n, waits := c.out.progress(); !waits || n != taken {
			deaf, taken = 0, n
		} else if deaf++; deaf > patientMissed {
			c.kill(fmt.Errorf("the library's process has not read what it was sent for %v", time.Duration(deaf-1)*pulse))
			return
		}
		go func() { _ = c.out.send(0, kindPulse) }() // it may have to wait
		if k, late := c.overdue(time.Now()); late {
			c.kill(fmt.Errorf("the library hangs: %s was not answered for %v", k.kind, c.limitOf(k.kind)))
			return
		}
	}
}

// maySilent is how many questions in a row may stay without an answer.
func (c *child) maySilent() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range c.pending {
		if k.kind == kindGenerate {
			return patientMissed
		}
	}
	return missed
}

// overdue finds a call that is past its deadline. While a key is generated the token may have no time for anything else.
func (c *child) overdue(now time.Time) (late *call, found bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range c.pending {
		if k.kind == kindGenerate && now.Before(k.deadline) {
			return nil, false
		}
		if now.After(k.deadline) {
			late = k
		}
	}
	return late, late != nil
}

func (c *child) limitOf(k kind) time.Duration {
	switch k {
	case kindOpen:
		return c.limits.Start
	case kindSign:
		return c.limits.Sign
	case kindGenerate:
		return c.limits.Generate
	case kindClose:
		return closeTime
	}
	return c.limits.Call
}

// begin notes that a request is sent now. The caller holds c.mu.
func (c *child) begin(k *call) {
	k.deadline, k.sent = time.Now().Add(c.limitOf(k.kind)), true
	c.pending[k.id] = k
}

// next takes the request whose turn it is, if there is one. The caller holds c.mu.
func (c *child) next() *call {
	for len(c.queue) > 0 && len(c.pending) < c.most {
		k := c.queue[0]
		c.queue[0], c.queue = nil, c.queue[1:]
		if !k.dropped {
			c.begin(k)
			return k
		}
	}
	return nil
}

// request sends a request, when it is its turn, and waits for its answer, no longer than ctx; the child works on at it then, to its
// deadline. sent says whether the child may have begun. The error is errEnded if the child ended first, the context's if that did, and
// otherwise the child's own.
func (c *child) request(ctx context.Context, k kind, parts ...[]byte) (body []byte, sent bool, err error) {
	limit := c.limitOf(k)
	own := limit - min(margin, limit/4) // it ends by itself before its deadline
	if by, ok := ctx.Deadline(); ok {
		left := time.Until(by)
		own = min(own, left-min(margin, left/4))
	}
	if k == kindOpen {
		own = time.Hour // a person may be asked for the PIN
	}
	ours := &call{kind: k, parts: append([][]byte{within(own)}, parts...), answer: make(chan frame, 1)}
	c.mu.Lock()
	c.last++
	ours.id = c.last
	wait := c.most > 0 && len(c.pending) >= c.most && k != kindClose
	if wait {
		c.queue = append(c.queue, ours)
	} else {
		c.begin(ours)
	}
	c.mu.Unlock()
	if !wait {
		c.out.add(ours.id, k, ours.parts...)
		runtime.Gosched() // other callers may have one to send too: they go together
		if err := c.out.flush(); err != nil {
			c.kill(fmt.Errorf("%w: %w", errEnded, err))
		}
	}
	select {
	case f := <-ours.answer:
		return c.result(f)
	case <-c.dead:
		err = errEnded
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	select {
	case f := <-ours.answer:
		return c.result(f)
	default:
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	ours.dropped = true
	return nil, ours.sent, err
}

func (c *child) result(f frame) (body []byte, sent bool, err error) {
	if f.kind == kindDone {
		return f.body, true, nil
	}
	err, ok := failed(f.body)
	if !ok {
		err := fmt.Errorf("the library's process answered with %w", errFrame)
		c.kill(err)
		return nil, true, errEnded
	}
	return nil, true, err
}

// allow sets the deadline of the request to open anew.
func (c *child) allow(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range c.pending {
		if k.kind == kindOpen {
			k.deadline = time.Now().Add(d)
		}
	}
}

// tail keeps the end of what a library says on standard error, for the reason of its end.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	t.text = bytes.Clone(t.text[max(0, len(t.text)-maxSaid):])
	return len(p), nil
}

// said is what was said last, as a remark: of a crash, its first line.
func (t *tail) said() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	last := ""
	for line := range strings.Lines(string(t.text)) {
		if line = strings.TrimSpace(line); line != "" {
			last = line
		}
		if strings.HasPrefix(line, "SIG") || strings.HasPrefix(line, "fatal error: ") || strings.HasPrefix(line, "panic: ") {
			break
		}
	}
	if last == "" {
		return ""
	}
	return fmt.Sprintf(" (it said %s)", show.Text(last[:min(len(last), 200)]))
}
