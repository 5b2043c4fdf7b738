package factory_test

import (
	"bytes"
	"context"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"crypto/x509"
	"net/url"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/csr"
	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/factory/record/sqlite"
	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/internal/programtest"
	"github.com/hanaper/hanaper/softhsm"
)

// line is a production line on disk: hanaperd running, and a station's configuration.
type line struct {
	*plant
	bin, dir, address, config, daemonConfig string
	daemon                                  *daemon
}

func newLine(t *testing.T) *line {
	l := &line{plant: newPlant(t), bin: programtest.Dir(t), dir: t.TempDir()}
	l.daemonConfig, l.address = l.writeConfig(t, l.dir)
	l.station(t, "line-1").write(t, l.dir, "station")
	gateway := newRoot(t, "gateway-root", "Gateway Root")
	gateway.write(t, l.dir, "gateway-root")
	for _, name := range []string{"image", "director"} {
		if err := os.WriteFile(filepath.Join(l.dir, name+".json"), []byte(`{"signatures":[],"signed":{"_type":"Root","for":"`+name+`"}}`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l.config = l.writeStation(t, "station.yaml", "station")
	l.daemon = start(t, l.bin, l.daemonConfig)
	t.Cleanup(func() { l.daemon.stop() })
	return l
}

// writeStation writes a station's configuration for the certificate and key of this name.
func (l *line) writeStation(t *testing.T, file, identity string) string {
	path := filepath.Join(l.dir, file)
	text := fmt.Sprintf(`factory: {url: "https://%s", ca: operations-root.pem, certificate: %s.pem, key: %s.key, tries: 2, timeout: 5s}
fleet_root: fleet-root.pem
device: {hardware_id: imx8-board, lot: "2026-47"}
gateway: {url: "https://gateway.example:8443", root: gateway-root.pem}
uptane: {image_root: image.json, director_root: director.json}
`, l.address, identity, identity)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func (l *line) enroll(t *testing.T, config, id string, more ...string) (int, string, string) {
	t.Helper()
	args := append([]string{"enroll", "--config", config, "--device-id", id, "--import", filepath.Join(l.dir, "import-"+id), "--json"}, more...)
	return run(t, filepath.Join(l.bin, "hanaper-station"), args...)
}

func (l *line) rows(t *testing.T) string {
	t.Helper()
	s, err := sqlite.Read(context.Background(), filepath.Join(l.dir, "state"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	n, err := s.Counts(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	delete(n, "event")
	delete(n, "issuer")
	return fmt.Sprint(n)
}

func TestStation(t *testing.T) {
	l := newLine(t)
	board, err := softhsm.ForTest(t).Create("board-a")
	if err != nil {
		t.Fatal(err)
	}
	exit, out, stderr := l.enroll(t, l.config, "dev-a", "--token", board.URI)
	if exit != 0 {
		t.Fatalf("exit %d: %s", exit, stderr)
	}
	var first, again struct {
		Serial         string `json:"serial"`
		NewKey         bool   `json:"new_key"`
		NewCertificate bool   `json:"new_certificate"`
	}
	if err := json.Unmarshal([]byte(out), &first); err != nil || !first.NewKey || !first.NewCertificate {
		t.Fatal(out, err)
	}
	if strings.Contains(out+stderr, string(board.PIN)) {
		t.Error("the PIN was printed")
	}
	t.Run("token", func(t *testing.T) { l.checkToken(t, board) })
	t.Run("import folder", func(t *testing.T) { l.checkFolder(t, board) })
	t.Run("again", func(t *testing.T) {
		before := l.rows(t)
		exit, out, stderr := l.enroll(t, l.config, "dev-a", "--token", board.URI)
		if err := json.Unmarshal([]byte(out), &again); exit != 0 || err != nil || again.NewKey || again.NewCertificate || again.Serial != first.Serial {
			t.Fatal(exit, out, stderr, err)
		}
		if after := l.rows(t); after != before {
			t.Errorf("wrote %s, was %s", after, before)
		}
	})
	t.Run("goes on where it stopped", func(t *testing.T) {
		if err := os.RemoveAll(filepath.Join(l.dir, "import-dev-a")); err != nil {
			t.Fatal(err)
		}
		if exit, out, stderr := l.enroll(t, l.config, "dev-a", "--token", board.URI); exit != 0 || !strings.Contains(out, first.Serial) {
			t.Fatal(exit, out, stderr)
		}
		l.checkFolder(t, board)
	})
	t.Run("key in a file", func(t *testing.T) { l.checkFileMode(t) })
	t.Run("refusals", func(t *testing.T) { l.checkRefusals(t, board) })
}

// checkToken asks pkcs11-tool what the device's token holds.
func (l *line) checkToken(t *testing.T, board softhsm.Board) {
	cmd := exec.Command("pkcs11-tool", "--module", board.Module, "--token-label", board.Label, "--login", "--pin", string(board.PIN), "-O")
	cmd.Env = append(os.Environ(), softhsm.ForTest(t).Env()...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("pkcs11-tool: %v: %s", err, out)
	}
	parts := strings.Split(string(out), " Object")
	for _, want := range [][]string{{"Private Key", "ID:         02", "always sensitive, never extractable, local"}, {"Certificate", "ID:         01", "CN=dev-a"}} {
		found := false
		for _, p := range append(parts, string(out)) {
			found = found || strings.Contains(p, want[1]) && strings.Contains(p, want[2])
		}
		if !found {
			t.Errorf("no %v in:\n%s", want, out)
		}
	}
}

func (l *line) checkFolder(t *testing.T, board softhsm.Board) {
	dir := filepath.Join(l.dir, "import-dev-a")
	var names []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			name, _ := filepath.Rel(dir, p)
			names = append(names, name)
		}
		return err
	})
	if err != nil || fmt.Sprint(names) != "[client.pem director/root.json gateway.url repo/root.json root.crt sota.toml]" {
		t.Errorf("%v, %v", names, err)
	}
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if read("gateway.url") != "https://gateway.example:8443" || !strings.Contains(read("repo/root.json"), "image") || !strings.Contains(read("director/root.json"), "director") {
		t.Error("gateway.url or the Uptane roots are not what was configured")
	}
	chain, err := factory.ParseCertificates([]byte(read("client.pem")))
	if err != nil || len(chain) != 2 || chain[0].Subject.CommonName != "dev-a" || !chain[1].Equal(l.issuing) {
		t.Errorf("client.pem: %v, %v", chain, err)
	}
	openssl(t, "verify", "-CAfile", filepath.Join(l.dir, "fleet-root.pem"), "-untrusted", filepath.Join(dir, "client.pem"), filepath.Join(dir, "client.pem"))
	sota := read("sota.toml")
	for _, want := range []string{`cert_source = "pkcs11"`, `tls_clientcert_id = "01"`, `tls_pkey_id = "02"`, `uptane_key_id = "03"`, `base_path = "/var/sota/import"`,
		`mode = "DeviceCred"`, `primary_ecu_hardware_id = "imx8-board"`, `pass = "` + string(board.PIN) + `"`} {
		if !strings.Contains(sota, want) {
			t.Errorf("sota.toml has no %s:\n%s", want, sota)
		}
	}
	if st, err := os.Stat(filepath.Join(dir, "sota.toml")); err != nil || st.Mode().Perm() != 0o600 {
		t.Error(st.Mode(), err)
	}
}

func (l *line) checkFileMode(t *testing.T) {
	config := filepath.Join(l.dir, "file.yaml")
	b, err := os.ReadFile(l.config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config, bytes.Replace(b, []byte("device: {"), []byte("device: {key_store: file, algorithm: RSA-2048, "), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if exit, _, stderr := l.enroll(t, config, "dev-f"); exit != 0 {
			t.Fatal(exit, stderr)
		}
	}
	dir := filepath.Join(l.dir, "import-dev-f")
	key := filepath.Join(dir, "pkey.pem")
	if st, err := os.Stat(key); err != nil || st.Mode().Perm() != 0o600 {
		t.Error(st, err)
	}
	if left, _ := filepath.Glob(dir + ".*"); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	have := openssl(t, "pkey", "-in", key, "-pubout")
	if want := openssl(t, "x509", "-in", filepath.Join(dir, "client.pem"), "-noout", "-pubkey"); have != want {
		t.Error("pkey.pem is not the key of client.pem")
	}
}

func (l *line) checkRefusals(t *testing.T, board softhsm.Board) {
	factoryCA := identity{l.issuing, l.key}
	digital, client := x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	factoryCA.leaf(t, "device", ca.Template{Subject: pkix.Name{CommonName: "dev-x"}}).write(t, l.dir, "device")
	l.operations.unchecked(t, &x509.Certificate{Subject: pkix.Name{CommonName: "x"}, KeyUsage: digital, ExtKeyUsage: client, URIs: []*url.URL{ca.StationURI("x")},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour)}).write(t, l.dir, "expired")
	l.operator(t, "olga").write(t, l.dir, "operator")
	fresh, err := softhsm.ForTest(t).Create("board-b")
	if err != nil {
		t.Fatal(err)
	}
	wrongPIN := filepath.Join(l.dir, "wrong.pin")
	if err := os.WriteFile(wrongPIN, []byte("00000000"), 0o600); err != nil {
		t.Fatal(err)
	}
	typo := filepath.Join(l.dir, "typo.yaml")
	if err := os.WriteFile(typo, []byte("factory: {urll: x}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, config, id, token string
		exit                    int
		says                    string
	}{
		{"another key for a known device", l.config, "dev-a", fresh.URI, 3, "is enrolled with another key"},
		{"a device's certificate as a station's", l.writeStation(t, "device.yaml", "device"), "dev-b", fresh.URI, 3, "refused our certificate"},
		{"an operator's as a station's", l.writeStation(t, "operator.yaml", "operator"), "dev-b", fresh.URI, 3, "may not call"},
		{"expired", l.writeStation(t, "expired.yaml", "expired"), "dev-b", fresh.URI, 3, "expired at"},
		{"a key known under another id", l.config, "dev-b", board.URI, 3, "belongs to another device id"},
		{"no such token", l.config, "dev-b", strings.Replace(fresh.URI, "board-b", "board-zz", 1), 1, "board-zz"},
		{"wrong PIN", l.config, "dev-b", strings.Replace(fresh.URI, fresh.PINFile, wrongPIN, 1), 1, "board-b"},
		{"typo", typo, "dev-b", fresh.URI, 2, "urll"},
		{"no config", filepath.Join(l.dir, "none.yaml"), "dev-b", fresh.URI, 2, "none.yaml"},
		{"bad device id", l.config, "../dev", fresh.URI, 3, "common name is not allowed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := l.rows(t)
			folder := filepath.Join(l.dir, "import-refused")
			exit, out, stderr := l.enroll(t, c.config, c.id, "--token", c.token, "--import", folder)
			if exit != c.exit || !strings.Contains(stderr, c.says) || out != "" || strings.Contains(stderr, "panic") {
				t.Errorf("exit %d (want %d), says %q", exit, c.exit, stderr)
			}
			if _, err := os.Stat(folder); err == nil {
				t.Error("an import folder was made")
			}
			if after := l.rows(t); after != before {
				t.Errorf("wrote %s, was %s", after, before)
			}
		})
	}
	t.Run("the folder of another device", func(t *testing.T) {
		before := l.rows(t)
		exit, _, stderr := l.enroll(t, l.config, "dev-c", "--token", fresh.URI, "--import", filepath.Join(l.dir, "import-dev-a"))
		if exit != 3 || !strings.Contains(stderr, "says something else") {
			t.Error(exit, stderr)
		}
		if after := l.rows(t); after != before {
			t.Errorf("the device was enrolled all the same: %s, was %s", after, before)
		}
		l.checkFolder(t, board)
	})
	t.Run("nothing is born in the token of a device with a bad id", func(t *testing.T) {
		board, err := softhsm.ForTest(t).Create("board-c")
		if err != nil {
			t.Fatal(err)
		}
		exit, _, stderr := l.enroll(t, l.config, "dev-c ", "--token", board.URI)
		if exit != 3 || !strings.Contains(stderr, "begins or ends with a space") {
			t.Error(exit, stderr)
		}
		uri, err := hsm.ParseURI(board.URI)
		if err != nil {
			t.Fatal(err)
		}
		token, err := pkcs11.Open(context.Background(), pkcs11.Config{URI: uri, PIN: hsm.PINFile(board.PINFile)})
		if err != nil {
			t.Fatal(err)
		}
		defer token.Close()
		if keys, err := token.Keys(context.Background()); err != nil || len(keys) > 0 {
			t.Errorf("%d keys, %v", len(keys), err)
		}
	})
	t.Run("hanaperd is away", func(t *testing.T) {
		l.daemon.stop()
		exit, _, stderr := l.enroll(t, l.config, "dev-d", "--token", fresh.URI)
		if exit != 1 || !strings.Contains(stderr, "cannot be reached") || !strings.Contains(stderr, "hint: is hanaperd running") {
			t.Error(exit, stderr)
		}
	})
}

// TestDaemonConfig: what is wrong with a configuration is said in one line, with the right exit code, before anything is written.
func TestDaemonConfig(t *testing.T) {
	p, bin, dir := newPlant(t), programtest.Dir(t), t.TempDir()
	config, _ := p.writeConfig(t, dir)
	good, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	other := newPlant(t)
	writePEM(t, filepath.Join(dir, "other-ca.pem"), "CERTIFICATE", p.fleet.issue(t, "factory-ca", ca.Template{Subject: pkix.Name{CommonName: "Other"}, PublicKey: other.key.Public(), NotAfter: inYears(9)}).Raw)
	writePEM(t, filepath.Join(dir, "tomorrow-ca.pem"), "CERTIFICATE",
		p.fleet.issue(t, "factory-ca", ca.Template{Subject: pkix.Name{CommonName: "Factory CA"}, PublicKey: p.key.Public(), NotBefore: time.Now().Add(24 * time.Hour), NotAfter: inYears(9)}).Raw)
	writePEM(t, filepath.Join(dir, "foreign-ca.pem"), "CERTIFICATE", other.issuing.Raw)
	p.station(t, "line-1").write(t, dir, "line")
	p.operations.leaf(t, "server", ca.Template{Subject: pkix.Name{CommonName: "hanaperd"}, IPs: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(-time.Second)}).write(t, dir, "old")
	daemon := filepath.Join(bin, "hanaperd")
	if exit, out, stderr := run(t, daemon, "check", "--config", config); exit != 0 || !strings.Contains(out, "P-256 in token") {
		t.Fatal(exit, out, stderr)
	}
	for _, c := range []struct {
		name, old, new string
		exit           int
		says           string
	}{
		{"typo", "listen:", "listne:", 2, "listne"},
		{"key missing", `tls: {certificate: hanaperd.pem, key: hanaperd.key}`, ``, 2, "tls.certificate is missing"},
		{"no such token", "token=factory", "token=nowhere", 1, "nowhere"},
		{"no such key", "object=factory-ca", "object=nothing", 1, "nothing"},
		{"a PIN in the URI", "pin-source=", "pin-value=", 2, "pin-value"},
		{"Fleet Root as Operations Root", "root: operations-root.pem}", "root: fleet-root.pem}", 3, "which devices chain to"},
		{"issuing certificate as Operations Root", "root: operations-root.pem}", "root: factory-ca.pem}", 3, "which devices chain to"},
		{"another key's certificate", "certificate: factory-ca.pem", "certificate: other-ca.pem", 4, "is not the key of"},
		{"another root's certificate", "certificate: factory-ca.pem", "certificate: foreign-ca.pem", 4, "foreign-ca.pem"},
		{"file missing", "hanaperd.pem", "none.pem", 2, "none.pem"},
		{"a station's certificate as a server's", `tls: {certificate: hanaperd.pem, key: hanaperd.key}`, `tls: {certificate: line.pem, key: line.key}`, 3, "is not for servers"},
		{"expired server certificate", `tls: {certificate: hanaperd.pem, key: hanaperd.key}`, `tls: {certificate: old.pem, key: old.key}`, 1, "is this machine's clock right?"},
		{"issuing certificate of tomorrow", "certificate: factory-ca.pem", "certificate: tomorrow-ca.pem", 1, "is this machine's clock right?"},
		{"not a certificate", "certificate: factory-ca.pem", "certificate: hanaperd.key", 2, "PRIVATE KEY"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bad := filepath.Join(dir, "bad.yaml")
			text := strings.Replace(string(good), c.old, c.new, 1)
			if text == string(good) {
				t.Fatal("nothing was changed")
			}
			if err := os.WriteFile(bad, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			for _, verb := range []string{"check", "serve"} {
				exit, out, stderr := run(t, daemon, verb, "--config", bad)
				if exit != c.exit || !strings.Contains(stderr, c.says) || out != "" {
					t.Errorf("%s: exit %d (want %d), says %q", verb, exit, c.exit, stderr)
				}
			}
			if _, err := os.Stat(filepath.Join(dir, "state")); err == nil {
				t.Error("the state folder was made")
			}
		})
	}
	t.Run("requests", func(t *testing.T) { checkRequests(t, bin, dir, p) })
}

// checkRequests makes the requests that the ceremony takes, and has openssl check possession.
func checkRequests(t *testing.T, bin, dir string, p *plant) {
	fresh, err := softhsm.ForTest(t).Create("factory-next")
	if err != nil {
		t.Fatal(err)
	}
	uri := strings.Replace(fresh.URI, "pkcs11:", "pkcs11:object=next-ca;", 1)
	file := func(name string) string { return filepath.Join(dir, name) }
	daemon, station := filepath.Join(bin, "hanaperd"), filepath.Join(bin, "hanaper-station")
	for _, c := range []struct {
		out    string
		policy *csr.Policy
		args   []string
	}{
		{"ca.csr", csr.CAPolicy(), []string{daemon, "csr", "--key", uri, "--common-name", "Factory CA 2", "--out", file("ca.csr"), "--json"}},
		{"ca2.csr", csr.CAPolicy(), []string{daemon, "csr", "--key", uri, "--common-name", "Factory CA 2", "--out", file("ca2.csr")}},
		{"tls.csr", csr.ServerPolicy(), []string{daemon, "tls-csr", "--dns", "hanaperd.local", "--ip", "127.0.0.1", "--key", file("tls.key"), "--out", file("tls.csr")}},
		{"op.csr", csr.ClientPolicy(), []string{daemon, "operator-csr", "--name", "olga", "--key", file("op.key"), "--out", file("op.csr")}},
		{"st.csr", csr.ClientPolicy(), []string{station, "csr", "--name", "line-1", "--key", file("st.key"), "--out", file("st.csr")}},
	} {
		exit, out, stderr := run(t, c.args[0], c.args[1:]...)
		if exit != 0 {
			t.Fatalf("%s: exit %d: %s", c.out, exit, stderr)
		}
		if key := strings.TrimSuffix(file(c.out), ".csr") + ".key"; !strings.HasPrefix(c.out, "ca") && out != "new key written to "+key+"\nrequest written to "+file(c.out)+"\n" {
			t.Errorf("%s: it says %q", c.out, out)
		}
		if c.out == "ca.csr" && (!strings.Contains(out, `"never_extractable": true`) || !strings.Contains(out, `"found": false`)) {
			t.Errorf("attributes: %s", out)
		}
		if c.out == "ca2.csr" && !strings.Contains(out, "was there") {
			t.Errorf("a second key was made: %s", out)
		}
		if out := openssl(t, "req", "-in", file(c.out), "-verify", "-noout"); !strings.Contains(out, "verify OK") {
			t.Errorf("%s: %s", c.out, out)
		}
		b, _ := os.ReadFile(file(c.out))
		if _, err := csr.Parse(b, c.policy); err != nil {
			t.Errorf("%s: %v", c.out, err)
		}
		if exit, _, _ := run(t, c.args[0], c.args[1:]...); exit != 2 {
			t.Errorf("%s was written over: exit %d", c.out, exit)
		}
	}
	for _, key := range []string{"tls.key", "op.key", "st.key"} {
		if st, err := os.Stat(file(key)); err != nil || st.Mode().Perm() != 0o600 {
			t.Error(key, st, err)
		}
	}
}
