package apart

import (
	"context"
	"crypto"
	"crypto/sha256"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/internal/bench"
)

// BenchmarkCompareTokensApart signs on one SoftHSM token with a P-256 key, with as many callers as a service has, through a library that
// runs apart and through one inside this process.
func BenchmarkCompareTokensApart(b *testing.B) {
	board := newBoard(b)
	there := mustOpen(b, plain(board))
	k := mustGenerate(b, there, "k", hsm.P256)
	here, err := pkcs11.Open(b.Context(), pkcs11.Config{Module: board.Module, URI: hsm.URI{Token: board.Label, Serial: board.Serial}, PIN: hsm.PINBytes(board.PIN)})
	if err != nil {
		b.Fatal(err)
	}
	defer here.Close()
	inside, err := here.Key(b.Context(), hsm.Query{Label: "k"})
	if err != nil {
		b.Fatal(err)
	}
	bench.Compare(b, "apart/inside", "1/s",
		bench.Side{Name: "sign-apart", Rate: func() (float64, error) { return rate(k, 20000) }},
		bench.Side{Name: "sign-inside", Rate: func() (float64, error) { return rate(inside, 20000) }})
}

// rate makes n signatures with 32 callers a core.
func rate(k hsm.Key, n int64) (float64, error) {
	digest := sha256.Sum256([]byte("bench"))
	request, end := context.WithTimeout(context.Background(), time.Hour) // as a request of a service has it
	defer end()
	ctx, cancel := context.WithCancelCause(request)
	defer cancel(nil)
	var begun atomic.Int64
	var wg sync.WaitGroup
	begin := time.Now()
	for range 32 * runtime.NumCPU() {
		wg.Go(func() {
			for begun.Add(1) <= n && ctx.Err() == nil {
				if _, err := k.SignContext(ctx, digest[:], crypto.SHA256); err != nil {
					cancel(err)
				}
			}
		})
	}
	wg.Wait()
	return float64(n) / time.Since(begin).Seconds(), context.Cause(ctx)
}
