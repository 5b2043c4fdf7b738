package pkcs11_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11"
)

// TestInitAtOnce: tokens that are made at once are all made, none over another, and whoever opens one meanwhile finds it.
func TestInitAtOnce(t *testing.T) {
	b := board(t)
	open(t, b)
	const makers, each = 4, 10
	u, pin := uri(t, b.URI), []byte("correct horse")
	var made, opened sync.WaitGroup
	end := make(chan struct{})
	for range 2 {
		opened.Go(func() {
			for {
				select {
				case <-end:
					return
				default:
				}
				token, err := pkcs11.Open(t.Context(), pkcs11.Config{URI: u})
				if err == nil {
					err = token.Close()
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	var mu sync.Mutex
	serials := map[string]string{}
	for i := range makers {
		made.Go(func() {
			for n := range each {
				label := fmt.Sprintf("at once %d %d", i, n)
				info, err := pkcs11.Init(t.Context(), b.Module, "", label, pin, pin)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if other := serials[info.Serial]; other != "" {
					t.Errorf("%q and %q are one token", label, other)
				}
				serials[info.Serial] = label
				mu.Unlock()
			}
		})
	}
	made.Wait()
	close(end)
	opened.Wait()
	all, err := pkcs11.List(b.Module)
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]string{}
	for _, i := range all {
		there[i.Serial] = i.Label
	}
	for serial, label := range serials {
		if there[serial] != label {
			t.Errorf("token %s is %q, and was made as %q", serial, there[serial], label)
		}
	}
}

// TestStartedAnewWhileOpening: another token's user has the library started anew while somebody types the PIN. SoftHSM gives a token that was made
// since another slot then; it is found again, and logged in to.
func TestStartedAnewWhileOpening(t *testing.T) {
	other := open(t, board(t))
	b := board(t)
	before := pkcs11.SlotOf(open(t, b))
	u := uri(t, board(t).URI)
	pins := 0
	token, err := pkcs11.Open(t.Context(), pkcs11.Config{URI: u, PIN: func(ctx context.Context, info hsm.TokenInfo) ([]byte, error) {
		pins++
		pkcs11.RestartLibrary(other)
		return hsm.PINFromURI(u, nil)(ctx, info)
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer token.Close()
	if pins != 1 {
		t.Errorf("the PIN was asked for %d times", pins)
	}
	mustSign(t, generate(t, token, "k", hsm.P256))
	again := open(t, b)
	if pkcs11.SlotOf(again) == before {
		t.Error("the slot is the same: nothing was shown")
	}
}

// TestOfficerAfterRestart: the security officer's work begins although another user had the library started anew, whose sessions are all over.
func TestOfficerAfterRestart(t *testing.T) {
	other := open(t, board(t))
	b := board(t)
	token := open(t, b)
	pkcs11.RestartLibrary(other)
	runs := 0
	if err := token.AsSecurityOfficer(t.Context(), b.SOPIN, func(hsm.SecurityOfficer) error { runs++; return nil }); err != nil || runs != 1 {
		t.Errorf("run %d times: %v", runs, err)
	}
	mustSign(t, generate(t, token, "k", hsm.P256))
}
