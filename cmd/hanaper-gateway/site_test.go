package main

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hanaper/hanaper/internal/programtest"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/trust/trusttest"
)

// run calls the program within this process.
func run(args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	a := app()
	a.Writer, a.ErrWriter = &out, &errs
	code = shell.Run(a, append([]string{"hanaper-gateway"}, args...))
	return code, out.String(), errs.String()
}

// site is an environment with real signed trust, an upstream, and a gateway's folder.
type site struct {
	*testing.T
	world    *trusttest.World
	dir      string
	server   trusttest.CA
	upstream *httptest.Server
}

var listening = regexp.MustCompile(`msg=listening addr=(\S+) admin=(\S+)`)

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{T: t, world: trusttest.NewAt(t, time.Now().Truncate(time.Second)), dir: t.TempDir()}
	s.world.Import()
	s.world.AddCRL(1)
	s.upstream = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "hello %s", r.Header.Get("x-ats-device-uuid"))
	}))
	t.Cleanup(s.upstream.Close)
	s.server = s.tlsIdentity("gateway", time.Now().Add(time.Hour))
	s.writePair("gateway", s.server)
	s.write("1.root.json", s.world.Offline["metadata/1.root.json"])
	s.write("gateway.yaml", []byte(s.config()))
	return s
}

func (s *site) config() string {
	return fmt.Sprintf(`listen: 127.0.0.1:0
admin: 127.0.0.1:0
environment: test
tls: {certificate: gateway.pem, key: gateway.key}
trust: {source: %q, root: 1.root.json, state: state, interval: 100ms}
registry: {path: devices.db}
upstream: {url: %q}
`, s.world.Dir, s.upstream.URL)
}

func (s *site) tlsIdentity(name string, until time.Time) trusttest.CA {
	s.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		s.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: until, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		s.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		s.Fatal(err)
	}
	return trusttest.CA{Cert: cert, Key: key}
}

func (s *site) path(name string) string { return filepath.Join(s.dir, name) }

func (s *site) write(name string, data []byte) string {
	s.Helper()
	if err := os.WriteFile(s.path(name), data, 0o600); err != nil {
		s.Fatal(err)
	}
	return s.path(name)
}

func (s *site) writePair(name string, c trusttest.CA) {
	s.Helper()
	s.write(name+".pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Cert.Raw}))
	der, err := x509.MarshalPKCS8PrivateKey(c.Key)
	if err != nil {
		s.Fatal(err)
	}
	s.write(name+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// running is the program as a process of its own.
type running struct {
	*site
	cmd   *exec.Cmd
	addr  string
	admin string
	mu    sync.Mutex
	log   strings.Builder
	ended chan error
}

func (s *site) serve() *running {
	s.Helper()
	path := programtest.Path(s, "hanaper-gateway")
	r := &running{site: s, cmd: exec.Command(path, "serve", "--config", s.path("gateway.yaml")), ended: make(chan error, 1)}
	out, err := r.cmd.StderrPipe()
	if err != nil {
		s.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { r.cmd.Process.Kill() })
	ready := make(chan []string, 1)
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			r.mu.Lock()
			r.log.WriteString(lines.Text() + "\n")
			r.mu.Unlock()
			if m := listening.FindStringSubmatch(lines.Text()); m != nil {
				ready <- m
			}
		}
		r.ended <- r.cmd.Wait()
	}()
	select {
	case m := <-ready:
		r.addr, r.admin = m[1], m[2]
	case err := <-r.ended:
		s.Fatalf("serve ended: %v\n%s", err, r.said())
	case <-time.After(time.Minute):
		s.Fatalf("serve does not listen\n%s", r.said())
	}
	return r
}

func (r *running) said() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.String()
}

func (r *running) stop() {
	r.Helper()
	r.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-r.ended:
		if err != nil {
			r.Errorf("serve: %v\n%s", err, r.said())
		}
	case <-time.After(time.Minute):
		r.Error("serve does not stop")
	}
}

// await waits until cond holds.
func (r *running) await(what string, cond func() bool) {
	r.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if cond() {
			return
		}
	}
	r.Fatalf("waited for %s in vain\n%s", what, r.said())
}

func (s *site) tlsConfig(d trusttest.CA) *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(s.server.Cert)
	return &tls.Config{RootCAs: roots, ServerName: "localhost", Certificates: []tls.Certificate{{Certificate: [][]byte{d.Cert.Raw}, PrivateKey: d.Key}}}
}

func (r *running) get(d trusttest.CA) (int, string, error) {
	tr := &http.Transport{TLSClientConfig: r.tlsConfig(d)}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr, Timeout: 10 * time.Second}).Get("https://" + r.addr + "/x")
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

func (r *running) served(d trusttest.CA) {
	r.Helper()
	status, body, err := r.get(d)
	if err != nil || status != 200 || body != "hello "+d.Cert.Subject.CommonName {
		r.Fatalf("%d %q %v\n%s", status, body, err, r.said())
	}
}

func (r *running) refused(d trusttest.CA, reason string) {
	r.Helper()
	if status, body, err := r.get(d); err == nil && status == 200 {
		r.Errorf("served: %q, want a refusal: %s", body, reason)
	}
	r.await("a log line with reason="+reason, func() bool { return strings.Contains(r.said(), "reason="+reason) })
}
