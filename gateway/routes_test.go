package gateway_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/hanaper/hanaper/gateway"
	"github.com/hanaper/hanaper/gateway/fleettest"
)

// service is an upstream that keeps what it got.
type service struct {
	*httptest.Server
	mu  sync.Mutex
	got []*http.Request
}

func newService(t *testing.T, name string) *service {
	s := &service{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.got = append(s.got, r)
		s.mu.Unlock()
		fmt.Fprintf(w, "%s %s %s", name, r.Method, r.RequestURI)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *service) requests() []*http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*http.Request{}, s.got...)
}

// newRouted is a stand before three services, as OTA Connect's are, and nothing for the rest.
func newRouted(t *testing.T) (s *stand, director, repo, hub *service) {
	director, repo, hub = newService(t, "director"), newService(t, "repo"), newService(t, "treehub")
	s = newStand(t, func(c *gateway.Config) {
		c.Upstream = gateway.UpstreamConfig{}
		c.Log.Requests = true
		c.Upstreams = map[string]gateway.UpstreamConfig{"director": {URL: director.URL, Namespace: "tenant-1", ClientCert: "chain"}, "repo": {URL: repo.URL + "/base", ClientCert: "leaf"}, "treehub": {URL: hub.URL}}
		c.Routes = []gateway.RouteConfig{
			{Path: "/director", Upstream: "director", To: "/api/v1/device/{device}"}, {Path: "/repo", Upstream: "repo"}, {Path: "/repo/secret", Upstream: "director"}, {Path: "/treehub", Upstream: "treehub", To: "/"}}
	})
	return s, director, repo, hub
}

// TestRoutes: each path goes to its upstream, and to no other; each upstream is told who speaks in the form that it wants, and by nobody but the gateway.
func TestRoutes(t *testing.T) {
	s, director, repo, hub := newRouted(t)
	odd := "vin+1;a=b?c#d&e:{device}"
	d := s.fleet.Device(t, odd)
	conn := dialBare(t, s, d)
	claims := ""
	for _, h := range []string{"x-ats-device-uuid", "X_Ats_Device_Uuid", "x.ats.device.uuid", "X-ATS-Namespace", "x_ats_namespace", "X-Ats_Namespace", "Client-Cert", "client_cert", "Client.Cert", "CLIENT-CERT-CHAIN", "Client_Cert-Chain", "traceparent", "TraceParent", "tracestate", "X-Forwarded-For", "Proxy", "X-Real_IP"} {
		claims += h + ": victim\r\n"
	}
	send := func(line string) (int, string) {
		return conn.send(t, line+" HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n"+claims+"Connection: Client-Cert, X-Ats-Namespace, x-ats-device-uuid, traceparent\r\n\r\n")
	}
	for line, want := range map[string]string{
		"PUT /director/manifest?a=b":    "director PUT /api/v1/device/vin%2B1%3Ba%3Db%3Fc%23d%26e%3A%7Bdevice%7D/manifest?a=b",
		"GET /repo/targets/a%2Fb":       "repo GET /base/repo/targets/a%2Fb",
		"GET /repo/secret/x":            "director GET /repo/secret/x",
		"GET /treehub/objects/ab/c.dir": "treehub GET /objects/ab/c.dir",
		"POST /treehub":                 "treehub POST /",
	} {
		if status, body := send(line); status != 200 || body != want {
			t.Errorf("%s: %d %q, want %q", line, status, body, want)
		}
	}
	value := func(c *x509.Certificate) string { return ":" + base64.StdEncoding.EncodeToString(c.Raw) + ":" }
	for _, one := range []struct {
		service                *service
		namespace, leaf, chain string
	}{
		{director, "tenant-1", value(d.Cert), value(s.fleet.Factory.Cert) + ", " + value(s.fleet.Root.Cert)},
		{repo, "", value(d.Cert), ""},
		{hub, "", "", ""},
	} {
		if len(one.service.requests()) == 0 {
			t.Error("an upstream got nothing")
		}
		for _, r := range one.service.requests() {
			for name, want := range map[string]string{"X-Ats-Device-Uuid": odd, "X-Ats-Namespace": one.namespace, "Client-Cert": one.leaf, "Client-Cert-Chain": one.chain} {
				if got := r.Header.Values(name); want == "" && len(got) != 0 || want != "" && (len(got) != 1 || got[0] != want) {
					t.Errorf("%s: %s is %q, want %q", r.URL, name, got, want)
				}
			}
			parent := r.Header.Values("Traceparent")
			if len(parent) != 1 || !regexp.MustCompile(`^00-[0-9a-f]{32}-[0-9a-f]{16}-00$`).MatchString(parent[0]) || !strings.Contains(s.log.String(), "trace="+parent[0]) {
				t.Errorf("%s: traceparent %q", r.URL, parent)
			}
			if said := fmt.Sprint(r.Header); strings.Contains(said, "victim") {
				t.Errorf("%s: %s", r.URL, said)
			}
		}
	}
	before := len(director.requests()) + len(repo.requests()) + len(hub.requests())
	for line, want := range map[string]int{
		"GET /": 404, "GET /directory": 404, "GET /director.json": 404, "GET /events": 404, "GET /Repo/x": 404, "GET /.well-known/est/cacerts": 404,
		"GET //director/x": 400, "GET /%64irector/x": 400, "GET /repo//secret/x": 400, "GET /repo/%73ecret/x": 400, "GET /repo/secret%2Fx": 400, "GET /repo/;/secret/x": 400, `GET /repo\secret`: 400, "GET /repo/../director/x": 400,
		"GET /repo/%2e%2e/director/x": 400, "GET /repo/%252e%252e/director/x": 400, "GET /treehub/..;/x": 400, "GET http://x/director/x": 400, "OPTIONS *": 400, "CONNECT x:1": 405, "TRACE /repo/x": 405,
	} {
		conn = dialBare(t, s, d)
		if status, body := send(line); status != want {
			t.Errorf("%s: %d %s, want %d", line, status, body, want)
		}
	}
	if after := len(director.requests()) + len(repo.requests()) + len(hub.requests()); after != before {
		t.Errorf("%d refused requests reached an upstream", after-before)
	}
	if m := s.metrics(); !strings.Contains(m, `hanaper_gateway_route_requests_total{environment="test",route="/director",class="2xx"} 1`) || !strings.Contains(m, "hanaper_gateway_unrouted_total 21") {
		t.Errorf("%s", m)
	}
}

// TestChainIsTheViews: what a device sends beside its certificate is not handed on as the CAs above it.
func TestChainIsTheViews(t *testing.T) {
	s, director, _, _ := newRouted(t)
	d, other := s.fleet.Device(t, "device-1"), fleettest.New(t)
	c := s.tlsConfig(d)
	c.Certificates[0].Certificate = append(c.Certificates[0].Certificate, other.Factory.Cert.Raw, other.Root.Cert.Raw)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: c}}
	resp, err := client.Get("https://" + s.addr + "/director/x")
	if err != nil || resp.StatusCode != 200 {
		t.Fatal(resp, err)
	}
	resp.Body.Close()
	chain := director.requests()[0].Header.Get("Client-Cert-Chain")
	if !strings.HasPrefix(chain, ":"+base64.StdEncoding.EncodeToString(s.fleet.Factory.Cert.Raw)+":, ") || strings.Contains(chain, base64.StdEncoding.EncodeToString(other.Root.Cert.Raw)) {
		t.Errorf("the chain is %s", chain)
	}
}

// TestHTTP2Lines: what HTTP/2 lets stand in a pseudo-header makes no other request line for the upstream.
func TestHTTP2Lines(t *testing.T) {
	s := newStand(t, nil)
	d := s.fleet.Device(t, "device-1")
	for _, c := range []struct {
		method, path string
		want         string
	}{
		{"GET", "/x?a=b", "200"},
		{"GET /x HTTP/1.1", "/y", "400"},
		{"GE T", "/y", "400"},
		{"G:T", "/y", "400"},
		{"GET", "/y?a HTTP/1.1", "400"},
		{"GET", "/y?a\tb", "400"},
		{"GET", "/y?\x80", "400"},
		{"GET", "/x y", "200"}, // one that the server escapes
		{"GET", "http://elsewhere/y", "400"},
		{"CONNECT", "", ""},
		{"GET", "/../y", "400"},
		{"GET", "*", "400"},
	} {
		conf := s.tlsConfig(d)
		conf.NextProtos = []string{"h2"}
		conn, err := tls.Dial("tcp", s.addr, conf)
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(20 * time.Second))
		io.WriteString(conn, http2.ClientPreface)
		f := http2.NewFramer(conn, conn)
		f.WriteSettings()
		var head bytes.Buffer
		enc := hpack.NewEncoder(&head)
		fields := []hpack.HeaderField{{Name: ":method", Value: c.method}, {Name: ":scheme", Value: "https"}, {Name: ":authority", Value: "x"}, {Name: ":path", Value: c.path}}
		if c.path == "" {
			fields = []hpack.HeaderField{fields[0], fields[2]}
		}
		for _, h := range fields {
			enc.WriteField(h)
		}
		f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head.Bytes(), EndStream: true, EndHeaders: true})
		got := ""
		dec := hpack.NewDecoder(4096, func(h hpack.HeaderField) {
			if h.Name == ":status" {
				got = h.Value
			}
		})
		for got == "" {
			frame, err := f.ReadFrame()
			if err != nil {
				break
			}
			if h, ok := frame.(*http2.HeadersFrame); ok {
				dec.Write(h.HeaderBlockFragment())
			} else if r, ok := frame.(*http2.RSTStreamFrame); ok && r.StreamID == 1 {
				got = "reset"
			}
		}
		conn.Close()
		if c.want == "" && (got == "200" || got == "") || c.want != "" && got != c.want && !(c.want == "400" && got == "reset") {
			t.Errorf("%s %q: %s, want %s", c.method, c.path, got, c.want)
		}
	}
	for _, r := range s.requests() {
		if r.URL.Path != "/x" && r.URL.Path != "/x y" || r.Method != "GET" {
			t.Errorf("the upstream got %s %s", r.Method, r.RequestURI)
		}
	}
	if n := len(s.requests()); n != 2 {
		t.Errorf("%d requests reached the upstream, not 2", n)
	}
}

// TestTraceIsKept where the configuration says so.
func TestTraceIsKept(t *testing.T) {
	s := newStand(t, func(c *gateway.Config) { c.Trace.Device = "keep" })
	conn := dialBare(t, s, s.fleet.Device(t, "device-1"))
	conn.send(t, "GET /x HTTP/1.1\r\nHost: x\r\nTraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\nTracestate: a=1\r\nTracestate: b=2\r\n\r\n")
	r := s.requests()[0]
	if p := r.Header.Get("Traceparent"); !strings.HasPrefix(p, "00-0af7651916cd43dd8448eb211c80319c-") || strings.Contains(p, "b7ad6b7169203331") || r.Header.Get("Tracestate") != "a=1,b=2" {
		t.Errorf("%v", r.Header)
	}
}

// TestUpstreamFilesChange: a new root and a new certificate of the gateway's own count for the next connection, without a restart.
func TestUpstreamFilesChange(t *testing.T) {
	var mu sync.Mutex
	var shown []byte
	up := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		shown = r.TLS.PeerCertificates[0].Raw
	}))
	up.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	up.StartTLS()
	t.Cleanup(up.Close)
	var s *stand
	ca := filepath.Join(t.TempDir(), "up.pem")
	writePEM(t, ca, up.Certificate().Raw)
	s = newStand(t, func(c *gateway.Config) {
		c.Upstream = gateway.UpstreamConfig{URL: up.URL, CA: ca, Certificate: "gateway.pem", Key: "gateway.key"}
	})
	conn := dialBare(t, s, s.fleet.Device(t, "device-1"))
	get := func() int {
		status, _ := conn.send(t, "GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
		return status
	}
	if got := get(); got != 200 {
		t.Fatal(got)
	}
	writePEM(t, ca, s.fleet.Root.Cert.Raw)
	if err := s.gateway.Reload(); err != nil {
		t.Fatal(err)
	}
	if got := get(); got != 502 {
		t.Errorf("the upstream is not under the new root: %d", got)
	}
	writePEM(t, ca, []byte("no certificate"))
	if err := s.gateway.Reload(); err == nil {
		t.Error("a root that is none was taken")
	}
	writePEM(t, ca, up.Certificate().Raw)
	again := fleettest.Issue(t, nil, s.server.Key, *s.server.Cert)
	s.write("gateway.pem", "CERTIFICATE", again.Cert.Raw)
	if err := s.gateway.Reload(); err != nil {
		t.Fatal(err)
	}
	if got := get(); got != 200 {
		t.Errorf("with the right root again: %d", got)
	}
	mu.Lock()
	defer mu.Unlock()
	if !bytes.Equal(shown, again.Cert.Raw) {
		t.Error("the upstream was shown another certificate")
	}
}

// TestUpstreamAddresses: one of two addresses that is down costs no request, and is told in health and figures.
func TestUpstreamAddresses(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	down := l.Addr().String()
	l.Close()
	s := newStand(t, func(c *gateway.Config) {
		c.Upstream.Addresses = []string{strings.TrimPrefix(c.Upstream.URL, "http://"), down}
		c.Upstream.URL = "http://localhost:1"
	})
	d := s.fleet.Device(t, "device-1")
	for range 3 {
		s.wellServed(s.client(d, false), d)
	}
	note := "upstream upstream: " + down + " cannot be reached since"
	if h := s.gateway.Health(); h.Status != "degraded" || !strings.Contains(fmt.Sprint(h.Notes), note) {
		t.Errorf("%+v", h)
	}
	if m := s.metrics(); !strings.Contains(m, fmt.Sprintf(`hanaper_gateway_upstream_up{environment="test",upstream="upstream",address=%q} 0`, down)) {
		t.Errorf("%s", m)
	}
}

// TestRouteConfig: what cannot be meant is refused before anything is opened.
func TestRouteConfig(t *testing.T) {
	for want, edit := range map[string]func(*gateway.Config){
		"":                             func(*gateway.Config) {},
		"routes[0].path":               func(c *gateway.Config) { c.Routes[0].Path = "/director/" },
		"routes[1].path \"/director\"": func(c *gateway.Config) { c.Routes = append(c.Routes, c.Routes[0]) },
		"is unknown":                   func(c *gateway.Config) { c.Routes = append(c.Routes, gateway.RouteConfig{Path: "/b", Upstream: "b"}) },
		"is used by no route":          func(c *gateway.Config) { c.Upstreams["b"] = c.Upstreams["a"] },
		"belongs to renewal": func(c *gateway.Config) {
			c.Renewal = gateway.RenewalConfig{URL: "https://127.0.0.1:1", CA: "ca", Certificate: "c", Key: "k"}
			c.Routes[0].Path = "/.well-known/est"
		},
		"to: ":            func(c *gateway.Config) { c.Routes[0].To = "/{serial}" },
		"upstreams.a.url": func(c *gateway.Config) { c.Upstreams["a"] = gateway.UpstreamConfig{URL: "http://192.0.2.1:80"} },
		"upstreams.a.addresses": func(c *gateway.Config) {
			c.Upstreams["a"] = gateway.UpstreamConfig{URL: "http://127.0.0.1:80", Addresses: []string{"192.0.2.1:80"}}
		},
		"is no address": func(c *gateway.Config) {
			c.Upstreams["a"] = gateway.UpstreamConfig{URL: "https://x", Addresses: []string{"192.0.2.1"}}
		},
		"are of no use with a socket": func(c *gateway.Config) {
			c.Upstreams["a"] = gateway.UpstreamConfig{URL: "unix:/x", Addresses: []string{"127.0.0.1:80"}}
		},
		"upstreams.a.client_cert": func(c *gateway.Config) {
			c.Upstreams["a"] = gateway.UpstreamConfig{URL: "http://127.0.0.1:80", ClientCert: "all"}
		},
		"namespace": func(c *gateway.Config) {
			c.Upstreams["a"] = gateway.UpstreamConfig{URL: "http://127.0.0.1:80", Namespace: "a\nb"}
		},
		"connections": func(c *gateway.Config) {
			c.Upstreams["a"] = gateway.UpstreamConfig{URL: "http://127.0.0.1:80", Connections: -1}
		},
		"limits.upstream_connections": func(c *gateway.Config) {
			c.Upstreams["a"] = gateway.UpstreamConfig{URL: "http://127.0.0.1:80", Connections: 2000}
		},
		"is no name for an upstream": func(c *gateway.Config) { c.Upstreams["a b"] = c.Upstreams["a"] },
		"is the name of the section": func(c *gateway.Config) {
			c.Upstreams["upstream"], c.Upstream.URL = c.Upstreams["a"], "http://127.0.0.1:80"
		},
		"upstream.url is missing":       func(c *gateway.Config) { c.Upstream.Timeout = time.Second },
		"trace.device":                  func(c *gateway.Config) { c.Trace.Device = "all" },
		"upstreams.a.url is missing":    func(c *gateway.Config) { c.Upstreams["a"] = gateway.UpstreamConfig{} },
		"routes[1].path \"/\" is there": func(c *gateway.Config) { c.Routes[0].Path, c.Upstream.URL = "/", "http://127.0.0.1:80" },
	} {
		c := gateway.Config{Listen: "127.0.0.1:0", Environment: "test", TLS: gateway.TLSConfig{Certificate: "a", Key: "b"}, Trust: gateway.TrustConfig{Source: "t", Root: "r", State: "s"},
			Registry: gateway.RegistryConfig{Path: "d"}, Upstreams: map[string]gateway.UpstreamConfig{"a": {URL: "http://127.0.0.1:1"}}, Routes: []gateway.RouteConfig{{Path: "/director", Upstream: "a"}}}
		edit(&c)
		_, err := gateway.NewSettings(c, t.TempDir())
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
