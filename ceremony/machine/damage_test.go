package machine

import (
	"bytes"
	"crypto/sha256"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/journal"
)

// acted makes the memory of a run that carries on from earlier and wrote one entry, and gives its path.
func acted(t *testing.T, s Store, nonce, ceremony, earlier string) string {
	t.Helper()
	b := begun(nonce)
	b.Ceremony, b.Earlier = ceremony, earlier
	m, err := s.Begin(b)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	newTranscript(t).add(m)
	return m.path
}

func sum(data []byte) [32]byte { return sha256.Sum256(data) }

// frames are the offsets at which the entries of a memory begin, and its length.
func frames(t *testing.T, data []byte) (at []int) {
	t.Helper()
	r, err := journal.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	n := bytes.IndexByte(data, '\n') + 1
	for _, l := range r.Leaves() {
		at = append(at, n)
		n += 35 + len(l) + 66 // docs/spec/journal.md: head, entry, tail
	}
	return append(at, n)
}

// TestDamagedNeighbour damages every byte of the memory of one ceremony. Another one goes on beside it where the first entry
// still says that it is not concerned, and is refused, with the file's name and what to do, where it may be.
func TestDamagedNeighbour(t *testing.T) {
	s := At(filepath.Join(t.TempDir(), "state [1]")) // brackets are signs of patterns
	one, two := strings.Repeat("3c", 32), strings.Repeat("4d", 32)
	path := acted(t, s, nonces[0], "first", one)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := frames(t, good)
	if at[len(at)-1] != len(good) {
		t.Fatalf("entries at %v of %d bytes", at, len(good))
	}
	from := func(ceremony, earlier string) Begun {
		b := begun(nonces[1])
		b.Ceremony, b.Earlier = ceremony, earlier
		return b
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		known := i >= at[1] // the first entry is whole
		for _, c := range []struct {
			name string
			err  error
			ok   bool
		}{
			{"from another", s.CanFollow(from("second", two)), known},
			{"from the same", s.CanFollow(from("second", one)), false},
			{"from none", s.CanFollow(from("second", "")), true},
			{"another's folder", s.Stranger(from("second", two)), known},
			{"the same ceremony's folder", s.Stranger(from("first", two)), false},
		} {
			if (c.err == nil) != c.ok {
				t.Fatalf("byte %d: %s: %v", i, c.name, c.err)
			}
			if c.err != nil && (advice.KindOf(c.err) != advice.Unverified || !strings.Contains(c.err.Error(), path) || !strings.Contains(advice.Hint(c.err), "grep -l "+nonces[0])) {
				t.Fatalf("byte %d: %s: %v\nhint: %s", i, c.name, c.err, advice.Hint(c.err))
			}
		}
		if empty, err := s.Empty(); empty || err != nil {
			t.Fatalf("byte %d: empty %v, %v", i, empty, err)
		}
		if list, err := s.Damaged(); err != nil || len(list) != 1 || list[0].Path != path || (list[0].Begun != nil) != known {
			t.Fatalf("byte %d: %v, %v", i, list, err)
		}
		if after, _ := os.ReadFile(path); !bytes.Equal(after, bad) {
			t.Fatalf("byte %d: asking wrote", i)
		}
	}
	// What was written by another run is known all the same.
	if other, err := s.Begin(from("second", "")); err != nil {
		t.Errorf("beside a damaged memory nothing begins: %v", err)
	} else {
		x := newTranscript(t)
		x.add(other)
		other.Close()
		if known, err := s.Wrote("hanaper/ceremony/production/first", sum(x.log.Checkpoint())); err != nil || !known {
			t.Errorf("%v, %v", known, err)
		}
	}
}

// TestDamagedOwn: the ceremony whose memory is damaged is refused, and people read what to do.
func TestDamagedOwn(t *testing.T) {
	s := At(t.TempDir())
	path := acted(t, s, nonces[0], "first", "")
	good, _ := os.ReadFile(path)
	for name, data := range map[string][]byte{"cut within": good[:len(good)-1], "damaged": append(bytes.Clone(good[:len(good)-2]), "x\n"...), "another's": bytes.ReplaceAll(good, []byte(nonces[0]), []byte(nonces[1]))} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if name == "cut within" { // as a crash leaves it: one entry less
			continue
		}
		_, err := s.Recall(nonces[0])
		if err == nil || advice.KindOf(err) != advice.Unverified || !strings.Contains(err.Error(), path) || !strings.Contains(advice.Hint(err), "empty state folder with --state") {
			t.Errorf("%s: recalled: %v, %s", name, err, advice.Hint(err))
		}
		_, err = s.Used(nonces[0])
		if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(advice.Hint(err), "approve anew") {
			t.Errorf("%s: used: %v, %s", name, err, advice.Hint(err))
		}
		if _, err := s.Begin(begun(nonces[0])); err == nil {
			t.Errorf("%s: begun", name)
		}
		if after, _ := os.ReadFile(path); !bytes.Equal(after, data) {
			t.Errorf("%s: written", name)
		}
	}
}

// TestStranger: a folder of which nothing is remembered is not taken up where the same ceremony is remembered under other
// approvals, also where the file was given another name.
func TestStranger(t *testing.T) {
	s := At(t.TempDir())
	path := acted(t, s, nonces[0], "first", "")
	other := begun(nonces[1])
	if err := s.Stranger(other); err == nil || advice.KindOf(err) != advice.Refused || !strings.Contains(err.Error(), "is not ended") || !strings.Contains(err.Error(), path) {
		t.Errorf("a second run of a ceremony that is under way: %v", err)
	}
	for name, b := range map[string]Begun{"another ceremony": {Ceremony: "second", Environment: "production"}, "another environment": {Ceremony: "first", Environment: "test"}} {
		if err := s.Stranger(b); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	m, err := s.Recall(nonces[0])
	if err != nil {
		t.Fatal(err)
	}
	x := newTranscript(t)
	if _, err := x.log.Append([]byte("entry 0")); err != nil {
		t.Fatal(err)
	}
	if err := m.Check(1, x.log.Root()); err != nil {
		t.Fatal(err)
	}
	if err := m.End(Finished, [32]byte{7}); err != nil {
		t.Fatal(err)
	}
	m.Close()
	if err := s.Stranger(other); err == nil || !strings.Contains(err.Error(), "has ended there (finished)") {
		t.Errorf("a second run of a ceremony that has ended: %v", err)
	}
	if err := os.Rename(path, s.path(nonces[2])); err != nil {
		t.Fatal(err)
	}
	if err := s.Stranger(begun(nonces[0])); err == nil || !strings.Contains(err.Error(), s.path(nonces[2])) {
		t.Errorf("under another name: %v", err)
	}
}
