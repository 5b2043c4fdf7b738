package feed_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hanaper/hanaper/trust"
	"github.com/hanaper/hanaper/trust/feed"
	"github.com/hanaper/hanaper/trust/trusttest"
)

// counter is a server in front of a folder, which notes what it sends.
type counter struct {
	*httptest.Server
	mu    sync.Mutex
	asked map[string]int
	sent  map[string]int
	// tags has it give entity tags, as nginx does; waits has it promise to wait, and lie about it.
	tags, lies bool
	prefers    int
}

func newCounter(t *testing.T, dir string) *counter {
	c := &counter{asked: map[string]int{}, sent: map[string]int{}}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.asked[r.URL.Path]++
		if r.Header.Get("Prefer") != "" {
			c.prefers++
			if c.lies {
				// It cries wolf: something new each time, and nothing is.
				w.Header().Set("ETag", fmt.Sprintf(`"%d"`, c.prefers))
				data, _ := os.ReadFile(filepath.Join(dir, r.URL.Path))
				_, _ = w.Write(data)
				return
			}
		}
		data, err := os.ReadFile(filepath.Join(dir, r.URL.Path))
		if err != nil {
			http.NotFound(w, r)
			return
		}
		digest := sha256.Sum256(data)
		tag := `"` + hex.EncodeToString(digest[:]) + `"`
		if c.tags {
			w.Header().Set("ETag", tag)
			if r.Header.Get("If-None-Match") == tag {
				w.WriteHeader(http.StatusNotModified)
				return
			}
		}
		c.sent[r.URL.Path]++
		_, _ = w.Write(data)
	}))
	t.Cleanup(c.Close)
	return c
}

// take is what was sent since the last time.
func (c *counter) take() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	sent := c.sent
	c.sent = map[string]int{}
	return sent
}

// kinds are the paths without versions and digests.
func kinds(sent map[string]int) string {
	n := map[string]int{}
	for path, times := range sent {
		base := filepath.Base(path)
		if _, rest, ok := strings.Cut(base, "."); ok && base != "timestamp.json" {
			base = rest
		}
		if strings.HasSuffix(base, ".crl") {
			base = "crl"
		}
		n[base] += times
	}
	return fmt.Sprint(n)
}

// TestNothingTwice: of what is published, only what changed is fetched, and once: also after a restart, and after the officers signed anew.
func TestNothingTwice(t *testing.T) {
	w := trusttest.New(t)
	w.Import()
	w.AddCRL(1, 5)
	server := newCounter(t, w.Dir)
	server.tags = true
	g := newGateway(t, w)
	g.src = server.URL
	g.restart()
	g.good()
	if got := kinds(server.take()); got != "map[anchors.pem:1 crl:2 crl.json:1 intermediates.pem:1 policy.json:1 root.json:1 snapshot.json:1 targets.json:1 timestamp.json:1]" {
		t.Errorf("the first look: %s", got)
	}
	for _, restart := range []bool{false, true} {
		if restart {
			g.restart()
			// Its process knows no tag.
			g.good()
			if got := kinds(server.take()); got != "map[timestamp.json:1]" {
				t.Errorf("after a restart: %s", got)
			}
		}
		g.good()
		if sent := server.take(); len(sent) != 0 {
			t.Errorf("without news: %v", sent)
		}
		w.AddCRL(w.View().Versions().CRL+1, 5, 6)
		g.good()
		if got := kinds(server.take()); got != "map[crl:1 crl.json:1 snapshot.json:1 timestamp.json:1]" {
			t.Errorf("a CRL: %s", got)
		}
		w.Content.Policy = trust.DefaultPolicy("test")
		w.Content.Policy.MinRSABits += 8 * int(w.View().Versions().Targets)
		w.Rebuild()
		w.Import()
		g.good()
		if got := kinds(server.take()); got != "map[policy.json:1 snapshot.json:1 targets.json:1 timestamp.json:1]" {
			t.Errorf("another policy: %s", got)
		}
		if g.Current().Policy().MinRSABits != w.Content.Policy.MinRSABits || !g.revoked(6) {
			t.Error("not in force")
		}
	}
	// What is kept here and was damaged is fetched again.
	for name := range modes(t, filepath.Join(g.state, "files")) {
		data, _ := os.ReadFile(name)
		if strings.Contains(string(data), "BEGIN CERTIFICATE") {
			if err := os.WriteFile(name, append(data, 'x'), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	w.Content.Policy.MinRSABits++
	w.Rebuild()
	w.Import()
	g.good()
	if got := kinds(server.take()); got != "map[anchors.pem:1 intermediates.pem:1 policy.json:1 snapshot.json:1 targets.json:1 timestamp.json:1]" {
		t.Errorf("damaged: %s", got)
	}
}

// run has the feed follow its source until the test ends.
func run(t *testing.T, f *feed.Feed) (views chan *trust.View) {
	ctx, cancel := context.WithCancel(t.Context())
	views = make(chan *trust.View, 100)
	done := make(chan struct{})
	go func() { defer close(done); _ = f.Run(ctx, func(v *trust.View) { views <- v }) }()
	t.Cleanup(func() { cancel(); <-done })
	return views
}

func next(t *testing.T, views chan *trust.View) *trust.View {
	t.Helper()
	select {
	case v := <-views:
		return v
	case <-time.After(time.Minute):
		t.Fatal("nothing came")
		return nil
	}
}

// TestWatchedFolder: a change in a folder is seen at once, however long the interval is.
func TestWatchedFolder(t *testing.T) {
	w := trusttest.New(t)
	w.Import()
	f, err := feed.New(feed.Config{Source: w.Dir, Pin: w.Pin, StateDir: t.TempDir(), Interval: time.Hour, Now: func() time.Time { return trusttest.Start }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	views := run(t, f)
	next(t, views)
	for n := range int64(3) {
		w.AddCRL(n+1, 5)
		if v := next(t, views); v.Versions().CRL != n+2 {
			t.Errorf("%+v", v.Versions())
		}
	}
}

// TestSourcesThatDoNotWait: a server that knows no waiting, or lies about it, is looked at every interval, and no more often than it deserves.
func TestSourcesThatDoNotWait(t *testing.T) {
	for name, set := range map[string]func(*counter){
		"no tags":          func(*counter) {},
		"tags and no wait": func(c *counter) { c.tags = true },
		"wolf":             func(c *counter) { c.tags, c.lies = true, true },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := trusttest.New(t)
			w.Import()
			server := newCounter(t, w.Dir)
			set(server)
			f, err := feed.New(feed.Config{Source: server.URL, Pin: w.Pin, StateDir: t.TempDir(), Interval: 300 * time.Millisecond, Now: func() time.Time { return trusttest.Start }})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { f.Close() })
			views := run(t, f)
			next(t, views)
			w.AddCRL(1, 5)
			if v := next(t, views); v.Versions().CRL != 2 {
				t.Errorf("%+v", v.Versions())
			}
			time.Sleep(time.Second)
			server.mu.Lock()
			defer server.mu.Unlock()
			if server.prefers > 20 {
				t.Errorf("it was asked to wait %d times", server.prefers)
			}
		})
	}
}

// TestRefusedTimestamp: a timestamp that was refused is not held to be the last one: the next look reads it anew.
func TestRefusedTimestamp(t *testing.T) {
	w := trusttest.New(t)
	w.Import()
	spoil := false
	good := http.FileServer(http.Dir(w.Dir))
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		// A cache on the way keeps a broken answer under a tag that stays the same.
		if strings.HasSuffix(r.URL.Path, "timestamp.json") {
			if r.Header.Get("If-None-Match") == `"tag"` {
				rw.WriteHeader(http.StatusNotModified)
				return
			}
			rw.Header().Set("ETag", `"tag"`)
			if spoil {
				_, _ = io.WriteString(rw, "{")
				return
			}
		}
		good.ServeHTTP(rw, r)
	}))
	defer server.Close()
	g := newGateway(t, w)
	g.src = server.URL
	g.restart()
	spoil = true
	if err := g.refresh(); err == nil {
		t.Fatal("taken")
	}
	spoil = false
	g.good()
}
