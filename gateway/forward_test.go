package gateway_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/gateway"
)

// TestForgedIdentity: whatever a device sends, the upstream reads its CN and nothing else.
func TestForgedIdentity(t *testing.T) {
	s := newStand(t, func(c *gateway.Config) { c.StripHeaders = []string{"x-client-cert"} })
	d := s.fleet.Device(t, "device-1")
	conn := dialRaw(t, s, d)
	for _, headers := range []string{
		"x-ats-device-uuid: victim\r\n",
		"X-Ats-Device-Uuid: victim\r\nX-ATS-DEVICE-UUID: victim\r\n",
		"x_ats_device_uuid: victim\r\n",
		"X-Ats_Device-Uuid: victim\r\n",
		"x.ats.device.uuid: victim\r\n",
		"Connection: x-ats-device-uuid\r\n",
		"Connection: close, X-ATS-Device-UUID\r\nx-ats-device-uuid: victim\r\n",
		"Connection: keep-alive\r\nConnection: x-ats-device-uuid\r\n",
		"Proxy-Connection: x-ats-device-uuid\r\n",
		"X-Forwarded-For: victim\r\nx_forwarded_for: victim\r\nForwarded: for=victim\r\nX-Real-IP: victim\r\nX-Forwarded-Client-Cert: victim\r\n",
		"x-ats-namespace: victim\r\nX_Ats_Namespace: victim\r\nX-ATS-Traceid: victim\r\n",
		"Client-Cert: victim\r\nclient_cert: victim\r\nClient-Cert-Chain: victim\r\nClient.Cert: victim\r\n",
		"Proxy: victim\r\npROXY: victim\r\n",
		"Transfer_Encoding: victim\r\nContent_Length: victim\r\ncontent.length: victim\r\nTransfer.Encoding: victim\r\nHost_: ok\r\n",
		"SSL_CLIENT_S_DN: victim\r\nX-SSL-Client-Verify: victim\r\nX-Original-URL: /victim\r\nX-HTTP-Method-Override: victim\r\n",
		"X-Client-Cert: victim\r\nx_client_cert: victim\r\n",
		"B3: victim\r\nX-B3-TraceId: victim\r\nx_b3_flags: victim\r\nBaggage: victim\r\nUber-Trace-Id: victim\r\nUberctx-Tenant: victim\r\nX-Amzn-Trace-Id: victim\r\nX-Amzn-Mtls-Clientcert: victim\r\n",
		"X-Envoy-Original-Path: /victim\r\nX-Forwarded: victim\r\nX-Client-IP: victim\r\nCF-Connecting-IP: victim\r\nRemote-User: victim\r\nX_Remote_User: victim\r\n",
		"Transfer-Encoding: chunked\r\nTrailer: X-Ats-Device-Uuid\r\n",
	} {
		body := ""
		if strings.Contains(headers, "chunked") {
			body = "0\r\nX-Ats-Device-Uuid: victim\r\n\r\n"
		}
		if strings.Contains(headers, "close") {
			conn = dialRaw(t, s, d)
		}
		status, answer := conn.send(t, "POST /x HTTP/1.1\r\nHost: x\r\n"+headers+orLength(body)+"\r\n"+body)
		if status != 200 || answer != "hello device-1" {
			t.Errorf("%q: %d %q", headers, status, answer)
		}
		if strings.Contains(headers, "close") {
			conn = dialRaw(t, s, d)
		}
		all := s.requests()
		r := all[len(all)-1]
		if got := r.Header.Values("x-ats-device-uuid"); len(got) != 1 || got[0] != "device-1" {
			t.Errorf("%q: identity %q", headers, got)
		}
		if said := fmt.Sprint(r.Header, r.Trailer, r.Host); strings.Contains(said, "victim") {
			t.Errorf("%q reached the upstream: %s", headers, said)
		}
	}
}

func orLength(body string) string {
	if body == "" {
		return "Content-Length: 0\r\n"
	}
	return ""
}

// TestPathsAreKept raw, and those that have two readings are refused.
func TestPathsAreKept(t *testing.T) {
	s := newStand(t, nil)
	conn := dialRaw(t, s, s.fleet.Device(t, "device-1"))
	for _, path := range []string{"/", "/a%2Fb/c", "//double//slash", "/a?x=1;y=2&z=%zz", "/a%20b/+c", "/director/manifest", "/a%3Bb"} {
		if status, body := conn.send(t, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n"); status != 200 {
			t.Fatalf("%s: %d %s", path, status, body)
		}
		all := s.requests()
		if got := all[len(all)-1].RequestURI; got != path {
			t.Errorf("%s reached the upstream as %s", path, got)
		}
	}
	before, other := len(s.requests()), s.fleet.Device(t, "device-2")
	for _, line := range []string{"GET /x/../y", "GET /x/%2e%2e/y", "GET /..", "GET /a/./b", `GET /a/..\b`, "GET /a/..;/b", "GET /a/..%00/b", "GET /a%0d%0aX:y", "GET http://elsewhere/x", "OPTIONS *", "TRACE /", "CONNECT elsewhere:443"} {
		conn := dialRaw(t, s, other)
		before++
		if status, body := conn.send(t, line+" HTTP/1.1\r\nHost: x\r\n\r\n"); status < 400 || status >= 500 {
			t.Errorf("%s: %d %s", line, status, body)
		}
	}
	if after := len(s.requests()); after != before {
		t.Errorf("%d refused requests reached the upstream", after-before)
	}
}

// TestSmuggling: a request hidden in another's body stays there.
func TestSmuggling(t *testing.T) {
	s := newStand(t, nil)
	d := s.fleet.Device(t, "device-1")
	hidden := "GET /hidden HTTP/1.1\r\nHost: x\r\nx-ats-device-uuid: victim\r\n\r\n"
	for _, attack := range []string{
		"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden,
		"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\nContent-Length: " + fmt.Sprint(len(hidden)) + "\r\n\r\n" + hidden,
		"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\nContent-Length: 0\r\n\r\n" + hidden,
		"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\n" + hidden,
		"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\n" + hidden,
		"GET /a HTTP/1.1\r\nHost: x\r\nX: y\nz: \r\n\r\n",
		"GET /a HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
	} {
		conn := dialRaw(t, s, d)
		io.WriteString(conn, attack)
		conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		io.Copy(io.Discard, conn.in)
		conn.Close()
	}
	for _, r := range s.requests() {
		if r.Header.Get("x-ats-device-uuid") != "device-1" || r.Header.Get("Upgrade") != "" {
			t.Errorf("%s came as %q with %v", r.RequestURI, r.Header.Get("x-ats-device-uuid"), r.Header)
		}
	}
}

func TestBounds(t *testing.T) {
	s := newStand(t, func(c *gateway.Config) {
		c.Limits = gateway.LimitsConfig{BodyBytes: 1000, HeaderBytes: 4096, Stall: 500 * time.Millisecond, Connections: 1000}
		c.Upstream.Timeout = 500 * time.Millisecond
	})
	d := s.fleet.Device(t, "device-1")
	c := s.client(d, true)
	post := func(body io.Reader) int {
		resp, err := c.Post("https://"+s.addr+"/", "text/plain", body)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	if got := post(strings.NewReader(strings.Repeat("x", 1000))); got != 200 {
		t.Errorf("a body at the bound: %d", got)
	}
	if got := post(strings.NewReader(strings.Repeat("x", 1001))); got != 413 {
		t.Errorf("a body beyond the bound: %d", got)
	}
	if got := post(io.MultiReader(strings.NewReader(strings.Repeat("x", 1001)))); got != 413 {
		t.Errorf("a chunked body beyond the bound: %d", got)
	}
	s.mu.Lock()
	s.respond = func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	s.mu.Unlock()
	if status, body, err := s.get(c, "/slow"); err != nil || status != 504 {
		t.Errorf("a slow upstream: %d %s %v", status, body, err)
	}
	s.mu.Lock()
	s.respond = nil
	s.mu.Unlock()
	conn := dialRaw(t, s, d)
	if status, _ := conn.send(t, "GET / HTTP/1.1\r\nHost: x\r\nLarge: "+strings.Repeat("x", 20000)+"\r\n\r\n"); status != 431 {
		t.Errorf("large headers: %d", status)
	}
	conn = dialRaw(t, s, d)
	begun := time.Now()
	if status, body := conn.send(t, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf"); status != 408 && status != 502 && status != 504 {
		t.Errorf("a body that stands still: %d %s", status, body)
	}
	if took := time.Since(begun); took > 30*time.Second {
		t.Errorf("it stood still for %s", took)
	}
	// A body that nobody asked for, either: the server waits for it before it answers.
	for _, line := range []string{"POST /x/../y", "POST /"} {
		s.mu.Lock()
		s.respond = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }
		s.mu.Unlock()
		conn = dialBare(t, s, d)
		io.WriteString(conn, line+" HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
		conn.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := io.Copy(io.Discard, conn.in); os.IsTimeout(err) {
			t.Errorf("%s: a body that nobody read holds the connection", line)
		}
	}
	s.mu.Lock()
	s.respond = nil
	s.mu.Unlock()
	// The connection's deadlines are set anew for each request.
	conn = dialRaw(t, s, d)
	time.Sleep(700 * time.Millisecond)
	conn.again(t)
}

// TestOneDeviceManyConnections: a device does not take the places of the others.
func TestOneDeviceManyConnections(t *testing.T) {
	s := newStand(t, func(c *gateway.Config) { c.Limits.OfOneDevice = 3 })
	d := s.fleet.Device(t, "device-1")
	var open []*rawConn
	for range 3 {
		open = append(open, dialRaw(t, s, d))
	}
	before := len(s.requests())
	more := dialBare(t, s, d)
	if status, body := more.send(t, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); status != 429 {
		t.Errorf("%d %s", status, body)
	}
	more.gone(t)
	if len(s.requests()) != before {
		t.Error("the request beyond the limit reached the upstream")
	}
	open[0].again(t)
	dialRaw(t, s, s.fleet.Device(t, "device-2"))
	open[1].Close()
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if status, _ := dialBare(t, s, d).send(t, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); status == 200 {
			break
		} else if time.Now().After(end) {
			t.Fatal("a place given up is not given on")
		}
	}
}

// TestBrokenBody is the device's fault, and does not count as the upstream's.
func TestBrokenBody(t *testing.T) {
	s := newStand(t, nil)
	conn := dialRaw(t, s, s.fleet.Device(t, "device-1"))
	if status, body := conn.send(t, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"); status != 400 {
		t.Errorf("%d %s", status, body)
	}
	if !strings.Contains(s.metrics(), "hanaper_gateway_upstream_errors_total 0") || strings.Contains(s.log.String(), "level=ERROR") {
		t.Errorf("told as a fault of the upstream:\n%s", s.log)
	}
}

func TestUpstreamDown(t *testing.T) {
	s := newStand(t, func(c *gateway.Config) { c.Upstream.URL = "http://127.0.0.1:1" })
	status, body, err := s.get(s.client(s.fleet.Device(t, "device-1"), true), "/x")
	if err != nil || status != http.StatusBadGateway || !strings.Contains(s.log.String(), "the upstream did not answer") {
		t.Errorf("%d %s %v\n%s", status, body, err, s.log)
	}
}

// TestOtherClients: curl and openssl, which are not Go, get in and are turned away alike.
func TestOtherClients(t *testing.T) {
	s := newStand(t, nil)
	d := s.fleet.Device(t, "device-1")
	cert, key, root := s.write("d.pem", "CERTIFICATE", d.Cert.Raw), s.writeKey("d.key", d), filepath.Join(s.dir, "gateway.pem")
	run := func(stdin string, args ...string) (string, error) {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Stdin = strings.NewReader(stdin)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	curl := []string{"curl", "-sS", "--cacert", root, "--cert", cert, "--key", key, "https://" + s.addr + "/x"}
	openssl := []string{"openssl", "s_client", "-connect", s.addr, "-servername", "localhost", "-CAfile", root, "-cert", cert, "-key", key, "-quiet", "-verify_return_error"}
	request := "GET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
	if out, err := run("", curl...); err != nil || out != "hello device-1" {
		t.Errorf("curl: %v %s", err, out)
	}
	if out, err := run("", append(curl, "--http1.1")...); err != nil || out != "hello device-1" {
		t.Errorf("curl: %v %s", err, out)
	}
	if out, _ := run(request, openssl...); !strings.Contains(out, "hello device-1") {
		t.Errorf("openssl: %s", out)
	}
	s.trust(s.fleet.View.Revoke(s.fleet.Factory.Cert, d.Cert.SerialNumber))
	before := len(s.requests())
	if out, err := run("", curl...); err == nil || strings.Contains(out, "hello") {
		t.Errorf("curl, revoked: %v %s", err, out)
	}
	if out, _ := run(request, openssl...); strings.Contains(out, "hello") {
		t.Errorf("openssl, revoked: %s", out)
	}
	if len(s.requests()) != before {
		t.Error("a revoked device reached the upstream")
	}
}
