package gateway_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/gateway"
	"github.com/hanaper/hanaper/gateway/fleettest"
	"github.com/hanaper/hanaper/trust"
)

var (
	oidShared = asn1.ObjectIdentifier{1, 2, 840, 113556, 1, 8000, 2554, 52344, 6121, 26807, 19576, 32932, 5102531, 13969508, 1}
	oidBench  = asn1.ObjectIdentifier{1, 2, 840, 113556, 1, 8000, 2554, 52344, 6121, 26807, 19576, 32932, 5102531, 13969508, 2}
)

func usedFor(name string, clientAuth bool, oids ...asn1.ObjectIdentifier) x509.Certificate {
	c := fleettest.DeviceTemplate(name)
	c.UnknownExtKeyUsage = oids
	if !clientAuth {
		c.ExtKeyUsage = nil
	}
	return c
}

// sharing is the fleet's view, in an environment whose officers allow shared credentials of its factory.
func sharing(f *fleettest.Fleet, edit func(*trust.Policy)) *fleettest.View {
	v := *f.View
	v.GatewayPolicy.Stage = trust.Development
	v.GatewayPolicy.SharedCredentials = &trust.SharedCredentials{CA: trust.IssuerID(f.Factory.Cert).String(), Until: fleettest.Time.Add(30 * time.Minute)}
	if edit != nil {
		edit(&v.GatewayPolicy)
	}
	v.Print = sha256.Sum256(fmt.Append(nil, v.GatewayPolicy.Stage, v.GatewayPolicy.SharedCredentials))
	return &v
}

// TestSharedAdmission: certificates with these marks are refused under every policy but the one that allows them, of this CA and until then.
func TestSharedAdmission(t *testing.T) {
	f := fleettest.New(t)
	policies := map[string]func(*trust.Policy){
		"production": func(p *trust.Policy) { p.Stage, p.SharedCredentials = "", nil },
		// No such policy can be built; a gateway does not rely on that.
		"production that allows them":     func(p *trust.Policy) { p.Stage = "production" },
		"of no stage":                     func(p *trust.Policy) { p.Stage = "" },
		"development without the leave":   func(p *trust.Policy) { p.SharedCredentials = nil },
		"development, of another CA":      func(p *trust.Policy) { p.SharedCredentials.CA = trust.IssuerID(f.Root.Cert).String() },
		"development, until a moment ago": func(p *trust.Policy) { p.SharedCredentials.Until = fleettest.Time },
	}
	issue := func(parent *fleettest.Entity, c x509.Certificate) []*x509.Certificate {
		return []*x509.Certificate{fleettest.Issue(t, parent, fleettest.NewKey(t), c).Cert}
	}
	credential, bench := issue(f.Factory, usedFor("shared-1", false, oidShared)), issue(f.Factory, usedFor("bench-1", true, oidBench))
	for name, edit := range policies {
		for _, chain := range [][]*x509.Certificate{credential, bench} {
			if d := gateway.Admit(sharing(f, edit), chain, fleettest.Time); d.Reason != gateway.NotShared {
				t.Errorf("%s, %s: %+v", name, chain[0].Subject, d)
			}
		}
	}
	allowed := sharing(f, nil)
	for mark, chain := range map[gateway.Mark][]*x509.Certificate{gateway.SharedCredential: credential, gateway.TestBench: bench} {
		d := gateway.Admit(allowed, chain, fleettest.Time)
		if !d.Admitted() || d.Mark != mark || !d.Until.Equal(allowed.GatewayPolicy.SharedCredentials.Until) {
			t.Errorf("%s: %+v", mark, d)
		}
		if d := gateway.Admit(allowed.Revoke(f.Factory.Cert, chain[0].SerialNumber), chain, fleettest.Time); d.Reason != gateway.Revoked {
			t.Errorf("%s, revoked: %+v", mark, d)
		}
	}
	for name, c := range map[string]struct {
		chain []*x509.Certificate
		want  gateway.Reason
	}{
		"a credential that is a device too": {issue(f.Factory, usedFor("shared-1", true, oidShared)), gateway.BadExtKeyUsage},
		"both marks":                        {issue(f.Factory, usedFor("shared-1", false, oidShared, oidBench)), gateway.BadExtKeyUsage},
		"a bench that is no client":         {issue(f.Factory, usedFor("bench-1", false, oidBench)), gateway.BadExtKeyUsage},
		"a credential of another CA":        {issue(f.Root, usedFor("shared-1", false, oidShared)), gateway.NotShared},
	} {
		if d := gateway.Admit(allowed, c.chain, fleettest.Time); d.Reason != c.want {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

// TestSharedOpensOneCall: a shared credential gets to one call of hanaperd, made anew, and nowhere else; it is no device, and no policy but that one lets
// its open connection live.
func TestSharedOpensOneCall(t *testing.T) {
	s, b := renewingStand(t)
	b.respond = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-pkcs12")
		w.WriteHeader(http.StatusCreated)
		io.WriteString(w, "key and certificate")
	}
	s.trust(sharing(s.fleet, nil))
	credential := fleettest.Issue(t, s.fleet.Factory, fleettest.NewKey(t), usedFor("shared-1", false, oidShared))
	device := s.fleet.Device(t, "device-1")
	ask := func(d *fleettest.Entity, method, path, body string) (int, string) {
		t.Helper()
		r, err := http.NewRequest(method, "https://"+s.addr+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Client-Cert", "AAAA")
		resp, err := s.client(d, false).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		data, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(data)
	}
	status, body := ask(credential, http.MethodPost, "/devices", `{"deviceId": "bench-1", "ttl": "36000"}`)
	if status != http.StatusCreated || body != "key and certificate" {
		t.Fatalf("%d %s", status, body)
	}
	list, bodies := b.requests("/v1/shared/devices")
	if len(list) != 1 || bodies[0] != `{"deviceId":"bench-1","ttl":36000}` || !slices.Equal(list[0].Header.Values("Client-Cert"), []string{":" + base64.StdEncoding.EncodeToString(credential.Cert.Raw) + ":"}) {
		t.Fatalf("%q", bodies)
	}
	for _, c := range []struct{ method, path string }{
		{http.MethodGet, "/devices"}, {http.MethodPut, "/devices"}, {http.MethodPost, "/"}, {http.MethodPost, "/devices/"}, {http.MethodPost, "//devices"},
		{http.MethodPost, "/%64evices"}, {http.MethodPost, "/devices?x=1"}, {http.MethodPost, "/devices?"}, {http.MethodPost, "/x/../devices"}, {http.MethodPost, "/devices;x"},
		{http.MethodGet, "/director/targets.json"}, {http.MethodPost, reenroll}, {http.MethodGet, "/repo/timestamp.json"}, {http.MethodPost, "/v1/shared/devices"},
	} {
		if status, body := ask(credential, c.method, c.path, `{"deviceId":"bench-2"}`); status != http.StatusForbidden || !strings.Contains(body, string(gateway.SharedOnly)) {
			t.Errorf("%s %s: %d %s", c.method, c.path, status, body)
		}
	}
	for _, body := range []string{"", "{", `{"ttl":1}`, `{"deviceId":"a","deviceId":"b"}`, `{"deviceId":"a","csr":"x"}`, `{"deviceId":"a","ttl":0}`, `{"deviceId":"a","ttl":"-1"}`, `{"deviceId":"` + strings.Repeat("a", 5000) + `"}`} {
		if status, said := ask(credential, http.MethodPost, "/devices", body); status != http.StatusBadRequest {
			t.Errorf("%.40q: %d %s", body, status, said)
		}
	}
	if list, _ := b.requests("/v1/shared/devices"); len(list) != 1 || len(s.requests()) != 0 {
		t.Errorf("%d calls of hanaperd, %d of the upstream", len(list), len(s.requests()))
	}
	if met, err := s.registry.Devices(context.Background(), gateway.Filter{Limit: 9}); err != nil || len(met) != 0 {
		t.Errorf("registered: %v %v", met, err)
	}
	// To a device the path is like all others.
	if status, body := ask(device, http.MethodPost, "/devices", "x"); status != 200 || body != "hello device-1" {
		t.Errorf("a device: %d %s", status, body)
	}
	for _, want := range []string{"SHARED CREDENTIAL asks for a device", "allows SHARED CREDENTIALS until"} {
		if !strings.Contains(s.log.String(), want) {
			t.Errorf("the log does not say %q", want)
		}
	}
	if m := s.metrics(); !strings.Contains(m, "hanaper_gateway_shared_credential_requests_total 9") {
		t.Errorf("not counted:\n%s", m)
	}
	if h := s.gateway.Health(); !strings.Contains(fmt.Sprint(h.Notes), "SHARED CREDENTIALS") || h.Status != "degraded" {
		t.Errorf("health: %+v", h)
	}
	// A bench is told of where it is met.
	bench := fleettest.Issue(t, s.fleet.Factory, fleettest.NewKey(t), usedFor("bench-1", true, oidBench))
	open := map[*fleettest.Entity]*tls.Conn{}
	for _, d := range []*fleettest.Entity{credential, bench} {
		conn, err := tls.Dial("tcp", s.addr, s.tlsConfig(d))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		open[d] = conn
		fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
		if d == bench {
			if resp, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || resp.StatusCode != 200 {
				t.Fatalf("the bench: %v %v", resp, err)
			}
		}
	}
	if !strings.Contains(s.log.String(), "a TEST BENCH") {
		t.Error("the log does not tell of the bench")
	}
	if d, err := s.registry.Device(context.Background(), "test", "bench-1"); err != nil || !slices.Contains(d.Flags, gateway.FlagTestBench) {
		t.Errorf("on record: %+v %v", d, err)
	}
	// The officers take it back: what is open is closed, what comes is refused.
	s.trust(sharing(s.fleet, func(p *trust.Policy) { p.Stage, p.SharedCredentials = "", nil }))
	for d, conn := range open {
		conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.Copy(io.Discard, conn); err != nil && strings.Contains(err.Error(), "timeout") {
			t.Errorf("the connection of %s stays open", d.Cert.Subject)
		}
		s.refused(s.client(d, true), gateway.NotShared)
	}
	if h := s.gateway.Health(); strings.Contains(fmt.Sprint(h.Notes), "SHARED") {
		t.Errorf("health: %+v", h)
	}
}
