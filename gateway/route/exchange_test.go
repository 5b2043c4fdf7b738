package route

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/http/httputil"
	"net/textproto"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// raw is an upstream that says, byte for byte, what a test has it say. It answers connection by connection.
type raw struct {
	net.Listener
	conns atomic.Int64
	mu    sync.Mutex
	got   []string // the requests, body and all
}

// newRaw serves each connection by serve, which gets the connection's number, from 1 on.
func newRaw(t testing.TB, serve func(u *raw, n int64, c net.Conn, r *bufio.Reader)) *raw {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u := &raw{Listener: l}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			n := u.conns.Add(1)
			all.Go(func() {
				defer c.Close()
				serve(u, n, c, bufio.NewReader(c))
			})
		}
	})
	t.Cleanup(func() { l.Close() })
	return u
}

// read takes one request in; "" at the connection's end.
func (u *raw) read(r *bufio.Reader) string {
	req, err := http.ReadRequest(r)
	if err != nil {
		return ""
	}
	body, err := io.ReadAll(req.Body)
	text := fmt.Sprintf("%s %s %s %v", req.Method, req.RequestURI, body, err)
	u.mu.Lock()
	u.got = append(u.got, text)
	u.mu.Unlock()
	return text
}

func (u *raw) requests() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return append([]string{}, u.got...)
}

// always answers every request on a connection with text.
func always(text string) func(*raw, int64, net.Conn, *bufio.Reader) {
	return func(u *raw, _ int64, c net.Conn, r *bufio.Reader) {
		for u.read(r) != "" {
			if _, err := io.WriteString(c, text); err != nil {
				return
			}
		}
	}
}

// front is a Router before one upstream, behind a server of its own.
type front struct {
	*httptest.Server
	router *Router
	mu     sync.Mutex
	errs   []error
}

func newFront(t testing.TB, addresses []string, edit func(*UpstreamConfig)) *front {
	t.Helper()
	u := UpstreamConfig{URL: &url.URL{Scheme: "http", Host: addresses[0]}, Addresses: addresses, Wait: 5 * time.Second, Connections: 8}
	if edit != nil {
		edit(&u)
	}
	f := &front{}
	var err error
	if f.router, err = New(Config{Header: "x-ats-device-uuid", Upstreams: map[string]UpstreamConfig{"a": u}, Routes: []RouteConfig{{Path: "/", Upstream: "a"}}}); err != nil {
		t.Fatal(err)
	}
	f.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		to, refusal := f.router.Find(r)
		if refusal != nil {
			http.Error(w, refusal.Why, refusal.Status)
			return
		}
		if err := f.router.Forward(w, r, to, &Call{Identity: &Identity{Device: "device-1"}}); err != nil {
			f.mu.Lock()
			f.errs = append(f.errs, err)
			f.mu.Unlock()
			w.Header().Set("Connection", "close")
			http.Error(w, "no answer", http.StatusBadGateway)
		}
	}))
	f.Config.ErrorLog = discard
	f.Start()
	t.Cleanup(f.Close)
	return f
}

func (f *front) fault() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return errors.Join(f.errs...)
}

// say sends text as it is, and gives all that comes back until the connection ends or wait is over.
func say(t testing.TB, addr, text string, wait time.Duration) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, text)
	c.SetReadDeadline(time.Now().Add(wait))
	var got bytes.Buffer
	io.Copy(&got, c)
	return got.String()
}

// TestLikeReverseProxy: for upstreams of every kind, good and bad, the device sees what it would through net/http/httputil.ReverseProxy.
func TestLikeReverseProxy(t *testing.T) {
	for name, answer := range map[string]string{
		"length":            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: 1\r\nX-A: 2\r\n\r\nhello",
		"chunked":           "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
		"trailers":          "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 7\r\n\r\n",
		"silent trailers":   "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 7\r\n\r\n",
		"to the end":        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello",
		"http 1.0":          "HTTP/1.0 200 OK\r\n\r\nhello",
		"204":               "HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n",
		"304":               "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nContent-Length: 500\r\n\r\n",
		"empty":             "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
		"404":               "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno",
		"redirection":       "HTTP/1.1 302 Found\r\nLocation: http://elsewhere/\r\nContent-Length: 0\r\n\r\n",
		"hop by hop":        "HTTP/1.1 200 OK\r\nConnection: X-Secret, keep-alive\r\nX-Secret: a\r\nKeep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nok",
		"early hints":       "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"continue":          "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"typed":             "HTTP/1.1 200 OK\r\nContent-Type: text/x-html\r\nContent-Length: 4\r\n\r\nhtml",
		"two lengths":       "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!",
		"length, chunked":   "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
		"unknown encoding":  "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok",
		"garbage":           "hello\r\n\r\n",
		"no header's end":   "HTTP/1.1 200 OK\r\nX: ",
		"bad status":        "HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
		"switch":            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
		"too short":         "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello",
		"broken chunks":     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n",
		"no last chunk":     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
		"more than it says": "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nvictim",
		"nothing":           "",
	} {
		t.Run(name, func(t *testing.T) {
			serve := func(u *raw, _ int64, c net.Conn, r *bufio.Reader) {
				if u.read(r) != "" {
					io.WriteString(c, answer)
				}
			}
			ours := newFront(t, []string{newRaw(t, serve).Addr().String()}, nil)
			theirs := httptest.NewUnstartedServer(&httputil.ReverseProxy{ErrorLog: discard,
				Rewrite: func(p *httputil.ProxyRequest) {
					p.SetURL(&url.URL{Scheme: "http", Host: newRaw(t, serve).Addr().String()})
				},
				ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) {
					w.Header().Set("Connection", "close")
					http.Error(w, "no answer", http.StatusBadGateway)
				}})
			theirs.Config.ErrorLog = discard
			theirs.Start()
			defer theirs.Close()
			for _, method := range []string{"GET", "HEAD", "POST"} {
				time.Sleep(5 * time.Millisecond) // these upstreams end each connection: it is seen by now
				a, b := seen(t, method, ours.URL), seen(t, method, theirs.URL)
				if a != b {
					t.Errorf("%s: we show\n%s\nand they\n%s", method, a, b)
				}
			}
		})
	}
}

// seen is what a client sees of an answer, with the interim ones.
func seen(t *testing.T, method, at string) string {
	t.Helper()
	var out strings.Builder
	trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		if code != http.StatusContinue { // ReverseProxy hands it on, unasked
			fmt.Fprintf(&out, "%d %v\n", code, h)
		}
		return nil
	}}
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), method, at+"/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		return out.String() + "broken off"
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return out.String() + "broken off"
	}
	delete(resp.Header, "Date")
	if !bytes.Contains(body, []byte("html")) {
		delete(resp.Header, "Content-Type") // ReverseProxy's server guesses one
	}
	if method != "HEAD" {
		delete(resp.Header, "Content-Length") // what has come at once gets one
	}
	fmt.Fprintf(&out, "%d %v %q %v", resp.StatusCode, resp.Header, body, resp.Trailer)
	return out.String()
}

// TestFramedAnew: a body arrives whole, in the framing of one of the two ways, and what is hidden in it stays there.
func TestFramedAnew(t *testing.T) {
	up := newRaw(t, always("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
	f := newFront(t, []string{up.Addr().String()}, nil)
	hidden := "GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n"
	for i, c := range []struct{ request, want string }{
		{"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 33\r\n\r\n" + hidden, "POST /x " + hidden + " <nil>"},
		{"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n21\r\n" + hidden + "\r\n0\r\n\r\n", "POST /x " + hidden + " <nil>"},
		{"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2;ext=1\r\nab\r\n0\r\nX-Ats-Device-Uuid: victim\r\n\r\n", "POST /x ab <nil>"},
		{"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", "POST /x  <nil>"},
		{"PUT /x HTTP/1.1\r\nHost: x\r\n\r\n", "PUT /x  <nil>"},
		{"GET /x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab", "GET /x ab <nil>"},
		{"POST /x HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nab", "POST /x ab <nil>"},
		{"DELETE /x HTTP/1.1\r\nHost: x\r\n\r\n", "DELETE /x  <nil>"},
		{"GET /x HTTP/1.0\r\n\r\n", "GET /x  <nil>"},
	} {
		got := say(t, f.Listener.Addr().String(), strings.Replace(c.request, "Host: x\r\n", "Host: x\r\nConnection: close\r\n", 1), 5*time.Second)
		if !strings.Contains(got, "200 OK") || strings.Contains(c.request, "Expect") != strings.Contains(got, "100 Continue") {
			t.Errorf("%q: %q, %v", c.request, got, f.fault())
		}
		if all := up.requests(); len(all) != i+1 || all[i] != c.want {
			t.Errorf("%q: the upstream got %q", c.request, all)
		}
	}
	if n := up.conns.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// TestHalfABody: a body that the device does not end reaches the upstream as one that has no end.
func TestHalfABody(t *testing.T) {
	for _, request := range []string{
		"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf",
		"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
		"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n",
	} {
		up := newRaw(t, always("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
		f := newFront(t, []string{up.Addr().String()}, nil)
		if got := say(t, f.Listener.Addr().String(), request, 100*time.Millisecond); strings.Contains(got, "200") {
			t.Errorf("%q: %q", request, got)
		}
		for end := time.Now().Add(time.Minute); len(up.requests()) == 0; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("the upstream waits for it still")
			}
		}
		if all := up.requests(); len(all) != 1 || !strings.Contains(all[0], "EOF") {
			t.Errorf("%q: the upstream got %q", request, all)
		}
		f.Close()
		if n := len(f.router.upstreams[0].idle); n != 0 {
			t.Errorf("%q: the connection is kept", request)
		}
	}
}

// TestUnasked: what an upstream says unasked is no answer to the next request, which may be another device's.
func TestUnasked(t *testing.T) {
	for name, text := range map[string]string{"with the answer": "", "later": "later"} {
		t.Run(name, func(t *testing.T) {
			said := make(chan bool, 1)
			up := newRaw(t, func(u *raw, n int64, c net.Conn, r *bufio.Reader) {
				for u.read(r) != "" {
					ok, more := "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nvictim"
					if n > 1 {
						more = ""
					}
					if text == "" {
						io.WriteString(c, ok+more)
					} else {
						io.WriteString(c, ok)
						time.Sleep(20 * time.Millisecond)
						io.WriteString(c, more)
					}
					if n == 1 {
						said <- true
					}
				}
			})
			f := newFront(t, []string{up.Addr().String()}, nil)
			for i := range 3 {
				if got := seen(t, "GET", f.URL); !strings.Contains(got, `"ok"`) {
					t.Errorf("%d: %s", i, got)
				}
				if i == 0 {
					<-said
					time.Sleep(20 * time.Millisecond) // it is on its way
				}
			}
			if n := up.conns.Load(); n != 2 {
				t.Errorf("%d connections, not 2", n)
			}
		})
	}
}

// TestKeptConnection: one that the upstream has closed meanwhile costs no request; nothing is sent twice that could change something.
func TestKeptConnection(t *testing.T) {
	// Closed while nobody used it.
	up := newRaw(t, func(u *raw, _ int64, c net.Conn, r *bufio.Reader) {
		if u.read(r) != "" {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})
	f := newFront(t, []string{up.Addr().String()}, nil)
	for _, method := range []string{"GET", "POST", "GET", "PUT"} {
		if got := seen(t, method, f.URL); !strings.Contains(got, `"ok"`) {
			t.Errorf("%s: %s %v", method, got, f.fault())
		}
		time.Sleep(10 * time.Millisecond)
	}
	// Closed just when it is used again.
	up = newRaw(t, func(u *raw, n int64, c net.Conn, r *bufio.Reader) {
		for i := 0; u.read(r) != ""; i++ {
			if i == 1 && n == 1 {
				return
			}
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})
	f = newFront(t, []string{up.Addr().String()}, nil)
	for i := range 2 {
		if got := seen(t, "GET", f.URL); !strings.Contains(got, `"ok"`) {
			t.Errorf("GET %d: %s %v", i, got, f.fault())
		}
	}
	if n := len(up.requests()); n != 3 {
		t.Errorf("the upstream got %d requests, not 3", n)
	}
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH"} {
		up = newRaw(t, func(u *raw, _ int64, c net.Conn, r *bufio.Reader) {
			for i := 0; u.read(r) != "" && i == 0; i++ {
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			}
		})
		f = newFront(t, []string{up.Addr().String()}, nil)
		seen(t, "GET", f.URL)
		if got := seen(t, method, f.URL); !strings.Contains(got, "502") {
			t.Errorf("%s: %s", method, got)
		}
		if n := len(up.requests()); n != 2 {
			t.Errorf("%s: the upstream got %d requests, not 2", method, n)
		}
	}
}

// TestBounds: an upstream neither fills the memory nor holds a request for ever.
func TestBounds(t *testing.T) {
	endless := func(begin, more string) func(*raw, int64, net.Conn, *bufio.Reader) {
		return func(u *raw, _ int64, c net.Conn, r *bufio.Reader) {
			if u.read(r) == "" {
				return
			}
			_, err := io.WriteString(c, begin)
			for err == nil {
				_, err = io.WriteString(c, more)
			}
		}
	}
	for name, serve := range map[string]func(*raw, int64, net.Conn, *bufio.Reader){
		"a header without end":      endless("HTTP/1.1 200 OK\r\nX: ", strings.Repeat("x", 4096)),
		"headers without end":       endless("HTTP/1.1 200 OK\r\n", strings.Repeat("X: y\r\n", 500)),
		"a status line without end": endless("HTTP/1.1 200 ", strings.Repeat("x", 4096)),
		"interim answers for ever":  endless("", "HTTP/1.1 102 Processing\r\n\r\n"),
		"continued for ever":        endless("", "HTTP/1.1 100 Continue\r\n\r\n"),
		"silent":                    func(u *raw, _ int64, _ net.Conn, r *bufio.Reader) { u.read(r); u.read(r) },
		"silent after half a header": func(u *raw, _ int64, c net.Conn, r *bufio.Reader) {
			u.read(r)
			io.WriteString(c, "HTTP/1.1 2")
			u.read(r)
		},
	} {
		t.Run(name, func(t *testing.T) {
			up := newRaw(t, serve)
			f := newFront(t, []string{up.Addr().String()}, func(u *UpstreamConfig) {
				if strings.HasPrefix(name, "silent") {
					u.Wait = 300 * time.Millisecond
				}
			})
			if got := seen(t, "GET", f.URL); !strings.Contains(got, "502") {
				t.Errorf("%.200s", got)
			}
			var slow net.Error
			if err := f.fault(); strings.HasPrefix(name, "silent") != (errors.As(err, &slow) && slow.Timeout()) {
				t.Errorf("told as %v", err)
			}
		})
	}
	t.Run("a body that stands still", func(t *testing.T) {
		up := newRaw(t, func(u *raw, _ int64, c net.Conn, r *bufio.Reader) {
			u.read(r)
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nhello")
			u.read(r)
		})
		f := newFront(t, []string{up.Addr().String()}, func(u *UpstreamConfig) { u.Wait = 300 * time.Millisecond })
		resp, err := http.Get(f.URL)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if got, err := io.ReadAll(resp.Body); !errors.Is(err, io.ErrUnexpectedEOF) || string(got) != "hello" {
			t.Errorf("%q %v", got, err) // what came is handed on
		}
	})
}

// TestDeviceLeaves: what a device gave up holds neither connection nor goroutine.
func TestDeviceLeaves(t *testing.T) {
	gone := make(chan bool, 1)
	up := newRaw(t, func(u *raw, _ int64, _ net.Conn, r *bufio.Reader) {
		u.read(r)
		u.read(r) // until the connection ends
		gone <- true
	})
	f := newFront(t, []string{up.Addr().String()}, func(u *UpstreamConfig) { u.Wait = time.Hour })
	ctx, cancel := context.WithCancel(t.Context())
	req, _ := http.NewRequestWithContext(ctx, "GET", f.URL, nil)
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, err := http.DefaultClient.Do(req); err == nil {
		t.Error("answered")
	}
	select {
	case <-gone:
	case <-time.After(time.Minute):
		t.Error("the upstream is still asked")
	}
}

// TestEarlyAnswer: an upstream that does not want a body says so, and the device hears it.
func TestEarlyAnswer(t *testing.T) {
	up := newRaw(t, func(u *raw, _ int64, c net.Conn, r *bufio.Reader) {
		for line := "x"; line != "\r\n"; {
			line, _ = r.ReadString('\n')
		}
		io.WriteString(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
		io.CopyN(io.Discard, r, 1<<20)
	})
	f := newFront(t, []string{up.Addr().String()}, nil)
	resp, err := http.Post(f.URL, "text/plain", io.LimitReader(zeros{}, 64<<20))
	if err != nil {
		t.Fatal(err, f.fault())
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); resp.StatusCode != 413 || string(body) != "no" {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	if n := len(f.router.upstreams[0].idle); n != 0 {
		t.Error("the connection is kept")
	}
}

// TestEarlyAnswerWhileSilent: a device that pauses in its body has the answer that came early at once, and one that goes on sending reads all of it
// before the connection ends.
func TestEarlyAnswerWhileSilent(t *testing.T) {
	up := newRaw(t, func(u *raw, _ int64, c net.Conn, r *bufio.Reader) {
		for line := "x"; line != "\r\n"; {
			line, _ = r.ReadString('\n')
		}
		io.WriteString(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
	})
	f := newFront(t, []string{up.Addr().String()}, nil)
	for _, framed := range []string{"Content-Length: 1000000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n100000\r\n"} {
		c, err := net.Dial("tcp", f.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(20 * time.Second))
		io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\n"+framed+"begun")
		r := bufio.NewReader(c)
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal("the device waits for its answer: ", err)
		}
		c.Write(make([]byte, 4096)) // what was under way, and is read by nobody, does not take the answer away
		if body, err := io.ReadAll(resp.Body); resp.StatusCode != 413 || string(body) != "no" {
			t.Errorf("%d %s %v", resp.StatusCode, body, err)
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// TestStreams: what an upstream says bit by bit comes bit by bit.
func TestStreams(t *testing.T) {
	next := make(chan string)
	up := newRaw(t, func(u *raw, _ int64, c net.Conn, r *bufio.Reader) {
		u.read(r)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
		for s := range next {
			fmt.Fprintf(c, "%x\r\n%s\r\n", len(s), s)
		}
		io.WriteString(c, "0\r\n\r\n")
	})
	f := newFront(t, []string{up.Addr().String()}, nil)
	resp, err := http.Get(f.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for _, s := range []string{"a", "bc", "d"} {
		next <- s
		got := make([]byte, len(s))
		if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != s {
			t.Fatalf("%q %v", got, err)
		}
	}
	close(next)
	if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) != 0 {
		t.Errorf("%q %v", rest, err)
	}
}
