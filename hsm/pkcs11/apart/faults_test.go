package apart

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11/shimtest"
)

// load signs from many sides until stop, and counts. A failure or a wrong signature fails the test.
type load struct {
	made, asked atomic.Int64
	stop        chan struct{}
	wg          sync.WaitGroup
}

func newLoad(t *testing.T, callers int, keys ...hsm.Key) *load {
	l := &load{stop: make(chan struct{})}
	for i := range callers {
		l.wg.Go(func() {
			for {
				select {
				case <-l.stop:
					return
				default:
				}
				l.asked.Add(1)
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				err := sign(ctx, keys[i%len(keys)])
				cancel()
				if err != nil {
					t.Errorf("after %d signatures: %v", l.made.Load(), err)
					return
				}
				l.made.Add(1)
			}
		})
	}
	return l
}

// again waits until signatures are made again after a fault, and says how long that took.
func (l *load) again(t *testing.T, restarts func() int, before int) time.Duration {
	t.Helper()
	begin := time.Now()
	for restarts() == before {
		if time.Since(begin) > time.Minute {
			t.Fatal("the fault was not noticed")
		}
		time.Sleep(time.Millisecond)
	}
	for made := l.made.Load(); l.made.Load() < made+20; {
		if time.Since(begin) > time.Minute {
			t.Fatal("nothing is signed any more")
		}
		time.Sleep(time.Millisecond)
	}
	return time.Since(begin)
}

func (l *load) end(t *testing.T) {
	t.Helper()
	close(l.stop)
	l.wg.Wait()
	if l.made.Load() != l.asked.Load() {
		t.Errorf("%d signatures asked for, %d made", l.asked.Load(), l.made.Load())
	}
}

// promptly is how soon a caller must be answered: 2 s on a machine that does nothing else, which make soak has. The alternative is minutes.
var promptly = func() time.Duration {
	if os.Getenv("HANAPER_SOAK") != "" {
		return 2 * time.Second
	}
	return 20 * time.Second
}()

// faults is how often each fault is done: 50 times in all, and more for make soak.
func faults(t testing.TB) int {
	t.Helper()
	if n, err := strconv.Atoi(os.Getenv("HANAPER_SOAK")); err == nil && n > 0 {
		return 17 * n
	}
	return 17
}

// TestFaultsUnderLoad: the child is killed, stopped, and crashed by its library, 50 times while eight callers sign: no request is
// answered wrongly, none is lost, and soon (promptly) signatures are made again.
func TestFaultsUnderLoad(t *testing.T) {
	s := shimtest.New(t)
	c := shimmed(s, newBoard(t))
	token := mustOpen(t, c)
	keys := []hsm.Key{mustGenerate(t, token, "a", hsm.P256), mustGenerate(t, token, "b", hsm.P256)}
	l := newLoad(t, 8, keys...)
	var worst time.Duration
	fault := func(name string, do func()) {
		before := token.Restarts()
		do()
		took := l.again(t, token.Restarts, before)
		worst = max(worst, took)
		time.Sleep(50 * time.Millisecond)
		if took > promptly {
			t.Errorf("%s: signing again after %v", name, took)
		}
	}
	for i := range faults(t) {
		fault("killed", func() { _ = syscall.Kill(token.pid(), syscall.SIGKILL) })
		fault("stopped", func() { _ = syscall.Kill(token.pid(), syscall.SIGSTOP) })
		fault("crashed", func() {
			s.Plan(t, "C_Sign "+strconv.Itoa(20+i)+" "+[]string{"crash", "exit 3"}[i%2])
			for before := token.Restarts(); token.Restarts() == before; {
				time.Sleep(time.Millisecond)
			}
			s.Plan(t)
		})
	}
	l.end(t)
	t.Logf("%d signatures, %d restarts, signing again after %v at the latest", l.made.Load(), token.Restarts(), worst)
	if err := token.Health(); err != nil {
		t.Error(err)
	}
}

// TestHang: a call that is not answered has the library started anew, after the time that it is given; the signature is made all the same.
func TestHang(t *testing.T) {
	s := shimtest.New(t)
	c := shimmed(s, newBoard(t))
	c.Limits.Sign = 3 * time.Second
	var said atomic.Value
	c.Tell = func(text string) { said.Store(text) }
	token := mustOpen(t, c)
	k := mustGenerate(t, token, "k", hsm.P256)
	mustSign(t, k)
	s.Plan(t, "C_Sign 1 hang")
	begin := time.Now()
	done := make(chan error, 1)
	go func() { done <- sign(t.Context(), k) }()
	// A caller who waits less is answered in his time, and the child left alone.
	short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	for sign(short, k) == nil { // whoever hangs: one of the two does
	}
	if took := time.Since(begin); took > 2500*time.Millisecond {
		t.Errorf("a caller who waits 300 ms waited %v", took)
	}
	time.Sleep(time.Until(begin.Add(2800 * time.Millisecond)))
	s.Plan(t) // the next child's first signature is not to hang as well
	for token.Restarts() == 0 && time.Since(begin) < 30*time.Second {
		time.Sleep(time.Millisecond)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took > 30*time.Second {
		t.Errorf("signed after %v", took)
	}
	if text, _ := said.Load().(string); !strings.Contains(text, "the library hangs: a signature was not answered for 3s") {
		t.Errorf("told %q", text)
	}
}

// TestNotRepeated: what changes the token is not done again when the child ended in it, and its caller is told that it may have been done.
func TestNotRepeated(t *testing.T) {
	s := shimtest.New(t)
	token := mustOpen(t, shimmed(s, newBoard(t)))
	k := mustGenerate(t, token, "k", hsm.P256)
	for name, do := range map[string]func() error{
		"C_GenerateKeyPair": func() error {
			_, err := token.Generate(t.Context(), hsm.GenerateSpec{Label: "twice", Algorithm: hsm.P256})
			return err
		},
		"C_DestroyObject": func() error { return token.Destroy(t.Context(), hsm.Query{Label: "k"}) },
		"C_CreateObject":  func() error { return token.PutCertificate(t.Context(), "c", []byte{1}, certificate(t)) },
	} {
		s.Plan(t, name+" 1 crash")
		err := do()
		if !errors.Is(err, errMaybe) || !errors.Is(err, hsm.ErrGone) || !strings.Contains(err.Error(), token.Info().Name()) {
			t.Errorf("%s: %v", name, err)
		}
		n := 0
		for _, c := range s.Calls(t) {
			if c.Function == name {
				n++
			}
		}
		if n != 0 { // the one that crashed was not listed
			t.Errorf("%s was called %d times more", name, n)
		}
		s.Plan(t)
	}
	mustSign(t, k)
	keys, err := token.Keys(t.Context())
	if err != nil || len(keys) != 1 {
		t.Errorf("%d keys, %v", len(keys), err)
	}
}

// TestPoison: a signature that crashes the library each time is not asked for for ever.
func TestPoison(t *testing.T) {
	s := shimtest.New(t)
	token := mustOpen(t, shimmed(s, newBoard(t)))
	k := mustGenerate(t, token, "k", hsm.P256)
	s.Plan(t, "C_Sign 1+ crash")
	begin := time.Now()
	err := sign(t.Context(), k)
	says(t, err, "each of the 4 times")
	if took := time.Since(begin); took > time.Minute {
		t.Errorf("told after %v", took)
	}
	s.Plan(t)
	mustSign(t, k)
}

// TestCrashAtStart: a library that crashes as soon as it is started is not started in a tight loop; callers are told why within their time, and
// the token is used again when the library is well.
func TestCrashAtStart(t *testing.T) {
	s := shimtest.New(t)
	var told atomic.Int64
	c := shimmed(s, newBoard(t))
	c.Tell = func(text string) {
		told.Add(1)
		t.Log(text)
	}
	token := mustOpen(t, c)
	k := mustGenerate(t, token, "k", hsm.P256)
	s.Plan(t, "C_Initialize 1+ crash")
	_ = syscall.Kill(token.pid(), syscall.SIGKILL)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	err := sign(ctx, k)
	if !errors.Is(err, hsm.ErrGone) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	says(t, token.Health(), "away since")
	if n := told.Load(); n == 0 || n > 2 {
		t.Errorf("told %d times in 3 s", n)
	}
	token.health.mu.Lock()
	starts := token.health.untold + int(told.Load())
	token.health.mu.Unlock()
	if starts > 10 {
		t.Errorf("started %d times in 3 s", starts)
	}
	s.Plan(t)
	begin := time.Now()
	mustSign(t, k)
	if took := time.Since(begin); took > promptly {
		t.Errorf("signing again after %v", took)
	}
	if token.Health() != nil {
		t.Error(token.Health())
	}
}

// TestSick: errors that only a new process heals are healed by one.
func TestSick(t *testing.T) {
	s := shimtest.New(t)
	token := mustOpen(t, shimmed(s, newBoard(t)))
	k := mustGenerate(t, token, "k", hsm.P256)
	// In each process the first twelve signatures are good, and then none, also when the library is started anew in it.
	s.Plan(t, "C_Sign 13+ ckr 0x30")
	for range 30 {
		mustSign(t, k)
		time.Sleep(100 * time.Millisecond) // not faster than it may be started anew
	}
	if n := token.Restarts(); n == 0 || n > 6 {
		t.Errorf("%d restarts", n)
	}
}

// TestCloseWhileHung: a hanging library does not hold up the end of the program.
func TestCloseWhileHung(t *testing.T) {
	s := shimtest.New(t)
	token := mustOpen(t, shimmed(s, newBoard(t)))
	k := mustGenerate(t, token, "k", hsm.P256)
	s.Plan(t, "* 1+ hang")
	go func() { _ = sign(context.Background(), k) }()
	time.Sleep(50 * time.Millisecond)
	pid := token.pid()
	begin := time.Now()
	token.Close()
	if took := time.Since(begin); took > closeTime+promptly {
		t.Errorf("closed after %v", took)
	}
	gone(t, pid)
}
