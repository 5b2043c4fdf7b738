package issuancelog

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	flog "github.com/transparency-dev/formats/log"
	"golang.org/x/mod/sumdb/note"

	"github.com/hanaper/hanaper/factory/logbook"
)

// audit reads the whole folder and compares each entry with the record.
func audit(t testing.TB, rec *testRecord, dir string, since ...[]byte) (*logbook.Audit, error) {
	t.Helper()
	secret, _ := rec.LogSecret(context.Background())
	return logbook.Check(context.Background(), logbook.Folder(dir), logbook.AuditConfig{Policy: policy(t), Since: since, Leaf: func(i uint64, l logbook.Leaf) error {
		e, err := rec.LogEvents(context.Background(), i, 1)
		if err != nil || len(e) != 1 || e[0].Leaf(secret) != l {
			return fmt.Errorf("entry %d is not the record's", i)
		}
		return nil
	}})
}

func TestFollows(t *testing.T) {
	t.Parallel()
	rec, dir := &testRecord{}, filepath.Join(t.TempDir(), "log")
	r := run(t, config(t, rec, dir))
	total := uint64(0)
	var notes [][]byte
	for _, n := range []uint64{0, 1, 1, 254, 1, 2000, 5} {
		rec.add(n)
		total += n
		r.signed(total)
		if n > 0 {
			notes = append(notes, rec.note)
		}
	}
	if a, err := audit(t, rec, dir, notes...); err != nil || a.Checkpoint.Size != int64(total) {
		t.Fatalf("%+v, %v", a, err)
	}
	// Stopped and started, and nothing new: nothing is signed again.
	r.stop()
	before := len(rec.puts)
	r = run(t, config(t, rec, dir))
	r.signed(total)
	time.Sleep(300 * time.Millisecond)
	if len(rec.puts) != before {
		t.Error("the same checkpoint was signed again")
	}
	rec.add(300)
	r.signed(total + 300)
	if _, err := audit(t, rec, dir, notes...); err != nil {
		t.Fatal(err)
	}
	// Judged by stock tools.
	vkey := policy(t).Key()
	v, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "checkpoint"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := note.Open(data, note.VerifierList(v)); err != nil {
		t.Error(err)
	}
	if c, _, _, err := flog.ParseCheckpoint(data, origin, v); err != nil || c.Size != total+300 {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestLatest(t *testing.T) {
	t.Parallel()
	rec, dir := &testRecord{size: 700}, filepath.Join(t.TempDir(), "log")
	r := run(t, config(t, rec, dir))
	r.signed(700)
	ctx := context.Background()
	kept := logbook.NewKept(filepath.Join(t.TempDir(), "kept"), policy(t), nil)
	for range 5 {
		held, err := kept.Size()
		if err != nil {
			t.Fatal(err)
		}
		a := r.Latest(ctx, held)
		if a.Words != "" || a.From != held {
			t.Fatalf("%+v", a)
		}
		c, err := kept.Accept(ctx, logbook.Offer{Note: a.Note, From: a.From, Proof: a.Proof})
		if err != nil || c.Size != r.last.Load().Size {
			t.Fatalf("%+v, %v", c, err)
		}
		rec.add(77)
		r.until("the next", func(s State) bool { return s.Signed > uint64(c.Size) })
	}
	if a := r.Latest(ctx, 1<<40); a.Note == nil || a.Proof != nil {
		t.Errorf("%+v", a)
	}
	none, err := New(config(t, &testRecord{}, filepath.Join(t.TempDir(), "none")))
	if err != nil {
		t.Fatal(err)
	}
	if a := none.Latest(ctx, 0); a.Note != nil || a.Words == "" {
		t.Errorf("%+v", a)
	}
}

// Another server follows: it hands out what the leader signed, and leads when that one ends.
func TestTwoServers(t *testing.T) {
	t.Parallel()
	rec, dir := &testRecord{size: 10}, filepath.Join(t.TempDir(), "log")
	one := run(t, config(t, rec, dir))
	one.signed(10)
	two := run(t, config(t, rec, dir))
	two.until("following", func(s State) bool { return s.Signed == 10 && !s.Leading })
	rec.add(10)
	one.signed(20)
	if a := two.Latest(context.Background(), 20); !bytes.Equal(a.Note, rec.note) {
		t.Error("a checkpoint that a station has had is taken back")
	}
	one.stop()
	rec.add(10)
	two.until("leading", func(s State) bool { return s.Signed == 30 && s.Leading })
	if _, err := audit(t, rec, dir); err != nil {
		t.Fatal(err)
	}
}

// copyTree copies a folder.
func copyTree(t testing.TB, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

func find(t testing.TB, dir, prefix string) string {
	t.Helper()
	found := ""
	_ = filepath.WalkDir(filepath.Join(dir, filepath.FromSlash(prefix)), func(at string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			found = at
		}
		return nil
	})
	if found == "" {
		t.Fatalf("no file under %s", prefix)
	}
	return found
}

func change(t testing.TB, at string, f func([]byte) []byte) {
	t.Helper()
	data, err := os.ReadFile(at)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(at, f(data), 0o644); err != nil {
		t.Fatal(err)
	}
}

func flip(i int) func([]byte) []byte {
	return func(b []byte) []byte { b[i] ^= 1; return b }
}

// manipulations of a log's folder of 700 entries, or of its record, and what they must be refused with at the start.
func manipulations(t testing.TB) map[string]struct {
	change func(t testing.TB, rec *testRecord, dir string)
	want   error
	// later says that only who reads everything notices, within a while.
	later bool
} {
	shortRecord, shortDir := lay(t, 300)
	otherRecord := &testRecord{size: 700, other: map[uint64]Event{5: event(1005)}}
	e := otherRecord.other[5]
	e.Index = 5
	otherRecord.other[5] = e
	otherDir := filepath.Join(t.TempDir(), "log")
	r := run(t, config(t, otherRecord, otherDir))
	r.signed(700)
	r.stop()
	replace := func(dir, by string) {
		_ = os.RemoveAll(dir)
		copyTree(t, by, dir)
	}
	type m = struct {
		change func(t testing.TB, rec *testRecord, dir string)
		want   error
		later  bool
	}
	return map[string]m{
		"folder deleted":               {func(t testing.TB, _ *testRecord, dir string) { _ = os.RemoveAll(dir) }, ErrFolder, false},
		"folder emptied":               {func(t testing.TB, _ *testRecord, dir string) { _ = os.RemoveAll(dir); _ = os.MkdirAll(dir, 0o755) }, ErrFolder, false},
		"state deleted":                {func(t testing.TB, _ *testRecord, dir string) { _ = os.RemoveAll(filepath.Join(dir, ".state")) }, ErrFolder, false},
		"state damaged":                {func(t testing.TB, _ *testRecord, dir string) { change(t, filepath.Join(dir, statePath), flip(0)) }, ErrFolder, false},
		"state's root flipped":         {func(t testing.TB, _ *testRecord, dir string) { change(t, filepath.Join(dir, statePath), flip(30)) }, ErrFolder, false},
		"cut back with its checkpoint": {func(t testing.TB, _ *testRecord, dir string) { replace(dir, shortDir) }, ErrFolder, false},
		"forked with its checkpoint":   {func(t testing.TB, _ *testRecord, dir string) { replace(dir, otherDir) }, ErrFolder, false},
		"checkpoint flipped":           {func(t testing.TB, _ *testRecord, dir string) { change(t, filepath.Join(dir, "checkpoint"), flip(40)) }, ErrFolder, false},
		"right tile flipped":           {func(t testing.TB, _ *testRecord, dir string) { change(t, find(t, dir, "tile/0/002.p"), flip(99)) }, ErrFolder, false},
		"upper tile flipped": {func(t testing.TB, _ *testRecord, dir string) {
			change(t, filepath.Join(dir, "tile/1/000.p/2"), flip(9))
		}, ErrFolder, false},
		"last bundle flipped": {func(t testing.TB, _ *testRecord, dir string) { change(t, find(t, dir, "tile/entries/002.p"), flip(99)) }, ErrFolder, false},
		"an entry flipped inside": {func(t testing.TB, _ *testRecord, dir string) {
			change(t, filepath.Join(dir, "tile/entries/000"), flip(99))
		}, ErrFolder, true},
		"a tile flipped inside":  {func(t testing.TB, _ *testRecord, dir string) { change(t, filepath.Join(dir, "tile/0/000"), flip(99)) }, ErrFolder, true},
		"a bundle gone inside":   {func(t testing.TB, _ *testRecord, dir string) { _ = os.Remove(filepath.Join(dir, "tile/entries/001")) }, ErrFolder, true},
		"record put back, older": {func(t testing.TB, rec *testRecord, _ string) { rec.set(func() { rec.size, rec.note = 500, nil }) }, ErrRecordBehind, false},
		"record put back with checkpoint": {func(t testing.TB, rec *testRecord, _ string) {
			rec.set(func() { rec.size, rec.note, rec.noted = 300, shortRecord.note, 300 })
		}, ErrRecordBehind, false},
		"record cut behind its checkpoint": {func(t testing.TB, rec *testRecord, _ string) { rec.set(func() { rec.size = 699 }) }, ErrRecordBehind, false},
		"record's checkpoint of other keys": {func(t testing.TB, rec *testRecord, _ string) {
			rec.set(func() { rec.note = flip(len(rec.note) - 10)(bytes.Clone(rec.note)) })
		}, nil, false},
		"record changed, checkpoint gone": {func(t testing.TB, rec *testRecord, _ string) {
			rec.set(func() { rec.other, rec.note = otherRecord.other, nil })
		}, ErrFolder, false},
		"record changed": {func(t testing.TB, rec *testRecord, _ string) { rec.set(func() { rec.other = otherRecord.other }) }, ErrFolder, true},
	}
}

// TestManipulationsAtStart: a folder or a record that was changed while the server was down is refused, and nothing is written.
func TestManipulationsAtStart(t *testing.T) {
	t.Parallel()
	rec, dir := lay(t, 700)
	for name, m := range manipulations(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mine := &testRecord{size: rec.size, note: rec.note, noted: rec.noted, root: rec.root}
			at := filepath.Join(t.TempDir(), "log")
			copyTree(t, dir, at)
			m.change(t, mine, at)
			before := listing(t, at)
			l, err := New(config(t, mine, at))
			if err != nil {
				t.Fatal(err)
			}
			err = l.Check(context.Background())
			if m.later {
				r := run(t, config(t, mine, at))
				s := r.until("the fault", func(s State) bool { return s.Fault != "" })
				if !strings.Contains(s.Fault, ErrFolder.Error()) {
					t.Errorf("%+v", s)
				}
				return
			}
			if err == nil || m.want != nil && !errors.Is(err, m.want) {
				t.Fatalf("got %v, want %v", err, m.want)
			}
			// The same when it runs: it says so, and signs nothing.
			if m.want == ErrFolder {
				mine.add(5)
			}
			puts := len(mine.puts)
			r := run(t, config(t, mine, at))
			r.until("the fault", func(s State) bool { return s.Fault != "" })
			time.Sleep(50 * time.Millisecond)
			r.stop()
			if len(mine.puts) != puts || listing(t, at) != before {
				t.Error("something was written")
			}
			if a := r.Latest(context.Background(), 0); a.Words == "" && len(a.Note) == 0 {
				t.Errorf("neither checkpoint nor words: %+v", a)
			}
		})
	}
}

// TestManipulationsWhileRunning: the same, done to a running log that has more to write.
func TestManipulationsWhileRunning(t *testing.T) {
	t.Parallel()
	for name, m := range manipulations(t) {
		if name == "record put back, older" || name == "record's checkpoint of other keys" || name == "checkpoint flipped" || name == "record changed, checkpoint gone" {
			continue // what only a start reads
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rec, dir := &testRecord{size: 700}, filepath.Join(t.TempDir(), "log")
			r := run(t, config(t, rec, dir))
			r.signed(700)
			m.change(t, rec, dir)
			if m.want != ErrRecordBehind {
				rec.add(40)
			}
			s := r.until("the fault", func(s State) bool { return s.Fault != "" })
			if m.want != nil && !strings.Contains(s.Fault, m.want.Error()) && !strings.Contains(s.Fault, "the record") {
				t.Errorf("%+v", s)
			}
		})
	}
}

func listing(t testing.TB, dir string) string {
	var b strings.Builder
	_ = filepath.WalkDir(dir, func(at string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() && e.Name() != ".hanaper.lock" {
			info, _ := e.Info()
			fmt.Fprintln(&b, at, info.Size(), info.ModTime().UnixNano())
		}
		return nil
	})
	return b.String()
}

// switched is a token that can be pulled out.
type switched struct {
	crypto.Signer
	away chan struct{}
}

func (s switched) Sign(r io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	select {
	case <-s.away:
		return s.Signer.Sign(r, digest, o)
	default:
		return nil, errors.New("the token is away")
	}
}

// TestKeyAway: without its key the log goes on being written, hands out the last checkpoint, and says what is wrong; when the
// key is back it signs.
func TestKeyAway(t *testing.T) {
	t.Parallel()
	rec, dir := lay(t, 10)
	c := config(t, rec, dir)
	back := make(chan struct{})
	c.Key = switched{key(1), back}
	r := run(t, c)
	rec.add(10)
	s := r.until("the fault", func(s State) bool { return s.Fault != "" && s.Size == 20 })
	if s.Signed != 10 || !strings.Contains(s.Fault, "the token is away") || r.Trouble() == "" {
		t.Errorf("%+v", s)
	}
	if a := r.Latest(context.Background(), 0); a.Note == nil {
		t.Errorf("%+v", a)
	}
	close(back)
	r.signed(20)
	if r.Trouble() != "" {
		t.Error(r.Trouble())
	}
}

func TestRecordAway(t *testing.T) {
	t.Parallel()
	rec, dir := &testRecord{size: 10}, filepath.Join(t.TempDir(), "log")
	r := run(t, config(t, rec, dir))
	r.signed(10)
	rec.set(func() { rec.away = true })
	r.until("the fault", func(s State) bool { return s.Fault != "" })
	rec.set(func() { rec.away = false })
	rec.add(5)
	r.signed(15)
	if _, err := audit(t, rec, dir); err != nil {
		t.Fatal(err)
	}
}

func TestNewRefuses(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"no folder":       func(c *Config) { c.Folder = "" },
		"no record":       func(c *Config) { c.Record = nil },
		"another key":     func(c *Config) { c.Key = key(2) },
		"unknown witness": func(c *Config) { c.Policy = policy(t, withWitness(t)); c.Witnesses = nil },
		"witness over HTTP": func(c *Config) {
			c.Policy = policy(t, withWitness(t))
			c.Witnesses = []WitnessConfig{{"witness.example", "http://192.0.2.1/"}}
		},
		"witness with query": func(c *Config) {
			c.Policy = policy(t, withWitness(t))
			c.Witnesses = []WitnessConfig{{"witness.example", "https://w.example/?x"}}
		},
	} {
		c := config(t, &testRecord{}, filepath.Join(t.TempDir(), "log"))
		change(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
		if _, err := os.Lstat(c.Folder); err == nil && c.Folder != "" {
			t.Errorf("%s: the folder was made", name)
		}
	}
}

// TestCheckWhileAnotherWrites: a server that starts compares folder and record while another one writes the folder: what grows meanwhile is no
// sign of anything.
func TestCheckWhileAnotherWrites(t *testing.T) {
	t.Parallel()
	rec, dir := &testRecord{}, filepath.Join(t.TempDir(), "log")
	r := run(t, config(t, rec, dir))
	rec.add(1)
	r.signed(1)
	ctx, stop := context.WithCancel(t.Context())
	var writer sync.WaitGroup
	writer.Go(func() {
		for ctx.Err() == nil {
			rec.add(3)
			time.Sleep(time.Millisecond)
		}
	})
	l, err := New(config(t, rec, dir))
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for n := 0; time.Since(began) < 4*time.Second; n++ {
		if err := l.Check(ctx); err != nil {
			t.Fatalf("check %d: %v", n, err)
		}
	}
	stop()
	writer.Wait()
	if size := r.until("it grew", func(s State) bool { return s.Size > 300 }).Size; size == 0 {
		t.Error("the log did not grow")
	}
}
