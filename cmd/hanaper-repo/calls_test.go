package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/internal/programtest"
	"github.com/hanaper/hanaper/trust/trusttest"
	"github.com/hanaper/hanaper/uptane/devicetest"
)

// throughGateway is a way to a gateway that runs as a program of its own, before this desk's socket for devices.
func (d *desk) throughGateway(device string) (url string, client *http.Client) {
	d.t.Helper()
	world := trusttest.NewAt(d.t, time.Now().Truncate(time.Second))
	world.Import()
	world.AddCRL(1)
	dir := d.t.TempDir()
	file := func(name, kind string, der []byte, err error) {
		if err == nil {
			err = os.WriteFile(dir+"/"+name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
		}
		if err != nil {
			d.t.Fatal(err)
		}
	}
	issue := func(name string, usage x509.ExtKeyUsage, ca *trusttest.CA) (*ecdsa.PrivateKey, []byte) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			d.t.Fatal(err)
		}
		tmpl := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{"localhost"}, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{usage}}
		parent, signer := tmpl, any(key)
		if ca != nil {
			tmpl.DNSNames, parent, signer = nil, ca.Cert, ca.Key
		}
		der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, key.Public(), signer)
		if err != nil {
			d.t.Fatal(err)
		}
		return key, der
	}
	serverKey, server := issue("gateway", x509.ExtKeyUsageServerAuth, nil)
	der, err := x509.MarshalPKCS8PrivateKey(serverKey)
	file("gateway.key", "PRIVATE KEY", der, err)
	file("gateway.pem", "CERTIFICATE", server, nil)
	if err := os.WriteFile(dir+"/1.root.json", world.Offline["metadata/1.root.json"], 0o600); err != nil {
		d.t.Fatal(err)
	}
	config := fmt.Sprintf("listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\nenvironment: test\ntls: {certificate: gateway.pem, key: gateway.key}\ntrust: {source: %q, root: 1.root.json, state: state}\nregistry: {path: devices.db}\nupstream: {url: %q}\n",
		world.Dir, "unix:"+d.path("devices.sock"))
	if err := os.WriteFile(dir+"/gateway.yaml", []byte(config), 0o600); err != nil {
		d.t.Fatal(err)
	}
	cmd := exec.Command(programtest.Path(d.t, "hanaper-gateway"), "serve", "--config", dir+"/gateway.yaml")
	out, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	lines, listening, said := bufio.NewScanner(out), regexp.MustCompile(`msg=listening addr=(\S+)`), ""
	for url == "" && lines.Scan() {
		said += lines.Text() + "\n"
		if m := listening.FindStringSubmatch(lines.Text()); m != nil {
			url = "https://" + m[1]
		}
	}
	if url == "" {
		d.t.Fatalf("the gateway does not listen:\n%s", said)
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	key, cert := issue(device, x509.ExtKeyUsageClientAuth, &world.Issuing)
	roots := x509.NewCertPool()
	roots.AddCert(mustParse(d.t, server))
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "localhost", Certificates: []tls.Certificate{{Certificate: [][]byte{cert}, PrivateKey: key}}}}
	d.t.Cleanup(tr.CloseIdleConnections)
	return url, &http.Client{Transport: tr, Timeout: 20 * time.Second}
}

func mustParse(t *testing.T, der []byte) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestNoCallIsNotFound: through a gateway with this program alone behind it, no call of the real client is answered 404, but the one for the next root,
// which does not exist yet: for a device that is updated, and for one that has not registered. devicetest is the client, and the list of its calls is that of
// what was seen in the field.
func TestNoCallIsNotFound(t *testing.T) {
	d := vehicles(t)
	d.config("uptane:\n  keys: {algorithm: Ed25519}\n  admin: {listen: \"127.0.0.1:0\", clients: [{id: build, secret: build.secret, may: [publish, hand-over, assign, remove, look]}]}\n  devices: {listen: \"unix:devices.sock\"}\n")
	d.ok("uptane", "init")
	f := &fleetUnderFire{t: t, desk: d, browser: &http.Client{Timeout: 20 * time.Second}, gateway: &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", d.path("devices.sock"))
	}}}}
	server := f.start()
	if server == nil {
		t.FailNow()
	}
	t.Cleanup(func() { _ = server.Process.Kill(); _ = server.Wait() })
	content := strings.Repeat("an image ", 1000)
	f.publish(map[string]string{"image-0": content, "image-1": "other"})
	url, client := d.throughGateway("vin-1")

	call := func(method, path, kind, body string, header ...string) (int, string) {
		t.Helper()
		req, err := http.NewRequest(method, url+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if kind != "" {
			req.Header.Set("Content-Type", kind)
		}
		for i := 0; i+1 < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatalf("%s %s: %v", method, path, err)
		}
		defer resp.Body.Close()
		answer, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Errorf("%s %s: %v", method, path, err)
		}
		return resp.StatusCode, string(answer)
	}
	type one struct {
		method, path, kind, body string
		before, after            int // what a device is answered that has not registered yet, and one that has
	}
	calls := []one{
		{"GET", "/director/1.root.json", "", "", 200, 200}, {"GET", "/director/2.root.json", "", "", 404, 404}, {"GET", "/director/root.json", "", "", 200, 200},
		{"GET", "/director/targets.json", "", "", 409, 200}, {"GET", "/director/snapshot.json", "", "", 409, 200}, {"GET", "/director/timestamp.json", "", "", 409, 200},
		{"PUT", "/director/manifest", "application/json", "{}", 400, 400},
		{"GET", "/repo/1.root.json", "", "", 200, 200}, {"GET", "/repo/2.root.json", "", "", 200, 200}, {"GET", "/repo/3.root.json", "", "", 404, 404}, {"GET", "/repo/root.json", "", "", 200, 200},
		{"GET", "/repo/timestamp.json", "", "", 200, 200}, {"GET", "/repo/snapshot.json", "", "", 200, 200}, {"GET", "/repo/targets.json", "", "", 200, 200},
		{"GET", "/repo/targets/image-0", "", "", 200, 200},
		{"PUT", "/system_info", "application/json", `{"class":"system"}`, 409, 200}, {"PUT", "/system_info/network", "application/json", `{"hostname":"a"}`, 409, 200},
		{"POST", "/system_info/config", "application/toml", "[uptane]\n", 409, 200}, {"PUT", "/core/installed", "application/json", `[]`, 409, 200},
		{"POST", "/events", "application/json", `[{"id":"1","deviceTime":"2026-01-02T03:04:05Z","eventType":{"id":"a","version":0},"event":{}}]`, 409, 200},
		{"GET", "/campaigner/campaigns", "", "", 200, 200},
		// What this server does not serve says so, and not that it is not there.
		{"GET", "/treehub/config", "", "", 501, 501}, {"GET", "/treehub/objects/ab/c.commit", "", "", 501, 501}, {"POST", "/devices", "application/json", `{"deviceId":"x","ttl":1}`, 501, 501},
	}
	walk := func(registered bool) {
		t.Helper()
		for _, c := range calls {
			want := c.before
			if registered {
				want = c.after
			}
			if status, answer := call(c.method, c.path, c.kind, c.body); status != want {
				t.Errorf("registered %v: %s %s: %d %.200s, want %d", registered, c.method, c.path, status, answer, want)
			}
		}
	}
	walk(false)
	root := func(repo string) []byte {
		_, data := call("GET", "/"+repo+"/root.json", "", "")
		return []byte(data)
	}
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte("factory"))
	dev, err := devicetest.New(devicetest.Config{Dir: t.TempDir(), URL: url, HTTP: client, Primary: devicetest.ECU{Serial: "e", HardwareID: "board", Key: key}, DirectorRoot: root("director"), ImageRoot: root("repo"),
		Factory: devicetest.Image{Name: "factory", Length: 7, SHA256: hex.EncodeToString(sum[:])}, DirectorSnapshot: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := dev.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.ask("", http.MethodPut, "/api/v1/director/admin/devices/vin-1/assignment", []byte(`{"target":"image-0"}`))
	if err := dev.Cycle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := dev.Installed("e"); got.Name != "image-0" {
		t.Errorf("installed: %+v", got)
	}
	walk(true)
	// A download that goes on where it ended.
	if status, answer := call("GET", "/repo/targets/image-0", "", "", "Range", "bytes=8995-"); status != http.StatusPartialContent || answer != content[8995:] {
		t.Errorf("a range: %d %q", status, answer)
	}
	for _, c := range dev.Calls {
		if strings.HasSuffix(c, ".root.json") || c == "POST /director/ecus" {
			continue
		}
		if !slices.ContainsFunc(calls, func(o one) bool { return o.method+" "+o.path == c }) {
			t.Errorf("the client calls %s, which the list has not", c)
		}
	}
}
