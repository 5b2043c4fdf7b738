package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/hanaper/hanaper/internal/advice"
)

func newLog(t testing.TB, leaves ...string) (*Log, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "journal.log")
	l, err := Create(path, "journal.example/test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	for i, leaf := range leaves {
		if n, err := l.Append([]byte(leaf)); err != nil || n != int64(i) {
			t.Fatalf("append %d: %d, %v", i, n, err)
		}
	}
	return l, path
}

func manyLeaves(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf(`{"step":%d,"what":"generated key %d"}`, i, i*i)
	}
	return out
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestAppendReopen(t *testing.T) {
	want := manyLeaves(37)
	l, path := newLog(t, want...)
	root, body := l.Root(), l.Checkpoint()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append([]byte("x")); !errors.Is(err, ErrClosed) {
		t.Errorf("append after close: %v", err)
	}
	l, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if l.Size() != 37 || l.Root() != root || !bytes.Equal(l.Checkpoint(), body) || l.Torn() != 0 || l.Origin() != "journal.example/test" {
		t.Errorf("reopened: size %d, torn %d", l.Size(), l.Torn())
	}
	for i, w := range want {
		if got, err := l.Leaf(int64(i)); err != nil || string(got) != w {
			t.Errorf("leaf %d: %q, %v", i, got, err)
		}
	}
	if n, err := l.AppendAll([][]byte{[]byte("a\nb"), {0, 1, 2}}); err != nil || n != 37 {
		t.Fatalf("append: %d, %v", n, err)
	}
	r, err := Parse(read(t, path))
	if err != nil {
		t.Fatal(err)
	}
	if r.Size() != 39 || r.Root() != l.Root() || string(r.Leaf(37)) != "a\nb" || !bytes.Equal(r.Checkpoint(), l.Checkpoint()) {
		t.Error("parsed record differs from the log")
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestLeafChangedUnderneath(t *testing.T) {
	l, path := newLog(t, "first leaf", "second leaf")
	data := read(t, path)
	data[bytes.Index(data, []byte("second"))] = 'S'
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	var ee *EntryError
	if _, err := l.Leaf(1); !errors.As(err, &ee) || ee.Index != 1 {
		t.Errorf("got %v", err)
	}
	if _, err := l.Leaf(0); err != nil {
		t.Error(err)
	}
}

func TestRefusals(t *testing.T) {
	l, path := newLog(t, "one")
	before := read(t, path)
	for name, err := range map[string]error{
		"empty leaf": func() error { _, err := l.Append(nil); return err }(),
		"huge leaf":  func() error { _, err := l.Append(make([]byte, MaxLeaf+1)); return err }(),
		"in a batch": func() error { _, err := l.AppendAll([][]byte{[]byte("ok"), nil}); return err }(),
		"leaf -1":    func() error { _, err := l.Leaf(-1); return err }(),
		"leaf 1":     func() error { _, err := l.Leaf(1); return err }(),
		"second opener": func() error {
			l, err := Open(path)
			if err == nil {
				l.Close()
			}
			return err
		}(),
		"absent": func() error { _, err := Open(path + ".not"); return err }(),
	} {
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := Create(path, "journal.example/test"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("create over: %v", err)
	}
	if !bytes.Equal(before, read(t, path)) {
		t.Error("a refusal changed the file")
	}
	for _, origin := range []string{"", "a b", "a+b", "a\n", "é", string(bytes.Repeat([]byte("a"), MaxOrigin+1))} {
		p := filepath.Join(t.TempDir(), "j")
		if _, err := Create(p, origin); err == nil {
			t.Errorf("origin %q accepted", origin)
		}
		if _, err := os.Stat(p); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("origin %q: a file was written", origin)
		}
	}
}

// Every way in which a crash can leave the last append: opened, cut, and the next append goes on.
func TestTornTail(t *testing.T) {
	_, path := newLog(t, manyLeaves(4)...)
	whole := read(t, path)
	r, err := Parse(whole)
	if err != nil {
		t.Fatal(err)
	}
	three := len(whole) - headSize - len(r.Leaf(3)) - tailSize
	p := filepath.Join(t.TempDir(), "torn")
	for n := three; n < len(whole); n++ {
		if err := os.WriteFile(p, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		if n > three {
			var ee *EntryError
			if _, err := Parse(whole[:n]); !errors.As(err, &ee) || !ee.Torn() || ee.Index != 3 {
				t.Fatalf("cut at %d: Parse says %v", n, err)
			}
		}
		l, err := Open(p)
		if err != nil {
			t.Fatalf("cut at %d: %v", n, err)
		}
		if l.Size() != 3 || l.Torn() != int64(n-three) {
			t.Fatalf("cut at %d: size %d, torn %d", n, l.Size(), l.Torn())
		}
		if _, err := l.Append(r.Leaf(3)); err != nil {
			t.Fatal(err)
		}
		l.Close()
		if !bytes.Equal(read(t, p), whole) {
			t.Fatalf("cut at %d: file differs after the append was repeated", n)
		}
	}
	// What is no beginning of the next entry was not left by a crash. It is refused, and stays.
	for _, end := range []string{"x", "0000000000000004", "0000000000000003 zz"[:16] + "_"} {
		damaged := append(bytes.Clone(whole[:three]), end...)
		if err := os.WriteFile(p, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		var ee *EntryError
		if _, err := Open(p); !errors.As(err, &ee) || ee.Index != 3 {
			t.Errorf("%q at the end: %v", end, err)
		}
		if !bytes.Equal(read(t, p), damaged) {
			t.Errorf("%q at the end was cut off", end)
		}
	}
}

// Every changed byte is refused, by Parse and by Open, names the right entry, and leaves the file as it was.
func TestEveryChangedByte(t *testing.T) {
	_, path := newLog(t, manyLeaves(5)...)
	whole := read(t, path)
	_, n, err := parseOrigin(whole)
	if err != nil {
		t.Fatal(err)
	}
	record, err := Parse(whole)
	if err != nil {
		t.Fatal(err)
	}
	entryAt := make([]int64, len(whole))
	for i := range n {
		entryAt[i] = -1
	}
	at := n
	for i := range record.Size() {
		for size := headSize + len(record.Leaf(i)) + tailSize; size > 0; size-- {
			entryAt[at] = i
			at++
		}
	}
	p := filepath.Join(t.TempDir(), "changed")
	for i := range whole {
		for _, x := range []byte{1, 0x20, 0x80} {
			data := bytes.Clone(whole)
			data[i] ^= x
			_, err := Parse(data)
			var ee *EntryError
			if !errors.As(err, &ee) {
				t.Fatalf("byte %d: %v", i, err)
			}
			// A changed origin is a well-formed other one: its chain breaks at entry 0.
			if ee.Index != entryAt[i] && !(entryAt[i] == -1 && ee.Index == 0) {
				t.Fatalf("byte %d of entry %d: %v", i, entryAt[i], err)
			}
			if x != 1 {
				continue
			}
			if err := os.WriteFile(p, data, 0o600); err != nil {
				t.Fatal(err)
			}
			if l, err := Open(p); err == nil {
				l.Close()
				t.Fatalf("byte %d: opened", i)
			} else if advice.KindOf(err) != advice.Unverified || !errors.As(err, &ee) {
				t.Fatalf("byte %d: %v", i, err)
			}
			if !bytes.Equal(read(t, p), data) {
				t.Fatalf("byte %d: the file was changed", i)
			}
		}
	}
}

func TestDroppedDoubledReordered(t *testing.T) {
	_, path := newLog(t, manyLeaves(6)...)
	whole := read(t, path)
	_, n, _ := parseOrigin(whole)
	record, err := Parse(whole)
	if err != nil {
		t.Fatal(err)
	}
	var frames [][]byte
	for at, i := n, int64(0); i < record.Size(); i++ {
		size := headSize + len(record.Leaf(i)) + tailSize
		frames = append(frames, whole[at:at+size])
		at += size
	}
	build := func(order ...int) []byte {
		out := bytes.Clone(whole[:n])
		for _, i := range order {
			out = append(out, frames[i]...)
		}
		return out
	}
	for _, v := range []struct {
		name  string
		order []int
		index int64
	}{
		{"dropped first", []int{1, 2, 3, 4, 5}, 0},
		{"dropped middle", []int{0, 1, 3, 4, 5}, 2},
		{"doubled", []int{0, 1, 2, 2, 3, 4, 5}, 3},
		{"reordered", []int{0, 2, 1, 3, 4, 5}, 1},
		{"swapped last", []int{0, 1, 2, 3, 5, 4}, 4},
	} {
		var ee *EntryError
		if _, err := Parse(build(v.order...)); !errors.As(err, &ee) || ee.Index != v.index {
			t.Errorf("%s: %v", v.name, err)
		}
	}
	// Without the last entry the file is whole: only a checkpoint tells.
	short, err := Parse(build(0, 1, 2, 3, 4))
	if err != nil {
		t.Fatal(err)
	}
	c, err := ParseCheckpoint(record.Checkpoint())
	if err != nil {
		t.Fatal(err)
	}
	if err := short.Check(c); !errors.Is(err, ErrMismatch) {
		t.Errorf("cut back: %v", err)
	}
	if err := record.Check(c); err != nil {
		t.Error(err)
	}
}

// A journal rewritten in full, chain and all, is consistent and does not match the checkpoint.
func TestRewritten(t *testing.T) {
	l, original := newLog(t, manyLeaves(5)...)
	c, err := ParseCheckpoint(l.Checkpoint())
	if err != nil {
		t.Fatal(err)
	}
	leaves := manyLeaves(5)
	leaves[2] = `{"step":2,"what":"nothing to see"}`
	forged, path := newLog(t, leaves...)
	if err := forged.Check(c); !errors.Is(err, ErrMismatch) {
		t.Errorf("log: %v", err)
	}
	r, err := Parse(read(t, path))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Check(c); !errors.Is(err, ErrMismatch) {
		t.Errorf("record: %v", err)
	}
	if _, err := l.Append([]byte("more")); err != nil {
		t.Fatal(err)
	}
	if err := l.Check(c); err != nil {
		t.Errorf("grown log: %v", err)
	}
	// A record that is judged with its checkpoint holds those entries and no more.
	if r, err = Parse(read(t, original)); err != nil || r.Check(c) == nil {
		t.Errorf("grown record: %v", err)
	}
	c.Origin = "journal.example/other"
	if err := l.Check(c); !errors.Is(err, ErrMismatch) {
		t.Errorf("other origin: %v", err)
	}
}

func TestConcurrentAppend(t *testing.T) {
	l, path := newLog(t)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 25 {
				n, err := l.Append(fmt.Appendf(nil, "%d/%d", g, i))
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := l.Leaf(n); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	r, err := Parse(read(t, path))
	if err != nil || r.Size() != 100 || r.Root() != l.Root() {
		t.Errorf("parsed: %v", err)
	}
}
