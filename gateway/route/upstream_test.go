package route

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

var discard = log.New(io.Discard, "", 0)

// nobody gives an address where nobody listens.
func nobody(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	return l.Addr().String()
}

// TestSeveralAddresses: one that cannot be reached costs no request, is told of, and is passed over until it can be reached again.
func TestSeveralAddresses(t *testing.T) {
	ok := always("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
	a, b := newRaw(t, ok), newRaw(t, ok)
	down := nobody(t)
	f := newFront(t, []string{a.Addr().String(), down, b.Addr().String()}, nil)
	for i := range 12 {
		method := []string{"GET", "POST"}[i%2]
		if got := seen(t, method, f.URL); !strings.Contains(got, `"ok"`) {
			t.Fatalf("%d: %s %v", i, got, f.fault())
		}
	}
	if x, y := a.conns.Load(), b.conns.Load(); x+y != 12 || x < 3 || y < 3 {
		t.Errorf("%d and %d connections", x, y)
	}
	notes := f.router.Notes()
	if len(notes) != 1 || !strings.Contains(notes[0], down) {
		t.Errorf("%q", notes)
	}
	// Whoever has taken the port meanwhile, for a connection of theirs, gives it back.
	l, err := net.Listen("tcp", down)
	for end := time.Now().Add(10 * time.Second); err != nil && time.Now().Before(end); l, err = net.Listen("tcp", down) {
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() { // it is back
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			http.ReadRequest(bufio.NewReader(c))
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
			c.Close()
		}
	}()
	f.router.upstreams[0].addresses[1].again = time.Time{} // its time is over
	for range 3 {
		if got := seen(t, "GET", f.URL); !strings.Contains(got, `"ok"`) {
			t.Fatal(got)
		}
	}
	if notes := f.router.Notes(); len(notes) != 0 {
		t.Errorf("%q", notes)
	}
}

// TestAllDown is told as such, at once, again and again.
func TestAllDown(t *testing.T) {
	f := newFront(t, []string{nobody(t), nobody(t)}, nil)
	for range 3 {
		if got := seen(t, "GET", f.URL); !strings.Contains(got, "502") {
			t.Error(got)
		}
	}
	var up *UpstreamError
	if !errors.As(f.fault(), &up) || up.Upstream != "a" || len(f.router.Notes()) != 2 {
		t.Errorf("%v %q", f.fault(), f.router.Notes())
	}
}

// TestConnectionsAreBounded: there are never more than the configuration says, and who finds no place is told so in time.
func TestConnectionsAreBounded(t *testing.T) {
	var mu sync.Mutex
	now, most := 0, 0
	up := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			<-r.Context().Done()
		}
		io.WriteString(w, "ok")
	}))
	up.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		mu.Lock()
		defer mu.Unlock()
		switch s {
		case http.StateNew:
			now++
			most = max(most, now)
		case http.StateClosed:
			now--
		}
	}
	up.Start()
	defer up.Close()
	f := newFront(t, []string{up.Listener.Addr().String()}, func(u *UpstreamConfig) { u.Connections, u.Wait = 3, 500*time.Millisecond })
	var all sync.WaitGroup
	for range 40 {
		all.Go(func() {
			for range 5 {
				if got := seen(t, "GET", f.URL); !strings.Contains(got, `"ok"`) {
					t.Error(got, f.fault())
				}
			}
		})
	}
	all.Wait()
	if most > 3 {
		t.Errorf("%d connections at once", most)
	}
	for range 9 {
		all.Go(func() { _, _ = http.Get(f.URL + "/slow") })
	}
	all.Wait()
	if err := f.fault(); !errors.Is(err, ErrBusy) {
		t.Errorf("%v", err)
	}
	for range 5 {
		if got := seen(t, "GET", f.URL); !strings.Contains(got, `"ok"`) {
			t.Errorf("after it: %s", got)
		}
	}
}

// TestTLS: the name in the URL counts, whatever the address; a new configuration is that of the next connection.
func TestTLS(t *testing.T) {
	up := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.Host+" "+r.Proto)
	}))
	up.Config.ErrorLog = discard
	defer up.Close()
	roots := up.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	config := &tls.Config{RootCAs: roots}
	name := "example.com"
	f := newFront(t, []string{up.Listener.Addr().String()}, func(u *UpstreamConfig) {
		u.URL.Scheme, u.URL.Host, u.TLS = "https", name+":8443", func() *tls.Config { return config }
	})
	if got := seen(t, "GET", f.URL); !strings.Contains(got, "example.com:8443 HTTP/1.1") {
		t.Error(got, f.fault())
	}
	config = &tls.Config{}
	if got := seen(t, "GET", f.URL); !strings.Contains(got, "example.com:8443") {
		t.Error("an open connection is not used any more", got)
	}
	f.router.CloseIdle()
	if got := seen(t, "GET", f.URL); !strings.Contains(got, "502") {
		t.Error("roots that are gone count still", got)
	}
	config = &tls.Config{RootCAs: roots}
	f.router.upstreams[0].server = "another.test"
	if got := seen(t, "GET", f.URL); !strings.Contains(got, "502") {
		t.Error("a certificate of another name", got)
	}
}

// TestIdleConnectionsEnd after a time.
func TestIdleConnectionsEnd(t *testing.T) {
	up := newRaw(t, always("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
	f := newFront(t, []string{up.Addr().String()}, nil)
	seen(t, "GET", f.URL)
	u := f.router.upstreams[0]
	u.mu.Lock()
	if len(u.idle) != 1 || !u.reaping {
		t.Error("the connection is not kept")
	}
	for _, c := range u.idle {
		c.idleSince = time.Now().Add(-2 * idleFor)
	}
	u.mu.Unlock()
	u.reap()
	if len(u.idle) != 0 || u.reaping {
		t.Errorf("%d are kept", len(u.idle))
	}
	seen(t, "GET", f.URL)
	u.mu.Lock()
	u.idle[0].idleSince = time.Now().Add(-2 * idleFor)
	u.mu.Unlock()
	seen(t, "GET", f.URL)
	if n := up.conns.Load(); n != 3 {
		t.Errorf("%d connections, not 3", n)
	}
}
