package apart

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
)

// softKey is one of the liar's keys, always the same of its name.
func softKey(name string) *ecdsa.PrivateKey {
	seed := sha256.Sum256([]byte(name))
	k, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), seed[:])
	if err != nil {
		panic(err)
	}
	return k
}

// lie is a child whose library took it over: it speaks the protocol, and lies in one way. What it signs with are keys in software.
func lie(how string) {
	how, memory, _ := strings.Cut(how, ":")
	conn := os.NewFile(socket, "parent")
	out, in := &sender{w: conn}, newReceiver(conn, maxRequest)
	name, signs := "honest", 0
	if _, err := os.Stat(memory); err == nil && how == "other-key" {
		name = "another"
	}
	for {
		f, err := in.next()
		if err != nil {
			return
		}
		switch f.kind {
		case kindPulse:
			_ = out.send(0, kindBeat)
		case kindOpen:
			info := hsm.TokenInfo{Label: "liar", Serial: "1"}
			switch how {
			case "asks-for-another":
				_ = out.send(1, kindAskPIN, encode(hsm.TokenInfo{Label: "root", Serial: "1"}))
				time.Sleep(300 * time.Millisecond)
			case "asks-without-end":
				for i := range uint64(1 << 40) {
					if out.send(i, kindAskPIN, encode(info)) != nil {
						return
					}
				}
			case "words-in-the-prompt":
				info.PINState = "all is well.\nType the PUK of \x1b[2Jtoken \"root\""
				_ = out.send(1, kindAskPIN, encode(info))
				time.Sleep(300 * time.Millisecond)
				info.PINState = ""
			case "other-token":
				info.Label = "another"
			case "no-json":
				_ = out.send(f.id, kindDone, []byte(`{"version": 1, "info": [`))
				continue
			case "no-sessions":
				_ = out.send(f.id, kindDone, encode(openedBody{Version: version, Info: info, Sessions: -1}))
				continue
			case "million-sessions":
				_ = out.send(f.id, kindDone, encode(openedBody{Version: version, Info: info, Sessions: 1 << 30}))
				continue
			case "no-error":
				_ = out.send(f.id, kindFailed, []byte("{}"))
				continue
			}
			_ = out.send(f.id, kindDone, encode(openedBody{Version: version, Info: info, Sessions: 2}))
			for how == "deaf" {
				time.Sleep(pulse)
				if out.send(0, kindBeat) != nil {
					return
				}
			}
		case kindKey:
			spki, _ := x509.MarshalPKIXPublicKey(softKey(name).Public())
			b := keyBody{Number: 1, Attributes: hsm.Attributes{Label: "k", ID: []byte{1}, Algorithm: hsm.P256}, SPKI: spki}
			switch how {
			case "other-label":
				b.Attributes.Label = "another"
			case "no-key":
				b.SPKI = spki[:40]
			}
			_ = out.send(f.id, kindDone, encode(b))
		case kindSign:
			signs++
			_, _, digest, _ := cutSign(f.body[4:])
			key := softKey(name)
			switch {
			case how == "other-signature":
				key = softKey("another")
			case how == "garbage" && signs == 2:
				junk := make([]byte, 100)
				rand.Read(junk)
				_, _ = conn.Write(junk)
			case how == "huge" && signs == 2:
				_, _ = conn.Write([]byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 1, byte(kindDone)})
			case how == "big" && signs == 2:
				_ = out.send(f.id, kindDone, make([]byte, maxAnswer+1))
			case how == "unasked" && signs == 2:
				_ = out.send(f.id+1000, kindDone)
			case how == "twice" && signs == 2:
				_ = out.send(f.id, kindDone)
			case how == "kind" && signs == 2:
				_ = out.send(f.id, kindSign)
			case how == "short" && signs == 2:
				_ = out.send(f.id, kindDone, []byte{0x30})
				continue
			case how == "silent" && signs == 2:
				continue
			case how == "other-key" && signs == 2:
				_ = os.WriteFile(memory, nil, 0o600)
				os.Exit(1)
			}
			sig, _ := ecdsa.SignASN1(rand.Reader, key, digest)
			_ = out.send(f.id, kindDone, sig)
		default:
			_ = out.send(f.id, kindDone)
		}
	}
}

func liar(t *testing.T, how string) Config {
	t.Helper()
	t.Setenv(lieVariable, how+":"+filepath.Join(t.TempDir(), "memory"))
	return Config{Module: "/lib.so", URI: hsm.URI{Token: "liar"}, PIN: hsm.PINBytes([]byte("123456")), Limits: Limits{Environment: []string{lieVariable}, Sign: time.Second}}
}

// TestLiesAtStart: a child that answers the first request with anything but the token that was asked for is refused, and gone.
func TestLiesAtStart(t *testing.T) {
	for _, how := range []string{"other-token", "no-json", "no-sessions", "million-sessions", "no-error"} {
		token, err := Open(t.Context(), liar(t, how))
		if err == nil || token != nil || !errors.Is(err, errFrame) && how != "no-error" {
			t.Errorf("%s: %v", how, err)
		}
	}
	for _, how := range []string{"other-label", "no-key"} {
		token := mustOpen(t, liar(t, how))
		if k, err := token.Key(t.Context(), hsm.Query{Label: "k"}); err == nil || k != nil {
			t.Errorf("%s: %v", how, err)
		}
		token.Close()
	}
	if left := childrenOf(t, os.Getpid()); len(left) > 0 {
		t.Errorf("processes are left: %v", left)
	}
}

// TestLiesOfPINs: a child gets the PIN of the token that it serves and of no other, says nothing in the question that a person sees, and
// may not ask for ever.
func TestLiesOfPINs(t *testing.T) {
	asked := make(chan hsm.TokenInfo, 100)
	open := func(how string) (*Token, error) {
		c := liar(t, how)
		c.PIN = func(_ context.Context, info hsm.TokenInfo) ([]byte, error) {
			asked <- info
			return []byte("123456"), nil
		}
		token, err := Open(t.Context(), c)
		if err == nil {
			t.Cleanup(func() { token.Close() })
		}
		return token, err
	}
	if _, err := open("asks-for-another"); !errors.Is(err, errFrame) {
		t.Errorf("asks-for-another: %v", err)
	} else {
		says(t, err, "PIN of another token")
	}
	if n := len(asked); n != 0 {
		t.Errorf("the PIN of %+v was asked for", <-asked)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	began := time.Now()
	if _, err := open("asks-without-end"); !errors.Is(err, errFrame) {
		t.Errorf("asks-without-end: %v", err)
	} else {
		says(t, err, "asks for the PIN again and again")
	}
	runtime.ReadMemStats(&after)
	if took, grown := time.Since(began), after.TotalAlloc-before.TotalAlloc; took > 30*time.Second || grown > 64<<20 {
		t.Errorf("it went on for %v, and took %d bytes", took, grown)
	}
	for len(asked) > 0 {
		<-asked
	}
	if _, err := open("words-in-the-prompt"); err != nil {
		t.Error(err)
	}
	if info := <-asked; info.PINState != "" {
		t.Errorf("the prompt would say %q", info.PINState)
	}
	if left := childrenOf(t, os.Getpid()); len(left) > 1 {
		t.Errorf("processes are left: %v", left)
	}
}

// TestDeaf: a child that does not read what it is sent is ended, though it beats.
func TestDeaf(t *testing.T) {
	token := mustOpen(t, liar(t, "deaf"))
	token.mu.Lock()
	at := token.at
	token.mu.Unlock()
	go func() { _ = at.out.send(0, kindPulse, make([]byte, maxRequest)) }()
	for range 300 {
		if token.Restarts() > 0 {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Error("it was not noticed")
}

// TestLies: a child that answers garbage, a huge frame, what nobody asked, nothing, or a signature that is none, is ended; the
// caller gets a good signature from the next one.
func TestLies(t *testing.T) {
	for _, how := range []string{"garbage", "huge", "big", "unasked", "twice", "kind", "short", "silent"} {
		t.Run(how, func(t *testing.T) {
			token := mustOpen(t, liar(t, how))
			k, err := token.Key(t.Context(), hsm.Query{Label: "k"})
			if err != nil {
				t.Fatal(err)
			}
			for range 4 {
				mustSign(t, k)
			}
			for range 200 { // a lie that came behind a good signature is noticed a moment later
				if token.Restarts() > 0 {
					break
				}
				time.Sleep(10 * time.Millisecond)
			}
			if token.Restarts() == 0 {
				t.Error("it was not noticed")
			}
		})
	}
}

// TestOtherSignature: a signature by another key than the one asked for is never handed out.
func TestOtherSignature(t *testing.T) {
	token := mustOpen(t, liar(t, "other-signature"))
	k, err := token.Key(t.Context(), hsm.Query{Label: "k"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	says(t, sign(ctx, k), "does not verify", `"k"`)
}

// TestOtherKey: when the key is another one after a restart, nothing is signed with it.
func TestOtherKey(t *testing.T) {
	token := mustOpen(t, liar(t, "other-key"))
	k, err := token.Key(t.Context(), hsm.Query{Label: "k"})
	if err != nil {
		t.Fatal(err)
	}
	mustSign(t, k)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	err = sign(ctx, k)
	says(t, err, "another one than before")
	if advice.KindOf(err) != advice.Refused {
		t.Error(err)
	}
}

// TestFrameTooLong: a frame above the bound is refused by its length, before room is made for it.
func TestFrameTooLong(t *testing.T) {
	var b strings.Builder
	s := &sender{w: &b}
	_ = s.send(1, kindDone, make([]byte, 10))
	_ = s.send(2, kindDone, make([]byte, 11))
	in := newReceiver(strings.NewReader(b.String()), 10)
	if f, err := in.next(); err != nil || f.id != 1 || len(f.body) != 10 {
		t.Errorf("%+v, %v", f, err)
	}
	if f, err := in.next(); !errors.Is(err, errFrame) {
		t.Errorf("%+v, %v", f, err)
	}
}

// FuzzFrames: whatever bytes come from a child, they are read within bounds or refused.
func FuzzFrames(f *testing.F) {
	var b strings.Builder
	s := &sender{w: &b}
	_ = s.send(7, kindDone, []byte("body"))
	_ = s.send(0, kindBeat)
	f.Add([]byte(b.String()))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x80})
	f.Add(failure(hsm.ErrPIN))
	f.Add(encode(keyBody{Number: 1, SPKI: []byte{0x30}}))
	f.Fuzz(func(t *testing.T, data []byte) {
		in := newReceiver(strings.NewReader(string(data)), 1000)
		for {
			fr, err := in.next()
			if err != nil {
				break
			}
			if len(fr.body) > 1000 {
				t.Fatal("a body above the bound")
			}
		}
		if err, ok := failed(data); ok && (err == nil || len(err.Error()) > maxText) {
			t.Fatal("an error that is none")
		}
		var k keyBody
		if decode(data, &k) == nil {
			_, _ = k.public()
		}
		if _, rest, err := cutWithin(data); err == nil {
			_, _, _, _ = cutSign(rest)
		}
	})
}
