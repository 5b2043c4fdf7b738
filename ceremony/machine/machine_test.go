package machine

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/journal"
)

var (
	script, roster = strings.Repeat("1a", 32), strings.Repeat("2b", 32)
	nonces         = []string{strings.Repeat("01", 16), strings.Repeat("02", 16), strings.Repeat("03", 16)}
)

func begun(nonce string) Begun {
	return Begun{Nonce: nonce, Ceremony: "first", Environment: "production", Script: script, Roster: roster, Anchor: ByRun, Root: rootText(EmptyRoot)}
}

func used(t *testing.T, s Store, nonce string) bool {
	t.Helper()
	u, err := s.Used(nonce)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// transcript is a journal in a file, as a ceremony has one.
type transcript struct {
	*testing.T
	path string
	log  *journal.Log
}

func newTranscript(t *testing.T) *transcript {
	t.Helper()
	path := filepath.Join(t.TempDir(), "transcript.log")
	l, err := journal.Create(path, "hanaper/ceremony/production/first")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return &transcript{t, path, l}
}

func (x *transcript) add(m *Memory) {
	x.Helper()
	leaf := fmt.Appendf(nil, "entry %d", x.log.Size())
	if err := m.Prepare(x.log.After(leaf)); err != nil {
		x.Fatal(err)
	}
	if _, err := x.log.Append(leaf); err != nil {
		x.Fatal(err)
	}
	if err := m.Written(); err != nil {
		x.Fatal(err)
	}
}

// TestRemember follows a run from its beginning to its end, and reads it back after each entry.
func TestRemember(t *testing.T) {
	s := At(filepath.Join(t.TempDir(), "state"))
	if used(t, s, nonces[0]) {
		t.Error("used before anything was")
	}
	if _, err := s.Recall(nonces[0]); !errors.Is(err, ErrUnknown) {
		t.Errorf("nothing is remembered, and Recall says %v", err)
	}
	const origin = "hanaper/ceremony/production/first"
	if known, err := s.Wrote(origin, [32]byte{1}); known || err != nil {
		t.Errorf("%v, %v", known, err)
	}
	if _, err := os.Lstat(s.Dir()); err == nil {
		t.Error("asking made the folder")
	}
	m, err := s.Begin(begun(nonces[0]))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Begin(begun(nonces[0])); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("two runs under the same approvals at once: %v", err)
	}
	// A run that did nothing yet used nothing up.
	m.Close()
	if used(t, s, nonces[0]) {
		t.Error("used before the first entry")
	}
	if m, err = s.Begin(begun(nonces[0])); err != nil {
		t.Fatal(err)
	}
	x := newTranscript(t)
	if err := m.Check(0, x.log.Root()); err != nil {
		t.Errorf("the transcript without entries: %v", err)
	}
	for range 5 {
		x.add(m)
		m.Close()
		if m, err = s.Recall(nonces[0]); err != nil {
			t.Fatal(err)
		}
		if err := m.Check(x.log.Size(), x.log.Root()); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Begin(begun(nonces[0])); err == nil || !strings.Contains(err.Error(), "used on this machine before") || advice.KindOf(err) != advice.Refused {
			t.Errorf("a second run under the same approvals: %v", err)
		}
	}
	if _, err := s.Recall(nonces[0]); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("two go on with one run: %v", err)
	}
	if err := m.End(Finished, [32]byte{7}); err != nil {
		t.Fatal(err)
	}
	m.Close()
	if m, err = s.Recall(nonces[0]); err != nil || m.Ended() == nil || m.Ended().How != Finished {
		t.Fatalf("the end: %v", err)
	}
	if err := m.End(Finished, [32]byte{7}); err != nil {
		t.Errorf("the same end again: %v", err)
	}
	if err := m.End(Aborted, [32]byte{8}); err == nil {
		t.Error("a second end was taken")
	}
	m.Close()
	checkpoint := sha256.Sum256(x.log.Checkpoint())
	if known, err := s.Wrote(origin, checkpoint); err != nil || !known {
		t.Errorf("what was written here is not known: %v", err)
	}
	for other, checkpoint := range map[string][32]byte{"hanaper/ceremony/test/first": checkpoint, origin: {8}} {
		if known, err := s.Wrote(other, checkpoint); err != nil || known {
			t.Errorf("%s, %x: %v, %v", other, checkpoint[:1], known, err)
		}
	}
	info, err := os.Stat(s.path(nonces[0]))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// TestCrash stops before and after each of the three writes of each entry. The transcript is then accepted as it is on the
// disk, and no other: neither one entry less nor one more, unless the crash left that open.
func TestCrash(t *testing.T) {
	for n := int64(1); n <= 4; n++ {
		for _, at := range []string{"nothing", "prepared", "appended", "written"} {
			s, x := At(t.TempDir()), newTranscript(t)
			m, err := s.Begin(begun(nonces[0]))
			if err != nil {
				t.Fatal(err)
			}
			var roots []journal.Hash
			for range n - 1 {
				roots = append(roots, x.log.Root())
				x.add(m)
			}
			roots = append(roots, x.log.Root())
			leaf := []byte("the last")
			size, root := x.log.After(leaf)
			roots = append(roots, root)
			ok := map[int64]bool{n - 1: true}
			if at != "nothing" {
				if err := m.Prepare(size, root); err != nil {
					t.Fatal(err)
				}
				// Nothing was done yet that the entry speaks of: with it or without it, the transcript says the truth.
				ok[n] = true
			}
			if at == "appended" || at == "written" {
				if _, err := x.log.Append(leaf); err != nil {
					t.Fatal(err)
				}
			}
			if at == "written" {
				if err := m.Written(); err != nil {
					t.Fatal(err)
				}
				ok = map[int64]bool{n: true}
			}
			m.Close()
			for k, r := range roots {
				m, err := s.Recall(nonces[0])
				if err != nil {
					t.Fatal(err)
				}
				before, _ := os.ReadFile(m.path)
				if err := m.Check(int64(k), r); (err == nil) != ok[int64(k)] || err != nil && advice.KindOf(err) != advice.Unverified {
					t.Errorf("entry %d, stopped after %s: a transcript of %d entries: %v", n, at, k, err)
				}
				if err := m.Check(int64(k), journal.LeafHash([]byte("another"))); err == nil {
					t.Errorf("entry %d, stopped after %s: another transcript of %d entries was taken", n, at, k)
				}
				if after, _ := os.ReadFile(m.path); !bytes.Equal(before, after) {
					t.Error("a check wrote")
				}
				m.Close()
			}
			// It goes on, and what was open is settled for good.
			if m, err = s.Recall(nonces[0]); err != nil {
				t.Fatal(err)
			}
			if err := m.Check(x.log.Size(), x.log.Root()); err != nil {
				t.Fatalf("entry %d, stopped after %s: %v", n, at, err)
			}
			x.add(m)
			m.Close()
			if m, err = s.Recall(nonces[0]); err != nil {
				t.Fatal(err)
			}
			for k, r := range roots {
				if int64(k) < x.log.Size() && m.Check(int64(k), r) == nil {
					t.Errorf("entry %d, stopped after %s, gone on: a transcript of %d entries was taken", n, at, k)
				}
			}
			m.Close()
		}
	}
}

// TestLineage: of the runs that carry on from one ceremony only one may begin to act, whatever their scripts.
func TestLineage(t *testing.T) {
	s, x := At(t.TempDir()), newTranscript(t)
	from := func(nonce, earlier string) Begun {
		b := begun(nonce)
		b.Earlier = earlier
		return b
	}
	one, two := strings.Repeat("3c", 32), strings.Repeat("4d", 32)
	m, err := s.Begin(from(nonces[0], one))
	if err != nil {
		t.Fatal(err)
	}
	m.Close()
	if err := s.CanFollow(from(nonces[1], one)); err != nil {
		t.Errorf("the other did nothing yet: %v", err)
	}
	if m, err = s.Recall(nonces[0]); err != nil {
		t.Fatal(err)
	}
	x.add(m)
	m.Close()
	if _, err := s.Begin(from(nonces[1], one)); err == nil || advice.KindOf(err) != advice.Refused || !strings.Contains(err.Error(), `ceremony "first" carried on from checkpoint `+one) || !strings.Contains(advice.Hint(err), "carry on from that one") {
		t.Errorf("a second one carries on: %v", err)
	}
	if used(t, s, nonces[1]) {
		t.Error("the refused run used its approvals up")
	}
	m, err = s.Begin(from(nonces[1], two))
	if err != nil {
		t.Fatal(err)
	}
	m.Close()
	// What releases that remembered less have written still counts.
	old := filepath.Join(s.Dir(), "nonces")
	if err := os.Mkdir(old, 0o700); err != nil {
		t.Fatal(err)
	}
	three := strings.Repeat("5e", 32)
	for name, text := range map[string]string{nonces[2]: "", "followed-" + three: two + "\n"} {
		if err := os.WriteFile(filepath.Join(old, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Begin(begun(nonces[2])); err == nil || !strings.Contains(err.Error(), "used on this machine before") {
		t.Errorf("approvals that an older release used: %v", err)
	}
	if err := s.CanFollow(from(strings.Repeat("04", 16), three)); err == nil || !strings.Contains(err.Error(), "run of another script") {
		t.Errorf("a ceremony from which an older release carried on: %v", err)
	}
}

// TestLineageAtOnce: of two runs that begin at once from one ceremony the second is refused before either has acted; and one that a crash stopped before it
// had acted is not gone on with once another has carried on from the same ceremony.
func TestLineageAtOnce(t *testing.T) {
	s := At(t.TempDir())
	from := func(nonce string) Begun {
		b := begun(nonce)
		b.Earlier = strings.Repeat("3c", 32)
		return b
	}
	first, err := s.Begin(from(nonces[0]))
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadDir(filepath.Join(s.Dir(), "runs"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Begin(from(nonces[1])); err == nil || advice.KindOf(err) != advice.Refused || !strings.Contains(err.Error(), `ceremony "first" is beginning`) {
		t.Errorf("a second one begins meanwhile: %v", err)
	}
	if after, err := os.ReadDir(filepath.Join(s.Dir(), "runs")); err != nil || len(after) != len(before) {
		t.Errorf("the refused run is remembered: %v, %v", after, err)
	}
	// The crash comes when the first entry is on the disk, and before that is remembered.
	x := newTranscript(t)
	if err := first.Prepare(x.log.After([]byte("entry 0"))); err != nil {
		t.Fatal(err)
	}
	if _, err := x.log.Append([]byte("entry 0")); err != nil {
		t.Fatal(err)
	}
	first.Close()
	goOn := func() error {
		m, err := s.Recall(nonces[0])
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		if err := m.Check(x.log.Size(), x.log.Root()); err != nil {
			t.Fatal(err)
		}
		return s.MayGoOn(m)
	}
	if err := goOn(); err != nil {
		t.Errorf("nobody else carried on: %v", err)
	}
	second, err := s.Begin(from(nonces[1]))
	if err != nil {
		t.Fatal(err)
	}
	if err := goOn(); err == nil || !strings.Contains(err.Error(), "is beginning") {
		t.Errorf("the second one begins meanwhile: %v", err)
	}
	newTranscript(t).add(second)
	second.Close()
	if err := goOn(); err == nil || advice.KindOf(err) != advice.Refused || !strings.Contains(err.Error(), `ceremony "first" carried on from checkpoint `) {
		t.Errorf("both carry on: %v", err)
	}
}

// TestTakenUp: a folder that came from elsewhere is remembered from where it stands.
func TestTakenUp(t *testing.T) {
	s, x := At(t.TempDir()), newTranscript(t)
	for range 3 {
		if _, err := x.log.Append([]byte("elsewhere")); err != nil {
			t.Fatal(err)
		}
	}
	b := begun(nonces[0])
	b.Anchor, b.Size, b.Root = ByRoster, 3, rootText(x.log.Root())
	m, err := s.Begin(b)
	if err != nil {
		t.Fatal(err)
	}
	x.add(m)
	m.Close()
	if m, err = s.Recall(nonces[0]); err != nil || m.Begun() != (func() Begun { b.Kind, b.Format = kindBegun, 1; return b })() {
		t.Fatalf("%+v, %v", m.Begun(), err)
	}
	defer m.Close()
	if err := m.Check(4, x.log.Root()); err != nil {
		t.Error(err)
	}
	if err := m.Check(3, journal.LeafHash(nil)); err == nil {
		t.Error("a shorter transcript was taken")
	}
}

// TestCutBack: a transcript whose end is damaged goes on from any size that it had, with the root that it had then, and can
// only be aborted from there.
func TestCutBack(t *testing.T) {
	s, x := At(t.TempDir()), newTranscript(t)
	m, err := s.Begin(begun(nonces[0]))
	if err != nil {
		t.Fatal(err)
	}
	var roots []journal.Hash
	for range 4 {
		x.add(m)
		roots = append(roots, x.log.Root())
	}
	if lost, err := m.Lost(2, roots[1]); lost != 2 || err != nil {
		t.Errorf("%d entries are lost, want 2: %v", lost, err)
	}
	for size, root := range map[int64]journal.Hash{2: roots[2], 9: roots[1], 3: {}} {
		if _, err := m.Lost(size, root); err == nil || advice.KindOf(err) != advice.Unverified {
			t.Errorf("%d entries that were never written: %v", size, err)
		}
	}
	if err := m.CutBack(2, roots[1]); err != nil {
		t.Fatal(err)
	}
	m.Close()
	if m, err = s.Recall(nonces[0]); err != nil || !m.Cut() {
		t.Fatalf("the cut is not remembered: %v", err)
	}
	defer m.Close()
	if m.Check(4, roots[3]) == nil || m.Check(2, roots[1]) != nil {
		t.Error("after the cut the transcript has two entries")
	}
	if err := m.Prepare(3, roots[3]); err != nil {
		t.Error(err)
	}
}

func TestRefusedBeginnings(t *testing.T) {
	for name, change := range map[string]func(*Begun){
		"nonce": func(b *Begun) { b.Nonce = "../../etc/passwd" }, "script": func(b *Begun) { b.Script = "" },
		"roster": func(b *Begun) { b.Roster = "x" }, "ceremony": func(b *Begun) { b.Ceremony = "" },
		"earlier": func(b *Begun) { b.Earlier = "x" }, "anchor": func(b *Begun) { b.Anchor = "" }, "size": func(b *Begun) { b.Size = 4 },
	} {
		s, b := At(filepath.Join(t.TempDir(), "state")), begun(nonces[0])
		change(&b)
		if _, err := s.Begin(b); err == nil {
			t.Errorf("%s: begun", name)
		}
		if _, err := os.Lstat(s.Dir()); err == nil {
			t.Errorf("%s: something was written", name)
		}
	}
	if _, err := At(t.TempDir()).Recall("../x"); err == nil || errors.Is(err, ErrUnknown) {
		t.Errorf("a nonce that is none: %v", err)
	}
}

// TestDamage changes every byte of a memory: it is refused, and other runs are not taken for unknown meanwhile.
func TestDamage(t *testing.T) {
	s, x := At(t.TempDir()), newTranscript(t)
	m, err := s.Begin(begun(nonces[0]))
	if err != nil {
		t.Fatal(err)
	}
	x.add(m)
	m.Close()
	good, err := os.ReadFile(m.path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range good {
		changed := bytes.Clone(good)
		changed[i] ^= 1
		if err := os.WriteFile(m.path, changed, 0o600); err != nil {
			t.Fatal(err)
		}
		if m, err := s.Recall(nonces[0]); err == nil {
			m.Close()
			t.Fatalf("byte %d: not noticed", i)
		} else if errors.Is(err, ErrUnknown) || advice.Hint(err) == "" {
			t.Fatalf("byte %d: %v", i, err)
		}
		if known, err := s.Wrote("hanaper/ceremony/production/first", sum(x.log.Checkpoint())); err != nil || known {
			t.Fatalf("byte %d: a damaged memory vouches for a checkpoint: %v", i, err)
		}
		if _, err := s.Used(nonces[0]); err == nil {
			t.Fatalf("byte %d: it is known whether the approvals were used", i)
		}
	}
	// A crash within the first entry: the run did not begin, and its approvals are good.
	if err := os.WriteFile(m.path, good[:70], 0o600); err != nil {
		t.Fatal(err)
	}
	if used(t, s, nonces[0]) {
		t.Error("approvals of a run that did not begin count as used")
	}
	if m, err := s.Begin(begun(nonces[0])); err != nil {
		t.Errorf("begin anew: %v", err)
	} else {
		m.Close()
	}
}

// TestOutOfOrder: entries that are sound each for itself and do not follow from one another.
func TestOutOfOrder(t *testing.T) {
	first := begun(nonces[0])
	first.Kind, first.Format = kindBegun, 1
	root := func(b byte) string { return strings.Repeat(fmt.Sprintf("%02x", b), 32) }
	mk := func(kind string, size int64, b byte) mark { return mark{kind, size, root(b)} }
	end := Ended{kindEnded, Finished, root(9)}
	path := "/x/" + nonces[0] + ".log"
	load := func(entries ...any) error {
		var leaves [][]byte
		for _, e := range entries {
			leaves = append(leaves, encode(e))
		}
		return (&Memory{path: path}).load(origin(nonces[0]), leaves)
	}
	if err := load(first, mk(kindPrepared, 1, 1), mk(kindDropped, 1, 1), mk(kindPrepared, 1, 2), mk(kindWritten, 1, 2), end); err != nil {
		t.Fatal(err)
	}
	other := first
	other.Nonce = nonces[1]
	for name, entries := range map[string][]any{
		"nothing": {}, "no beginning": {mk(kindPrepared, 1, 1)}, "two beginnings": {first, first}, "another run": {other},
		"written only": {first, mk(kindWritten, 1, 1)}, "two prepared": {first, mk(kindPrepared, 1, 1), mk(kindPrepared, 2, 2)},
		"a gap": {first, mk(kindPrepared, 2, 2)}, "another root": {first, mk(kindPrepared, 1, 1), mk(kindWritten, 1, 2)},
		"another size": {first, mk(kindPrepared, 1, 1), mk(kindWritten, 2, 1)}, "no root": {first, mark{kindPrepared, 1, ""}},
		"a cut at a size that never was": {first, mk(kindCut, 1, 1)}, "a cut with another root": {first, mk(kindPrepared, 1, 1), mk(kindWritten, 1, 1), mk(kindCut, 1, 2)},
		"an end while prepared": {first, mk(kindPrepared, 1, 1), end}, "two ends": {first, end, end}, "more after the end": {first, end, mk(kindPrepared, 1, 1)},
		"an end of another kind": {first, Ended{kindEnded, "lost", root(9)}}, "an end without checkpoint": {first, Ended{kindEnded, Finished, ""}},
	} {
		if err := load(entries...); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	next := first
	next.Format = 2
	for name, entries := range map[string][]any{"a newer format": {next}, "a newer entry": {first, map[string]string{"kind": "moved"}}} {
		if err := load(entries...); err == nil || !strings.Contains(err.Error(), "made by a newer release") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzLoad(f *testing.F) {
	first := begun(nonces[0])
	first.Kind, first.Format = kindBegun, 1
	f.Add(encode(first), encode(mark{kindPrepared, 1, script}), encode(Ended{kindEnded, Aborted, roster}))
	f.Fuzz(func(t *testing.T, a, b, c []byte) {
		m := &Memory{path: "/x/" + nonces[0] + ".log"}
		if m.load(origin(nonces[0]), [][]byte{a, b, c}) == nil && m.ended == nil && m.prepared == nil && m.size == 0 && m.root != first.Root {
			t.Error("a memory that says nothing was accepted")
		}
	})
}

// TestSpecExample: the file that docs/spec/state.md shows is what the code reads and writes.
func TestSpecExample(t *testing.T) {
	want, err := os.ReadFile("testdata/example.log")
	if err != nil {
		t.Fatal(err)
	}
	s, x := At(t.TempDir()), newTranscript(t)
	m, err := s.Begin(begun(nonces[0]))
	if err != nil {
		t.Fatal(err)
	}
	x.add(m)
	if err := m.Prepare(x.log.After([]byte("lost"))); err != nil {
		t.Fatal(err)
	}
	m.Close()
	if m, err = s.Recall(nonces[0]); err != nil {
		t.Fatal(err)
	}
	if err := m.Check(x.log.Size(), x.log.Root()); err != nil {
		t.Fatal(err)
	}
	if err := m.End(Aborted, [32]byte{0xab}); err != nil {
		t.Fatal(err)
	}
	m.Close()
	got, err := os.ReadFile(m.path)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%v, written:\n%s", err, got)
	}
	spec, err := os.ReadFile("../../docs/spec/state.md")
	if err != nil || !bytes.Contains(spec, want) {
		t.Errorf("the specification does not show the example: %v", err)
	}
}
