package pkcs11_test

import (
	"crypto"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11"
)

// TestSpy: ten thousand signatures by many callers make one login and no more sessions than the pool has, beside the one that is logged
// in. OpenSC's pkcs11-spy, between us and SoftHSM, counts them.
func TestSpy(t *testing.T) {
	spies, _ := filepath.Glob("/usr/lib/*-linux-gnu/pkcs11/pkcs11-spy.so")
	if len(spies) == 0 {
		t.Fatal("no pkcs11-spy.so: install the packages of scripts/packages-test.txt")
	}
	b := board(t)
	report := filepath.Join(t.TempDir(), "report")
	for name, value := range map[string]string{"PKCS11SPY": b.Module, "PKCS11SPY_OUTPUT": report} {
		if err := os.Setenv(name, value); err != nil { // for good: the spy reads them when it is loaded
			t.Fatal(err)
		}
	}
	const sessions, signatures = 4, 10000
	token, err := pkcs11.Open(t.Context(), pkcs11.Config{URI: hsm.URI{Token: b.Label, Serial: b.Serial, ModulePath: spies[0]}, PIN: hsm.PINBytes(b.PIN), Sessions: sessions})
	if err != nil {
		t.Fatal(err)
	}
	k := generate(t, token, "k", hsm.P256)
	var left atomic.Int64
	left.Store(signatures)
	var wg sync.WaitGroup
	for range 4 * sessions {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if _, err := k.Sign(nil, make([]byte, 32), crypto.SHA256); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if err := token.Close(); err != nil {
		t.Error(err)
	}
	said, err := os.ReadFile(report)
	if err != nil {
		t.Fatal(err)
	}
	calls := map[string]int{}
	for _, m := range regexp.MustCompile(`(?m)^\d+: (C_\w+)$`).FindAllSubmatch(said, -1) {
		calls[string(m[1])]++
	}
	// Generation closes the session that made the key, so one more is opened.
	if calls["C_Login"] != 1 || calls["C_OpenSession"] > sessions+2 || calls["C_Sign"] < signatures || calls["C_Initialize"] != 1 {
		t.Errorf("%d logins, %d sessions, %d starts for %d signatures", calls["C_Login"], calls["C_OpenSession"], calls["C_Initialize"], calls["C_Sign"])
	}
}
