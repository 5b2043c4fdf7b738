package gateway

import (
	"bytes"
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/gateway/fleettest"
	"github.com/hanaper/hanaper/trust"
	"github.com/hanaper/hanaper/trust/feed"
)

// troubled is a registry that says how it fares, and does nothing else.
type troubled struct {
	Registry
	err, trouble error
	blind        time.Duration
}

func (r *troubled) Err() error { return r.err }
func (r *troubled) Figures() RegistryFigures {
	return RegistryFigures{Meets: map[string]int64{"new": 3}, Blind: r.blind, LastAct: 7}
}
func (r *troubled) Counts(context.Context) ([]Count, error) {
	return []Count{{Environment: `a "b"`, State: Blocked, N: 2}, {Environment: "c", Flag: FlagOldKey, N: 1}}, r.err
}
func (r *troubled) Trouble() error                          { return r.trouble }
func (r *troubled) Standing(string, string, [32]byte) error { return nil }

// TestHealth: each thing that needs a person is said, and that it is over.
func TestHealth(t *testing.T) {
	f, dir, now := fleettest.New(t), t.TempDir(), fleettest.Time
	own := fleettest.Issue(t, nil, fleettest.NewKey(t), x509.Certificate{Subject: pkix.Name{CommonName: "gateway"}, NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(1, 0, 0)})
	key, err := x509.MarshalPKCS8PrivateKey(own.Key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"gateway.pem": {Type: "CERTIFICATE", Bytes: own.Cert.Raw}, "gateway.key": {Type: "PRIVATE KEY", Bytes: key}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	settings, err := NewSettings(Config{Listen: "127.0.0.1:0", Environment: "test", TLS: TLSConfig{Certificate: "gateway.pem", Key: "gateway.key"},
		Trust: TrustConfig{Source: "trust", Root: strings.Repeat("ab", 32), State: "state"}, Registry: RegistryConfig{Path: "devices.db"},
		Upstream: UpstreamConfig{URL: "http://127.0.0.1:1"}}, dir)
	if err != nil {
		t.Fatal(err)
	}
	registry, log := &troubled{}, &bytes.Buffer{}
	g, err := NewGateway(settings, registry, slog.New(slog.NewTextHandler(log, nil)), func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	if h := g.Health(); h.Status != "failing" || h.Error != NoTrust.Text() {
		t.Errorf("without trust: %+v", h)
	}
	long := *f.View
	long.ExpiresAt = now.Add(400 * 24 * time.Hour)
	long.CRLInfos = map[trust.ID]trust.CRLInfo{}
	for id, info := range f.View.CRLInfos {
		info.NextUpdate = long.ExpiresAt
		long.CRLInfos[id] = info
	}
	prints := byte(0)
	view := func(edit func(v *fleettest.View)) {
		t.Helper()
		v := long
		prints++
		v.CRLInfos = map[trust.ID]trust.CRLInfo{}
		for id, info := range long.CRLInfos {
			v.CRLInfos[id] = info
		}
		v.Print[0] = prints
		if edit != nil {
			edit(&v)
		}
		if err := g.SetTrust(&v); err != nil {
			t.Fatal(err)
		}
	}
	// The fleet's CAs are of a day: what ends is tested below, and taken out of the notes here.
	notes := func(h Health) string {
		var list []string
		for _, n := range h.Notes {
			if !strings.HasPrefix(n, "CA ") || !strings.Contains(n, " ends on ") {
				list = append(list, n)
			}
		}
		return strings.Join(list, "\n")
	}
	source := feed.Status{Checked: now}
	g.environments[0].vitals.follow(func() feed.Status { return source })
	factory := trust.IssuerID(f.Factory.Cert)
	view(nil)
	if h := g.Health(); h.Status == "failing" || notes(h) != "" {
		t.Errorf("well: %+v", h)
	}
	for _, c := range []struct {
		name         string
		sick, well   func()
		status, says string
	}{
		{"the registry's file", func() { registry.err = errors.New("the file is gone") }, func() { registry.err = nil }, "failing", "the file is gone"},
		{"a full disk", func() { registry.trouble = errors.New("database or disk is full") }, func() { registry.trouble = nil }, "failing", "takes no new devices"},
		{"expired trust", func() { view(func(v *fleettest.View) { v.ExpiresAt = now }) }, func() { view(nil) }, "failing", "has expired"},
		{"a CRL that ended", func() {
			view(func(v *fleettest.View) {
				v.CRLInfos[factory] = trust.CRLInfo{Issuer: factory, Number: long.CRLInfos[factory].Number, ThisUpdate: now.Add(-time.Hour), NextUpdate: now}
			})
		}, func() { view(nil) }, "degraded", "is not current: devices are refused"},
		{"a CRL in its grace", func() {
			view(func(v *fleettest.View) {
				v.CRLInfos[factory] = trust.CRLInfo{Issuer: factory, Number: long.CRLInfos[factory].Number, ThisUpdate: now.Add(-time.Hour), NextUpdate: now}
				v.GatewayPolicy.CRLs = []trust.CRLRule{{CA: factory.String(), GraceHours: 2}}
			})
		}, func() { view(nil) }, "degraded", "by the officers' rule"},
		{"no CRL", func() { view(func(v *fleettest.View) { delete(v.CRLInfos, factory) }) }, func() { view(nil) }, "degraded", "no CRL: devices are refused"},
		{"the source", func() { source.Err = errors.New("no route to host") }, func() { source.Err = nil }, "degraded", "the trust source fails since"},
		{"trust that is not kept", func() { source.Unkept = errors.New("no space left") }, func() { source.Unkept = nil }, "degraded", "trust is not kept: no space left"},
	} {
		c.sick()
		h := g.Health()
		if h.Status != c.status || !strings.Contains(h.Error+notes(h), c.says) {
			t.Errorf("%s: %+v", c.name, h)
		}
		answer := httptest.NewRecorder()
		g.adminHandler().ServeHTTP(answer, httptest.NewRequest("GET", "/healthz", nil))
		if want := map[string]int{"failing": 503, "degraded": 200}[c.status]; answer.Code != want {
			t.Errorf("%s: /healthz answers %d, want %d", c.name, answer.Code, want)
		}
		g.logHealth()
		g.logHealth()
		if n := strings.Count(log.String(), "msg=health "); n != 1 && c.name != "the source" {
			t.Errorf("%s: %d lines: %s", c.name, n, log)
		}
		c.well()
		log.Reset()
		g.logHealth()
		if c.name != "the source" && !strings.Contains(log.String(), `msg="health: over"`) {
			t.Errorf("%s: its end is not logged: %s", c.name, log)
		}
		if h := g.Health(); h.Status == "failing" || notes(h) != "" {
			t.Errorf("after %s: %+v", c.name, h)
		}
		log.Reset()
	}

	// What ends is told at 30, 7 and 1 days, once each.
	long.ExpiresAt = own.Cert.NotAfter.AddDate(1, 0, 0)
	view(nil)
	for _, c := range []struct {
		before time.Duration
		lines  int
	}{{31 * 24 * time.Hour, 0}, {30 * 24 * time.Hour, 1}, {20 * 24 * time.Hour, 0}, {7 * 24 * time.Hour, 1}, {23 * time.Hour, 1}, {time.Hour, 0}} {
		now = own.Cert.NotAfter.Add(-c.before)
		log.Reset()
		g.logHealth()
		g.logHealth()
		if n := strings.Count(log.String(), "what=tls.certificate"); n != c.lines {
			t.Errorf("%v before: %d lines, want %d: %s", c.before, n, c.lines, log)
		}
	}
	if h := g.Health(); !strings.Contains(strings.Join(h.Notes, "\n"), "tls.certificate ends on") {
		t.Errorf("%+v", h)
	}
	now = own.Cert.NotAfter.Add(time.Second)
	if h := g.Health(); !strings.Contains(strings.Join(h.Notes, "\n"), "tls.certificate ended on") {
		t.Errorf("%+v", h)
	}

	// A publisher that does not sign anew is told of before everybody is refused.
	now = fleettest.Time
	long.ExpiresAt = now.Add(24 * time.Hour)
	view(nil)
	for _, c := range []struct {
		after time.Duration
		told  bool
	}{{15 * time.Hour, false}, {17 * time.Hour, true}} {
		now = fleettest.Time.Add(c.after)
		if told := strings.Contains(strings.Join(g.Health().Notes, "\n"), "was not signed anew in time"); told != c.told {
			t.Errorf("after %v: told %v", c.after, told)
		}
	}
	metrics := httptest.NewRecorder()
	g.adminHandler().ServeHTTP(metrics, httptest.NewRequest("GET", "/metrics", nil))
	for _, want := range []string{"hanaper_gateway_healthy 0\n", `hanaper_gateway_trust_kept{environment="test"} 1`, "hanaper_gateway_registry_ok 1\n", `hanaper_gateway_ends_seconds{environment="test",what="tls.certificate"} `} {
		if !strings.Contains(metrics.Body.String(), want) {
			t.Errorf("no %q in %s", want, metrics.Body)
		}
	}
}

// TestRegistryHeld: a registry that is gone, another one, or an older copy is not begun with: it would admit whom operators blocked.
func TestRegistryHeld(t *testing.T) {
	dir := t.TempDir()
	s := &Settings{registry: RegistryConfig{Path: filepath.Join(dir, "devices.db")}, environments: []*EnvironmentSettings{{trust: TrustConfig{State: dir}}}}
	if known, err := s.KnownRegistry(); err != nil || known != (KnownRegistry{}) {
		t.Fatal(known, err)
	}
	if err := s.HoldRegistry(KnownRegistry{}, "one", 7); err != nil {
		t.Fatal(err)
	}
	if _, err := s.KnownRegistry(); err == nil || !strings.Contains(err.Error(), "is gone") {
		t.Errorf("%v", err)
	}
	if err := os.WriteFile(s.registry.Path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	known, err := s.KnownRegistry()
	if err != nil || known != (KnownRegistry{"one", 7}) {
		t.Fatal(known, err)
	}
	mark := filepath.Join(dir, "registry")
	says := func(want string) {
		t.Helper()
		if data, _ := os.ReadFile(mark); string(data) != want {
			t.Errorf("the mark says %q, want %q", data, want)
		}
	}
	if err := s.HoldRegistry(known, "two", 9); err == nil || !strings.Contains(err.Error(), "is another one") {
		t.Errorf("%v", err)
	}
	if err := s.HoldRegistry(known, "one", 6); err == nil || !strings.Contains(err.Error(), "acts up to number 6, and this gateway has seen number 7") {
		t.Errorf("%v", err)
	}
	says("one\n7\n")
	if err := s.HoldRegistry(known, "one", 8); err != nil {
		t.Error(err)
	}
	says("one\n8\n")
	// A mark of the release before has no number.
	if err := os.WriteFile(mark, []byte("one\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if known, err := s.KnownRegistry(); err != nil || known != (KnownRegistry{ID: "one"}) {
		t.Errorf("%+v, %v", known, err)
	}
	for _, bad := range []string{"", "\n", "one\nx\n", "one\n-1\n", "one\n1\n2\n", strings.Repeat("a", 65)} {
		if err := os.WriteFile(mark, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if known, err := s.KnownRegistry(); err == nil {
			t.Errorf("%q stands for %+v", bad, known)
		}
	}
}
