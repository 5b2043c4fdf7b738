package pkcs11_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11"
)

// TestInitAtOnce: tokens that are made at once are all made, none over another, and whoever opens one meanwhile finds it. SoftHSM 2.6.1
// keeps its slots in a map without a lock, which a new slot changes: a look-up beside it answered CKR_SLOT_ID_INVALID.
func TestInitAtOnce(t *testing.T) {
	b := board(t)
	open(t, b)
	const makers, each = 4, 10
	pin := []byte("correct horse")
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
				u, err := hsm.ParseURI(b.URI)
				if err == nil {
					var token *pkcs11.Token
					if token, err = pkcs11.Open(t.Context(), pkcs11.Config{URI: u}); err == nil {
						err = token.Close()
					}
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
