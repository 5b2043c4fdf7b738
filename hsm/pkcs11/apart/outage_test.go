package apart

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/hsm/pkcs11/peertest"
)

// soaking is whether make soak runs, for the full times.
func soaking() bool {
	n, err := strconv.Atoi(os.Getenv("HANAPER_SOAK"))
	return err == nil && n > 0
}

// TestOutages: a token that hangs (SIGSTOP of the server behind it; 60 s in make soak) and one that is gone for 5 s: every caller
// is answered within his time, and signatures are made within 2 s of its return.
func TestOutages(t *testing.T) {
	p := peertest.Network(t)
	hung := 4 * time.Second
	if soaking() {
		hung = time.Minute
	}
	token := mustOpen(t, Config{URI: p.Token, PIN: hsm.PINBytes(p.PIN), Limits: Limits{Sign: time.Second, Start: 5 * time.Second}})
	k := mustGenerate(t, token, "k", hsm.P256)
	mustSign(t, k)
	for name, o := range map[string]struct {
		begin, end func()
		lasts      time.Duration
	}{"hung": {p.Stop, p.Continue, hung}, "gone": {p.Cut, p.Restore, 5 * time.Second}} {
		t.Run(name, func(t *testing.T) {
			const patience = 1500 * time.Millisecond
			var late, failed atomic.Int64
			stop := make(chan struct{})
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					for {
						select {
						case <-stop:
							return
						default:
						}
						ctx, cancel := context.WithTimeout(t.Context(), patience)
						begin := time.Now()
						err := sign(ctx, k)
						cancel()
						if took := time.Since(begin); took > patience+promptly {
							late.Add(1)
						}
						if errors.Is(err, errWrong) {
							t.Error(err)
						}
						if err != nil {
							failed.Add(1)
						}
					}
				})
			}
			time.Sleep(200 * time.Millisecond)
			o.begin()
			time.Sleep(o.lasts / 2)
			// A busy machine notices later.
			for end := time.Now().Add(30 * time.Second); token.Health() == nil; time.Sleep(10 * time.Millisecond) {
				if time.Now().After(end) {
					t.Error("health says that all is well")
					break
				}
			}
			time.Sleep(o.lasts / 2)
			o.end()
			begin := time.Now()
			mustSign(t, k)
			took := time.Since(begin)
			if took > promptly {
				t.Errorf("signing again after %v", took)
			}
			close(stop)
			wg.Wait()
			if late.Load() > 0 || failed.Load() == 0 {
				t.Errorf("%d callers were answered late, %d with an error", late.Load(), failed.Load())
			}
			for range 20 {
				mustSign(t, k)
			}
			t.Logf("signing again after %v, %d callers were told meanwhile", took, failed.Load())
		})
	}
}

// TestSessions: 10,000 signatures, apart and inside, make one login and no more sessions than the pool's and the one that is logged in, as
// OpenSC's pkcs11-spy counts them.
func TestSessions(t *testing.T) {
	spy := ""
	for _, at := range []string{"/usr/lib/x86_64-linux-gnu/pkcs11-spy.so", "/usr/lib/x86_64-linux-gnu/pkcs11/pkcs11-spy.so", "/usr/lib/aarch64-linux-gnu/pkcs11-spy.so"} {
		if _, err := os.Stat(at); err == nil {
			spy = at
		}
	}
	if spy == "" {
		t.Fatal("pkcs11-spy is not here: install the packages of scripts/packages-test.txt")
	}
	b := newBoard(t)
	mustGenerate(t, mustOpen(t, plain(b)), "k", hsm.P256)
	const signatures = 10000
	for name, open := range map[string]func() (hsm.Token, error){
		"apart": func() (hsm.Token, error) {
			return Open(t.Context(), Config{Module: spy, URI: hsm.URI{Token: b.Label, Serial: b.Serial}, PIN: hsm.PINBytes(b.PIN)})
		},
		"inside": func() (hsm.Token, error) {
			return pkcs11.Open(t.Context(), pkcs11.Config{Module: spy, URI: hsm.URI{Token: b.Label, Serial: b.Serial}, PIN: hsm.PINBytes(b.PIN)})
		},
	} {
		t.Run(name, func(t *testing.T) {
			log := filepath.Join(t.TempDir(), "spy")
			t.Setenv("PKCS11SPY", b.Module)
			t.Setenv("PKCS11SPY_OUTPUT", log)
			token, err := open()
			if err != nil {
				t.Fatal(err)
			}
			k, err := token.Key(t.Context(), hsm.Query{Label: "k"})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := rate(k, signatures); err != nil {
				t.Fatal(err)
			}
			if err := token.Close(); err != nil {
				t.Fatal(err)
			}
			calls, err := os.ReadFile(log)
			if err != nil {
				t.Fatal(err)
			}
			count := func(f string) int { return bytes.Count(calls, []byte(": "+f+"\n")) }
			if n := count("C_Login"); n != 1 {
				t.Errorf("%d logins", n)
			}
			if n := count("C_OpenSession"); n > 2*runtime.NumCPU()+1 || n == 0 {
				t.Errorf("%d sessions", n)
			}
			if n := count("C_SignInit"); n < signatures {
				t.Errorf("%d signatures were seen", n)
			}
			t.Logf("%d logins, %d sessions, %d signatures", count("C_Login"), count("C_OpenSession"), count("C_SignInit"))
		})
	}
}
