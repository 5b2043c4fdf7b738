package pkcs11_test

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"runtime"
	"testing"

	"github.com/hanaper/hanaper/hsm"
)

// BenchmarkSign signs through the pool with as many callers as it has sessions.
func BenchmarkSign(b *testing.B) {
	token := open(b, board(b))
	sum := sha256.Sum256([]byte("bench"))
	for _, a := range []hsm.Algorithm{hsm.P256, hsm.P384, hsm.Ed25519, hsm.RSA3072} {
		k := generate(b, token, "bench-"+string(a), a)
		var opts crypto.SignerOpts = crypto.SHA256
		if a == hsm.Ed25519 {
			opts = crypto.Hash(0)
		}
		for name, callers := range map[string]int{"one": 0, "all": 2} {
			b.Run(string(a)+"/"+name, func(b *testing.B) {
				sign := func() {
					if _, err := k.Sign(rand.Reader, sum[:], opts); err != nil {
						b.Error(err)
					}
				}
				if callers == 0 {
					for b.Loop() {
						sign()
					}
				} else {
					b.SetParallelism(callers) // times GOMAXPROCS
					b.RunParallel(func(pb *testing.PB) {
						for pb.Next() {
							sign()
						}
					})
				}
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "sign/s")
			})
		}
	}
	b.Logf("%d CPUs", runtime.NumCPU())
}
