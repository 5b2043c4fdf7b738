package sqlite

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hanaper/hanaper/gateway"
)

// generate fills a registry with so many devices, without waiting for the disk: ids in no order, as vehicles' are.
func generate(t testing.TB, path string, n int) {
	t.Helper()
	r, err := Open(Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	db := r.store.write
	for _, q := range []string{"PRAGMA synchronous = OFF", "INSERT INTO environment (id, name) VALUES (1, 'test')", "INSERT INTO issuer (id, name) VALUES (1, 'CN=Factory')",
		"DROP INDEX device_named"} { // it is made again in one sweep, when all are there
		if _, err := db.Exec(q); err != nil {
			t.Fatal(err)
		}
	}
	const part = 250_000
	for from := 0; from < n; from += part {
		to := min(from+part, n)
		// A multiplier that has no factor in common with 2^40 gives each number another one, in no order.
		if _, err := db.Exec(`WITH RECURSIVE c(i) AS (SELECT ?1 UNION ALL SELECT i + 1 FROM c WHERE i + 1 < ?2)
 INSERT INTO device (id, environment, fold, name, state, registered, first_seen, last_seen, since, why, notes, key, key_from, generation, rekey, flags)
 SELECT i + 1, 1, printf('old-%012d', (i * 11400714819) & 1099511627775), NULL, CASE WHEN i % 1000 = 0 THEN 2 ELSE 1 END, 0, 1790000000, 1790000000, 0, '', '', randomblob(32), 1790000000, 1, 0, 0 FROM c`, from, to); err != nil {
			t.Fatal(err)
		}
		if _, err := db.Exec(`WITH RECURSIVE c(i) AS (SELECT ?1 UNION ALL SELECT i + 1 FROM c WHERE i + 1 < ?2)
 INSERT INTO certificate (device, turn, sha256, key, generation, serial, issuer, not_after, first_seen, last_seen)
 SELECT i + 1, 1, randomblob(32), randomblob(32), 1, lower(hex(randomblob(20))), 1, 2000000000, 1790000000, 1790000000 FROM c`, from, to); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := db.Exec("CREATE UNIQUE INDEX device_named ON device (environment, fold); INSERT INTO tally (environment, state, n) SELECT environment, state, count(*) FROM device GROUP BY 1, 2; PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
		t.Fatal(err)
	}
}

// contacts are first contacts a second, 32 at a time, of devices whose ids lie anywhere between the others.
func contacts(t testing.TB, r *Registry, n int) float64 {
	var next atomic.Int64
	var all sync.WaitGroup
	begin := time.Now()
	for range 32 {
		all.Go(func() {
			for next.Add(1) <= int64(n) {
				x := rand.Uint64()
				m := gateway.Meeting{Environment: "test", Device: fmt.Sprintf("old-%012d.%d", x&1099511627775, x%1000), Serial: "1f", Issuer: "CN=Factory", Generation: 1, NotBefore: begin, NotAfter: begin.Add(time.Hour), At: begin}
				binary.BigEndian.PutUint64(m.Certificate[:], x)
				binary.BigEndian.PutUint64(m.Key[:], x)
				if met, err := r.Meet(context.Background(), m); err != nil || !met.New {
					t.Error(met, err)
					return
				}
			}
		})
	}
	all.Wait()
	return float64(n) / time.Since(begin).Seconds()
}

// TestLargeRegistry: a registry of many devices (20,000, or as HANAPER_DEVICES says; make soak: ten million) opens and answers at once, and takes first
// contacts nearly as fast as an empty one.
func TestLargeRegistry(t *testing.T) {
	n, asked := 20_000, 600
	if more, err := strconv.Atoi(os.Getenv("HANAPER_DEVICES")); err == nil && more > 0 {
		n, asked = more, 4000
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "large.db")
	begin := time.Now()
	generate(t, path, n)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d devices in %v, %d bytes each", n, time.Since(begin).Round(time.Second), info.Size()/int64(n))
	small := opened(t, filepath.Join(dir, "small.db"))
	begin = time.Now()
	large := opened(t, path)
	t.Logf("opened after %v", time.Since(begin).Round(time.Millisecond))
	var ratios []float64
	for range 5 {
		a, b := contacts(t, small, asked), contacts(t, large, asked)
		t.Logf("%.0f/s in an empty registry, %.0f/s in the large one", a, b)
		ratios = append(ratios, b/a)
	}
	slices.Sort(ratios)
	t.Logf("ratio large/empty %.3f", ratios[2])
	// This is the registry alone: a first contact has a handshake and a request besides, which cost the same whatever its size. On a busy machine few
	// devices say nothing.
	if n >= 1_000_000 && ratios[2] < 0.5 {
		t.Errorf("the large registry takes first contacts at %.2f of an empty one's rate", ratios[2])
	}
	ctx := context.Background()
	for what, f := range map[string]gateway.Filter{"all": {Limit: 100}, "blocked": {State: gateway.Blocked, Limit: 100}, "flagged": {Flag: "any", Limit: 100}, "a prefix": {Prefix: "old-0000000", Limit: 100},
		"one environment, from the middle": {Environment: "test", AfterEnvironment: "test", After: "old-05", Limit: 100}} {
		begin := time.Now()
		if _, err := large.Devices(ctx, f); err != nil {
			t.Error(err)
		}
		t.Logf("%s: listed after %v", what, time.Since(begin).Round(10*time.Microsecond))
	}
	begin = time.Now()
	if counts, err := large.Counts(ctx); err != nil || len(counts) != len(gateway.States())+len(gateway.Flags()) {
		t.Error(counts, err)
	}
	t.Logf("counted after %v", time.Since(begin).Round(10*time.Microsecond))
}
