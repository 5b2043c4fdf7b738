package feed_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/trust/trusttest"
)

// killed stops the process as a power cut would, without what Close does, and starts it anew on the same folder.
func (g *gateway) killed() {
	g.t.Helper()
	now := filepath.Join(g.t.TempDir(), "state")
	if err := os.CopyFS(now, os.DirFS(g.state)); err != nil {
		g.t.Fatal(err)
	}
	old := g.Feed
	g.t.Cleanup(func() { old.Close() })
	g.state = now
	g.start()
}

// TestBehind: where a newer view could not be kept and the process is killed, what is kept admits nobody at the next start, before the source has
// been seen: it may lack revocations that were in force. Then, as always, it starts also without its source.
func TestBehind(t *testing.T) {
	w := trusttest.New(t)
	w.Import()
	g := newGateway(t, w)
	w.AddCRL(1)
	g.good()
	writable := g.unwritable()
	w.AddCRL(2, 5)
	if err := g.refresh(); err == nil || !g.revoked(5) {
		t.Fatal(err)
	}
	writable() // what the machine finds when it starts: the disk was full, and is not any more
	away := w.Dir + ".away"
	if err := os.Rename(w.Dir, away); err != nil {
		t.Fatal(err)
	}
	g.killed()
	if g.Current() != nil {
		t.Fatal("a view that was behind is in force")
	}
	if err := g.refresh(); err == nil || g.Current() != nil || !strings.Contains(err.Error(), "newer") {
		t.Fatalf("without its source: %v", err)
	}
	// Killed again, it is still so.
	g.killed()
	if g.Current() != nil {
		t.Fatal("a view that was behind is in force after a second start")
	}
	if err := os.Rename(away, w.Dir); err != nil {
		t.Fatal(err)
	}
	g.good()
	if !g.revoked(5) {
		t.Error("a revocation was forgotten")
	}
	if err := os.Rename(w.Dir, away); err != nil {
		t.Fatal(err)
	}
	g.killed()
	if g.Current() == nil || !g.revoked(5) {
		t.Error("what was kept is not in force")
	}
}
