package route

import (
	"bufio"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// testRouter has routes that lie below each other, two upstreams, and one route that the caller serves.
func testRouter(t testing.TB) *Router {
	t.Helper()
	up := func(text string) UpstreamConfig {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		return UpstreamConfig{URL: u, Wait: time.Second, Connections: 4}
	}
	r, err := New(Config{Header: "x-ats-device-uuid",
		Upstreams: map[string]UpstreamConfig{"image": up("http://image.test:80"), "director": up("http://director.test/base"), "rest": up("http://rest.test")},
		Routes: []RouteConfig{
			{Path: "/repo", Upstream: "image"},
			{Path: "/repo/targets", Upstream: "rest"},
			{Path: "/director", To: "/api/v1/device/{device}/of/{environment}", Upstream: "director"},
			{Path: "/treehub", To: "/", Upstream: "image"},
			{Path: "/.well-known/est"},
		}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// request reads a request as net/http's server does.
func request(t testing.TB, line string) *http.Request {
	t.Helper()
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(line + " HTTP/1.1\r\nHost: x\r\n\r\n")))
	if err != nil {
		return nil
	}
	return r
}

// TestFind: the longest route counts, by whole segments; what could be read as another one, or as a way out, is refused; what has none is 404.
func TestFind(t *testing.T) {
	router := testRouter(t)
	for line, want := range map[string]string{
		"GET /repo":                       "/repo",
		"GET /repo/":                      "/repo",
		"GET /repo/root.json":             "/repo",
		"GET /repo/targets.json":          "/repo",
		"GET /repo/targets":               "/repo/targets",
		"GET /repo/targets/a%20b":         "/repo/targets",
		"GET /repo/targets/a//b":          "/repo/targets",
		"GET /repo/targets/a%2Fb":         "/repo/targets",
		"GET /repo/targets/%D1%84":        "/repo/targets",
		"GET /repo/targets/a;b=c":         "/repo/targets",
		"GET /repo/targets/100%25":        "/repo/targets",
		"GET /repo/targets/%25zz%2520%25": "/repo/targets",
		"GET /repo/targets/a..b/..c/d../": "/repo/targets",
		"GET /repo/targets/.hidden/...":   "/repo/targets",
		"GET /repo?x=/../y":               "/repo",
		"PUT /director/manifest":          "/director",
		"GET /treehub/objects/a/b.filez":  "/treehub",
		"GET /.well-known/est/cacerts":    "/.well-known/est",
	} {
		got, refusal := router.Find(request(t, line))
		if refusal != nil || got.Path() != want {
			t.Errorf("%s: %v %v, want %s", line, got, refusal, want)
		}
	}
	for line, want := range map[string]int{
		// No route.
		"GET /": 404, "GET /rep": 404, "GET /repository": 404, "GET /Repo/root.json": 404, "GET /director.json": 404, "GET /x/director": 404, "GET /.well-known": 404,
		// Another spelling of a route.
		"GET //repo/root.json": 400, "GET /%72epo/root.json": 400, "GET /repo%2Froot.json": 400, "GET /repo%2froot.json": 400, "GET /repo;v=1/root.json": 400, "GET /;a/repo/x": 400,
		`GET \repo/x`: 0, `GET /\repo/x`: 400, "GET /%5Crepo/x": 400, "GET /%2Frepo/x": 400, "GET /%252Frepo/x": 400, "GET /%2564irector/x": 400, "GET /director%252Fmanifest": 400,
		// A way from one route into another.
		"GET /repo//targets/x": 400, "GET /repo/%74argets/x": 400, "GET /repo/targets%2Fx": 400, "GET /repo/targets;v/x": 400, `GET /repo\targets\x`: 400, "GET /repo/%5Ctargets/x": 400,
		"GET /repo/;/targets/x": 400, "GET /repo/%2574argets/x": 400, "GET /repo/targets%3Bv/x": 400, "GET /.well-known//est/x": 400, "GET /.well-known/%65st/x": 400,
		// Dot segments, in every spelling.
		"GET /repo/../director/x": 400, "GET /repo/..": 400, "GET /repo/.": 400, "GET /repo/./x": 400, "GET /repo/%2e%2e/x": 400, "GET /repo/.%2E/x": 400, "GET /repo/%2E": 400,
		"GET /repo/..;/x": 400, "GET /repo/..;a=b/x": 400, "GET /repo/;../x": 400, `GET /repo/..\x`: 400, `GET /repo/a\..\..\x`: 400, "GET /repo/%252e%252e/x": 400, "GET /repo/..%2Fx": 400, "GET /repo/a%2F..%2Fx": 400, "GET /repo/..%5Cx": 400, "GET /repo/..%00/x": 400,
		"GET /repo/%25252e%25252e/x": 400, "GET /repo/%2525252525252e/x": 400,
		// Also beside what is no encoding, which a lenient reader takes as text.
		"GET /repo/%252e%252e/%25": 400, "GET /repo/%252e%252e/x%25zz": 400, "GET /repo/..%252f%25": 400, "GET /%2572epo/x%25": 400, "GET /repo/%25252e%25252e/%2525": 400,
		// What is no path, or no text.
		"GET http://elsewhere/repo/x": 400, "GET https://x/repo/x": 400, "OPTIONS *": 400, "GET repo": 0, "GET /repo/%0d%0aX:y": 400, "GET /repo/%00": 400, "GET /repo/%7f": 400, "GET /repo/%c0%ae%c0%ae/x": 400, "GET /repo/%ff": 400, "GET /repo/%250a": 400,
		"GET /repo/x?\x80": 400, "GET /repo/%zz": 0,
		"TRACE /repo/x": 405, "CONNECT x:443": 405, "CONNECT /repo/x": 405,
	} {
		r := request(t, line)
		if r == nil {
			if want != 0 {
				t.Errorf("%s: no request", line)
			}
			continue // the server answers 400 by itself
		}
		if got, refusal := router.Find(r); refusal == nil || refusal.Status != want {
			t.Errorf("%s: %v %v, want %d", line, got, refusal, want)
		}
	}
	// HTTP/2 has neither a request line nor its rules.
	for name, edit := range map[string]func(*http.Request){
		"method": func(r *http.Request) { r.Method = "GET /repo/x HTTP/1.1\r\nX: " },
		"space":  func(r *http.Request) { r.Method = "GET /" },
		"empty":  func(r *http.Request) { r.Method = "" },
		"query":  func(r *http.Request) { r.URL.RawQuery = "a HTTP/1.1" },
	} {
		r := request(t, "GET /repo/x")
		edit(r)
		if _, refusal := router.Find(r); refusal == nil || refusal.Status != 400 {
			t.Errorf("%s: %v", name, refusal)
		}
	}
}

// TestTarget: what the upstream is asked for.
func TestTarget(t *testing.T) {
	router := testRouter(t)
	id := &Identity{Device: "vin-1", Environment: "test"}
	for line, want := range map[string]string{
		"GET /repo/a%20b?x=1;y=%zz&z": "/repo/a%20b?x=1;y=%zz&z",
		"GET /repo?":                  "/repo?",
		"GET /repo/targets/a//b":      "/repo/targets/a//b",
		"GET /director":               "/base/api/v1/device/vin-1/of/test",
		"PUT /director/manifest?a=b":  "/base/api/v1/device/vin-1/of/test/manifest?a=b",
		"GET /director/a%3Fb%23c":     "/base/api/v1/device/vin-1/of/test/a%3Fb%23c",
		"GET /treehub":                "/",
		"GET /treehub/":               "/",
		"GET /treehub/objects/ab.dir": "/objects/ab.dir",
		"GET /treehub/a%2Fb?c":        "/a%2Fb?c",
	} {
		r := request(t, line)
		to, refusal := router.Find(r)
		if refusal != nil {
			t.Fatal(line, refusal)
		}
		if got := to.target(r.URL, id); got != want {
			t.Errorf("%s: %s, want %s", line, got, want)
		}
	}
	for device, want := range map[string]string{
		"a": "a", "A.b_c~d-9": "A.b_c~d-9", "a+b": "a%2Bb", "a;b=c": "a%3Bb%3Dc", "a?b#c": "a%3Fb%23c", "a&b": "a%26b", "a:b@c": "a%3Ab%40c", "{device}": "%7Bdevice%7D", "a%2e": "a%252e", "a/b": "a%2Fb", `a\b`: "a%5Cb",
		"'\"<>": "%27%22%3C%3E", "$!*(),[]|^`": "%24%21%2A%28%29%2C%5B%5D%7C%5E%60",
	} {
		r := request(t, "GET /director/x")
		to, _ := router.Find(r)
		got := to.target(r.URL, &Identity{Device: device, Environment: "test"})
		if got != "/base/api/v1/device/"+want+"/of/test/x" {
			t.Errorf("%s: %s", device, got)
		}
		if u, err := url.ParseRequestURI(got); err != nil || u.Path != "/base/api/v1/device/"+device+"/of/test/x" {
			t.Errorf("%s: is read as %v, %v", device, u, err)
		}
	}
	for _, device := range []string{"", ".", "..", "a b", "a\r\nx: y", "a\x00", "é", "a\t"} {
		if (&Identity{Device: device, Environment: "test"}).fit() {
			t.Errorf("the device %q is fit", device)
		}
	}
}

// TestConfig: what New refuses.
func TestConfig(t *testing.T) {
	u, _ := url.Parse("http://127.0.0.1:1")
	good := func() Config {
		return Config{Header: "x-id", Upstreams: map[string]UpstreamConfig{"a": {URL: u, Wait: 1, Connections: 1}}, Routes: []RouteConfig{{Path: "/a", Upstream: "a"}}}
	}
	if _, err := New(good()); err != nil {
		t.Fatal(err)
	}
	for name, edit := range map[string]func(*Config){
		"no routes":   func(c *Config) { c.Routes = nil },
		"twice":       func(c *Config) { c.Routes = append(c.Routes, c.Routes[0]) },
		"no upstream": func(c *Config) { c.Routes[0].Upstream = "b" },
		"tls missing": func(c *Config) {
			h, _ := url.Parse("https://x")
			c.Upstreams["a"] = UpstreamConfig{URL: h, Wait: 1, Connections: 1}
		},
		"no wait":   func(c *Config) { c.Upstreams["a"] = UpstreamConfig{URL: u, Connections: 1} },
		"no places": func(c *Config) { c.Upstreams["a"] = UpstreamConfig{URL: u, Wait: 1} },
		"namespace": func(c *Config) {
			c.Upstreams["a"] = UpstreamConfig{URL: u, Wait: 1, Connections: 1, Namespace: "a\r\nx: y"}
		},
		"many": func(c *Config) {
			c.Upstreams["a"] = UpstreamConfig{URL: u, Wait: 1, Connections: 1, Addresses: make([]string, 17)}
		},
	} {
		c := good()
		edit(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for _, p := range []string{"", "a", "/a/", "//", "/a//b", "/.", "/a/..", "/a/./b", "/a%20b", "/a b", "/ä", "/a;b", `/a\b`, "/a?b", "/a#b", "/a\x00", "/{device}", "/" + strings.Repeat("a", 256)} {
		c := good()
		c.Routes[0].Path = p
		if _, err := New(c); err == nil {
			t.Errorf("path %q: accepted", p)
		}
	}
	for _, to := range []string{"a", "/a/", "//a", "/a/../b", "/{device", "/x{device}", "/{Device}", "/{serial}", "/a%2fb", "/a?b={device}", "/" + strings.Repeat("a", 256)} {
		c := good()
		c.Routes[0].To = to
		if _, err := New(c); err == nil {
			t.Errorf("to %q: accepted", to)
		}
	}
}

// FuzzFind: whatever is handed on goes where the most generous reader of its path would send it, too.
func FuzzFind(f *testing.F) {
	for _, seed := range []string{"/repo/x", "/repo//targets", "/%72epo/..%2f", "/director;a/\\x", "/repo/%252e%252e/%25zz", "/repo/targets/a?b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, path string) {
		router := testRouter(t)
		u, err := url.ParseRequestURI(path)
		if err != nil {
			return
		}
		r := &http.Request{Method: "GET", URL: u}
		to, refusal := router.Find(r)
		if refusal != nil {
			return
		}
		target := to.target(u, &Identity{Device: "device", Environment: "e"})
		if !visible(target) || !strings.HasPrefix(target, "/") {
			t.Errorf("%q becomes %q", path, target)
		}
		reading := u.EscapedPath()
		for range 4 {
			clean := strings.ReplaceAll(reading, `\`, "/")
			for strings.Contains(clean, "//") {
				clean = strings.ReplaceAll(clean, "//", "/")
			}
			if router.match(clean) != to {
				t.Errorf("%q went to %s, and %q lies elsewhere", path, to.Path(), clean)
			}
			for s := range strings.SplitSeq(clean, "/") {
				if s == ".." || s == "." {
					t.Errorf("%q: %q has dot segments", path, clean)
				}
			}
			next, err := url.PathUnescape(reading)
			if err != nil {
				break
			}
			reading = next
		}
	})
}
