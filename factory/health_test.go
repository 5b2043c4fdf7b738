package factory_test

import (
	"bytes"
	"context"
	"crypto/x509/pkix"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/factory"
)

// eventually waits for what the probes find within their interval and time.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(25 * time.Second); !is(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within 25 s", what)
		}
	}
}

// TestProbes: with nobody at the line, health finds within its interval that the token hangs, and that the store's disk takes nothing, and
// that they are back.
func TestProbes(t *testing.T) {
	p := newPlant(t)
	key := &hungKey{Signer: p.key, held: make(chan struct{})}
	close(key.held)
	var err error
	if p.issuer, err = ca.NewIssuer(p.issuing, key, p.fleet.cert); err != nil {
		t.Fatal(err)
	}
	r := serve(t, p)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { r.service.Run(ctx); close(done) }()
	defer func() { stop(); <-done }()
	eventually(t, "well", func() bool { return r.service.Health(ctx).Status == "ok" })
	key.hold()
	eventually(t, "a hung token", func() bool { h := r.service.Health(ctx); return h.Status == "degraded" && h.Token != "ok" })
	key.release()
	eventually(t, "back", func() bool { return r.service.Health(ctx).Status == "ok" })
}

// TestEnds: what ends is told 30, 7 and 1 days ahead, once each; no device gets a certificate shorter than the least; and a service
// whose issuing certificate has ended answers devices that it knows.
func TestEnds(t *testing.T) {
	ctx := context.Background()
	var log bytes.Buffer
	p := newPlant(t)
	r := serve(t, p, func(c *factory.ServiceConfig) {
		c.Log = slog.New(slog.NewTextHandler(&log, nil))
		c.MinimumDays, c.Days = 10, 20
	})
	known := deviceRequest(t, newKey(t), "dev-1")
	got, _, err := r.service.Enroll(ctx, "line-1", known)
	if err != nil {
		t.Fatal(err)
	}
	left := p.issuing.NotAfter.Sub(r.now.Now())
	for _, ahead := range []time.Duration{29 * day, 6 * day, 12 * time.Hour} {
		log.Reset()
		r.now.add(left - ahead)
		left = ahead
		for range 2 {
			r.service.WatchExpiries()
		}
		if n := strings.Count(log.String(), p.issuing.Subject.CommonName+`\" ends soon`); n != 1 {
			t.Errorf("%v ahead: told %d times: %s", ahead, n, log.String())
		}
		if h := r.service.Health(ctx); len(h.Notes) == 0 {
			t.Errorf("%v ahead: health notes nothing", ahead)
		}
		_, _, err := r.service.Enroll(ctx, "line-1", deviceRequest(t, newKey(t), "dev-"+ahead.String()))
		if (err != nil) != (ahead < 10*day) || err != nil && code(t, err) != factory.CodeEnding {
			t.Errorf("%v ahead: %v", ahead, err)
		}
	}
	before := r.rows()
	r.now.add(2 * day)
	if h := r.service.Health(ctx); h.Status != "degraded" {
		t.Errorf("ended: %+v", h)
	}
	if a, isNew, err := r.service.Enroll(ctx, "line-1", known); err != nil || isNew || a.Certificate != got.Certificate {
		t.Errorf("a known device after the end: %v", err)
	}
	if _, _, err := r.service.Enroll(ctx, "line-1", deviceRequest(t, newKey(t), "dev-9")); code(t, err) != factory.CodeEnding {
		t.Errorf("a new device after the end: %v", err)
	}
	if after := r.rows(); after != before {
		t.Errorf("refusals wrote %s, was %s", after, before)
	}
	if m := string(r.service.Metrics(ctx)); !strings.Contains(m, `hanaperd_up{part="service"} 0`) || !strings.Contains(m, "hanaperd_expiry_seconds{what=\"the issuing certificate \\\"") {
		t.Error(m)
	}
}

// TestRoles: each role calls what is its, and nothing else; a route that this table does not have fails it.
func TestRoles(t *testing.T) {
	r := serve(t, newPlant(t))
	if err := r.service.FreshCRL(context.Background()); err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(filepath.Join("handler.go"))
	if err != nil {
		t.Fatal(err)
	}
	may := map[string]string{ // path: roles that get past the door
		"POST /v1/enroll": "station", "POST /v1/revoke": "operator", "GET /v1/crl": "station operator publisher viewer", "GET /v1/cacerts": "station operator publisher viewer",
		"GET /v1/crl/{issuer}": "station operator publisher viewer", "GET /v1/issuers": "station operator publisher viewer",
		"GET /v1/devices/{id}": "station operator viewer", "GET /v1/devices/{id}/evidence": "station operator viewer", "POST /v1/attestation/challenge": "station",
		"POST /v1/known": "station operator", "GET /v1/store": "station operator viewer", "POST /v1/store/accept": "operator", "POST /v1/store/clock": "operator", "POST /v1/renewal/seen": "gateway",
		"GET /v1/log/latest": "station operator publisher viewer", "POST /v1/log/seen": "station operator publisher", "GET /v1/log/": "station operator publisher viewer",
		"GET /healthz": "station operator publisher viewer", "GET /readyz": "station operator publisher viewer", "GET /livez": "station operator publisher viewer",
		"POST /v1/shared/credentials": "operator", "POST " + factory.SharedDevicesPath: "gateway",
		"GET /metrics": "station operator publisher viewer", "GET /": "station operator publisher viewer",
	}
	if n := strings.Count(string(source), "mux.Handle("); n != len(may) {
		t.Errorf("%d routes, %d in the table", n, len(may))
	}
	before := r.rows()
	for _, role := range ca.Roles() {
		who := r.caller(t, role, "anna")
		for route, whose := range may {
			method, path, _ := strings.Cut(route, " ")
			path = strings.ReplaceAll(path, "{id}", "dev-1")
			status, _, body, err := r.raw(who, method, path, "application/json", []byte("{}"))
			if err != nil {
				t.Fatal(err)
			}
			allowed := strings.Contains(" "+whose+" ", " "+role+" ")
			if (status == 403) == allowed {
				t.Errorf("%s %s: %d %s", role, route, status, body)
			}
			if allowed && path != "/" {
				if status, head, _, err := r.raw(who, "DELETE", path, "", nil); err != nil || status != 405 || head.Get("Allow") != method {
					t.Errorf("%s DELETE %s: %d, %v, %v", role, path, status, head, err)
				}
			}
		}
	}
	if after := r.rows(); after != before {
		t.Errorf("wrote %s, was %s", after, before)
	}
}

// TestSerials: serial numbers and reasons are taken as tools write them.
func TestSerials(t *testing.T) {
	ctx := context.Background()
	r := serve(t, newPlant(t))
	a, _, err := r.service.Enroll(ctx, "line-1", deviceRequest(t, newKey(t), "dev-1"))
	if err != nil {
		t.Fatal(err)
	}
	upper := strings.ToUpper(a.Serial)
	if len(upper)%2 == 1 {
		upper = "0" + upper
	}
	var pairs []string
	for i := 0; i < len(upper); i += 2 {
		pairs = append(pairs, upper[i:i+2])
	}
	for _, form := range []string{a.Serial, upper, "serial=" + upper, "0x" + a.Serial, "00" + upper, strings.ToLower(strings.Join(pairs, ":")), strings.Join(pairs, " "), "0x00" + upper} {
		for _, reason := range []string{"key_compromise", "keyCompromise", "KEYCOMPROMISE", "superseded"} {
			if on, err := r.service.Revoke(ctx, "olga", factory.RevokeRequest{Serial: form, Reason: reason}); err != nil || on.DeviceID != "dev-1" {
				t.Errorf("%q, %s: %+v, %v", form, reason, on, err)
			}
		}
	}
	before := r.rows()
	for _, bad := range []string{" ", "0", "00:00", "xyz", "-5f", "0x", "5f.3a", strings.Repeat("f", 41), strings.Repeat("0", 81) + "1"} {
		if _, err := r.service.Revoke(ctx, "olga", factory.RevokeRequest{Serial: bad, Reason: "superseded", Unknown: true}); code(t, err) != factory.CodeRequest {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for _, reason := range []string{"", "certificateHold", "removeFromCRL", "cACompromise", "because"} {
		if _, err := r.service.Revoke(ctx, "olga", factory.RevokeRequest{Serial: "5f", Reason: reason, Unknown: true}); code(t, err) != factory.CodeRequest {
			t.Errorf("%q: %v", reason, err)
		}
	}
	if after := r.rows(); after != before {
		t.Errorf("refusals wrote %s, was %s", after, before)
	}
}

// TestOtherWords: a retry that names another lot or hardware gets its certificate, and is told that the record says otherwise.
func TestOtherWords(t *testing.T) {
	ctx := context.Background()
	r := serve(t, newPlant(t))
	q := deviceRequest(t, newKey(t), "dev-1")
	first, _, err := r.service.Enroll(ctx, "line-1", q)
	if err != nil || first.Differs != "" {
		t.Fatal(first, err)
	}
	before := r.rows()
	q.Lot, q.HardwareID = "lot-2", "board-2"
	again, isNew, err := r.service.Enroll(ctx, "line-1", q)
	if err != nil || isNew || again.Certificate != first.Certificate || !strings.Contains(again.Differs, `lot is "lot-1" on record, and the request says "lot-2"`) || !strings.Contains(again.Differs, "hardware_id") {
		t.Errorf("%+v, %v", again, err)
	}
	if after := r.rows(); after != before {
		t.Errorf("wrote %s, was %s", after, before)
	}
}

// caller has a certificate of any role.
func (p *plant) caller(t testing.TB, role, name string) identity {
	return p.operations.leaf(t, role, ca.Template{Subject: pkix.Name{CommonName: name}, URIs: []*url.URL{ca.RoleURI(role, name)}})
}
