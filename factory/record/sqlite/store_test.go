package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hanaper/hanaper/factory/record"
	"github.com/hanaper/hanaper/factory/record/recordtest"
	"github.com/hanaper/hanaper/factory/record/tables"
	"github.com/hanaper/hanaper/internal/durable"
)

func opened(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := Open(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestSQLite is the suite, and how the file lies there.
func TestSQLite(t *testing.T) {
	base := t.TempDir()
	recordtest.Suite(t, func(t *testing.T) (record.Store, func() record.Store) {
		return opened(t, filepath.Join(base, t.Name(), "state with a space?#%")), nil
	})
	dir := filepath.Join(base, "one")
	s := opened(t, dir)
	defer s.Close()
	for path, want := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, File): 0o600} {
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
	if s, err := Open(context.Background(), dir); err == nil {
		s.Close()
		t.Fatal("opened")
	}
	if b, _ := os.ReadFile(path); !strings.HasPrefix(string(b), "not a database ") {
		t.Error("the file was changed")
	}
}

// TestOneProcess: a second opener is refused, for two would sign lists that lack each other's revocations.
func TestOneProcess(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if two, err := Open(context.Background(), dir); !errors.Is(err, durable.ErrLocked) {
		two.Close()
		t.Fatal("opened twice", err)
	}
	look, err := Read(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := look.Begin(context.Background(), recordtest.Intent("a", "ka")); !errors.Is(err, errReadOnly) {
		t.Error("a reader wrote", err)
	}
	if n, err := look.Counts(context.Background()); err != nil || n["enrolment"] != 0 {
		t.Error(n, err)
	}
	if err := errors.Join(look.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	if s, err = Open(context.Background(), dir); err != nil {
		t.Fatal(err)
	}
	s.Close()
}

// TestMovedAway: what is written to a file that has lost its name would be gone at the next start.
func TestMovedAway(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	s, err := Open(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	path := filepath.Join(dir, "factory.db")
	for what, harm := range map[string]func() error{
		"removed":  func() error { return os.Rename(path, path+".away") },
		"replaced": func() error { return errors.Join(os.Rename(path, path+".away"), os.WriteFile(path, nil, 0o600)) },
	} {
		if err := harm(); err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.Begin(ctx, recordtest.Intent("a", "ka")); err == nil {
			t.Errorf("%s: written all the same", what)
		}
		if err := os.Rename(path+".away", path); err != nil {
			t.Fatal(err)
		}
		if n, err := s.Counts(ctx); err != nil || n["enrolment"] != 0 {
			t.Errorf("%s: %v, %v", what, n, err)
		}
	}
	if _, isNew, err := s.Begin(ctx, recordtest.Intent("a", "ka")); err != nil || !isNew {
		t.Errorf("back in its place: %v", err)
	}
}

// TestNoRoom: a disk that is full fails the writes, and those after it work again.
func TestNoRoom(t *testing.T) {
	ctx := context.Background()
	s, err := Open(ctx, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	limit := func(pages int) {
		if err := s.writer.do(ctx, func(tx tables.Tx) error {
			_, err := tx.(*transaction).w.conn.ExecContext(ctx, fmt.Sprintf("PRAGMA max_page_count=%d", pages))
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	limit(1)
	var failed int
	for i := range 100 {
		in := recordtest.Intent(fmt.Sprint("d", i), fmt.Sprint("k", i))
		in.SPKI = make([]byte, 2000)
		if _, _, err := s.Begin(ctx, in); err != nil {
			failed++
		}
	}
	if failed < 50 {
		t.Fatalf("%d of 100 writes failed", failed)
	}
	limit(1 << 20)
	if _, _, err := s.Begin(ctx, recordtest.Intent("after", "kafter")); err != nil {
		t.Error(err)
	}
}

// BenchmarkIntentAndResult: sixteen callers, each an intent and a result, both durable.
func BenchmarkIntentAndResult(b *testing.B) {
	s, err := Open(context.Background(), b.TempDir())
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
			r, _, err := s.Begin(context.Background(), recordtest.Intent(fmt.Sprint("device-", i), fmt.Sprint("k", i)))
			if err != nil {
				b.Error(err)
				return
			}
			if _, err := s.Finish(context.Background(), record.Result{ID: r.ID, TBSDigest: r.TBSDigest, Certificate: der, At: recordtest.At, Who: "station line-1"}); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "enrolments/s")
}
