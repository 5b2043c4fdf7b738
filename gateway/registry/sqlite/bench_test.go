package sqlite

import (
	"context"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hanaper/hanaper/gateway"
)

// BenchmarkMeet: durable first contacts, 32 at a time.
func BenchmarkMeet(b *testing.B) {
	r, err := Open(Config{Path: filepath.Join(b.TempDir(), "devices.db")})
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	var n atomic.Uint64
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			m := gateway.Meeting{Environment: "test", Device: fmt.Sprint("device-", n.Add(1)), Serial: "1f", Issuer: "CN=Factory", NotAfter: time.Now().Add(time.Hour), At: time.Now()}
			binary.BigEndian.PutUint64(m.Certificate[:], n.Load()<<20|uint64(time.Now().UnixNano()&0xfffff))
			if _, err := r.Meet(context.Background(), m); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "meetings/s")
}
