package store

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hanaper/hanaper/factory"
)

func TestSQLite(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state with a space?#%")
	suite(t, func(t *testing.T) factory.Store {
		s, err := OpenSQLite(context.Background(), dir)
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
	for path, want := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, "factory.db"): 0o600} {
		st, err := os.Stat(path)
		if err != nil || st.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", path, st.Mode().Perm(), err)
		}
	}
}

// TestForeignFile: a file that is not ours is refused and not changed.
func TestForeignFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "factory.db")
	if err := os.WriteFile(path, []byte(strings.Repeat("not a database ", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := OpenSQLite(context.Background(), dir); err == nil {
		s.Close()
		t.Fatal("opened")
	}
	if b, _ := os.ReadFile(path); !strings.HasPrefix(string(b), "not a database ") {
		t.Error("the file was changed")
	}
}

// BenchmarkIntentAndResult: sixteen callers, each an intent and a result, both durable.
func BenchmarkIntentAndResult(b *testing.B) {
	s, err := OpenSQLite(context.Background(), b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	var n atomic.Int64
	der := make([]byte, 700)
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			i := n.Add(1)
			r, _, err := s.Begin(context.Background(), intent(fmt.Sprint("device-", i), fmt.Sprint("k", i)))
			if err != nil {
				b.Error(err)
				return
			}
			if _, err := s.Finish(context.Background(), r.ID, der, at); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "enrolments/s")
}
