package apart

import (
	"context"
	"errors"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/hsm/pkcs11/shimtest"
)

func kill(token *Token) { _ = syscall.Kill(token.pid(), syscall.SIGKILL) }

// logins counts how often C_Login was called since the plan was made, whatever it answered.
func logins(t *testing.T, s *shimtest.Shim) (n int) {
	t.Helper()
	for _, c := range s.Calls(t) {
		if c.Function == "C_Login" {
			n++
		}
	}
	return n
}

// TestChangedPIN: a PIN that was changed while the program ran is tried once by a new child, and never again; callers are told, and so is who
// asks for the token's health.
func TestChangedPIN(t *testing.T) {
	s := shimtest.New(t)
	b := newBoard(t)
	asked := 0
	c := shimmed(s, b)
	c.PIN = func(context.Context, hsm.TokenInfo) ([]byte, error) {
		asked++
		return append([]byte(nil), b.PIN...), nil
	}
	token := mustOpen(t, c)
	k := mustGenerate(t, token, "k", hsm.P256)
	kill(token)
	mustSign(t, k) // with nobody there to ask
	inside, err := pkcs11.Open(t.Context(), pkcs11.Config{Module: b.Module, URI: hsm.URI{Token: b.Label, Serial: b.Serial}, PIN: hsm.PINBytes(b.PIN)})
	if err != nil {
		t.Fatal(err)
	}
	if err := inside.SetPIN(t.Context(), b.PIN, []byte("87654321")); err != nil {
		t.Fatal(err)
	}
	inside.Close()
	s.Plan(t)
	mustSign(t, k) // the login of this child stands
	kill(token)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	for range 3 {
		if err := sign(ctx, k); !errors.Is(err, hsm.ErrPIN) {
			t.Errorf("%v", err)
		}
	}
	time.Sleep(time.Second)
	if err := token.Health(); !errors.Is(err, hsm.ErrPIN) {
		t.Errorf("health: %v", err)
	}
	if n := logins(t, s); n != 1 {
		t.Errorf("%d logins with a PIN that is wrong", n)
	}
	if asked != 1 {
		t.Errorf("the source was asked %d times", asked)
	}
}

// TestDoubtfulLogin: a login that ends without an answer, by a crash or a hang, is made once more at most.
func TestDoubtfulLogin(t *testing.T) {
	for _, fault := range []string{"crash", "hang"} {
		t.Run(fault, func(t *testing.T) {
			s := shimtest.New(t)
			c := shimmed(s, newBoard(t))
			c.Limits.Login = time.Second
			token := mustOpen(t, c)
			k := mustGenerate(t, token, "k", hsm.P256)
			s.Plan(t, "C_Login 1+ "+fault)
			kill(token) // by somebody else: this is no doubt
			ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
			defer cancel()
			if err := sign(ctx, k); !errors.Is(err, hsm.ErrPIN) {
				t.Fatal(err)
			}
			token.mu.Lock()
			doubts, kept := token.purse.doubts, token.purse.kept
			token.mu.Unlock()
			if doubts != 2 || kept != nil {
				t.Errorf("%d doubts, PIN kept %v", doubts, kept != nil)
			}
			s.Plan(t)
			if err := sign(t.Context(), k); !errors.Is(err, hsm.ErrPIN) {
				t.Error(err)
			}
			if n := logins(t, s); n != 0 {
				t.Errorf("%d logins afterwards", n)
			}
		})
	}
}

// TestHealedLogin: one doubtful login, and then a good one: the next doubtful one is the first again.
func TestHealedLogin(t *testing.T) {
	s := shimtest.New(t)
	token := mustOpen(t, shimmed(s, newBoard(t)))
	k := mustGenerate(t, token, "k", hsm.P256)
	for i := range 4 {
		s.Plan(t, "C_Login 1 crash # "+strconv.Itoa(i))
		before := token.Restarts()
		kill(token)
		time.Sleep(100 * time.Millisecond)
		for token.Health() == nil && token.Restarts() == before {
			time.Sleep(time.Millisecond)
		}
		for range 100 { // until the child that crashed is gone
			token.mu.Lock()
			doubts := token.purse.doubts
			token.mu.Unlock()
			if doubts > 0 {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		s.Plan(t)
		mustSign(t, k)
	}
	if err := token.Health(); err != nil {
		t.Error(err)
	}
}

// TestKilledLogin: a child that had the PIN and was killed by somebody else proves nothing; when the token shows a wrong try after it, the
// PIN is not sent again.
func TestKilledLogin(t *testing.T) {
	at := hsm.TokenInfo{Label: "t"}
	token := &Token{purse: purse{known: true}}
	token.judge(&child{trusted: true, foreign: true})
	if err := token.refusePIN(at); err != nil || token.purse.doubts != 0 {
		t.Errorf("%v, %d doubts", err, token.purse.doubts)
	}
	at.PINLow = true
	if err := token.refusePIN(at); !errors.Is(err, hsm.ErrPIN) {
		t.Error(err)
	}
	well := &child{}
	well.sessions = 1
	token.judge(well)
	if err := token.refusePIN(at); err != nil {
		t.Error(err)
	}
}
