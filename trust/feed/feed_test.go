package feed_test

import (
	"context"
	"encoding/pem"
	"errors"
	"io/fs"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/trust"
	"github.com/hanaper/hanaper/trust/feed"
	"github.com/hanaper/hanaper/trust/trusttest"
)

// gateway is a feed of a World.
type gateway struct {
	t     *testing.T
	w     *trusttest.World
	state string
	src   string
	pin   trust.Pin
	mu    sync.Mutex
	now   time.Time
	*feed.Feed
}

func (g *gateway) clock() time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.now
}

func (g *gateway) setClock(t time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.now = t
}

func newGateway(t *testing.T, w *trusttest.World) *gateway {
	t.Helper()
	g := &gateway{t: t, w: w, state: filepath.Join(t.TempDir(), "state"), src: w.Dir, pin: w.Pin, now: w.Now}
	g.start()
	t.Cleanup(func() { g.Close() })
	return g
}

func (g *gateway) open() (*feed.Feed, error) {
	return feed.New(feed.Config{Source: g.src, Pin: g.pin, Environment: "test", StateDir: g.state, Interval: feed.MinInterval, Now: g.clock})
}

func (g *gateway) start() {
	g.t.Helper()
	f, err := g.open()
	if err != nil {
		g.t.Fatal(err)
	}
	g.Feed = f
}

func (g *gateway) restart() {
	g.t.Helper()
	g.Close()
	g.start()
}

func (g *gateway) refresh() error { return g.Refresh(context.Background()) }

func (g *gateway) good() {
	g.t.Helper()
	if err := g.refresh(); err != nil {
		g.t.Fatal(err)
	}
}

func (g *gateway) revoked(serial int64) bool {
	return g.Current().Revoked(g.w.Issuing.Cert, big.NewInt(serial))
}

func replace(t *testing.T, dir string, files trust.Files) {
	t.Helper()
	for _, sub := range []string{"metadata", "targets"} {
		if err := os.RemoveAll(filepath.Join(dir, sub)); err != nil {
			t.Fatal(err)
		}
	}
	for name, data := range files {
		at := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFollow(t *testing.T) {
	w := trusttest.New(t)
	g := newGateway(t, w)
	// An empty folder: one clear error, nothing believed.
	if err := g.refresh(); !errors.Is(err, trust.ErrEmpty) || !strings.Contains(err.Error(), w.Dir) || advice.KindOf(err) != advice.Unverified {
		t.Errorf("empty: %v", err)
	}
	if g.Current() != nil {
		t.Error("something is believed")
	}
	w.Import()
	g.good()
	w.AddCRL(1, 5)
	g.good()
	if !g.revoked(5) || g.revoked(6) {
		t.Error("the CRL has not arrived")
	}
	seen := g.Current()
	g.good()
	if g.Current() != seen {
		t.Error("nothing new, yet another view")
	}
	g.restart()
	if g.Current() == nil || !g.revoked(5) {
		t.Error("a restart forgets")
	}
	if s := g.Status(); s.Err != nil || s.Source != w.Dir {
		t.Errorf("%+v", s)
	}
	for name, mode := range modes(t, g.state) {
		if mode.Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", name, mode)
		}
	}
}

func modes(t *testing.T, dir string) map[string]fs.FileMode {
	t.Helper()
	m := map[string]fs.FileMode{}
	err := filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		m[p] = info.Mode()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestOtherEnvironment: a repository that verifies, and is another environment's, is not believed.
func TestOtherEnvironment(t *testing.T) {
	w := trusttest.New(t)
	w.Import()
	w.AddCRL(1)
	f, err := feed.New(feed.Config{Source: w.Dir, Pin: w.Pin, Environment: "staging", StateDir: filepath.Join(t.TempDir(), "state"), Now: func() time.Time { return w.Now }})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Refresh(context.Background()); !errors.Is(err, trust.ErrEnvironment) || f.Current() != nil {
		t.Errorf("got %v", err)
	}
}

// TestHalfCopied: a source cut at any file keeps the last good view, and the next whole copy is taken up.
func TestHalfCopied(t *testing.T) {
	w := trusttest.New(t)
	w.Import()
	g := newGateway(t, w)
	g.good()
	seen := g.Current()
	w.AddCRL(1, 5)
	whole := trusttest.Snap(t, w.Dir)
	files, broken := w.View().Files(), 0
	for name, data := range whole {
		// What the gateway has already it does not read again.
		if hash, needed := files[name]; !needed || seen.Files()[name] == hash {
			continue
		}
		for _, cut := range [][]byte{nil, data[:len(data)/2]} {
			part := maps.Clone(whole)
			part[name] = cut
			if cut == nil {
				delete(part, name)
			}
			replace(t, w.Dir, part)
			if g.refresh() == nil {
				t.Fatalf("%s cut to %d bytes: accepted", name, len(cut))
			}
			broken++
			if g.Current() != seen {
				t.Errorf("%s cut: the view has changed", name)
			}
		}
	}
	if broken != 8 {
		t.Errorf("only %d cuts were noticed", broken)
	}
	replace(t, w.Dir, whole)
	g.good()
	if !g.revoked(5) {
		t.Error("the whole copy is not taken up")
	}
}

// TestNoRollbackAcrossRestart is about what go-tuf's updater lets in: see trust/judge_test.go.
func TestNoRollbackAcrossRestart(t *testing.T) {
	w := trusttest.New(t)
	w.Import()
	old := trusttest.Snap(t, w.Dir)
	w.AddCRL(1, 5)
	g := newGateway(t, w)
	g.good()
	replace(t, w.Dir, old)
	g.restart()
	if err := g.refresh(); !errors.Is(err, trust.ErrRollback) {
		t.Errorf("got %v", err)
	}
	if !g.revoked(5) {
		t.Error("rolled back")
	}
	// Whichever part of the state is deleted or changed: refused, not forgotten.
	g.Close()
	for name, mode := range modes(t, g.state) {
		if mode.IsDir() || filepath.Base(name) == "lock" {
			continue
		}
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, to := range [][]byte{nil, {}, data[:len(data)/2], append([]byte("x"), data[1:]...)} {
			if to == nil {
				err = os.Remove(name)
			} else {
				err = os.WriteFile(name, to, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			if f, err := g.open(); err == nil {
				t.Errorf("%s changed to %d bytes: accepted", name, len(to))
				f.Close()
			} else if advice.KindOf(err) != advice.Unverified || advice.Hint(err) == "" {
				t.Errorf("%s: %v", name, err)
			}
		}
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	g.start()
}

// TestRevokedOnlineKey: a gateway that has seen the root which revokes the timestamp key never takes that key again: not with the old
// root pinned in its config, not with the new root withheld, not after a restart.
func TestRevokedOnlineKey(t *testing.T) {
	w := trusttest.New(t)
	w.Import()
	w.AddCRL(1, 5)
	stolen := w.Timestamp
	old := trusttest.Snap(t, w.Dir)
	g := newGateway(t, w)
	g.good()
	w.Timestamp = w.Key()
	w.Keys.Timestamp = trust.One(w.Timestamp.Public())
	w.Rebuild()
	w.Import()
	g.good()
	if g.Current().Versions().Root != 2 {
		t.Fatal("the new root has not arrived")
	}
	trusttest.Forge(t, old, "metadata/timestamp.json", func(s map[string]any) { s["version"] = 99 }, stolen)
	replace(t, w.Dir, old)
	for range 2 {
		if err := g.refresh(); !errors.Is(err, trust.ErrSignature) {
			t.Errorf("got %v", err)
		}
		if v := g.Current(); v == nil || v.Versions().Root != 2 || v.Versions().Timestamp == 99 {
			t.Error("the revoked key got in")
		}
		g.restart()
	}
	// The same state with a pin that is not in the chain: nothing is believed.
	g.Close()
	g.pin = trusttest.New(t).Pin
	g.start()
	if g.Current() != nil {
		t.Error("a view under a root that was not pinned")
	}
	if err := g.refresh(); !errors.Is(err, trust.ErrPin) {
		t.Errorf("got %v", err)
	}
}

func TestExpiryIsTold(t *testing.T) {
	w := trusttest.New(t)
	w.Import()
	g := newGateway(t, w)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	told := make(chan bool, 10)
	done := make(chan error)
	go func() { done <- g.Run(ctx, func(v *trust.View) { told <- v.Valid(g.clock()) == nil }) }()
	expect := func(want bool) {
		t.Helper()
		select {
		case got := <-told:
			if got != want {
				t.Errorf("told %v, want %v", got, want)
			}
		case <-time.After(time.Minute):
			t.Fatal("not told")
		}
	}
	expect(true)
	w.AddCRL(1, 5)
	expect(true)
	g.setClock(w.Now.AddDate(0, 0, 2))
	expect(false)
	if err := g.Current().Valid(g.clock()); !errors.Is(err, trust.ErrExpired) {
		t.Errorf("got %v", err)
	}
	if err := g.refresh(); !errors.Is(err, trust.ErrExpired) {
		t.Errorf("got %v", err)
	}
	// The publisher comes back.
	w.Now = g.clock()
	if err := w.Publish((*trust.Publisher).Refresh); err != nil {
		t.Fatal(err)
	}
	expect(true)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestHTTPS(t *testing.T) {
	w := trusttest.New(t)
	w.Import()
	w.AddCRL(1, 5)
	var mu sync.Mutex
	asked := map[string]int{}
	fault := ""
	server := httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked[r.URL.Path]++
		f := fault
		mu.Unlock()
		switch f {
		case "500":
			http.Error(rw, "no", 500)
		case "elsewhere":
			http.Redirect(rw, r, "https://elsewhere.example/"+r.URL.Path, http.StatusFound)
		case "endless":
			for range 1 << 12 {
				if _, err := rw.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		default:
			http.StripPrefix("/prod", http.FileServer(http.Dir(w.Dir))).ServeHTTP(rw, r)
		}
	}))
	defer server.Close()
	client, err := feed.NewClient(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	if err != nil {
		t.Fatal(err)
	}
	f, err := feed.New(feed.Config{Source: server.URL + "/prod/", Pin: w.Pin, StateDir: t.TempDir(), Client: client, Now: func() time.Time { return w.Now }})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ctx := context.Background()
	if err := f.Refresh(ctx); err != nil {
		t.Fatal(err)
	}
	v := f.Current()
	mu.Lock()
	clear(asked)
	mu.Unlock()
	if err := f.Refresh(ctx); err != nil || f.Current() != v {
		t.Errorf("second look: %v", err)
	}
	if len(asked) != 2 {
		t.Errorf("a look without news asks for %v", asked)
	}
	for _, c := range []struct{ fault, want string }{{"500", "500"}, {"elsewhere", "redirects elsewhere"}, {"endless", "larger"}} {
		mu.Lock()
		fault = c.fault
		mu.Unlock()
		if err := f.Refresh(ctx); err == nil || !strings.Contains(err.Error(), c.want) || f.Current() != v {
			t.Errorf("%s: %v", c.fault, err)
		}
	}
	stranger, err := feed.New(feed.Config{Source: server.URL + "/prod", Pin: w.Pin, StateDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	if err := stranger.Refresh(ctx); err == nil || stranger.Current() != nil {
		t.Errorf("a server under an unknown root: %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	w := trusttest.New(t)
	good := feed.Config{Source: w.Dir, Pin: w.Pin, StateDir: filepath.Join(t.TempDir(), "s")}
	for name, edit := range map[string]func(*feed.Config){
		"no source": func(c *feed.Config) { c.Source = "" },
		"no state":  func(c *feed.Config) { c.StateDir = "" },
		"http":      func(c *feed.Config) { c.Source = "http://trust.example.com/prod" },
		"ftp":       func(c *feed.Config) { c.Source = "ftp://127.0.0.1/prod" },
		"password":  func(c *feed.Config) { c.Source = "https://a:b@trust.example.com/prod" },
		"short":     func(c *feed.Config) { c.Interval = time.Millisecond },
	} {
		c := good
		edit(&c)
		if _, err := feed.New(c); advice.KindOf(err) != advice.Usage || err == nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(good.StateDir); !os.IsNotExist(err) {
			t.Errorf("%s: a state folder was made", name)
		}
	}
	f, err := feed.New(good)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := feed.New(good); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("two feeds, one state: %v", err)
	}
}
