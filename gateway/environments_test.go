package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/gateway"
	"github.com/hanaper/hanaper/gateway/fleettest"
)

const (
	nameOfTest    = "ota.example.com"
	alsoOfTest    = "updates.example.com"
	nameOfStaging = "staging.example.com"
)

// newTwo is a stand whose gateway has two environments: "test", with the stand's fleet and upstream, and "staging" with its own.
func newTwo(t testing.TB, edit func(*gateway.Config)) (s *stand, staging *fleettest.Fleet) {
	t.Helper()
	staging = fleettest.New(t)
	staging.View.Name = "staging"
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "staging %s", r.Header.Get(gateway.DefaultIdentityHeader))
	}))
	t.Cleanup(up.Close)
	s = newStand(t, func(c *gateway.Config) {
		c.Environments = []gateway.EnvironmentConfig{
			{Name: "test", Names: []string{nameOfTest, alsoOfTest}, TLS: c.TLS, Trust: c.Trust, Upstream: c.Upstream},
			{Name: "staging", Names: []string{nameOfStaging}, TLS: c.TLS, Trust: c.Trust, Upstream: gateway.UpstreamConfig{URL: up.URL}}}
		c.Environments[1].Trust.State = "state-of-staging"
		c.Environment, c.TLS, c.Trust, c.Upstream = "", gateway.TLSConfig{}, gateway.TrustConfig{}, gateway.UpstreamConfig{}
		if edit != nil {
			edit(c)
		}
	})
	s.trust(staging.View)
	return s, staging
}

// calling is d's TLS configuration with another server name; "" sends none.
func (s *stand) calling(d *fleettest.Entity, name string) *tls.Config {
	c := s.tlsConfig(d)
	c.InsecureSkipVerify, c.ServerName = true, name
	return c
}

// ask makes one request for host on a connection to the server of this name.
func (s *stand) ask(d *fleettest.Entity, name, host string) (int, string, error) {
	conn, err := tls.Dial("tcp", s.addr, s.calling(d, name))
	if err != nil {
		return 0, "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	fmt.Fprintf(conn, "GET /x HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", host)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, "", err
	}
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

// TestEnvironments: a connection is of the environment whose server name it calls, with its roots, its upstream and no other's.
func TestEnvironments(t *testing.T) {
	s, staging := newTwo(t, nil)
	d, other := s.fleet.Device(t, "device-1"), staging.Device(t, "device-2")
	for _, c := range []struct {
		device     *fleettest.Entity
		name, host string
		want       string
	}{
		{d, nameOfTest, nameOfTest, "hello device-1"},
		{d, "OTA.Example.com", "OTA.EXAMPLE.COM:8443", "hello device-1"},
		{d, alsoOfTest, nameOfTest, "hello device-1"},
		{other, nameOfStaging, nameOfStaging + ":443", "staging device-2"},
	} {
		if status, body, err := s.ask(c.device, c.name, c.host); err != nil || status != 200 || body != c.want {
			t.Errorf("%s for %s: %d %q %v, want %q", c.name, c.host, status, body, err, c.want)
		}
	}
	asked := len(s.requests())
	known, err := s.registry.Devices(context.Background(), gateway.Filter{Limit: 10})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		device     *fleettest.Entity
		name, host string
		want       gateway.Reason
	}{
		{other, nameOfTest, nameOfTest, gateway.UnknownIssuer},
		{d, nameOfStaging, nameOfStaging, gateway.UnknownIssuer},
		{d, "", nameOfTest, gateway.NoServerName},
		{d, "elsewhere.example.com", nameOfTest, gateway.OtherServerName},
		{d, nameOfTest, nameOfStaging, gateway.OtherHost},
		{d, nameOfTest, "elsewhere.example.com", gateway.OtherHost},
		{d, nameOfTest, "127.0.0.1:8443", gateway.OtherHost},
		{d, nameOfTest, nameOfTest + ".", gateway.OtherHost},
	} {
		status, body, err := s.ask(c.device, c.name, c.host)
		if c.want == gateway.OtherHost && (status != http.StatusMisdirectedRequest || !strings.Contains(body, string(c.want))) {
			t.Errorf("%s for %s: %d %q %v, want 421", c.name, c.host, status, body, err)
		} else if c.want != gateway.OtherHost && err == nil {
			t.Errorf("%s for %s: %d %q, want %s in the handshake", c.name, c.host, status, body, c.want)
		}
		s.logged("reason=" + string(c.want))
	}
	after, err := s.registry.Devices(context.Background(), gateway.Filter{Limit: 10})
	if err != nil || len(after) != len(known) || len(s.requests()) != asked {
		t.Errorf("refusals left traces: %d requests of %d, %v", len(s.requests()), asked, after)
	}
	s.trust(s.fleet.View.Revoke(s.fleet.Factory.Cert, d.Cert.SerialNumber))
	if _, _, err := s.ask(d, nameOfTest, nameOfTest); err == nil {
		t.Error("revoked, and served")
	}
	if status, _, err := s.ask(other, nameOfStaging, nameOfStaging); err != nil || status != 200 {
		t.Errorf("the other environment's device: %d %v", status, err)
	}
}

// TestCoalescing: an HTTP/2 client that takes one connection for two names, as the certificate for both lets it, is told 421. curl judges.
func TestCoalescing(t *testing.T) {
	s, _ := newTwo(t, nil)
	d := s.fleet.Device(t, "device-1")
	cert, key := s.write("device.pem", "CERTIFICATE", d.Cert.Raw), s.writeKey("device.key", d)
	_, port, _ := net.SplitHostPort(s.addr)
	curl := func(host string) string {
		out, err := exec.Command("curl", "--http2", "-sk", "--cert", cert, "--key", key, "--resolve", nameOfTest+":"+port+":127.0.0.1", "-H", "Host: "+host,
			"-o", "/dev/null", "-w", "%{http_version} %{http_code}", "https://"+nameOfTest+":"+port+"/x").CombinedOutput()
		if err != nil {
			t.Fatalf("curl: %v %s", err, out)
		}
		return string(out)
	}
	if got := curl(alsoOfTest); got != "2 200" {
		t.Errorf("another name of the environment: %s", got)
	}
	if got := curl(nameOfStaging); got != "2 421" {
		t.Errorf("a name of the other environment: %s", got)
	}
}

// TestUnrecognizedName: openssl reads the alert that the standard has for it (RFC 6066, section 3).
func TestUnrecognizedName(t *testing.T) {
	s, _ := newTwo(t, nil)
	for _, args := range [][]string{{"-noservername"}, {"-servername", "elsewhere.example.com"}} {
		cmd := exec.Command("openssl", append([]string{"s_client", "-connect", s.addr, "-tls1_3"}, args...)...)
		cmd.Stdin = bytes.NewReader(nil)
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "unrecognized name") {
			t.Errorf("%v: %v %s", args, err, out)
		}
	}
}

// oneTicket gives its session whatever the server's name is.
type oneTicket struct{ session *tls.ClientSessionState }

func (o *oneTicket) Get(string) (*tls.ClientSessionState, bool)  { return o.session, o.session != nil }
func (o *oneTicket) Put(_ string, state *tls.ClientSessionState) { o.session = state }

// TestTicketsAndEnvironments: none are given by default; where they are, one of an environment is worth nothing in another, even if both have the same
// roots.
func TestTicketsAndEnvironments(t *testing.T) {
	for _, on := range []bool{false, true} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			s, _ := newTwo(t, func(c *gateway.Config) {
				c.SessionTickets = on
				c.Environments[0].TLS.MinVersion, c.Environments[1].TLS.MinVersion = "1.2", "1.2"
			})
			same := *s.fleet.View
			same.Name = "staging"
			s.trust(same.Revoke(s.fleet.Factory.Cert, s.fleet.Root.Cert.SerialNumber))
			d := s.fleet.Device(t, "device-1")
			cache := &oneTicket{}
			visit := func(name string) bool {
				c := s.calling(d, name)
				c.ClientSessionCache, c.MaxVersion = cache, version
				conn, err := tls.Dial("tcp", s.addr, c)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", name)
				if resp, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || resp.StatusCode != 200 {
					t.Fatal(resp, err)
				}
				return conn.ConnectionState().DidResume
			}
			visit(nameOfTest)
			if got := cache.session != nil; got != on {
				t.Errorf("%x, tickets %v: a ticket was given: %v", version, on, got)
			}
			if got := visit(nameOfTest); got != on {
				t.Errorf("%x, tickets %v: resumed: %v", version, on, got)
			}
			if visit(nameOfStaging) {
				t.Errorf("%x: a ticket was taken in another environment", version)
			}
		}
	}
}

// TestOfficersNames: a name that the officers do not know is refused at the start, and, where they say so later, to devices.
func TestOfficersNames(t *testing.T) {
	s, _ := newTwo(t, nil)
	named := func(names ...string) *fleettest.View {
		v := *s.fleet.View.Revoke(s.fleet.Factory.Cert, s.fleet.Root.Cert.SerialNumber)
		v.GatewayPolicy.GatewayNames = names
		return &v
	}
	d := s.fleet.Device(t, "device-1")
	open, err := tls.Dial("tcp", s.addr, s.calling(d, alsoOfTest))
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	raw := &rawConn{Conn: open, in: bufio.NewReader(open)}
	if status, body := raw.send(t, "GET / HTTP/1.1\r\nHost: "+alsoOfTest+"\r\n\r\n"); status != 200 {
		t.Fatal(status, body)
	}
	s.trust(named(nameOfTest))
	raw.gone(t)
	if status, _, err := s.ask(d, nameOfTest, nameOfTest); err != nil || status != 200 {
		t.Errorf("the name that is left: %d %v", status, err)
	}
	if _, _, err := s.ask(d, alsoOfTest, alsoOfTest); err == nil {
		t.Error("a name that the officers do not know is served")
	}
	if status, _, _ := s.ask(d, nameOfTest, alsoOfTest); status != http.StatusMisdirectedRequest {
		t.Errorf("as a host: %d", status)
	}
	if notes := strings.Join(s.gateway.Health().Notes, "\n"); !strings.Contains(notes, alsoOfTest) || !strings.Contains(s.log.String(), alsoOfTest) {
		t.Errorf("nobody is told: %s", notes)
	}
	s.trust(named(nameOfTest, alsoOfTest))
	if status, _, err := s.ask(d, alsoOfTest, alsoOfTest); err != nil || status != 200 {
		t.Errorf("taken back: %d %v", status, err)
	}

	late := fleettest.New(t)
	late.View.GatewayPolicy.GatewayNames = []string{nameOfTest}
	g := s.another(func(c *gateway.Config) { c.Names = []string{alsoOfTest} })
	if err := g.SetTrust(late.View); err == nil || !strings.Contains(err.Error(), alsoOfTest) {
		t.Errorf("the first view: %v", err)
	}
}

// TestOneEnvironment: a gateway of one environment takes every name, and none, unless names are known.
func TestOneEnvironment(t *testing.T) {
	for _, c := range []struct {
		what      string
		edit      func(*gateway.Config)
		officers  []string
		sni, host string
		status    int // 0: refused in the handshake
	}{
		{"no names", nil, nil, "whatever.example.com", "x", 200},
		{"no names, no SNI", nil, nil, "", "127.0.0.1:8443", 200},
		{"officers' names", nil, []string{nameOfTest}, nameOfTest, nameOfTest, 200},
		{"officers' names, another", nil, []string{nameOfTest}, alsoOfTest, nameOfTest, 0},
		{"officers' names, another host", nil, []string{nameOfTest}, nameOfTest, alsoOfTest, 421},
		{"officers' names, no SNI", nil, []string{nameOfTest}, "", "127.0.0.1:8443", 200},
		{"officers' names, no SNI, another host", nil, []string{nameOfTest}, "", alsoOfTest, 421},
		{"names, no SNI", func(c *gateway.Config) { c.Names = []string{nameOfTest} }, nil, "", nameOfTest, 0},
		{"names, no SNI, served", func(c *gateway.Config) { c.Names, c.WithoutSNI = []string{nameOfTest}, "serve" }, nil, "", nameOfTest, 200},
		{"names, no SNI, served by address", func(c *gateway.Config) { c.Names, c.WithoutSNI = []string{nameOfTest}, "serve" }, nil, "", "[::1]:8443", 200},
		{"names, SNI, by address", func(c *gateway.Config) { c.Names, c.WithoutSNI = []string{nameOfTest}, "serve" }, nil, nameOfTest, "[::1]:8443", 421},
		{"no names, no SNI, refused", func(c *gateway.Config) { c.WithoutSNI = "refuse" }, nil, "", "x", 0},
	} {
		s := newStand(t, c.edit)
		v := *s.fleet.View
		v.GatewayPolicy.GatewayNames = c.officers
		s.trust(&v)
		if c.officers != nil {
			s.trust(v.Revoke(s.fleet.Factory.Cert, s.fleet.Root.Cert.SerialNumber))
		}
		status, body, err := s.ask(s.fleet.Device(t, "device-1"), c.sni, c.host)
		if status != c.status || (err != nil) != (c.status == 0) {
			t.Errorf("%s: %d %q %v, want %d", c.what, status, body, err, c.status)
		}
	}
}

// TestEnvironmentConfigs: what several environments may not share, and what may not stand beside them.
func TestEnvironmentConfigs(t *testing.T) {
	one := func() gateway.EnvironmentConfig {
		return gateway.EnvironmentConfig{Name: "a", Names: []string{"a.example.com"}, TLS: gateway.TLSConfig{Certificate: "c", Key: "k"},
			Trust: gateway.TrustConfig{Source: "s", Root: "r", State: "a"}, Upstream: gateway.UpstreamConfig{URL: "http://127.0.0.1:1"}}
	}
	for _, c := range []struct {
		want string
		edit func(c *gateway.Config, b *gateway.EnvironmentConfig)
	}{
		{"", func(*gateway.Config, *gateway.EnvironmentConfig) {}},
		{"a stands twice", func(_ *gateway.Config, b *gateway.EnvironmentConfig) { b.Name = "a" }},
		{"names is missing", func(_ *gateway.Config, b *gateway.EnvironmentConfig) { b.Names = nil }},
		{"A.example.com stands twice", func(_ *gateway.Config, b *gateway.EnvironmentConfig) {
			b.Names = []string{"a.example.com", "A.example.com"}
		}},
		{"is a name of a and of b", func(_ *gateway.Config, b *gateway.EnvironmentConfig) { b.Names = []string{"A.EXAMPLE.com"} }},
		{"no server name", func(_ *gateway.Config, b *gateway.EnvironmentConfig) { b.Names = []string{"*.example.com"} }},
		{"no server name", func(_ *gateway.Config, b *gateway.EnvironmentConfig) { b.Names = []string{"192.0.2.1"} }},
		{"no server name", func(_ *gateway.Config, b *gateway.EnvironmentConfig) { b.Names = []string{"b.example.com:443"} }},
		{"same trust.state", func(_ *gateway.Config, b *gateway.EnvironmentConfig) { b.Trust.State = "./a" }},
		{"b: tls.key is missing", func(_ *gateway.Config, b *gateway.EnvironmentConfig) { b.TLS.Key = "" }},
		{"number 2: name is missing", func(_ *gateway.Config, b *gateway.EnvironmentConfig) { b.Name = "" }},
		{"environment stands at the top", func(c *gateway.Config, _ *gateway.EnvironmentConfig) { c.Environment = "c" }},
		{"tls stands at the top", func(c *gateway.Config, _ *gateway.EnvironmentConfig) { c.TLS.Key = "c" }},
		{"upstream stands at the top", func(c *gateway.Config, _ *gateway.EnvironmentConfig) { c.Upstream.URL = "http://127.0.0.1:1" }},
		{"without_sni is for a gateway of one", func(c *gateway.Config, _ *gateway.EnvironmentConfig) { c.WithoutSNI = "serve" }},
	} {
		a, b := one(), one()
		b.Name, b.Names, b.Trust.State = "b", []string{"b.example.com"}, "b"
		conf := gateway.Config{Listen: "127.0.0.1:0", Registry: gateway.RegistryConfig{Path: "r"}}
		c.edit(&conf, &b)
		conf.Environments = []gateway.EnvironmentConfig{a, b}
		_, err := gateway.NewSettings(conf, t.TempDir())
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
}

// TestIdsWithoutCase: two spellings of an id are one device, wherever devices are counted.
func TestIdsWithoutCase(t *testing.T) {
	s := newStand(t, func(c *gateway.Config) { c.Limits.OfOneDevice = 2 })
	key := fleettest.NewKey(t)
	spelled := func(name string) *fleettest.Entity {
		return fleettest.Issue(t, s.fleet.Factory, key, x509.Certificate{Subject: pkix.Name{CommonName: name}, KeyUsage: x509.KeyUsageDigitalSignature,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	}
	dialRaw(t, s, spelled("vin-1"))
	dialRaw(t, s, spelled("VIN-1"))
	if status, _ := dialBare(t, s, spelled("Vin-1")).send(t, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); status != http.StatusTooManyRequests {
		t.Errorf("the third connection of a device that may have two: %d", status)
	}
}

// another is a second gateway with the stand's files, which does not run.
func (s *stand) another(edit func(*gateway.Config)) *gateway.Gateway {
	s.t.Helper()
	c := gateway.Config{Listen: "127.0.0.1:0", Environment: "test", TLS: gateway.TLSConfig{Certificate: "gateway.pem", Key: "gateway.key"},
		Trust:    gateway.TrustConfig{Source: "trust", Root: "1.root.json", State: "state"},
		Registry: gateway.RegistryConfig{Path: "devices.db"}, Upstream: gateway.UpstreamConfig{URL: "http://127.0.0.1:1"}}
	edit(&c)
	settings, err := gateway.NewSettings(c, s.dir)
	if err != nil {
		s.t.Fatal(err)
	}
	g, err := gateway.NewGateway(settings, s.registry, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return g
}
