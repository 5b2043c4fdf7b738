package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"time"

	p11 "github.com/miekg/pkcs11"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
)

// defaultPatience is how long a call without a deadline of its own waits for a token that went away.
const defaultPatience = 30 * time.Second

// secondLook is the pause before a token that is not there is looked for once more.
const secondLook = 100 * time.Millisecond

var bg = context.Background()

// Config says which token to open and how.
type Config struct {
	// Module is the PKCS#11 library, as hsm.ParseLibrary reads it; the URI's is used where it is empty.
	Module string
	// URI names the token, by label, serial or both; its object is ignored.
	URI hsm.URI
	// PIN gives the user PIN; the URI's pin-source is used where it is nil.
	PIN hsm.PINSource
	// AskAgain has the PIN asked of its source at each login, and not kept: for a source that keeps it, or decides each time.
	AskAgain bool
	// Public opens a token without a login: only public objects can be seen, and no key used.
	Public bool
	// Sessions bounds the pool; 0 means twice the CPUs, beyond which only latency grows.
	Sessions int
	// Patience is how long a call without a deadline (crypto.Signer has none) waits for a token that went away; 0 means 30 s, and
	// less than 0 until Within ends.
	Patience time.Duration
	// Within is the context of the calls that have none of their own (crypto.Signer's, crypto.Decrypter's); nil means none.
	Within context.Context
	// Tell, if it is not nil, is told what a person should do now, in words: put a token back that is waited for, or type the PIN at
	// the token's own keys. It may be called from another goroutine.
	Tell func(said string)
}

// Token is an open PKCS#11 token. It implements hsm.Token.
type Token struct {
	m           *module
	uri         hsm.URI
	pin         hsm.PINSource
	public      bool
	askAgain    bool
	patience    time.Duration
	within      context.Context
	tell        func(said string)
	pool        *pool
	life        context.Context // ends with Close
	end         context.CancelFunc
	login       *login // guarded by m.mu
	loginChange sync.Mutex

	mechanisms map[uint]p11.MechanismInfo // read once, at Open

	mu         sync.Mutex
	info       hsm.TokenInfo
	slot       uint
	anchor     p11.SessionHandle
	generation uint64 // the library's, at the last login
	epoch      uint64 // counts logins; sessions and handles of an earlier one are dead
	recovery   *recovery
	gaveUp     error // why recovery gave up for good
	closed     bool
}

var _ hsm.Token = (*Token)(nil)

// Open finds the token that the URI names, logs in, and keeps it open until Close. A token that cannot be told apart, or whose PIN
// is locked, is refused. The PIN is tried once.
func Open(ctx context.Context, c Config) (*Token, error) {
	library := c.Module
	if library == "" {
		library = c.URI.Library()
	}
	if c.URI.Token == "" && c.URI.Serial == "" {
		return nil, advice.New(advice.Usage, "write token=LABEL;serial=SERIAL; `hanaper token list` prints them", "key URI %s names no token", c.URI.TokenURI())
	}
	m, err := acquire(library)
	if err != nil {
		return nil, err
	}
	t := &Token{m: m, uri: c.URI.TokenURI(), pin: c.PIN, public: c.Public, askAgain: c.AskAgain, patience: c.Patience, within: c.Within, tell: c.Tell}
	if t.pin == nil {
		t.pin = hsm.PINFromURI(c.URI, nil)
	}
	if t.patience == 0 {
		t.patience = defaultPatience
	}
	if t.within == nil {
		t.within = bg
	}
	if t.tell == nil {
		t.tell = func(string) {}
	}
	t.life, t.end = context.WithCancel(bg)
	if err := t.open(ctx, c.Sessions); err != nil {
		t.end()
		t.leaveLogin()
		m.release()
		return nil, err
	}
	return t, nil
}

// locate finds the token inside the guard.
func (t *Token) locate(ctx context.Context) (at slotToken, generation uint64, err error) {
	if err := t.m.enter(ctx); err != nil {
		return slotToken{}, 0, err
	}
	defer t.m.leave()
	at, err = t.m.find(t.uri)
	return at, t.m.generation, err
}

// open finds the token, asks for the PIN, logs in and makes the session pool. The token is looked for again after a restart of the
// library in two cases: another process was just rewriting it, or another user of the library saw the token go.
func (t *Token) open(ctx context.Context, sessions int) error {
	at, generation, err := t.locate(ctx)
	if errors.Is(err, hsm.ErrNoToken) && t.m.users() == 1 {
		// SoftHSM rewrites a token's file at each login, and another process that looks just then sees none. Look once more.
		select {
		case <-time.After(secondLook):
		case <-ctx.Done():
			return ctx.Err()
		}
		if t.m.restart(ctx, generation) == nil {
			at, generation, err = t.locate(ctx)
		}
	}
	if broken(err) {
		// Another user of the library may have seen the token go: start it again, as a recovery would.
		if t.m.restart(ctx, generation) == nil {
			at, generation, err = t.locate(ctx)
		}
	}
	if err != nil {
		if code(err) != p11.CKR_OK {
			err = advice.New(advice.Failed, t.m.hint(err), "%s: %w", tokenName(t.uri), err)
		}
		return err
	}
	t.info = at.info
	t.uri = at.info.URI() // from now on this very token
	var pin []byte
	if at.info.LoginRequired && !t.public {
		if err := refuseLocked(at.info, false); err != nil {
			return err
		}
		if pin, err = t.askPIN(ctx, at.info); err != nil {
			return err
		}
		defer func() { clear(pin) }()
		if err := t.joinLogin(pin); err != nil {
			return err
		}
	}
	if err := t.m.enter(ctx); err != nil {
		return err
	}
	defer t.m.leave()
	if t.m.generation != generation {
		// Another user had the library started anew meanwhile (Renew does), and the token may have another slot since.
		if at, err = t.m.find(t.uri); err != nil {
			return t.fail(err, "look for it again")
		}
	}
	if t.anchor, err = t.logIn(at, pin); err != nil {
		return t.fail(err, "log in")
	}
	t.slot, t.generation, t.epoch = at.slot, t.m.generation, 1
	if err := t.readMechanisms(); err != nil {
		_ = t.m.ctx.CloseSession(t.anchor)
		return t.fail(err, "list mechanisms")
	}
	if now, err := t.m.read(at.slot); err == nil {
		t.info = now.info // the warnings about tries are over with the login
	}
	if sessions <= 0 {
		sessions = 2 * runtime.NumCPU()
	}
	if at.maxSessions > 1 { // as an unsigned number: openCryptoki says 2^64-2 for "any number", others 2^64-1
		sessions = int(min(uint(sessions), at.maxSessions-1)) // one is the anchor
	}
	return t.fail(t.startPool(sessions, at.maxSessions == 1), "open a second session")
}

// startPool makes the pool. Whether the token takes a second session is tried, for not all that take one say so.
func (t *Token) startPool(sessions int, single bool) error {
	anchor := session{h: t.anchor, slot: t.slot, epoch: t.epoch}
	if !single {
		h, err := openSession(t.m.ctx, t.slot)
		if err == nil {
			t.pool = newPool(t.m.ctx, sessions)
			t.pool.add(session{h: h, slot: t.slot, epoch: t.epoch})
			return nil
		}
		if code(err) != p11.CKR_SESSION_COUNT {
			_ = t.m.ctx.CloseSession(t.anchor)
			return err
		}
	}
	t.pool = newPool(t.m.ctx, 1)
	t.pool.single = true
	t.pool.add(anchor)
	return nil
}

// Info describes the token as it was at the last login.
func (t *Token) Info() hsm.TokenInfo {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.info
}

// closeTime is how long Close waits for a library that does not answer.
const closeTime = 5 * time.Second

// Sessions is how many calls the token makes at once.
func (t *Token) Sessions() int {
	t.pool.mu.Lock()
	defer t.pool.mu.Unlock()
	return t.pool.size
}

// Close ends all sessions and, with the process's last Token of this token, the login. Calls in progress end first; later ones
// answer hsm.ErrClosed. It does not wait longer than closeTime: what a library keeps that hangs is left to the end of the process.
func (t *Token) Close() error {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return nil
	}
	t.closed = true
	f := t.recovery
	t.mu.Unlock()
	t.end()
	ended := make(chan error, 1)
	go func() { ended <- t.close(f) }()
	select {
	case err := <-ended:
		return err
	case <-time.After(closeTime):
		t.forgetPIN()
		return advice.New(advice.Failed, "look at the token and its connection", "%s: close: the library %s does not answer", t.Info().Name(), show.Text(t.m.path))
	}
}

// close waits for the calls in progress and the recovery f, which may be nil, and gives the library back.
func (t *Token) close(f *recovery) error {
	if f != nil {
		<-f.done
	}
	if _, err := t.pool.takeAll(bg); err != nil { // never restored
		return err
	}
	if err := t.m.enter(bg); err != nil {
		return err
	}
	alive := t.generation == t.m.generation
	t.pool.flush(alive)
	if last := t.leaveLogin(); alive {
		if last {
			_ = t.m.ctx.Logout(t.anchor)
		}
		_ = t.m.ctx.CloseSession(t.anchor)
	}
	t.m.leave()
	t.m.release()
	return nil
}

// fail names the token, what was tried, and what to do about it.
func (t *Token) fail(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	name := t.Info().Name()
	if errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, hsm.ErrGone) {
		return advice.New(advice.Failed, "the token is slow or busy, or hangs: look at it and its connection, or allow more time or more sessions", "%s: %s: %w", t.Info().Name(), fmt.Sprintf(format, args...), err)
	}
	hint := advice.Hint(err)
	if hint == "" {
		hint = t.m.hint(err)
	}
	if strings.Contains(err.Error(), name) {
		return err
	}
	return advice.New(advice.KindOf(err), hint, "%s: %s: %w", t.Info().Name(), fmt.Sprintf(format, args...), err)
}
