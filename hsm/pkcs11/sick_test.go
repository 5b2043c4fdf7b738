package pkcs11_test

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/hsm/pkcs11/shimtest"
	"github.com/hanaper/hanaper/internal/advice"
)

// TestSickUntilRestart: a module that answers one error to everything, or to signing only, until it is started anew. The caller
// waits, and gets one signature; the token made one.
func TestSickUntilRestart(t *testing.T) {
	s := shimtest.New(t)
	b := board(t)
	asked := 0
	token := openShim(t, s, b, func(c *pkcs11.Config) {
		c.PIN = func(context.Context, hsm.TokenInfo) ([]byte, error) {
			asked++
			return append([]byte(nil), b.PIN...), nil
		}
	})
	k := generate(t, token, "k", hsm.P256)
	for _, function := range []string{"C_SignInit", "C_Sign", "C_FindObjectsInit", "C_GetSessionInfo", "*"} {
		for i, ckr := range []string{"0x05", "0x06", "0x30", "0x190", "0xB3", "0xB0", "0x101", "0x32", "0xE0", "0x05", "0x06", "0x30"} {
			how := "dead" // everything answers so, or in the last three this function only
			if i > 8 && function != "*" && function != "C_GetSessionInfo" {
				how = "stuck"
			}
			if function == "C_FindObjectsInit" || function == "C_GetSessionInfo" {
				pkcs11.ForgetHandles(k) // so that the key is looked for
			}
			pkcs11.MayRestart(token)
			s.Plan(t, fmt.Sprintf("%s 1 %s %s", function, how, ckr))
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			sig, err := k.(*pkcs11.Key).SignContext(ctx, make([]byte, 32), crypto.SHA256)
			cancel()
			if err != nil || sig == nil {
				t.Fatalf("%s answers %s (%s) until it is started anew: %v", function, ckr, how, err)
			}
			if n := s.Count(t, "C_Sign"); n != 1 {
				t.Errorf("%s answers %s: the token signed %d times", function, ckr, n)
			}
		}
	}
	if asked != 1 {
		t.Errorf("the PIN was asked for %d times", asked)
	}
}

// TestSickForGood: an error that no restart cures reaches the caller soon, and the library is not restarted at every call.
func TestSickForGood(t *testing.T) {
	s := shimtest.New(t)
	token := openShim(t, s, board(t))
	k := generate(t, token, "k", hsm.P256)
	s.Plan(t, "C_Sign 1+ ckr 0x06")
	begin := time.Now()
	for range 20 {
		if _, err := k.Sign(nil, make([]byte, 32), crypto.SHA256); err == nil || !strings.Contains(err.Error(), "CKR_FUNCTION_FAILED") || advice.Hint(err) == "" {
			t.Fatalf("got %v", err)
		}
	}
	took := time.Since(begin)
	restarts := s.Count(t, "C_Initialize")
	if limit := 1 + int(took/time.Second); restarts < 1 || restarts > limit {
		t.Errorf("%d restarts in %s", restarts, took)
	}
	s.Plan(t)
	mustSign(t, k)
}

// TestSickLogin: C_Login fails without a word about the PIN. It is sent twice at most, and not again once the token counts.
func TestSickLogin(t *testing.T) {
	s := shimtest.New(t)
	for _, c := range []struct {
		rule    string
		is      error
		sent    int
		recover bool
	}{
		{rule: "C_Login 1+ ckr 0x06", is: hsm.ErrPIN, sent: 2},
		{rule: "C_Login 1+ ckr 0x05", is: hsm.ErrPIN, sent: 2},
		{rule: "C_Login 1 ckr 0x30", sent: 2, recover: true},
		{rule: "C_Login 1+ burn 0x06", is: hsm.ErrPIN, sent: 1},
		{rule: "C_Login 1+ ckr 0xA0", is: hsm.ErrPIN, sent: 1},
		{rule: "C_Login 1+ ckr 0xA4", is: hsm.ErrPINLocked, sent: 1},
	} {
		t.Run(c.rule, func(t *testing.T) {
			b := board(t)
			s.Plan(t)
			token := openShim(t, s, b)
			k := generate(t, token, "k", hsm.P256)
			s.Plan(t, c.rule)
			pkcs11.CloseSessions(token)
			for range 3 {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				_, err := k.(*pkcs11.Key).SignContext(ctx, make([]byte, 32), crypto.SHA256)
				cancel()
				if c.recover && err != nil || !c.recover && !errors.Is(err, c.is) {
					t.Fatalf("got %v, want %v", err, c.is)
				}
			}
			sent := 0
			for _, call := range s.Calls(t) {
				if call.Function == "C_Login" {
					sent++
				}
			}
			if sent != c.sent {
				t.Errorf("the PIN was sent %d times, want %d", sent, c.sent)
			}
			s.Plan(t)
			_ = token.Close()
			infos, err := pkcs11.List(b.Module)
			if err != nil {
				t.Fatal(err)
			}
			for _, i := range infos {
				if i.Serial == b.Serial && (i.PINLocked || i.PINFinalTry) {
					t.Errorf("tries were burnt: %+v", i)
				}
			}
		})
	}
}

// TestLateSignature: a token that answers after a while is waited for; what it made and did not deliver is made again.
func TestLateSignature(t *testing.T) {
	s := shimtest.New(t)
	token := openShim(t, s, board(t))
	k := generate(t, token, "k", hsm.P256)
	s.Plan(t, "C_Sign 1 slow 300")
	mustSign(t, k)
	s.Plan(t, "C_Sign 1 late-ckr 0x30")
	mustSign(t, k)
	s.Plan(t, "C_Sign 1 one-before")
	if _, err := k.Sign(nil, make([]byte, 32), crypto.SHA256); err != nil {
		t.Error(err) // who asked for it checks it
	}
}

// TestRestartRefused: C_Finalize fails and leaves the library initialised. It is finalised at the next try, and is not taken for
// another's.
func TestRestartRefused(t *testing.T) {
	s := shimtest.New(t)
	token := openShim(t, s, board(t))
	k := generate(t, token, "k", hsm.P256)
	s.Plan(t, "C_SignInit 1 dead 0x06", "C_Finalize 1 ckr 0x05")
	mustSign(t, k)
	s.Plan(t, "C_SignInit 1 dead 0x30")
	pkcs11.MayRestart(token)
	mustSign(t, k)
}

// TestRenew: a new login finds what the token holds, and not what was a session object.
func TestRenew(t *testing.T) {
	s := shimtest.New(t)
	token := openShim(t, s, board(t))
	k := generate(t, token, "k", hsm.P256)
	s.Plan(t)
	if err := token.Renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s.Count(t, "C_Initialize") != 1 || s.Count(t, "C_Login") != 1 {
		t.Errorf("no new login: %v", s.Calls(t))
	}
	mustSign(t, k)
	again, err := token.Key(t.Context(), hsm.Query{Label: "k", ID: k.Attributes().ID})
	if err != nil {
		t.Fatal(err)
	}
	mustSign(t, again)
	s.Plan(t, "C_Login 1+ ckr 0xA0")
	if err := token.Renew(t.Context()); !errors.Is(err, hsm.ErrPIN) {
		t.Errorf("a PIN that is refused: %v", err)
	}
	if _, err := k.Sign(nil, make([]byte, 32), crypto.SHA256); !errors.Is(err, hsm.ErrPIN) {
		t.Errorf("after it: %v", err)
	}
	if err := token.Renew(t.Context()); !errors.Is(err, hsm.ErrPIN) {
		t.Errorf("after it: %v", err)
	}
	logins := 0
	for _, c := range s.Calls(t) {
		if c.Function == "C_Login" {
			logins++
		}
	}
	if logins != 1 {
		t.Errorf("the PIN was sent %d times", logins)
	}
}

// TestRecoverVanishedKey: a library that finds nothing any more, while sessions and login are well, until it is started anew.
func TestRecoverVanishedKey(t *testing.T) {
	s := shimtest.New(t)
	token := openShim(t, s, board(t))
	k := generate(t, token, "k", hsm.P256)
	s.Plan(t, "C_FindObjects 1 blind")
	pkcs11.ForgetHandles(k)
	mustSign(t, k)
	if n := s.Count(t, "C_Initialize"); n != 1 {
		t.Errorf("%d restarts", n)
	}
	// One that is really gone is said to be gone, after one restart.
	s.Plan(t)
	if err := token.Destroy(t.Context(), hsm.Query{Label: "k"}); err != nil {
		t.Fatal(err)
	}
	s.Plan(t)
	if _, err := k.Sign(nil, make([]byte, 32), crypto.SHA256); !errors.Is(err, hsm.ErrNoKey) {
		t.Errorf("destroyed, and: %v", err)
	}
	if n := s.Count(t, "C_Initialize"); n > 1 {
		t.Errorf("%d restarts", n)
	}
}
