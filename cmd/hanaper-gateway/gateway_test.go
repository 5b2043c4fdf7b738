package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"debug/elf"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hanaper/hanaper/gateway"
	"github.com/hanaper/hanaper/internal/programtest"
	"github.com/hanaper/hanaper/trust/trusttest"
)

func TestServe(t *testing.T) {
	s := newSite(t)
	r := s.serve()
	a, b := s.world.Device("device-a", 101), s.world.Device("device-b", 102)
	r.served(a)
	r.served(b)
	foreign := trusttest.NewAt(t, s.world.Now).Device("device-a", 101)
	r.refused(foreign, "unknown-issuer")

	// New trust, without a restart, on an open connection too.
	open, err := tls.Dial("tcp", r.addr, s.tlsConfig(a))
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	fmt.Fprint(open, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	in := bufio.NewReader(open)
	if resp, err := http.ReadResponse(in, nil); err != nil || resp.StatusCode != 200 {
		t.Fatal(resp, err)
	} else {
		io.Copy(io.Discard, resp.Body)
	}
	s.world.AddCRL(2, 101)
	open.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := in.ReadByte(); err == nil || os.IsTimeout(err) {
		t.Errorf("a revoked device's connection stays open: %v\n%s", err, r.said())
	}
	r.refused(a, "revoked")
	r.served(b)

	// Tampered trust is not taken, and what was good stays.
	path := filepath.Join(s.world.Dir, "metadata", "timestamp.json")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, bytes.Replace(good, []byte(`"version"`), []byte(`"versiom"`), 1), 0o644); err != nil {
		t.Fatal(err)
	}
	r.await("a complaint", func() bool { return strings.Contains(r.said(), "msg=\"trust source\"") })
	r.served(b)
	r.refused(a, "revoked")

	// A restart on a broken source goes on with what was accepted.
	r.stop()
	r = s.serve()
	r.served(b)
	r.refused(a, "revoked")
	if err := os.WriteFile(path, good, 0o644); err != nil {
		t.Fatal(err)
	}

	// Devices, while the gateway runs.
	code, out, errs := run("devices", "list", "--config", s.path("gateway.yaml"), "--json")
	var list struct {
		Devices []struct {
			ID string `json:"device_id"`
		} `json:"devices"`
	}
	if err := json.Unmarshal([]byte(out), &list); code != 0 || err != nil || len(list.Devices) != 2 || list.Devices[1].ID != "device-b" {
		t.Errorf("%d %s %s %v", code, out, errs, err)
	}
	if code, _, errs := run("devices", "delete", "--config", s.path("gateway.yaml"), "--why", "stolen", "device-b"); code != 0 {
		t.Fatal(errs)
	}
	r.await("the deletion", func() bool { status, _, err := r.get(b); return err != nil || status != 200 })
	r.refused(b, "device-blocked")
	if code, out, _ := run("devices", "show", "--registry", s.path("devices.db"), "device-b"); code != 0 || !strings.Contains(out, "stolen") {
		t.Errorf("%d %s", code, out)
	}
	// admit knows of it too; without the registry's configuration it judges the certificate alone.
	cert := s.write("b.der", b.Cert.Raw)
	if code, _, errs := run("admit", "--config", s.path("gateway.yaml"), cert); code != 3 || !strings.Contains(errs, "device-blocked") {
		t.Errorf("admit: %d %s", code, errs)
	}
	if code, out, errs := run("admit", "--trust", s.world.Dir, "--root", s.path("1.root.json"), cert); code != 0 || !strings.Contains(out, "admitted as device-b") {
		t.Errorf("admit: %d %s", code, errs)
	}
	if code, _, errs := run("devices", "release", "--config", s.path("gateway.yaml"), "device-b"); code != 0 {
		t.Fatal(errs)
	}
	r.await("the release", func() bool { status, _, err := r.get(b); return err == nil && status == 200 })

	// SIGHUP takes a new TLS identity.
	s.server = s.tlsIdentity("second", time.Now().Add(time.Hour))
	s.writePair("gateway", s.server)
	r.cmd.Process.Signal(syscall.SIGHUP)
	r.await("the new identity", func() bool { return strings.Contains(r.said(), "tls identity in force") })
	r.served(b)
	resp, err := http.Get("http://" + r.admin + "/healthz")
	if err != nil || resp.StatusCode != 200 {
		t.Error(resp, err)
	}
	resp.Body.Close()
	r.stop()
}

// TestProgramIsStatic: one file without an interpreter, of less than 22 MB.
func TestProgramIsStatic(t *testing.T) {
	path := programtest.Path(t, "hanaper-gateway")
	if info, err := os.Stat(path); err != nil || info.Size() >= 22_000_000 {
		t.Errorf("%v, %v", info, err)
	}
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("not static: it has %s", p.Type)
		}
	}
}

func TestAdmit(t *testing.T) {
	s := newSite(t)
	d := s.world.Device("device-a", 101)
	cert := s.write("d.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: d.Cert.Raw}))
	der := s.write("d.der", d.Cert.Raw)
	ca := s.write("ca.der", s.world.Issuing.Cert.Raw)
	s.world.AddCRL(2, 102)
	revoked := s.write("r.der", s.world.Device("device-b", 102).Cert.Raw)
	byFolder := []string{"admit", "--trust", s.world.Dir, "--root", s.path("1.root.json")}
	byConfig := []string{"admit", "--config", s.path("gateway.yaml")}
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{append(byFolder, cert), 0, "admitted as device-a"},
		{append(byConfig, der), 0, "admitted as device-a"},
		{append(byConfig, "--json", der), 0, `"device_id": "device-a"`},
		{[]string{"admit", "--trust", s.world.Dir, "--root", strings.TrimPrefix(s.world.Pin.String(), "sha256:"), cert}, 0, "admitted"},
		{append(byConfig, ca), 3, "certificate-is-ca"},
		{append(byConfig, revoked), 3, "revoked"},
		{append(byConfig, "--json", revoked), 3, `"reason": "revoked"`},
		{append(byConfig, "--at", "2125-01-01T00:00:00Z", cert), 3, "trust-expired"},
		{append(byConfig, s.path("gateway.key")), 2, "holds no certificate"},
		{append(byConfig, s.path("none")), 2, "no such file"},
		{append(byConfig, s.path("gateway.yaml")), 3, "certificate-malformed"},
		{[]string{"admit", cert}, 2, "name the trust"},
		{[]string{"admit", "--trust", s.world.Dir, cert}, 2, "--root"},
		{byConfig, 2, "CERT is missing"},
	} {
		code, out, errs := run(c.args...)
		if code != c.code || !strings.Contains(out+errs, c.want) {
			t.Errorf("%q: %d %s%s, want %d %q", c.args[1:], code, out, errs, c.code, c.want)
		}
	}
	if _, err := os.Stat(s.path("state")); err == nil {
		t.Error("admit left state behind")
	}
}

func TestCheck(t *testing.T) {
	s := newSite(t)
	code, out, errs := run("check", "--config", s.path("gateway.yaml"))
	if code != 0 || !strings.Contains(out, "Specimen Issuing CA") || !strings.Contains(out, "ok") {
		t.Errorf("%d %s%s", code, out, errs)
	}
}

// TestCheckKept: what a gateway keeps of trust is said while it runs, and while its source is away; where nothing is kept, that is said, and nothing is made.
func TestCheckKept(t *testing.T) {
	s := newSite(t)
	code, _, errs := run("check", "--config", s.path("gateway.yaml"), "--kept")
	if code != 1 || !strings.Contains(errs, "nothing is kept in") {
		t.Errorf("before the first start: %d %s", code, errs)
	}
	if _, err := os.Stat(s.path("state")); err == nil {
		t.Error("check --kept made a state folder")
	}
	g := s.serve()
	defer g.stop()
	if err := os.Rename(s.world.Dir, s.world.Dir+".away"); err != nil {
		t.Fatal(err)
	}
	defer os.Rename(s.world.Dir+".away", s.world.Dir)
	code, out, errs := run("check", "--config", s.path("gateway.yaml"), "--kept", "--json")
	var told struct{ Environments []gateway.KeptTrust }
	if err := json.Unmarshal([]byte(out), &told); err != nil || code != 0 || len(told.Environments) != 1 || told.Environments[0].Versions.Timestamp != 2 || told.Environments[0].Behind {
		t.Errorf("%d %s%s %v", code, out, errs, err)
	}
	if code, out, errs = run("check", "--config", s.path("gateway.yaml"), "--kept"); code != 0 || !strings.Contains(out, "TIMESTAMP") || !strings.Contains(out, "kept") {
		t.Errorf("%d %s%s", code, out, errs)
	}
}

// TestRefusals: what is wrong is told in one line, with the right exit code, before anything is written.
func TestRefusals(t *testing.T) {
	empty := t.TempDir()
	for _, c := range []struct {
		name string
		edit func(s *site) (from, to string)
		code int
		want string
	}{
		{"typo", func(*site) (string, string) { return "upstream:", "upsteam:" }, 2, "upsteam"},
		{"empty trust folder", func(s *site) (string, string) { return s.world.Dir, empty }, 4, "trust source " + empty},
		{"no trust folder", func(s *site) (string, string) { return s.world.Dir, empty + "/none" }, 4, empty + "/none"},
		{"other root", func(s *site) (string, string) { return "1.root.json", strings.Repeat("ab", 32) }, 4, "trust source"},
		{"no root", func(s *site) (string, string) { return "1.root.json", "none.json" }, 2, "trust.root"},
		{"other environment", func(s *site) (string, string) { return "environment: test", "environment: staging" }, 4, "staging"},
		{"open key", func(s *site) (string, string) { os.Chmod(s.path("gateway.key"), 0o640); return "", "" }, 2, "mode 0640"},
		{"no key", func(s *site) (string, string) { os.Remove(s.path("gateway.key")); return "", "" }, 2, "gateway.key"},
		{"other key", func(s *site) (string, string) {
			s.writePair("other", s.tlsIdentity("x", time.Now().Add(time.Hour)))
			return "gateway.key", "other.key"
		}, 2, "does not match"},
		{"expired certificate", func(s *site) (string, string) {
			s.writePair("gateway", s.tlsIdentity("x", time.Now().Add(-time.Hour)))
			return "", ""
		}, 2, "expired"},
		{"tampered trust", func(s *site) (string, string) {
			p := filepath.Join(s.world.Dir, "metadata", "timestamp.json")
			data, _ := os.ReadFile(p)
			os.WriteFile(p, bytes.Replace(data, []byte(`"sha256"`), []byte(`"sha255"`), 1), 0o644)
			return "", ""
		}, 4, "timestamp"},
		{"port taken", func(s *site) (string, string) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				s.Fatal(err)
			}
			s.Cleanup(func() { l.Close() })
			return "listen: 127.0.0.1:0", "listen: " + l.Addr().String()
		}, 1, "in use"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t)
			config := s.config()
			if from, to := c.edit(s); from != "" {
				config = strings.Replace(config, from, to, 1)
			}
			s.write("gateway.yaml", []byte(config))
			verbs := []string{"serve", "check"}
			if c.name == "port taken" {
				verbs = verbs[:1]
			}
			for _, verb := range verbs {
				code, out, errs := run(verb, "--config", s.path("gateway.yaml"))
				t.Logf("%d %s", code, errs)
				if code != c.code || !strings.Contains(errs, c.want) || out != "" {
					t.Errorf("%s: %d %s%s, want %d %q", verb, code, out, errs, c.code, c.want)
				}
				if first, rest, _ := strings.Cut(strings.TrimSpace(errs), "\n"); verb == "check" &&
					(!strings.HasPrefix(first, "hanaper-gateway: ") || rest != "" && !strings.HasPrefix(rest, "hanaper-gateway: hint: ")) {
					t.Errorf("more than a line and a hint: %s", errs)
				}
			}
			if _, err := os.Stat(s.path("devices.db")); err == nil && c.name != "port taken" {
				t.Error("a registry was made")
			}
		})
	}
}
