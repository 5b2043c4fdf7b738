package gateway_test

import (
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hanaper/hanaper/gateway"
)

// backOffice stands where hanaperd does, and keeps what reaches it. What hanaperd itself makes of it is tested in cmd/hanaperd.
type backOffice struct {
	*httptest.Server
	mu      sync.Mutex
	seen    []*http.Request
	bodies  []string
	peer    []byte
	respond http.HandlerFunc
}

func newBackOffice(t *testing.T) *backOffice {
	b := &backOffice{}
	b.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		b.mu.Lock()
		b.seen, b.bodies, b.peer = append(b.seen, r), append(b.bodies, string(body)), r.TLS.PeerCertificates[0].Raw
		respond := b.respond
		b.mu.Unlock()
		if respond != nil {
			respond(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/pkcs7-mime; smime-type=certs-only")
		w.Header().Set("Set-Cookie", "a=b")
		fmt.Fprint(w, "renewed")
	}))
	b.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	b.StartTLS()
	t.Cleanup(b.Close)
	return b
}

func (b *backOffice) requests(path string) (list []*http.Request, bodies []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, r := range b.seen {
		if r.URL.Path == path {
			list, bodies = append(list, r), append(bodies, b.bodies[i])
		}
	}
	return list, bodies
}

func renewingStand(t *testing.T) (*stand, *backOffice) {
	b := newBackOffice(t)
	ca := filepath.Join(t.TempDir(), "hanaperd.pem")
	writePEM(t, ca, b.Certificate().Raw)
	return newStand(t, func(c *gateway.Config) {
		c.Renewal = gateway.RenewalConfig{URL: b.URL, CA: ca, Certificate: "gateway.pem", Key: "gateway.key"}
	}), b
}

const reenroll = "/.well-known/est/simplereenroll"

// TestRenewalRoute: of a device's request hanaperd gets the body, and the certificate whose key the device has proven; nothing else that it
// sends, in whatever spelling.
func TestRenewalRoute(t *testing.T) {
	s, b := renewingStand(t)
	d := s.fleet.Device(t, "device-1")
	conn := dialRaw(t, s, d)
	status, answer := conn.send(t, "POST "+reenroll+" HTTP/1.1\r\nHost: x\r\nContent-Type: application/pkcs10\r\nContent-Length: 4\r\n"+
		"Client-Cert: :dmljdGlt:\r\nclient_cert: :dmljdGlt:\r\nClient.Cert: :dmljdGlt:\r\nClient-Cert-Chain: :dmljdGlt:\r\nConnection: Client-Cert\r\nX-Victim: victim\r\nCookie: victim\r\nAuthorization: victim\r\n\r\nMIIB")
	if status != 200 || answer != "renewed" {
		t.Fatalf("%d %q", status, answer)
	}
	seen, bodies := b.requests(reenroll)
	if len(seen) != 1 || bodies[0] != "MIIB" || string(b.peer) != string(s.server.Cert.Raw) {
		t.Fatalf("%d requests, %q", len(seen), bodies)
	}
	want := ":" + base64.StdEncoding.EncodeToString(d.Cert.Raw) + ":"
	if got := seen[0].Header.Values("Client-Cert"); len(got) != 1 || got[0] != want {
		t.Errorf("Client-Cert is %q", got)
	}
	if said := fmt.Sprint(seen[0].Header); strings.Contains(said, "ictim") || strings.Contains(said, "dmljdGlt") || len(seen[0].Header) > 6 {
		t.Errorf("hanaperd got %s", said)
	}
	// The same header does not reach the other upstream either.
	if status, _ := conn.send(t, "GET /x HTTP/1.1\r\nHost: x\r\nClient-Cert: :dmljdGlt:\r\nclient_cert_chain: :dmljdGlt:\r\n\r\n"); status != 200 {
		t.Fatal(status)
	}
	all := s.requests()
	if said := fmt.Sprint(all[len(all)-1].Header); strings.Contains(said, "dmljdGlt") {
		t.Errorf("the upstream got %s", said)
	}
	if len(all) != 2 { // that of dialRaw, and /x
		t.Errorf("%d requests reached the other upstream", len(all))
	}
}

// TestRenewalRouteIsNarrow: a device reaches three calls of hanaperd, and none of them with more than EST has.
func TestRenewalRouteIsNarrow(t *testing.T) {
	s, b := renewingStand(t)
	d := s.fleet.Device(t, "device-1")
	type tried struct {
		line, kind, body string
		want             int
	}
	for _, c := range []tried{
		{"POST /.well-known/est/simpleenroll", "application/pkcs10", "MIIB", 404},
		{"POST /.well-known/est/serverkeygen", "application/pkcs10", "MIIB", 404},
		{"POST /.well-known/est/fullcmc", "application/pkcs7-mime", "MIIB", 404},
		{"POST /.well-known/est/lot-1/simplereenroll", "application/pkcs10", "MIIB", 404},
		{"POST /.well-known/est/simplereenroll/", "application/pkcs10", "MIIB", 404},
		{"POST /.well-known/%65st/simplereenroll", "application/pkcs10", "MIIB", 400},
		{"POST /.well-known/est//simplereenroll", "application/pkcs10", "MIIB", 404},
		{"POST /.well-known/est%2fsimplereenroll", "application/pkcs10", "MIIB", 400},
		{"POST /.well-known/est/simplereenroll?x=1", "application/pkcs10", "MIIB", 404},
		{"POST /.well-known/est/simplereenroll?", "application/pkcs10", "MIIB", 404},
		{"POST /.well-known/est/v1/revoke", "application/json", "{}", 404},
		{"GET /.well-known/est", "", "", 404},
		{"GET /.well-known/est/simplereenroll", "", "", 405},
		{"DELETE /.well-known/est/simplereenroll", "", "", 405},
		{"POST /.well-known/est/cacerts", "application/pkcs10", "MIIB", 405},
		{"GET /.well-known/est/cacerts", "application/pkcs10", "MIIB", 400},
		{"POST /.well-known/est/simplereenroll", "application/json", "{}", 415},
		{"POST /.well-known/est/simplereenroll", "application/pkcs10\r\nContent-Type: text/plain", "MIIB", 415},
		{"POST /.well-known/est/simplereenroll", "", "MIIB", 415},
		{"POST /.well-known/est/simplereenroll", "application/pkcs10", strings.Repeat("M", 32<<10+1), 413},
		{"POST /.well-known/est/../../v1/revoke", "application/json", "{}", 400},
	} {
		conn := dialRaw(t, s, d)
		kind := ""
		if c.kind != "" {
			kind = "Content-Type: " + c.kind + "\r\n"
		}
		status, answer := conn.send(t, fmt.Sprintf("%s HTTP/1.1\r\nHost: x\r\n%sContent-Length: %d\r\n\r\n%s", c.line, kind, len(c.body), c.body))
		if status != c.want {
			t.Errorf("%s %s: %d %s, want %d", c.line, c.kind, status, answer, c.want)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range b.seen {
		if r.URL.Path != "/v1/renewal/seen" { // the gateway's own
			t.Errorf("%s %s reached hanaperd", r.Method, r.URL)
		}
	}
	for _, r := range s.requests() {
		if r.URL.Path != "/" {
			t.Errorf("%s %s reached the other upstream", r.Method, r.URL)
		}
	}
}

// TestRenewalAnswers: what hanaperd says to the device gets there; what it says to the gateway, or what no hanaperd says, does not.
func TestRenewalAnswers(t *testing.T) {
	s, b := renewingStand(t)
	conn := dialRaw(t, s, s.fleet.Device(t, "device-1"))
	for _, c := range []struct {
		status, want int
		passes       bool
	}{{200, 200, true}, {202, 202, true}, {409, 409, true}, {422, 422, true}, {503, 503, true}, {401, 503, false}, {403, 503, false}, {302, 503, false}} {
		b.mu.Lock()
		b.respond = func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "/v1/revoke")
			w.Header().Set("Retry-After", "77")
			w.Header().Set("X-Secret", "of hanaperd")
			w.WriteHeader(c.status)
			fmt.Fprint(w, "words of hanaperd")
		}
		b.mu.Unlock()
		status, answer := conn.send(t, "POST "+reenroll+" HTTP/1.1\r\nHost: x\r\nContent-Type: application/pkcs10\r\nContent-Length: 4\r\n\r\nMIIB")
		if status != c.want || strings.Contains(answer, "words of hanaperd") != c.passes {
			t.Errorf("%d: %d %q", c.status, status, answer)
		}
	}
	if list, _ := b.requests("/v1/revoke"); len(list) != 0 {
		t.Error("a redirection was followed")
	}
	b.CloseClientConnections()
	b.Close()
	if status, answer := conn.send(t, "POST "+reenroll+" HTTP/1.1\r\nHost: x\r\nContent-Type: application/pkcs10\r\nContent-Length: 4\r\n\r\nMIIB"); status != 503 || !strings.Contains(answer, "renewal") {
		t.Errorf("hanaperd is away: %d %s", status, answer)
	}
	if status, _ := conn.send(t, "GET /x HTTP/1.1\r\nHost: x\r\n\r\n"); status != 200 {
		t.Error("the other upstream suffers from it")
	}
}

// TestRenewedCertificatesAreTold: hanaperd hears of each certificate that a device came with, once, and again while it is away.
func TestRenewedCertificatesAreTold(t *testing.T) {
	s, b := renewingStand(t)
	d := s.fleet.Device(t, "device-1")
	for range 3 {
		s.wellServed(s.client(d, true), d)
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		list, bodies := b.requests("/v1/renewal/seen")
		if len(list) == 0 {
			if time.Now().After(end) {
				t.Fatal("hanaperd was not told")
			}
			continue
		}
		var q struct{ Certificates string }
		if err := json.Unmarshal([]byte(bodies[0]), &q); err != nil || len(list) != 1 || list[0].Header.Get("Client-Cert") != "" {
			t.Fatalf("%v %d", err, len(list))
		}
		block, rest := pem.Decode([]byte(q.Certificates))
		if block == nil || string(block.Bytes) != string(d.Cert.Raw) || len(rest) != 0 {
			t.Errorf("hanaperd was told %s", q.Certificates)
		}
		return
	}
}

// TestRenewalConfig: a gateway says who it is, and knows whom it asks, whatever the address.
func TestRenewalConfig(t *testing.T) {
	good := gateway.RenewalConfig{URL: "https://127.0.0.1:1", CA: "ca.pem", Certificate: "c.pem", Key: "c.key"}
	for name, edit := range map[string]func(*gateway.RenewalConfig){
		"http":           func(r *gateway.RenewalConfig) { r.URL = "http://127.0.0.1:1" },
		"path":           func(r *gateway.RenewalConfig) { r.URL += "/v1" },
		"no ca":          func(r *gateway.RenewalConfig) { r.CA = "" },
		"no certificate": func(r *gateway.RenewalConfig) { r.Certificate = "" },
		"no key":         func(r *gateway.RenewalConfig) { r.Key = "" },
		"no url":         func(r *gateway.RenewalConfig) { r.URL = "" },
		"timeout":        func(r *gateway.RenewalConfig) { r.Timeout = -1 },
	} {
		c := gateway.Config{Listen: "127.0.0.1:0", Environment: "test", TLS: gateway.TLSConfig{Certificate: "a", Key: "b"}, Trust: gateway.TrustConfig{Source: "t", Root: "r", State: "s"},
			Registry: gateway.RegistryConfig{Path: "d"}, Upstream: gateway.UpstreamConfig{URL: "http://127.0.0.1:1"}, Renewal: good}
		if _, err := gateway.NewSettings(c, t.TempDir()); err != nil {
			t.Fatal(err)
		}
		edit(&c.Renewal)
		if _, err := gateway.NewSettings(c, t.TempDir()); err == nil || !strings.Contains(err.Error(), "renewal") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
