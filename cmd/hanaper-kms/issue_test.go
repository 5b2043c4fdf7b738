package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/csr"
	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/internal/programtest"
)

func must[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// identity is a certificate with its software key.
type identity struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func newRoot(t testing.TB, kind string) identity {
	key := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	p := must[*ca.Prepared](t)(ca.PrepareRoot(must[*ca.Profile](t)(ca.Builtin(kind)), ca.Template{Subject: pkix.Name{CommonName: kind}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(20, 0, 0)}, key, rand.Reader))
	return identity{must[*x509.Certificate](t)(p.Sign(context.Background(), rand.Reader)), key}
}

func (i identity) issue(t testing.TB, kind string, years int, tmpl ca.Template) identity {
	var key crypto.Signer
	if tmpl.PublicKey == nil {
		key = must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
		tmpl.PublicKey = key.Public()
	}
	tmpl.NotBefore, tmpl.NotAfter = time.Now().Add(-time.Minute), time.Now().AddDate(years, 0, 0)
	issuer := must[*ca.Issuer](t)(ca.NewIssuer(i.cert, i.key))
	p := must[*ca.Prepared](t)(issuer.Prepare(must[*ca.Profile](t)(ca.Builtin(kind)), tmpl, rand.Reader))
	return identity{must[*x509.Certificate](t)(p.Sign(context.Background(), rand.Reader)), key}
}

// plant is a hanaperd whose issuing key lies in a store.
type plant struct {
	t       *testing.T
	dir     string
	address string
	serving *exec.Cmd
}

func (p *plant) path(name string) string { return filepath.Join(p.dir, name) }

func (p *plant) write(name, text string) {
	p.t.Helper()
	if err := os.WriteFile(p.path(name), []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

func (p *plant) certificate(name string, i identity) {
	p.t.Helper()
	p.write(name+".pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.cert.Raw})))
	if i.key != nil {
		if err := factory.WriteKey(p.path(name+".key"), i.key); err != nil {
			p.t.Fatal(err)
		}
	}
}

// run runs a program in the plant's folder, with nobody to ask.
func (p *plant) run(args ...string) (string, error) {
	cmd := exec.Command(filepath.Join(programtest.Dir(p.t), args[0]), args[1:]...)
	cmd.Dir = p.dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func newPlant(t *testing.T, key string) *plant {
	p := &plant{t: t, dir: t.TempDir()}
	l := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	p.address = l.Addr().String()
	l.Close()
	fleet, operations := newRoot(t, "fleet-root"), newRoot(t, "operations-root")
	p.certificate("fleet-root", identity{cert: fleet.cert})
	p.certificate("operations-root", identity{cert: operations.cert})
	p.certificate("gateway-root", identity{cert: newRoot(t, "gateway-root").cert})
	p.certificate("hanaperd", operations.issue(t, "server", 1, ca.Template{Subject: pkix.Name{CommonName: "hanaperd"}, IPs: []net.IP{net.IPv4(127, 0, 0, 1)}}))
	p.certificate("station", operations.issue(t, "station", 1, ca.Template{Subject: pkix.Name{CommonName: "line-1"}, URIs: []*url.URL{ca.StationURI("line-1")}}))
	p.write("hanaperd.yaml", fmt.Sprintf("listen: %s\nstate: state\nissuing: {key: %q, certificate: ca.pem, fleet_root: fleet-root.pem}\ntls: {certificate: hanaperd.pem, key: hanaperd.key}\noperations: {root: operations-root.pem}\ncrl: {file: ca.crl}\n", p.address, key))
	p.write("station.yaml", fmt.Sprintf("factory: {url: \"https://%s\", ca: operations-root.pem, certificate: station.pem, key: station.key}\nfleet_root: fleet-root.pem\ndevice: {id: dev-0, hardware_id: board, key_store: file}\ngateway: {url: \"https://gateway.example:8443\", root: gateway-root.pem}\n", p.address))
	if out, err := p.run("hanaperd", "csr", "--config", "hanaperd.yaml", "--common-name", "Plant 7 CA", "--organization", "Example", "--out", "ca.csr"); err != nil || !strings.Contains(out, "unread: the store tells none") {
		t.Fatalf("hanaperd csr: %v\n%s", err, out)
	}
	q := must[*csr.Request](t)(csr.Parse(must[[]byte](t)(os.ReadFile(p.path("ca.csr"))), csr.CAPolicy()))
	p.certificate("ca", fleet.issue(t, "factory-ca", 10, ca.Template{Subject: pkix.Name{CommonName: "Plant 7 CA", Organization: []string{"Example"}}, PublicKey: q.PublicKey()}))
	return p
}

func (p *plant) serve() {
	p.t.Helper()
	log := must[*os.File](p.t)(os.OpenFile(p.path("hanaperd.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600))
	defer log.Close()
	p.serving = exec.Command(filepath.Join(programtest.Dir(p.t), "hanaperd"), "serve", "--config", "hanaperd.yaml")
	p.serving.Dir, p.serving.Stdout, p.serving.Stderr = p.dir, log, log
	p.serving.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.serving.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = p.serving.Process.Signal(syscall.SIGTERM); _ = p.serving.Wait() })
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("tcp", p.address); err == nil {
			c.Close()
			return
		}
		if time.Now().After(end) {
			p.t.Fatalf("hanaperd does not serve:\n%s", must[[]byte](p.t)(os.ReadFile(p.path("hanaperd.log"))))
		}
	}
}

// enrol has a station give a device its certificate, which openssl verifies.
func (p *plant) enrol(id string) {
	p.t.Helper()
	if out, err := p.run("hanaper-station", "enroll", "--config", "station.yaml", "--device-id", id, "--import", "import-"+id); err != nil {
		p.t.Fatalf("%s: %v\n%s\n%s", id, err, out, must[[]byte](p.t)(os.ReadFile(p.path("hanaperd.log"))))
	}
	cmd := exec.Command("openssl", "verify", "-x509_strict", "-CAfile", "fleet-root.pem", "-untrusted", "ca.pem", "import-"+id+"/client.pem")
	cmd.Dir = p.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		p.t.Fatalf("openssl verify: %v\n%s", err, out)
	}
}

// child is the process that serves the store.
func (p *plant) child() int {
	p.t.Helper()
	out, err := exec.Command("ps", "-o", "pid=,args=", "--ppid", fmt.Sprint(p.serving.Process.Pid)).Output()
	if err != nil {
		p.t.Fatalf("ps: %v", err)
	}
	for line := range strings.Lines(string(out)) {
		var pid int
		if _, err := fmt.Sscan(line, &pid); err == nil && strings.Contains(line, "hanaper-kms") {
			return pid
		}
	}
	p.t.Fatalf("hanaperd has no child hanaper-kms:\n%s", out)
	return 0
}

// TestIssuingCA: hanaperd makes its key in a store, or finds it there, issues with it, and goes on when the process that serves the
// store is killed or stopped.
func TestIssuingCA(t *testing.T) {
	stores := map[string]func(t *testing.T) string{
		"softkms": func(t *testing.T) string {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "pass"), []byte("a pass phrase\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			return "softkms:" + filepath.Join(dir, "ca.pem") + "?pin-source=" + filepath.Join(dir, "pass")
		},
		"tpmkms": func(t *testing.T) string {
			dir := must[string](t)(os.MkdirTemp("", "tpm"))
			t.Cleanup(func() { _ = os.RemoveAll(dir) })
			start(t, filepath.Join(dir, "s"), "swtpm", "socket", "--tpm2", "--tpmstate", "dir="+dir, "--server", "type=unixio,path="+filepath.Join(dir, "s"), "--ctrl", "type=unixio,path="+filepath.Join(dir, "c"), "--flags", "not-need-init,startup-clear")
			return "tpmkms:name=ca;storage-directory=" + t.TempDir() + ";device=" + filepath.Join(dir, "s")
		},
		"sshagentkms": func(t *testing.T) string {
			dir := t.TempDir()
			socket := filepath.Join(dir, "agent")
			start(t, socket, "ssh-agent", "-D", "-a", socket)
			for _, args := range [][]string{{"ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "plant 7 ca", "-f", filepath.Join(dir, "id")}, {"ssh-add", "-q", filepath.Join(dir, "id")}} {
				cmd := exec.Command(args[0], args[1:]...)
				cmd.Env = append(os.Environ(), "SSH_AUTH_SOCK="+socket)
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("%v: %v\n%s", args, err, out)
				}
			}
			return "sshagentkms:comment=plant%207%20ca;socket=" + socket
		},
	}
	for name, store := range stores {
		t.Run(name, func(t *testing.T) {
			p := newPlant(t, store(t))
			p.serve()
			p.enrol("dev-1")
			first := p.child()
			if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			p.enrol("dev-2")
			if err := syscall.Kill(p.child(), syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			p.enrol("dev-3")
			if second := p.child(); second == first {
				t.Error("the child was not started anew")
			}
			crl := must[*x509.RevocationList](t)(x509.ParseRevocationList(must[[]byte](t)(os.ReadFile(p.path("ca.crl")))))
			issuer := must[[]byte](t)(os.ReadFile(p.path("ca.pem")))
			block, _ := pem.Decode(issuer)
			if err := crl.CheckSignatureFrom(must[*x509.Certificate](t)(x509.ParseCertificate(block.Bytes))); err != nil {
				t.Errorf("CRL: %v", err)
			}
		})
	}
}

func start(t *testing.T, socket, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	var said bytes.Buffer
	cmd.Stderr = &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for range 1000 {
		if _, err := os.Stat(socket); err == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%s does not start: %s", name, said.String())
}
