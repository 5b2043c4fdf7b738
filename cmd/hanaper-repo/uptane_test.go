package main

import (
	"archive/zip"
	"bufio"
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hanaper/hanaper/uptane"
	"github.com/hanaper/hanaper/uptane/reposerver"
)

const buildSecret = "a secret of the build machine"

// vehicles is a desk with an Uptane section, whose token is a token of its own.
func vehicles(t *testing.T) *desk {
	d := newDesk(t)
	d.write("build.secret", []byte(buildSecret+"\n"))
	if err := os.Chmod(d.path("build.secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	d.config(`uptane:
  keys: {algorithm: Ed25519}
  admin: {listen: "127.0.0.1:0", clients: [{id: build, secret: build.secret, may: [publish, hand-over, assign, remove, look]}]}
  devices: {listen: "127.0.0.1:0", open: true}
`)
	return d
}

var addresses = regexp.MustCompile(`msg="serving uptane" admin=(\S+) devices=(\S+)`)

// background runs the real program until the test ends, and returns the addresses that it tells.
func (d *desk) background(args ...string) (cmd *exec.Cmd, admin, devices string) {
	d.t.Helper()
	cmd, _, _ = d.server(append(args, "--config", d.path("repo.yaml"))...)
	cmd.Stderr = nil
	pipe, err := cmd.StderrPipe()
	if err != nil {
		d.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	lines := bufio.NewScanner(pipe)
	var seen strings.Builder
	for lines.Scan() {
		seen.WriteString(lines.Text() + "\n")
		if m := addresses.FindStringSubmatch(lines.Text()); m != nil {
			go func() {
				for lines.Scan() {
				}
			}()
			return cmd, m[1], m[2]
		}
	}
	d.t.Fatalf("never served: %s", seen.String())
	return nil, "", ""
}

func TestUptaneServes(t *testing.T) {
	d := vehicles(t)
	if _, _, code := d.run("uptane", "status"); code != 3 {
		t.Errorf("status before init: exit %d", code)
	}
	d.ok("uptane", "init")
	if _, errs, code := d.run("uptane", "init"); code != 3 || !strings.Contains(errs, "already") {
		t.Errorf("init twice: exit %d %s", code, errs)
	}
	cmd, admin, devices := d.background("uptane", "serve")
	client, err := reposerver.NewClient(reposerver.ClientConfig{URL: admin, Auth: reposerver.OAuth2{Server: admin, ClientID: "build", ClientSecret: buildSecret}})
	if err != nil {
		t.Fatal(err)
	}
	data, err := client.Root(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	root, err := uptane.ParseRoot(data)
	if err != nil || uptane.VerifyRoot(root) != nil {
		t.Fatal(err)
	}

	// The offline part, and the old key's end in the token.
	_, rootKey, _ := ed25519.GenerateKey(nil)
	_, targetsKey, _ := ed25519.GenerateKey(nil)
	one := func(key ed25519.PrivateKey) uptane.RoleKeys {
		k, err := uptane.NewKey(key.Public())
		if err != nil {
			t.Fatal(err)
		}
		return uptane.RoleKeys{Keys: []uptane.Key{k}, Threshold: 1}
	}
	next, err := root.Next(time.Now().Add(365*24*time.Hour).Truncate(time.Second), func(c *uptane.RootConfig) error {
		c.Roles[uptane.RoleRoot], c.Roles[uptane.RoleTargets] = one(rootKey), one(targetsKey)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	signed, err := uptane.Sign(next, rootKey)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.CosignRoot(t.Context(), signed); err != nil {
		t.Fatal(err)
	}
	old := root.Keys(uptane.RoleRoot).Keys[0].ID()
	if err := client.DeletePrivateKey(t.Context(), old); err != nil {
		t.Fatal(err)
	}

	const content = "abc"
	if err := client.Upload(t.Context(), reposerver.Upload{Name: "image-1", Source: strings.NewReader(content), Size: int64(len(content))}); err != nil {
		t.Fatal(err)
	}
	// A device registers; the operator assigns from another process; kill -9 loses nothing.
	device(t, devices)
	data, sum, err := client.Targets(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	targets, err := uptane.ParseTargets(uptane.Image, data)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Now().UTC().Truncate(time.Second)
	custom, err := uptane.ImageCustom{Name: "image", Version: "1", HardwareIDs: []string{"board"}, Format: uptane.Binary, CreatedAt: at, UpdatedAt: at}.JSON()
	if err != nil {
		t.Fatal(err)
	}
	more, err := targets.Next(at.Add(31*24*time.Hour), func(c *uptane.TargetsConfig) error {
		c.Targets = map[string]uptane.Target{"image-1": {Length: int64(len(content)), SHA256: fmt.Sprintf("%x", sha256.Sum256([]byte(content))), Custom: custom}}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if signed, err = uptane.Sign(more, targetsKey); err != nil {
		t.Fatal(err)
	}
	if err := client.PushTargets(t.Context(), signed, sum); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	d.ok("director", "assign", "device-1", "image-1")
	// The fleet is shown without a token: its PIN is wrong.
	config := d.path("repo.yaml")
	was, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	pin := d.write("wrong.pin", []byte("000000"))
	d.write("repo.yaml", regexp.MustCompile(`pin-source=[^"&\n]*`).ReplaceAll(was, []byte("pin-source="+pin)))
	if _, _, code := d.run("director", "assign", "device-1", "image-1"); code == 0 {
		t.Error("assigned without the token")
	}
	for _, args := range [][]string{{"director", "list"}, {"director", "list", "--state", "update assigned"}, {"director", "show", "device-1"}, {"director", "list", "--json"}} {
		if out := d.ok(args...); !strings.Contains(out, "update assigned") || !strings.Contains(out, "image-1") {
			t.Errorf("%v: %s", args, out)
		}
	}
	if out := d.ok("director", "list", "--state", "failed"); strings.Contains(out, "device-1") {
		t.Errorf("filtered: %s", out)
	}
	if out := d.ok("director", "allow-replacement", "--for", "1h", "device-1"); !strings.Contains(out, "until") {
		t.Errorf("allow-replacement: %s", out)
	}
	d.write("repo.yaml", was)
	out := d.ok("uptane", "status", "--json")
	var list []uptaneStatusDocument
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) != 8 {
		t.Fatalf("status: %v %s", err, out)
	}
	for _, s := range list {
		held := s.Repository == "director" || s.Role == "snapshot" || s.Role == "timestamp"
		if s.Keys[0].Held != held || s.Expired {
			t.Errorf("%s %s: %+v", s.Repository, s.Role, s)
		}
	}

	// serve runs both: trust and Uptane.
	d.ok("init", d.path("officers"))
	_, _, devices = d.background("serve")
	res := get(t, devices+"/director/targets.json")
	if doc, err := uptane.ParseTargets(uptane.Director, res); err != nil || len(doc.Names()) != 1 {
		t.Errorf("the device's targets: %v %s", err, res)
	}
}

func device(t *testing.T, url string) {
	t.Helper()
	_, key, _ := ed25519.GenerateKey(nil)
	body := fmt.Sprintf(`{"primary_ecu_serial":"ecu-1","ecus":[{"ecu_serial":"ecu-1","hardware_identifier":"board","clientKey":{"keytype":"ED25519","keyval":{"public":"%X"}}}]}`,
		[]byte(key.Public().(ed25519.PublicKey)))
	req, err := http.NewRequest(http.MethodPost, url+"/director/ecus", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set(reposerver.DeviceHeader, "device-1")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusCreated {
		t.Fatalf("registration: %s", res.Status)
	}
}

func get(t *testing.T, url string) []byte {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set(reposerver.DeviceHeader, "device-1")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(res.Body); err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %v", url, res.Status, err)
	}
	return b.Bytes()
}

// TestUptaneFromCeremony starts the repositories with what officers signed over the server's exported keys.
func TestUptaneFromCeremony(t *testing.T) {
	d := vehicles(t)
	d.ok("uptane", "keys", "--out", d.path("public"))
	_, rootKey, _ := ed25519.GenerateKey(nil)
	expires := time.Now().UTC().Truncate(time.Second).Add(100 * 24 * time.Hour)
	root := func(kind uptane.Repository, targets *uptane.Key) []byte {
		key := func(k uptane.Key) uptane.RoleKeys { return uptane.RoleKeys{Keys: []uptane.Key{k}, Threshold: 1} }
		online := func(role string) uptane.RoleKeys {
			k, err := uptane.NewKey(readPublic(t, filepath.Join(d.path("public"), string(kind)+"-"+role+".pub.pem")))
			if err != nil {
				t.Fatal(err)
			}
			return key(k)
		}
		mine, err := uptane.NewKey(rootKey.Public())
		if err != nil {
			t.Fatal(err)
		}
		roles := map[uptane.Role]uptane.RoleKeys{uptane.RoleRoot: key(mine), uptane.RoleSnapshot: online("snapshot"), uptane.RoleTimestamp: online("timestamp")}
		if targets != nil {
			roles[uptane.RoleTargets] = key(*targets)
		} else {
			roles[uptane.RoleTargets] = online("targets")
		}
		doc, err := uptane.NewRoot(uptane.RootConfig{Version: 1, Expires: expires, Roles: roles})
		if err != nil {
			t.Fatal(err)
		}
		data, err := uptane.Sign(doc, rootKey)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	_, targetsKey, _ := ed25519.GenerateKey(nil)
	tk, err := uptane.NewKey(targetsKey.Public())
	if err != nil {
		t.Fatal(err)
	}
	empty, err := uptane.NewTargets(uptane.TargetsConfig{Version: 1, Expires: expires})
	if err != nil {
		t.Fatal(err)
	}
	signed, err := uptane.Sign(empty, targetsKey)
	if err != nil {
		t.Fatal(err)
	}
	imageRoot, targets := d.write("image-root.json", root(uptane.Image, &tk)), d.write("targets.json", signed)
	directorRoot := d.write("director-root.json", root(uptane.Director, nil))
	// The Director's root does not suit the Image repository: the server could not sign.
	if _, errs, code := d.run("uptane", "init", "--image-root", directorRoot, "--image-targets", targets); code == 0 {
		t.Errorf("a root for other keys: %s", errs)
	}
	if _, err := os.Stat(d.path("uptane/image/index.json")); err == nil {
		t.Error("a refused start was written")
	}
	d.ok("uptane", "init", "--image-root", imageRoot, "--image-targets", targets, "--director-root", directorRoot)
	if out := d.ok("uptane", "status"); strings.Count(out, "\n") != 9 {
		t.Errorf("status: %s", out)
	}
}

func TestUptaneConfig(t *testing.T) {
	d := newDesk(t)
	good := "  admin: {listen: \"127.0.0.1:0\", open: true}\n"
	for name, c := range map[string]struct{ section, want string }{
		"nobody may administer":     {"  director: true\n", "name clients"},
		"open to the world":         {"  admin: {listen: \"0.0.0.0:1\", open: true, tls: {certificate: a, key: b}}\n", "loopback"},
		"admin in clear":            {"  admin: {listen: \"0.0.0.0:1\", clients: [{id: a, secret: b, may: [look]}]}\n", "loopback"},
		"a client without rights":   {"  admin: {clients: [{id: a, secret: b}]}\n", "may is missing"},
		"a right that is none":      {"  admin: {clients: [{id: a, secret: b, may: [all]}]}\n", "none of"},
		"certificates without CRL":  {"  admin: {tls: {certificate: a, key: b, clients: c}, operators: [{name: a, may: [look]}]}\n", "revoked"},
		"certificates of anybody":   {"  admin: {tls: {certificate: a, key: b, clients: c}, crl: d}\n", "operators"},
		"operators without a CA":    {"  admin: {clients: [{id: a, secret: b, may: [look]}], operators: [{name: a, may: [look]}]}\n", "operators"},
		"devices of any process":    {good + "  devices: {listen: \"127.0.0.1:0\"}\n", "any process"},
		"devices without gateway":   {good + "  devices: {listen: \"0.0.0.0:1\", tls: {certificate: a, key: b}}\n", "which device"},
		"a curve that devices hate": {good + "  keys: {algorithm: P-256}\n", "devices accept"},
		"two key stores":            {good + "  keys: {token: a, folder: b}\n", "either"},
		"unknown key":               {good + "  keyz: {}\n", "keyz"},
		"a client without a secret": {"  admin: {clients: [{id: a}]}\n", "secret"},
	} {
		d.config("uptane:\n" + c.section)
		if _, errs, code := d.run("uptane", "status"); code != 2 || !strings.Contains(errs, c.want) {
			t.Errorf("%s: exit %d, %s", name, code, errs)
		}
	}
}

// TestRefusedBeforeServing: what 'serve' would refuse is refused by 'uptane init' too, before a key is made, and 'serve' does not
// say before it that it is serving.
func TestRefusedBeforeServing(t *testing.T) {
	d := newDesk(t)
	d.ok("init", d.path("officers"))
	d.write("open.secret", []byte(buildSecret))
	for name, secret := range map[string]string{"build.secret": buildSecret, "short.secret": "short"} {
		d.write(name, []byte(secret))
		if err := os.Chmod(d.path(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	certificate(t, d)
	client := func(secret string) string { return "clients: [{id: a, secret: " + secret + ", may: [look]}]" }
	cases := map[string]struct{ section, want string }{
		"a secret that others may read": {"  admin: {listen: \"127.0.0.1:0\", " + client("open.secret") + "}\n", "open.secret"},
		"a short secret":                {"  admin: {listen: \"127.0.0.1:0\", " + client("short.secret") + "}\n", "at least 16 bytes"},
		"no such secret":                {"  admin: {listen: \"127.0.0.1:0\", " + client("no.secret") + "}\n", "no.secret"},
		"no such certificate":           {"  admin: {listen: \"127.0.0.1:0\", " + client("build.secret") + ", tls: {certificate: none.pem, key: none.key}}\n", "none.pem"},
		"no such CA of gateways":        {"  admin: {listen: \"127.0.0.1:0\", " + client("build.secret") + "}\n  devices: {listen: \"127.0.0.1:0\", tls: {certificate: tls.pem, key: tls.key, clients: none.pem}}\n", "none.pem"},
		"no CRL":                        {"  admin: {listen: \"127.0.0.1:0\", tls: {certificate: tls.pem, key: tls.key, clients: tls.pem}, crl: none.crl, operators: [{name: olga, may: [look]}]}\n", "none.crl"},
		"parts that are too small":      {"  admin: {listen: \"127.0.0.1:0\", " + client("build.secret") + "}\n  uploads: {part_size: 5}\n", "not possible"},
		"a life of a second":            {"  admin: {listen: \"127.0.0.1:0\", " + client("build.secret") + "}\n  lifetimes: {timestamp: 1s}\n", "lifetime"},
	}
	try := func(what string, verbs ...[]string) {
		t.Helper()
		for name, c := range cases {
			d.config("uptane:\n  keys: {algorithm: Ed25519}\n" + c.section)
			for _, verb := range verbs {
				out, errs, code := d.run(verb...)
				if code == 0 || !strings.Contains(errs, c.want) || strings.Contains(out+errs, "serving") {
					t.Errorf("%s, %s, %v: exit %d, %s%s", what, name, verb, code, out, errs)
				}
			}
		}
	}
	try("before there is one", []string{"uptane", "init"})
	if _, err := os.Lstat(d.path("uptane")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a refused init left something: %v", err)
	}
	d.config("uptane:\n  keys: {algorithm: Ed25519}\n  admin: {listen: \"127.0.0.1:0\", " + client("build.secret") + "}\n")
	d.ok("uptane", "init")
	try("at the start", []string{"uptane", "serve"}, []string{"serve"})
}

// TestCredentials: the archive that a command writes is one that a client logs in with.
func TestCredentials(t *testing.T) {
	d := vehicles(t)
	d.ok("uptane", "init")
	_, admin, _ := d.background("uptane", "serve")
	for name, args := range map[string][]string{
		"no login": {"--url", admin}, "no such client": {"--url", admin, "--client", "x"}, "no TLS": {"--url", "http://repo.example", "--client", "build"},
		"a certificate": {"--url", admin, "--p12", "x.p12"},
	} {
		if _, errs, code := d.run(append([]string{"uptane", "credentials", "--out", d.path("c.zip")}, args...)...); code != 2 {
			t.Errorf("%s: exit %d %s", name, code, errs)
		}
		if _, err := os.Lstat(d.path("c.zip")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: written", name)
		}
	}
	d.ok("uptane", "credentials", "--out", d.path("c.zip"), "--url", admin, "--client", "build")
	if info, err := os.Stat(d.path("c.zip")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if _, _, code := d.run("uptane", "credentials", "--out", d.path("c.zip"), "--url", admin, "--client", "build"); code == 0 {
		t.Error("an archive was replaced")
	}
	z, err := zip.OpenReader(d.path("c.zip"))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	files := map[string]string{}
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		data, _ := io.ReadAll(r)
		files[f.Name] = string(data)
	}
	var treehub struct {
		OAuth2 struct {
			Server string `json:"server"`
			ID     string `json:"client_id"`
			Secret string `json:"client_secret"`
		} `json:"oauth2"`
	}
	if err := json.Unmarshal([]byte(files["treehub.json"]), &treehub); err != nil {
		t.Fatal(err)
	}
	client, err := reposerver.NewClient(reposerver.ClientConfig{URL: files["tufrepo.url"], Auth: reposerver.OAuth2{Server: treehub.OAuth2.Server, ClientID: treehub.OAuth2.ID, ClientSecret: treehub.OAuth2.Secret}})
	if err != nil {
		t.Fatal(err)
	}
	if root, err := client.Root(t.Context()); err != nil || string(root) != files["root.json"] {
		t.Errorf("root: %v", err)
	}
}

// TestUptaneInTLS: RSA keys in the token, and both listeners behind mutual TLS.
func TestUptaneInTLS(t *testing.T) {
	d := newDesk(t)
	pool, identity := certificate(t, d)
	ops := newOperations(t, d)
	olga := ops.issue("operator", "olga", 2)
	ops.list(1)
	d.config("uptane:\n  keys: {algorithm: RSA-2048}\n  admin: {listen: \"127.0.0.1:0\", tls: {certificate: tls.pem, key: tls.key, clients: operations.pem}, crl: operations.crl, operators: [{name: olga, may: [publish, hand-over]}]}\n" +
		"  devices: {listen: \"127.0.0.1:0\", tls: {certificate: tls.pem, key: tls.key, clients: tls.pem}}\n")
	d.ok("uptane", "init")
	_, admin, devices := d.background("uptane", "serve")
	with, err := reposerver.NewClient(reposerver.ClientConfig{URL: admin, Auth: reposerver.MTLS{Certificate: olga, Roots: pool}})
	if err != nil {
		t.Fatal(err)
	}
	data, err := with.Root(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	root, err := uptane.ParseRoot(data)
	if err != nil || uptane.VerifyRoot(root) != nil || root.Keys(uptane.RoleRoot).Keys[0].Algorithm() != "RSA-2048" {
		t.Errorf("root: %v", err)
	}
	get := func(certs ...tls.Certificate) error {
		c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: certs}}}
		res, err := c.Get(devices + "/repo/timestamp.json")
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return errors.New(res.Status)
		}
		return nil
	}
	if err := get(identity); err != nil {
		t.Errorf("the gateway: %v", err)
	}
	if err := get(); err == nil {
		t.Error("devices without a gateway are let in")
	}
	without, err := reposerver.NewClient(reposerver.ClientConfig{URL: admin, Roots: pool, RetryDelay: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := without.Root(t.Context()); err == nil {
		t.Error("anybody administers")
	}
}

func certificate(t *testing.T, d *desk) (*x509.CertPool, tls.Certificate) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(nil, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	d.write("tls.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	d.write("tls.key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return pool, tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
