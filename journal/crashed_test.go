package journal

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"testing"
)

// TestAfter: the size and root that are told before an entry is appended are those that the journal then has.
func TestAfter(t *testing.T) {
	l, _ := newLogOf(t, "example.org/after", nil)
	for i := range 20 {
		leaf := fmt.Appendf(nil, "entry %d", i)
		before := l.Root()
		size, root := l.After(leaf)
		if l.Root() != before || l.Size() != int64(i) {
			t.Fatalf("entry %d: asking changed the journal", i)
		}
		if _, err := l.Append(leaf); err != nil {
			t.Fatal(err)
		}
		if size != l.Size() || root != l.Root() {
			t.Fatalf("entry %d: %d and %s were told, %d and %s it is", i, size, root, l.Size(), l.Root())
		}
	}
}

// TestParseCrashed cuts a journal at every byte: the whole entries are read, what Open would cut off is told, and the file
// stays as it was. Every changed byte but those of the cut end is damage, and the entries before it are read.
func TestParseCrashed(t *testing.T) {
	leaves := [][]byte{[]byte("one"), []byte("two"), []byte("three")}
	l, path := newLogOf(t, "example.org/crashed", leaves)
	_ = l.Close()
	data := read(t, path)
	for n := len(firstLine("example.org/crashed")); n <= len(data); n++ {
		r, torn, err := ParseCrashed(data[:n])
		if err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		cut := t.TempDir() + "/cut.log"
		if err := os.WriteFile(cut, data[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		again, err := Open(cut)
		if err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		if again.Size() != r.Size() || again.Root() != r.Root() || again.Torn() != int64(torn) {
			t.Fatalf("%d bytes: %d entries and %d bytes torn, Open finds %d and %d", n, r.Size(), torn, again.Size(), again.Torn())
		}
		_ = again.Close()
	}
	for i := range data {
		changed := bytes.Clone(data)
		changed[i] ^= 1
		r, _, err := ParseCrashed(changed)
		damage := (*EntryError)(nil)
		if !errors.As(err, &damage) {
			t.Fatalf("byte %d: %v", i, err)
		}
		if want := max(damage.Index, 0); r != nil && r.Size() != want {
			t.Errorf("byte %d: %d entries are read before the damage at entry %d", i, r.Size(), damage.Index)
		}
	}
}
