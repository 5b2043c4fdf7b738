package pkcs11_test

import (
	"context"
	"crypto"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/hsm/pkcs11/peertest"
	"github.com/hanaper/hanaper/internal/bench"
)

// BenchmarkCompareTokens signs on each peer through the pool, and in a bare loop on the same number of sessions that does nothing but
// C_SignInit and C_Sign. How much is signed in a turn follows from what the peer does in half a second.
func BenchmarkCompareTokens(b *testing.B) {
	for _, s := range peertest.All() {
		b.Run(s.Name, func(b *testing.B) {
			p := s.Start(b)
			const sessions = 2
			token := p.Open(b, func(c *pkcs11.Config) { c.Sessions = sessions })
			k := benchKey(b, p, token)
			ours := func(n int64) (float64, error) { return concurrently(sessions, n, func() error { return signBench(k) }) }
			trial := int64(4)
			rate, err := ours(trial)
			if err != nil {
				b.Fatal(err)
			}
			n := max(trial, int64(rate/2))
			if rate, err = ours(n); err != nil { // the first calls look for things that the others know
				b.Fatal(err)
			}
			n = max(trial, int64(rate/2))
			bench.Compare(b, p.Name+"/bare", "1/s",
				bench.Side{Name: "sign-" + p.Name, Rate: func() (float64, error) { return ours(n) }},
				bench.Side{Name: "sign-" + p.Name + "-bare", Rate: func() (float64, error) { return pkcs11.SignBare(token, k, sessions, n) }})
		})
	}
}

func benchKey(b *testing.B, p *peertest.Peer, token *pkcs11.Token) hsm.Key {
	b.Helper()
	label := p.Keys[hsm.P256]
	if label == "" {
		label = "bench"
		a := hsm.P256
		if token.CanGenerate(a) != nil {
			a = hsm.RSA2048
		}
		if err := pkcs11.GenerateUnproven(token, label, []byte(label), a); err != nil {
			b.Fatal(err)
		}
	}
	k, err := token.Key(b.Context(), hsm.Query{Label: label})
	if err != nil {
		b.Fatal(err)
	}
	return k
}

func signBench(k hsm.Key) error {
	_, err := k.SignContext(context.Background(), make([]byte, 32), crypto.SHA256)
	return err
}

// concurrently does n times f, by several callers, and gives how many a second.
func concurrently(callers int, n int64, f func() error) (float64, error) {
	var left atomic.Int64
	left.Store(n)
	failed := make(chan error, callers)
	var wg sync.WaitGroup
	begin := time.Now()
	for range callers {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if err := f(); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(begin)
	select {
	case err := <-failed:
		return 0, err
	default:
		return float64(n) / took.Seconds(), nil
	}
}
