package apart

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11"
)

// argument is the first argument of a child. The number is the descriptor that the socket has.
const argument, socket = "pkcs11-library-apart", 3

// hooked is true once Main was called: without it a child would run the whole program again.
var hooked atomic.Bool

// Main is called first in the main of every program that opens tokens apart. In a child it serves the library and does not
// return; everywhere else it sees to it that no other process of the same user can read this one's memory, which holds the PIN, or take
// over its end of the socket.
func Main() {
	if serve(openLibrary) {
		harden()
		hooked.Store(true)
	}
}

// Opener opens the token that a child serves. sessions is how many calls are to be under way at once, or 0; the answer's is how many
// there can be.
type Opener func(ctx context.Context, o Asked) (token hsm.Token, sessions int, err error)

// Asked is what the parent wants opened.
type Asked struct {
	URI      hsm.URI
	Module   string
	Sessions int
	// PIN asks the parent.
	PIN hsm.PINSource
}

// Serve is Main for a program that serves other tokens than those of PKCS#11 libraries, for a parent that names it as
// Config.Program. It returns where nobody asks for that.
func Serve(open Opener) { serve(open) }

// openLibrary opens a token of a PKCS#11 library.
func openLibrary(ctx context.Context, o Asked) (hsm.Token, int, error) {
	t, err := pkcs11.Open(ctx, pkcs11.Config{Module: o.Module, URI: o.URI, Sessions: o.Sessions, PIN: o.PIN, AskAgain: true})
	if err != nil {
		return nil, 0, err
	}
	return t, t.Sessions(), nil
}

// serve does not return in a child; it says true everywhere else.
func serve(open Opener) bool {
	if len(os.Args) < 2 || os.Args[1] != argument {
		return true
	}
	unlocked, err := confine()
	if err != nil {
		fmt.Fprintln(os.Stderr, "this process is started by the program itself, for its PKCS#11 library:", err)
		os.Exit(2)
	}
	// Ctrl-C and a service's stop reach the parent, which ends the child when the requests in work are finished.
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	conn := os.NewFile(socket, "parent")
	s := &server{open: open, out: &sender{w: conn}, unlocked: unlocked, keys: map[uint32]hsm.Key{}, numbers: map[string]uint32{}, work: make(chan frame, ahead*maxSessions)}
	if err := s.serve(newReceiver(conn, maxRequest+headSize)); err != nil && !errors.Is(err, io.EOF) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0) // the parent is gone, or wants no more
	return false
}

// server is the child: one token.
type server struct {
	open     Opener
	out      *sender
	unlocked string

	work chan frame   // signatures to be made
	held atomic.Int32 // answers that wait to be sent together

	mu      sync.RWMutex
	token   hsm.Token
	keys    map[uint32]hsm.Key
	numbers map[string]uint32 // by public half, label and id
	asked   map[uint64]chan frame
	asks    uint64
}

// serve answers until the parent ends the connection. What the library does is done beside, so that the pulse is answered
// while it hangs.
func (s *server) serve(in *receiver) error {
	for {
		f, err := in.next()
		if err != nil {
			return err
		}
		switch f.kind {
		case kindPulse:
			s.held.Store(0)
			if err := s.out.send(0, kindBeat); err != nil { // and with it all answers that are held
				return err
			}
		case kindPIN, kindNoPIN:
			s.mu.RLock()
			if asked := s.asked[f.id]; asked != nil {
				asked <- f
			} else {
				clear(f.body) // nobody waits for it any more
			}
			s.mu.RUnlock()
		case kindSign:
			s.work <- f
		default:
			go s.answer(f)
		}
	}
}

func (s *server) answer(f frame) {
	limit, body, err := cutWithin(f.body)
	var answer []byte
	if err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		answer, err = s.do(ctx, f, body)
		cancel()
	}
	if err != nil {
		_ = s.out.send(f.id, kindFailed, failure(err))
		return
	}
	_ = s.out.send(f.id, kindDone, answer)
}

// signer makes signatures, one after the other; there are as many as the token has sessions. While more are to be made, and that is quick,
// answers are sent several at a time: each of them costs the parent a wake.
func (s *server) signer(most int32) {
	var m moment
	defer m.over()
	for f := range s.work {
		begin := time.Now()
		limit, body, err := cutWithin(f.body)
		var sig []byte
		if err == nil {
			sig, err = s.do(m.within(limit, begin), f, body)
		}
		if err != nil {
			s.out.add(f.id, kindFailed, failure(err))
		} else {
			s.out.add(f.id, kindDone, sig)
		}
		if s.held.Add(1) >= most || len(s.work) == 0 || time.Since(begin) > quick {
			s.held.Store(0)
			_ = s.out.flush()
		}
	}
}

// moment is a context that serves several signatures one after the other, for most may take the same time, and a timer for each would cost
// more than the rest of the work here.
type moment struct {
	ctx    context.Context
	cancel context.CancelFunc
	limit  time.Duration
	made   time.Time
}

// within gives a context that ends after limit, or a little earlier.
func (m *moment) within(limit time.Duration, now time.Time) context.Context {
	if m.ctx == nil || limit != m.limit || now.Sub(m.made) > margin/4 {
		m.over()
		m.ctx, m.cancel = context.WithTimeout(context.Background(), limit)
		m.limit, m.made = limit, now
	}
	return m.ctx
}

func (m *moment) over() {
	if m.cancel != nil {
		m.cancel()
	}
}

// do carries one request out.
func (s *server) do(ctx context.Context, f frame, body []byte) ([]byte, error) {
	if f.kind == kindOpen {
		return s.opened(ctx, body)
	}
	s.mu.RLock()
	token := s.token
	s.mu.RUnlock()
	if token == nil {
		return nil, fmt.Errorf("%s before the token was opened", f.kind)
	}
	var q queryBody
	var spec hsm.GenerateSpec
	var c certificateBody
	switch f.kind {
	case kindSign:
		number, opts, digest, err := cutSign(body)
		if err != nil {
			return nil, err
		}
		s.mu.RLock()
		k := s.keys[number]
		s.mu.RUnlock()
		if k == nil {
			return nil, fmt.Errorf("%w: there is no key %d", errFrame, number)
		}
		if p, is := k.(*pkcs11.Key); is {
			return p.SignWaiting(ctx, digest, opts)
		}
		return k.SignContext(ctx, digest, opts)
	case kindKey:
		if err := decode(body, &q); err != nil {
			return nil, err
		}
		return s.found(token.Key(ctx, hsm.Query(q)))
	case kindKeys:
		keys, err := token.Keys(ctx)
		if err != nil {
			return nil, err
		}
		all := make([]keyBody, 0, len(keys))
		for _, k := range keys {
			one, err := s.describe(k)
			if err != nil {
				return nil, err
			}
			all = append(all, one)
		}
		return encode(all), nil
	case kindGenerate:
		if err := decode(body, &spec); err != nil {
			return nil, err
		}
		return s.found(token.Generate(ctx, spec))
	case kindDestroy:
		if err := decode(body, &q); err != nil {
			return nil, err
		}
		return nil, token.Destroy(ctx, hsm.Query(q))
	case kindPutCertificate:
		if err := decode(body, &c); err != nil {
			return nil, err
		}
		cert, err := x509.ParseCertificate(c.DER)
		if err != nil {
			return nil, err
		}
		return nil, token.PutCertificate(ctx, c.Label, c.ID, cert)
	case kindCertificate:
		if err := decode(body, &c); err != nil {
			return nil, err
		}
		cert, err := token.Certificate(ctx, c.ID)
		if err != nil {
			return nil, err
		}
		return cert.Raw, nil
	case kindClose:
		return nil, token.Close()
	}
	return nil, fmt.Errorf("%w: kind 0x%02x", errFrame, byte(f.kind))
}

func (s *server) opened(ctx context.Context, body []byte) ([]byte, error) {
	var o openBody
	if err := decode(body, &o); err != nil {
		return nil, err
	}
	if o.Version != version {
		return nil, fmt.Errorf("the parent speaks version %d of the protocol, this process %d", o.Version, version)
	}
	u, err := hsm.ParseURI(o.URI)
	if err != nil {
		return nil, err
	}
	token, sessions, err := s.open(ctx, Asked{Module: o.Module, URI: u, Sessions: o.Sessions, PIN: s.askPIN})
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.token = token
	s.mu.Unlock()
	for range min(sessions, maxSessions) {
		go s.signer(int32(2 * sessions))
	}
	return encode(openedBody{Version: version, Info: token.Info(), Sessions: sessions, Unlocked: s.unlocked}), nil
}

// askPIN has the parent give the PIN for a login.
func (s *server) askPIN(ctx context.Context, info hsm.TokenInfo) ([]byte, error) {
	answer := make(chan frame, 1)
	s.mu.Lock()
	s.asks++
	id := s.asks
	if s.asked == nil {
		s.asked = map[uint64]chan frame{}
	}
	s.asked[id] = answer
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.asked, id)
		s.mu.Unlock()
	}()
	if err := s.out.send(id, kindAskPIN, encode(info)); err != nil {
		return nil, err
	}
	select {
	case f := <-answer:
		if f.kind == kindPIN {
			return f.body, nil
		}
		if err, ok := failed(f.body); ok {
			return nil, err
		}
		return nil, errFrame
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (s *server) found(k hsm.Key, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	b, err := s.describe(k)
	if err != nil {
		return nil, err
	}
	return encode(b), nil
}

// describe gives the key a number.
func (s *server) describe(k hsm.Key) (keyBody, error) {
	spki, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil {
		return keyBody{}, err
	}
	a := k.Attributes()
	name := string(spki) + "\x00" + a.Label + "\x00" + string(a.ID)
	s.mu.Lock()
	defer s.mu.Unlock()
	number, known := s.numbers[name]
	if !known {
		number = uint32(len(s.numbers) + 1)
		s.numbers[name] = number
	}
	s.keys[number] = k
	b := keyBody{Number: number, Attributes: a, SPKI: spki}
	if a.Unread {
		b.Unread, b.URI = true, k.URI().String()
	}
	return b, nil
}
