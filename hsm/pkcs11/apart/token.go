package apart

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
)

// Config says which token to open and how; the fields are those of pkcs11.Config.
type Config struct {
	// Program is the file of another program that serves the token (see Serve), where it is no PKCS#11 library's; empty runs this
	// program again.
	Program string
	// Module is the PKCS#11 library, as hsm.ParseLibrary reads it; the URI's is used where it is empty.
	Module string
	// URI names the token; its object is ignored.
	URI hsm.URI
	// PIN gives the user PIN; the URI's pin-source is used where it is nil.
	PIN hsm.PINSource
	// Sessions bounds the pool; 0 means twice the CPUs.
	Sessions int
	// Limits are how long calls may take.
	Limits Limits
	// Tell is given, in words for people, why a child was ended or ended, and when a new one is at work; nil tells nobody.
	Tell func(said string)
}

// Token is a token whose library runs in a child process. It implements hsm.Token.
type Token struct {
	c    Config
	life context.Context // ends with Close
	end  context.CancelCauseFunc
	over chan struct{} // closed when the supervision has ended

	mu   sync.Mutex
	info hsm.TokenInfo
	// unlocked is why the child's memory may be swapped; empty when it is locked
	unlocked string
	at       *child        // nil while none is ready
	change   chan struct{} // closed, and made anew, when at, gaveUp or closed changes
	gaveUp   error         // why no child is started any more
	closed   bool
	purse    purse
	health   health
	sick     sickness
}

var _ hsm.Token = (*Token)(nil)

// Open starts a child, finds the token that the URI names, and logs in, once. If that fails there is no second try by itself:
// somebody is there who reads the error.
func Open(ctx context.Context, c Config) (*Token, error) {
	if c.Program == "" && c.URI.Token == "" && c.URI.Serial == "" {
		return nil, advice.New(advice.Usage, "write token=LABEL;serial=SERIAL; `hanaper token list` prints them", "key URI %s names no token", c.URI.TokenURI())
	}
	c.Limits = c.Limits.complete()
	if c.PIN == nil {
		c.PIN = hsm.PINFromURI(c.URI, nil)
	}
	if c.Module == "" {
		c.Module = c.URI.Library()
	}
	c.URI = c.URI.TokenURI()
	c.URI.PINSource, c.URI.ModulePath, c.URI.InitReserved = "", "", ""
	if c.Tell == nil {
		c.Tell = func(string) {}
	}
	t := &Token{c: c, over: make(chan struct{}), change: make(chan struct{}), purse: purse{source: c.PIN}}
	t.life, t.end = context.WithCancelCause(context.Background())
	// A person who is asked for the PIN may press Ctrl-C.
	stop := context.AfterFunc(ctx, func() { t.end(context.Cause(ctx)) })
	first, err := t.start(ctx)
	if !stop() && err == nil { // ctx ended just now
		err = context.Cause(ctx)
		first.kill(err)
	}
	if err != nil {
		t.end(err)
		t.mu.Lock()
		t.giveUp(err)
		t.mu.Unlock()
		return nil, err
	}
	if c.Program == "" {
		t.mu.Lock()
		t.c.URI = t.info.URI() // from now on this very token
		t.mu.Unlock()
	}
	go t.supervise(first)
	return t, nil
}

// start spawns a child and has it open the token. A child that did not is gone when start returns.
func (t *Token) start(ctx context.Context) (*child, error) {
	c, err := spawn(t.c.Program, t.c.Limits, t.givePIN)
	if err != nil {
		return nil, err
	}
	body, _, err := c.request(ctx, kindOpen, encode(openBody{Version: version, Module: t.c.Module, URI: t.c.URI.String(), Sessions: t.c.Sessions}))
	var o openedBody
	if err == nil {
		if e := decode(body, &o); e != nil || o.Version != version || o.Sessions < 1 || o.Sessions > maxSessions || !t.c.URI.MatchesToken(o.Info) {
			err = fmt.Errorf("the library's process answered with %w: it opened another token, or speaks another version", errFrame)
		}
	}
	if err != nil {
		ended := errors.Is(err, errEnded)
		c.kill(err)
		<-c.dead
		if ended {
			err = c.why()
		}
		t.judge(c)
		if refused(err) {
			t.mu.Lock()
			t.giveUp(err)
			t.mu.Unlock()
		}
		if t.c.Program != "" {
			return nil, t.fail(err, "open it with the program %s", show.Text(t.c.Program))
		}
		return nil, t.fail(err, "open it with the library %s", show.Text(t.c.Module))
	}
	c.opened = opened{info: o.Info, sessions: o.Sessions, unlocked: o.Unlocked}
	c.mu.Lock()
	c.most = ahead * o.Sessions
	c.mu.Unlock()
	// First the health, then the child: who got a signature finds the token well.
	t.health.up(t)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.gaveUp != nil || t.closed {
		c.kill(errStopped)
		return nil, fmt.Errorf("%s: %w", t.named().Name(), hsm.ErrClosed)
	}
	t.info, t.unlocked = o.Info, o.Unlocked
	t.purse.known, t.purse.low, t.purse.doubts, t.purse.killed = true, o.Info.PINLow, 0, false
	t.at = c
	t.changed()
	return c, nil
}

// changed wakes who waits for a child. The caller holds t.mu.
func (t *Token) changed() {
	close(t.change)
	t.change = make(chan struct{})
}

// Info describes the token as it was at the last login.
func (t *Token) Info() hsm.TokenInfo {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.info
}

// Unlocked says why the child's memory may be written to swap space; empty when all of it is locked.
func (t *Token) Unlocked() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.unlocked
}

// Key finds exactly one private key.
func (t *Token) Key(ctx context.Context, q hsm.Query) (hsm.Key, error) {
	if t.c.Program == "" && q.Label == "" && len(q.ID) == 0 {
		return nil, advice.New(advice.Usage, "name the key by label or id", "%s: key %s", t.Info().Name(), q)
	}
	return t.oneKey(ctx, q, kindKey, encode(queryBody(q)), true)
}

// Keys lists all private keys.
func (t *Token) Keys(ctx context.Context) ([]hsm.Key, error) {
	var all []keyBody
	c, err := t.ask(ctx, true, kindKeys, nil, &all)
	if err != nil {
		return nil, t.fail(err, "list its keys")
	}
	keys := make([]hsm.Key, 0, len(all))
	for _, b := range all {
		k, err := t.newKey(c, b)
		if err != nil {
			return nil, t.fail(err, "list its keys")
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// Generate makes a key pair as hsm.Token says. It is not made again if the child ends before it answered.
func (t *Token) Generate(ctx context.Context, s hsm.GenerateSpec) (hsm.Key, error) {
	return t.oneKey(ctx, hsm.Query{Label: s.Label, ID: s.ID}, kindGenerate, encode(s), false)
}

func (t *Token) oneKey(ctx context.Context, q hsm.Query, k kind, request []byte, again bool) (hsm.Key, error) {
	var b keyBody
	c, err := t.ask(ctx, again, k, request, &b)
	if err != nil {
		return nil, t.fail(err, "key %s", q)
	}
	if q.Label != "" && b.Attributes.Label != q.Label || len(q.ID) > 0 && string(b.Attributes.ID) != string(q.ID) {
		err := fmt.Errorf("the library's process answered with another key: %w", errFrame)
		c.kill(err)
		return nil, t.fail(err, "key %s", q)
	}
	key, err := t.newKey(c, b)
	if err != nil {
		return nil, t.fail(err, "key %s", q)
	}
	return key, nil
}

// Destroy removes the key pair that q names and proves its absence. It is not done again if the child ends before it answered.
func (t *Token) Destroy(ctx context.Context, q hsm.Query) error {
	_, err := t.ask(ctx, false, kindDestroy, encode(queryBody(q)), nil)
	return t.fail(err, "destroy key %s", q)
}

// PutCertificate stores a certificate object. It is not done again if the child ends before it answered.
func (t *Token) PutCertificate(ctx context.Context, label string, id []byte, cert *x509.Certificate) error {
	_, err := t.ask(ctx, false, kindPutCertificate, encode(certificateBody{Label: label, ID: id, DER: cert.Raw}), nil)
	return t.fail(err, "store a certificate")
}

// Certificate finds the certificate object with this id.
func (t *Token) Certificate(ctx context.Context, id []byte) (*x509.Certificate, error) {
	body, _, err := t.call(ctx, true, kindCertificate, func(context.Context, *child) ([][]byte, error) {
		return [][]byte{encode(certificateBody{ID: id})}, nil
	}, nil)
	if err != nil {
		return nil, t.fail(err, "certificate with id %x", id)
	}
	cert, err := x509.ParseCertificate(body)
	return cert, t.fail(err, "certificate with id %x", id)
}

// ask is call for a question whose answer is JSON.
func (t *Token) ask(ctx context.Context, again bool, k kind, request []byte, answer any) (*child, error) {
	body, c, err := t.call(ctx, again, k, func(context.Context, *child) ([][]byte, error) { return [][]byte{request}, nil }, nil)
	if err != nil || answer == nil {
		return c, err
	}
	if err := decode(body, answer); err != nil {
		err = fmt.Errorf("the library's process answered with %w: %w", errFrame, err)
		c.kill(err)
		return nil, err
	}
	return c, nil
}

// Close logs out and ends the child, which gets a few seconds for it. Later calls answer hsm.ErrClosed.
func (t *Token) Close() error {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return nil
	}
	t.closed = true
	c := t.at
	t.changed()
	t.mu.Unlock()
	if c != nil {
		ctx, cancel := context.WithTimeout(context.Background(), closeTime)
		_, _, err := c.request(ctx, kindClose)
		cancel()
		if err == nil {
			c.conn.Close() // it ends by itself
			select {
			case <-c.dead:
			case <-time.After(time.Second):
			}
		}
		c.kill(errStopped)
	}
	t.end(errStopped)
	<-t.over
	t.mu.Lock()
	defer t.mu.Unlock()
	t.purse.kept.Wipe()
	t.purse.kept = nil
	return nil
}

// named is the token as far as it is known. The caller holds t.mu.
func (t *Token) named() hsm.TokenInfo {
	if t.info.Label == "" && t.info.Serial == "" {
		return hsm.TokenInfo{Label: t.c.URI.Token, Serial: t.c.URI.Serial}
	}
	return t.info
}
