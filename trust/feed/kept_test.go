package feed_test

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/trust/feed"
	"github.com/hanaper/hanaper/trust/trusttest"
)

// unwritable keeps the state folder from taking anything in, until the function that it gives is called.
func (g *gateway) unwritable() (writable func()) {
	g.t.Helper()
	files := filepath.Join(g.state, "files")
	if err := os.Rename(files, files+".away"); err != nil {
		g.t.Fatal(err)
	}
	if err := os.WriteFile(files, nil, 0o600); err != nil {
		g.t.Fatal(err)
	}
	return func() {
		g.t.Helper()
		if err := os.Remove(files); err != nil {
			g.t.Fatal(err)
		}
		if err := os.Rename(files+".away", files); err != nil {
			g.t.Fatal(err)
		}
	}
}

// TestKeptLater: what was verified and could not be kept is in force, is said at each look, and is kept as soon as that is possible, also
// while the source is away: else the next start would forget revocations.
func TestKeptLater(t *testing.T) {
	w := trusttest.New(t)
	w.Import()
	g := newGateway(t, w)
	w.AddCRL(1)
	g.good()
	if err := g.Status().Unkept; err != nil {
		t.Error(err)
	}
	writable := g.unwritable()
	w.AddCRL(2, 5)
	for range 3 {
		if err := g.refresh(); err == nil || !strings.Contains(err.Error(), "is in force, and not kept") {
			t.Fatalf("the look says %v", err)
		}
		if !g.revoked(5) || g.Status().Unkept == nil {
			t.Fatalf("revoked %v, unkept %v", g.revoked(5), g.Status().Unkept)
		}
	}
	// A newer one takes its place.
	w.AddCRL(3, 5, 6)
	if err := g.refresh(); err == nil || !g.revoked(6) {
		t.Fatal(err)
	}
	writable()
	away := w.Dir + ".away"
	if err := os.Rename(w.Dir, away); err != nil {
		t.Fatal(err)
	}
	if err := g.refresh(); err == nil || strings.Contains(err.Error(), "not kept") {
		t.Errorf("the source is away: %v", err)
	}
	if err := g.Status().Unkept; err != nil {
		t.Error(err)
	}
	g.restart()
	if g.Current() == nil || !g.revoked(5) || !g.revoked(6) {
		t.Error("a revocation was forgotten")
	}
	if err := os.Rename(away, w.Dir); err != nil {
		t.Fatal(err)
	}
	g.good()
}

// TestKeptAtClose: what is not kept yet is kept when the feed ends.
func TestKeptAtClose(t *testing.T) {
	w := trusttest.New(t)
	w.Import()
	g := newGateway(t, w)
	w.AddCRL(1)
	g.good()
	writable := g.unwritable()
	w.AddCRL(2, 5)
	if err := g.refresh(); err == nil {
		t.Fatal("kept")
	}
	writable()
	g.restart()
	if !g.revoked(5) {
		t.Error("a revocation was forgotten")
	}
}

// TestDrip: a source that sends a byte now and then holds up no look for longer than a slow line would.
func TestDrip(t *testing.T) {
	feed.SetPatience(t, 300*time.Millisecond)
	w := trusttest.New(t)
	w.Import()
	good := http.FileServer(http.Dir(w.Dir))
	drip := make(chan string, 1)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		select {
		case name := <-drip:
			if !strings.HasSuffix(r.URL.Path, name) {
				drip <- name
				break
			}
			rw.WriteHeader(http.StatusOK)
			for r.Context().Err() == nil {
				_, _ = rw.Write([]byte(" "))
				rw.(http.Flusher).Flush()
				time.Sleep(20 * time.Millisecond)
			}
			return
		default:
		}
		good.ServeHTTP(rw, r)
	})}
	go func() { _ = server.Serve(l) }()
	defer server.Close()
	g := newGateway(t, w)
	g.src = "http://" + l.Addr().String() + "/"
	g.restart()
	g.good()
	w.AddCRL(1, 5)
	drip <- "timestamp.json"
	done := make(chan error, 1)
	go func() { done <- g.refresh() }()
	select {
	case err := <-done:
		if err == nil || !strings.Contains(err.Error(), "too slowly") {
			t.Error(err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the look goes on")
	}
	g.good()
	if !g.revoked(5) {
		t.Error("not taken up")
	}
}
