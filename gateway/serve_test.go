package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"github.com/hanaper/hanaper/gateway"
	"github.com/hanaper/hanaper/gateway/fleettest"
	"github.com/hanaper/hanaper/gateway/registry/sqlite"
)

// stand is a gateway that runs, with a real registry, an upstream that tells what it got, and a client's view of it.
type stand struct {
	t        testing.TB
	fleet    *fleettest.Fleet
	server   *fleettest.Entity
	gateway  *gateway.Gateway
	registry *sqlite.Registry
	addr     string
	admin    string
	dir      string
	log      *logBuffer

	mu   sync.Mutex
	seen []*http.Request
	body []string
	// respond, if set, answers in the upstream's place.
	respond http.HandlerFunc
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newStand(t testing.TB, edit func(*gateway.Config)) *stand {
	t.Helper()
	return newStandBehind(t, func(l net.Listener) net.Listener { return l }, edit)
}

// newStandBehind is newStand whose devices come through another listener before the one that is listened at.
func newStandBehind(t testing.TB, through func(net.Listener) net.Listener, edit func(*gateway.Config)) *stand {
	t.Helper()
	s := &stand{t: t, fleet: fleettest.New(t), dir: t.TempDir(), log: &logBuffer{}}
	s.server = fleettest.Issue(t, nil, fleettest.NewKey(t), x509.Certificate{Subject: pkix.Name{CommonName: "gateway"}, DNSNames: []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	s.write("gateway.pem", "CERTIFICATE", s.server.Cert.Raw)
	s.writeKey("gateway.key", s.server)
	up := httptest.NewServer(http.HandlerFunc(s.upstream))
	t.Cleanup(up.Close)
	c := gateway.Config{Listen: "127.0.0.1:0", Environment: "test", TLS: gateway.TLSConfig{Certificate: "gateway.pem", Key: "gateway.key"},
		Trust:    gateway.TrustConfig{Source: "trust", Root: "1.root.json", State: "state"},
		Registry: gateway.RegistryConfig{Path: "devices.db"}, Upstream: gateway.UpstreamConfig{URL: up.URL}}
	if edit != nil {
		edit(&c)
	}
	settings, err := gateway.NewSettings(c, s.dir)
	if err != nil {
		t.Fatal(err)
	}
	if s.registry, err = sqlite.Open(sqlite.Config{Path: settings.Registry().Path}); err != nil {
		t.Fatal(err)
	}
	if s.gateway, err = gateway.NewGateway(settings, s.registry, slog.New(slog.NewTextHandler(s.log, nil)), nil); err != nil {
		t.Fatal(err)
	}
	listen := func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	devices, admin := listen(), listen()
	s.addr, s.admin = devices.Addr().String(), admin.Addr().String()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	devices = through(devices)
	go func() { ended <- s.gateway.Serve(ctx, devices, admin) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if err := s.registry.Close(); err != nil {
			t.Errorf("registry: %v", err)
		}
	})
	s.trust(s.fleet.View)
	return s
}

func (s *stand) trust(v *fleettest.View) {
	s.t.Helper()
	if err := s.gateway.SetTrust(v); err != nil {
		s.t.Fatal(err)
	}
}

func (s *stand) write(name, kind string, der []byte) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

func (s *stand) writeKey(name string, e *fleettest.Entity) string {
	s.t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(e.Key)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.write(name, "PRIVATE KEY", der)
}

func (s *stand) upstream(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	s.mu.Lock()
	s.seen, s.body = append(s.seen, r), append(s.body, string(body))
	respond := s.respond
	s.mu.Unlock()
	if respond != nil {
		respond(w, r)
		return
	}
	fmt.Fprintf(w, "hello %s", r.Header.Get(gateway.DefaultIdentityHeader))
}

// requests are what the upstream has got so far.
func (s *stand) requests() []*http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*http.Request{}, s.seen...)
}

func (s *stand) tlsConfig(d *fleettest.Entity) *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(s.server.Cert)
	c := &tls.Config{RootCAs: roots, ServerName: "localhost"}
	if d != nil {
		c.Certificates = []tls.Certificate{{Certificate: [][]byte{d.Cert.Raw}, PrivateKey: d.Key}}
	}
	return c
}

func (s *stand) client(d *fleettest.Entity, h2 bool) *http.Client {
	tr := &http.Transport{TLSClientConfig: s.tlsConfig(d), ForceAttemptHTTP2: h2}
	s.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 10 * time.Second}
}

func (s *stand) get(c *http.Client, path string) (int, string, error) {
	resp, err := c.Get("https://" + s.addr + path)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

// wellServed asserts that the device gets through; refused that it does not, for the reason, and that the upstream has
// not heard of it.
func (s *stand) wellServed(c *http.Client, d *fleettest.Entity) {
	s.t.Helper()
	status, body, err := s.get(c, "/x")
	if want := "hello " + d.Cert.Subject.CommonName; err != nil || status != 200 || body != want {
		s.t.Fatalf("%d %q %v, want %q", status, body, err, want)
	}
}

func (s *stand) refused(c *http.Client, want gateway.Reason) {
	s.t.Helper()
	before := len(s.requests())
	status, body, err := s.get(c, "/x")
	if err == nil && (status < 400 || !strings.Contains(body, string(want))) {
		s.t.Errorf("%d %q, want a refusal: %s", status, body, want)
	}
	s.logged("reason=" + string(want))
	if after := len(s.requests()); after != before {
		s.t.Errorf("the upstream got a request of a refused device")
	}
}

// logged waits for text in the log: a line about a handshake comes when the peer has had its alert.
func (s *stand) logged(text string) {
	s.t.Helper()
	for end := time.Now().Add(time.Minute); !strings.Contains(s.log.String(), text); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("the log does not say %s:\n%s", text, s.log)
		}
	}
}

func TestServe(t *testing.T) {
	s := newStand(t, nil)
	d := s.fleet.Device(t, "device-1")
	for _, h2 := range []bool{false, true} {
		s.wellServed(s.client(d, h2), d)
	}
	reg, err := s.registry.Device(context.Background(), "test", "device-1")
	if err != nil || len(reg.Certificates) != 1 {
		t.Errorf("%+v, %v", reg, err)
	}
	if n := strings.Count(s.log.String(), "first contact"); n != 1 {
		t.Errorf("%d first contacts logged, want 1", n)
	}
}

func TestRefusedInTheHandshake(t *testing.T) {
	s := newStand(t, nil)
	other := fleettest.New(t)
	d := s.fleet.Device(t, "device-1")
	s.refused(s.client(other.Device(t, "device-1"), true), gateway.UnknownIssuer)
	s.trust(s.fleet.View.Revoke(s.fleet.Factory.Cert, d.Cert.SerialNumber))
	s.refused(s.client(d, true), gateway.Revoked)
	if _, _, err := s.get(s.client(nil, true), "/"); err == nil {
		t.Error("served without a certificate")
	}
	tooOld := s.tlsConfig(d)
	tooOld.MaxVersion = tls.VersionTLS12
	if c, err := tls.Dial("tcp", s.addr, tooOld); err == nil {
		c.Close()
		t.Error("TLS 1.2 was spoken")
	}
	list, err := s.registry.Devices(context.Background(), gateway.Filter{Limit: 10})
	if err != nil || len(list) != 0 {
		t.Errorf("refused devices were registered: %v %v", list, err)
	}
}

// TestStolenCertificate: the certificate without its key leaves no trace but a refused handshake.
func TestStolenCertificate(t *testing.T) {
	s := newStand(t, nil)
	d := s.fleet.Device(t, "victim")
	if _, _, err := s.get(s.client(&fleettest.Entity{Cert: d.Cert, Key: fleettest.NewKey(t)}, true), "/x"); err == nil {
		t.Error("served with a stolen certificate")
	}
	if list, err := s.registry.Devices(context.Background(), gateway.Filter{Limit: 10}); err != nil || len(list) != 0 {
		t.Errorf("registered: %v %v", list, err)
	}
	if len(s.requests()) != 0 || strings.Contains(s.log.String(), "first contact") {
		t.Error("it left a trace")
	}
	if m := s.metrics(); !strings.Contains(m, "hanaper_gateway_handshakes_total 0") {
		t.Errorf("it was counted:\n%s", m)
	}
}

// TestHandshakeLog: what crypto/tls refuses by itself gets a line with a reason, and every line the peer's address.
func TestHandshakeLog(t *testing.T) {
	s := newStand(t, nil)
	d := s.fleet.Device(t, "victim")
	for _, c := range []struct {
		cert   [][]byte
		reason gateway.Reason
	}{
		{nil, gateway.NoCertificate},
		{[][]byte{{0x30, 0x03, 0x02, 0x01, 0x01}}, gateway.BadCertificate},
		{[][]byte{d.Cert.Raw}, gateway.NotProven},
		{[][]byte{fleettest.New(t).Device(t, "x").Cert.Raw}, gateway.UnknownIssuer},
	} {
		config := s.tlsConfig(nil)
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &tls.Certificate{Certificate: c.cert, PrivateKey: fleettest.NewKey(t)}, nil
		}
		conn, err := tls.Dial("tcp", s.addr, config)
		if err != nil {
			t.Fatal(err) // in TLS 1.3 the refusal comes after the client's side is done
		}
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Errorf("%s: not refused", c.reason)
		}
		line := regexp.MustCompile("msg=refused reason=" + string(c.reason) + ".*key_proven=false.*peer=" + regexp.QuoteMeta(conn.LocalAddr().String()))
		conn.Close()
		for end := time.Now().Add(time.Minute); !line.MatchString(s.log.String()); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("no line for %s with the peer:\n%s", c.reason, s.log)
			}
		}
		if !strings.Contains(s.metrics(), fmt.Sprintf(`{reason=%q,stage="handshake"} 1`, string(c.reason))) {
			t.Errorf("%s was not counted", c.reason)
		}
	}
}

// TestRefusalLinesAreBounded: whoever has no key of ours chooses neither how long a line is nor what it does to a terminal.
func TestRefusalLinesAreBounded(t *testing.T) {
	s := newStand(t, nil)
	strange := fleettest.CATemplate("strange")
	strange.Subject.Organization = []string{strings.Repeat("\x1b[2J\nmsg=refused ", 500)}
	ca := fleettest.Issue(t, nil, fleettest.NewKey(t), strange)
	d := fleettest.Issue(t, ca, fleettest.NewKey(t), fleettest.DeviceTemplate("x"))
	uri := fleettest.DeviceTemplate("x")
	uri.URIs = []*url.URL{{Scheme: "urn", Opaque: strings.Repeat("a", 10000)}}
	e := fleettest.Issue(t, s.fleet.Factory, fleettest.NewKey(t), uri)
	for _, raw := range [][]byte{d.Cert.Raw, bytes.Replace(e.Cert.Raw, []byte("urn:aaaa"), []byte(" %%:aaaa"), 1)} {
		config := s.tlsConfig(nil)
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: d.Key}, nil
		}
		conn, err := tls.Dial("tcp", s.addr, config)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, conn)
		conn.Close()
	}
	var lines []string
	for end := time.Now().Add(time.Minute); len(lines) < 2; time.Sleep(10 * time.Millisecond) {
		if lines = regexp.MustCompile("(?m)^.*msg=refused reason.*$").FindAllString(s.log.String(), -1); time.Now().After(end) {
			t.Fatalf("%d lines", len(lines))
		}
	}
	for _, line := range lines {
		if len(line) > 8<<10 || strings.ContainsFunc(line, unicode.IsControl) {
			t.Errorf("%d bytes: %.200q", len(line), line)
		}
	}
}

func (s *stand) metrics() string {
	resp, err := http.Get("http://" + s.admin + "/metrics")
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return string(b)
}

// TestResumption: a device that is revoked cannot come back by a session ticket, which spares it the handshake in which
// certificates are shown.
func TestResumption(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS13, tls.VersionTLS12} {
		s := newStand(t, func(c *gateway.Config) { c.TLS.MinVersion, c.SessionTickets = "1.2", true })
		d := s.fleet.Device(t, "device-1")
		c := s.tlsConfig(d)
		c.ClientSessionCache, c.MaxVersion = tls.NewLRUClientSessionCache(1), version
		once := func() (resumed bool, err error) {
			conn, err := tls.Dial("tcp", s.addr, c)
			if err != nil {
				return false, err
			}
			defer conn.Close()
			fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				return conn.ConnectionState().DidResume, err
			}
			body, err := io.ReadAll(resp.Body)
			if resp.StatusCode != 200 {
				err = fmt.Errorf("%s %s", resp.Status, body)
			}
			return conn.ConnectionState().DidResume, err
		}
		if _, err := once(); err != nil {
			t.Fatal(err)
		}
		if resumed, err := once(); err != nil || !resumed {
			t.Fatalf("resumed %v, %v: the test needs resumption", resumed, err)
		}
		before := len(s.requests())
		s.trust(s.fleet.View.Revoke(s.fleet.Factory.Cert, d.Cert.SerialNumber))
		if _, err := once(); err == nil {
			t.Error("a revoked device resumed its session")
		}
		s.logged("reason=revoked")
		if len(s.requests()) != before {
			t.Error("the refusal is not clean")
		}
	}
}

// TestNewTrustOnOpenConnections: idle ones are closed at once, requests under way are cut, the others live on.
func TestNewTrustOnOpenConnections(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		s := newStand(t, nil)
		lost, kept := s.fleet.Device(t, "lost"), s.fleet.Device(t, "kept")
		idle := dialRaw(t, s, lost)
		idleKept := dialRaw(t, s, kept)
		c := s.client(lost, h2)
		s.wellServed(c, lost)
		hold := make(chan struct{})
		entered := make(chan struct{})
		s.mu.Lock()
		s.respond = func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(200)
			w.(http.Flusher).Flush()
			close(entered)
			select {
			case <-hold:
			case <-r.Context().Done():
			}
		}
		s.mu.Unlock()
		cut := make(chan error, 1)
		go func() { _, _, err := s.get(c, "/long"); cut <- err }()
		<-entered
		s.mu.Lock()
		s.respond = nil
		s.mu.Unlock()
		s.trust(s.fleet.View.Revoke(s.fleet.Factory.Cert, lost.Cert.SerialNumber))
		select {
		case err := <-cut:
			if err == nil {
				t.Error("a revoked device's download went on to its end")
			}
		case <-time.After(time.Minute):
			t.Error("a revoked device's download goes on")
		}
		close(hold)
		idle.gone(t)
		idleKept.again(t)
		s.refused(c, gateway.Revoked)
	}
}

// rawConn is one HTTP/1.1 connection, kept open.
type rawConn struct {
	*tls.Conn
	in *bufio.Reader
}

func dialRaw(t testing.TB, s *stand, d *fleettest.Entity) *rawConn {
	t.Helper()
	r := dialBare(t, s, d)
	r.again(t)
	return r
}

// dialBare has made no request yet.
func dialBare(t testing.TB, s *stand, d *fleettest.Entity) *rawConn {
	t.Helper()
	conn, err := tls.Dial("tcp", s.addr, s.tlsConfig(d))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &rawConn{Conn: conn, in: bufio.NewReader(conn)}
}

func (r *rawConn) again(t testing.TB) {
	t.Helper()
	if status, body := r.send(t, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
}

func (r *rawConn) send(t testing.TB, request string) (int, string) {
	t.Helper()
	if _, err := io.WriteString(r, request); err != nil {
		t.Fatal(err)
	}
	r.SetReadDeadline(time.Now().Add(time.Minute))
	resp, err := http.ReadResponse(r.in, nil)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body)
}

func (r *rawConn) gone(t testing.TB) {
	t.Helper()
	r.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := r.in.ReadByte(); err == nil || os.IsTimeout(err) {
		t.Errorf("the idle connection is open still: %v", err)
	}
}

// act does an operator's act.
func (s *stand) act(verb gateway.Verb, device string) error {
	return s.registry.Do(context.Background(), gateway.Act{Verb: verb, Environment: "test", Device: device, By: gateway.By{Who: "olga", Why: "a test", At: time.Now()}})
}

func TestBlockedDevice(t *testing.T) {
	s := newStand(t, nil)
	d := s.fleet.Device(t, "device-1")
	conn := dialRaw(t, s, d)
	if err := s.act(gateway.Block, "device-1"); err != nil {
		t.Fatal(err)
	}
	conn.gone(t)
	s.refused(s.client(d, true), gateway.DeviceBlocked)
	if err := s.act(gateway.Forget, "device-1"); err != nil {
		t.Fatal(err)
	}
	s.wellServed(s.client(d, true), d)
}

// TestRegistryFileGone: an operator's deletion would go into another file than the one in use, so nobody is served.
func TestRegistryFileGone(t *testing.T) {
	s := newStand(t, nil)
	d := s.fleet.Device(t, "device-1")
	conn := dialRaw(t, s, d)
	path := filepath.Join(s.dir, "devices.db")
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	conn.gone(t)
	s.refused(s.client(d, true), gateway.RegistryDown)
	resp, err := http.Get("http://" + s.admin + "/healthz")
	if err != nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("healthz: %v %v", resp, err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	time.Sleep(700 * time.Millisecond)
	s.refused(s.client(d, true), gateway.RegistryDown)
	if err := os.Rename(path+".away", path); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); s.registry.Err() != nil && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	s.wellServed(s.client(d, true), d)
}

func TestExpiringTrust(t *testing.T) {
	s := newStand(t, nil)
	d := s.fleet.Device(t, "device-1")
	conn := dialRaw(t, s, d)
	start := time.Now()
	conn.again(t)
	short := *s.fleet.View
	short.ExpiresAt = time.Now().Add(time.Second + 20*time.Since(start)) // a busy machine has time for the next request too
	s.trust(&short)
	conn.again(t)
	time.Sleep(time.Until(short.ExpiresAt) + 100*time.Millisecond)
	if status, body := conn.send(t, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); status != http.StatusServiceUnavailable || !strings.Contains(body, string(gateway.TrustExpired)) {
		t.Errorf("%d %s", status, body)
	}
	conn.gone(t)
	s.refused(s.client(d, true), gateway.TrustExpired)
	resp, err := http.Get("http://" + s.admin + "/healthz")
	if err != nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("healthz: %v %v", resp, err)
	}
	resp.Body.Close()
}

func TestOtherEnvironment(t *testing.T) {
	s := newStand(t, func(c *gateway.Config) { c.Environment = "test" })
	if err := s.gateway.SetTrust(otherEnvironment{s.fleet.View}); err == nil || !strings.Contains(err.Error(), "environment") {
		t.Errorf("%v", err)
	}
	d := s.fleet.Device(t, "device-1")
	s.wellServed(s.client(d, true), d)
}

type otherEnvironment struct{ *fleettest.View }

func (otherEnvironment) Environment() string { return "staging" }

func TestRacingFirstContacts(t *testing.T) {
	s := newStand(t, nil)
	d := s.fleet.Device(t, "device-1")
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			if status, body, err := s.get(s.client(d, false), "/"); err != nil || status != 200 {
				t.Errorf("%d %s %v", status, body, err)
			}
		})
	}
	all.Wait()
	if n := strings.Count(s.log.String(), "first contact"); n != 1 {
		t.Errorf("%d first contacts, want 1", n)
	}
}

func TestTLSFilesReplaced(t *testing.T) {
	s := newStand(t, nil)
	d := s.fleet.Device(t, "device-1")
	s.wellServed(s.client(d, true), d)
	key := filepath.Join(s.dir, "gateway.key")
	if err := os.Chmod(key, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := s.gateway.Reload(); err == nil || !strings.Contains(err.Error(), "0644") {
		t.Errorf("a key that others may read: %v", err)
	}
	s.wellServed(s.client(d, true), d)
	if err := os.Chmod(key, 0o600); err != nil {
		t.Fatal(err)
	}
	second := fleettest.Issue(t, s.server, fleettest.NewKey(t), x509.Certificate{Subject: pkix.Name{CommonName: "second"}, DNSNames: []string{"localhost"},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	s.write("gateway.pem", "CERTIFICATE", second.Cert.Raw)
	if err := s.gateway.Reload(); err == nil {
		t.Error("a certificate with another's key was taken")
	}
	s.writeKey("gateway.key", second)
	if err := s.gateway.Reload(); err != nil {
		t.Fatal(err)
	}
	conn, err := tls.Dial("tcp", s.addr, s.tlsConfig(d))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := conn.ConnectionState().PeerCertificates[0].Subject.CommonName; got != "second" {
		t.Errorf("the gateway shows %q", got)
	}
}
