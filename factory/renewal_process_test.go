package factory_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/internal/programtest"
	"github.com/hanaper/hanaper/softhsm"
	"github.com/hanaper/hanaper/trust"
	"github.com/hanaper/hanaper/trust/trusttest"
)

// field is a fleet with everything that renewal takes, each in a process of its own: hanaperd on a SoftHSM token, a gateway that believes a trust
// repository, and an upstream.
type field struct {
	*plant
	t        testing.TB
	dir      string
	world    *trusttest.World
	config   string
	address  string
	hanaperd *daemon
	gateway  *exec.Cmd
	url      string
	root     string
	log      *said
	// root of the gateway's TLS.
	edge identity
}

func newField(t testing.TB, renewal, database string) *field {
	t.Helper()
	f := &field{plant: newPlant(t), t: t, dir: t.TempDir(), edge: newRoot(t, "gateway-root", "Gateway Root")}
	// A CA that is older than the five minutes by which certificates begin early: later ones then begin later.
	f.issuing = f.fleet.issue(t, "factory-ca", ca.Template{Subject: pkix.Name{CommonName: "Factory CA"}, PublicKey: f.key.Public(), NotBefore: time.Now().Add(-30 * time.Minute), NotAfter: inYears(10)})
	f.config, f.address = f.writeConfigFor(t, f.dir, 0, database)
	f.append(f.config, renewal)
	f.hanaperd = start(t, programtest.Dir(t), f.config)
	t.Cleanup(func() { f.hanaperd.kill() })

	f.world = trusttest.NewAt(t, time.Now().Truncate(time.Second))
	f.world.Root, f.world.Issuing = trusttest.CA{Cert: f.fleet.cert, Key: f.fleet.key}, trusttest.CA{}
	f.world.Content.Anchors, f.world.Content.Intermediates = []*x509.Certificate{f.fleet.cert}, []*x509.Certificate{f.issuing}
	f.world.Content.CRLs = [][]byte{f.world.MakeCRL(f.world.Root, 1)}
	f.world.Offline = nil
	f.world.Rebuild()
	f.world.Pin = trust.PinRoot(f.world.Offline["metadata/1.root.json"])
	f.world.Import()
	f.publish()

	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "hello %s", r.Header.Get("x-ats-device-uuid"))
	}))
	t.Cleanup(upstream.Close)
	if err := os.WriteFile(filepath.Join(f.dir, "1.root.json"), f.world.Offline["metadata/1.root.json"], 0o600); err != nil {
		t.Fatal(err)
	}
	f.edge.leaf(t, "server", ca.Template{Subject: pkix.Name{CommonName: "gateway"}, IPs: []net.IP{net.IPv4(127, 0, 0, 1)}}).write(t, f.dir, "edge")
	f.plant.gateway(t, "gw-1").write(t, f.dir, "gateway-client")
	f.root = writePEM(t, filepath.Join(f.dir, "gateway-root.pem"), "CERTIFICATE", f.edge.cert.Raw)
	// A port that is free now, and the same after a restart.
	own := programtest.FreeAddress(t)
	f.append(filepath.Join(f.dir, "gateway.yaml"), fmt.Sprintf(`listen: %s
environment: test
tls: {certificate: edge.pem, key: edge.key}
trust: {source: %q, root: 1.root.json, state: trust-state, interval: 100ms}
registry: {path: devices.db}
upstream: {url: %q}
renewal: {url: "https://%s", ca: operations-root.pem, certificate: gateway-client.pem, key: gateway-client.key, timeout: 10s}
`, own, f.world.Dir, upstream.URL, f.address))
	f.startGateway()
	t.Cleanup(func() { f.killGateway() })
	return f
}

func (f *field) append(path, text string) {
	f.t.Helper()
	b, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		f.t.Fatal(err)
	}
	if err := os.WriteFile(path, append(b, text...), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

// publish takes hanaperd's list into the trust repository, unless it has it.
func (f *field) publish() {
	f.t.Helper()
	var der []byte
	f.until("hanaperd published no list", func() bool {
		var err error
		der, err = os.ReadFile(filepath.Join(f.dir, "factory-ca.crl"))
		return err == nil
	})
	f.world.Now = time.Now().Truncate(time.Second)
	if err := f.world.Publish(func(p *trust.Publisher) error { return p.AddCRL(der) }); err != nil && !strings.Contains(err.Error(), "number") {
		f.t.Fatal(err)
	}
}

// until waits for what must come to be; a loaded machine has its time.
func (f *field) until(else_ string, is func() bool) {
	f.t.Helper()
	for end := time.Now().Add(2 * time.Minute); !is(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			f.t.Fatalf("%s\nhanaperd: %s\ngateway: %s", else_, f.hanaperd.log.String(), f.log)
		}
	}
}

func (f *field) killGateway() {
	_ = f.gateway.Process.Signal(syscall.SIGKILL)
	_ = f.gateway.Wait()
}

var gatewayListens = regexp.MustCompile(`msg=listening addr=(\S+)`)

func (f *field) startGateway() {
	f.t.Helper()
	f.log = &said{}
	f.gateway = exec.Command(programtest.Path(f.t, "hanaper-gateway"), "serve", "--config", filepath.Join(f.dir, "gateway.yaml"))
	out, err := f.gateway.StderrPipe()
	if err != nil {
		f.t.Fatal(err)
	}
	if err := f.gateway.Start(); err != nil {
		f.t.Fatal(err)
	}
	log := f.log
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			log.add(lines.Text())
		}
	}()
	f.until("the gateway does not listen", func() bool {
		m := gatewayListens.FindStringSubmatch(log.String())
		if m != nil && f.url == "" { // the same after a restart
			f.url = "https://" + m[1]
		}
		return m != nil
	})
}

// device has a station enrol one, and lays out its folder as a station does.
func (f *field) device(id string) string {
	f.t.Helper()
	c, err := factory.NewClient(factory.ClientConfig{URL: "https://" + f.address, CA: []*x509.Certificate{f.operations.cert}, Identity: f.station(f.t, "line-1").tls(), Timeout: 20 * time.Second})
	if err != nil {
		f.t.Fatal(err)
	}
	key := newKey(f.t)
	a, _, err := c.Enroll(context.Background(), deviceRequest(f.t, key, id))
	if err != nil {
		f.t.Fatal(err)
	}
	dir := filepath.Join(f.dir, "devices", id)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		f.t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		f.t.Fatal(err)
	}
	writePEM(f.t, filepath.Join(dir, "pkey.pem"), "PRIVATE KEY", der)
	f.append(filepath.Join(dir, "client.pem"), a.Chain)
	return dir
}

// renewed runs the documented script and gives its exit code.
func (f *field) renewed(dir string, args ...string) (int, string) {
	f.t.Helper()
	script, err := filepath.Abs("../docs/examples/renew-device.sh")
	if err != nil {
		f.t.Fatal(err)
	}
	var said bytes.Buffer
	cmd := exec.Command("sh", append([]string{script, f.url, f.root, dir}, args...)...)
	cmd.Env = append(os.Environ(), softhsm.ForTest(f.t).Env()...)
	cmd.Stdout, cmd.Stderr = &said, &said
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		f.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), said.String()
}

// whoami asks the upstream through the gateway.
func (f *field) whoami(pair tls.Certificate) (string, error) {
	roots := x509.NewCertPool()
	roots.AddCert(f.edge.cert)
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}}}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr, Timeout: 20 * time.Second}).Get(f.url + "/whoami")
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

func (f *field) pair(dir string) tls.Certificate {
	f.t.Helper()
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "client.pem"), filepath.Join(dir, "pkey.pem"))
	if err != nil {
		f.t.Fatal(err)
	}
	return pair
}

const renewalSection = `devices: {days: 30, minimum_days: 1}
renewal: {from_days: 36500, interval: 1s, per_year: 100, key: any, overlap: 24h}
`

// TestRenewalInTheField: openssl and curl renew, through the gateway's process, at hanaperd's process with a token, with the same key and with a
// new one. The new certificate is admitted; the old one is refused once the list came through that says that it is over.
func TestRenewalInTheField(t *testing.T) {
	f := newField(t, renewalSection, "")
	for n, kind := range []string{"same", "new"} {
		dir := f.device("dev-" + kind)
		old := f.pair(dir)
		if said, err := f.whoami(old); err != nil || said != "hello dev-"+kind {
			t.Fatal(said, err)
		}
		// Gateways take a new key only with a certificate that begins in a later second.
		for begun := time.Now().Unix(); time.Now().Unix() == begun; time.Sleep(50 * time.Millisecond) {
		}
		if code, said := f.renewed(dir, kind); code != 0 {
			t.Fatalf("%d %s\n%s\n%s", code, said, f.hanaperd.log.String(), f.log)
		}
		next := f.pair(dir)
		if bytes.Equal(next.Certificate[0], old.Certificate[0]) || ca.SameKey(next.Leaf.PublicKey, old.Leaf.PublicKey) != (kind == "same") || next.Leaf.Subject.String() != old.Leaf.Subject.String() {
			t.Fatalf("%s: %s %s", kind, next.Leaf.Subject, next.Leaf.SerialNumber)
		}
		if said, err := f.whoami(old); err != nil || said != "hello dev-"+kind {
			t.Errorf("the old certificate is refused before the new one was seen: %s %v", said, err)
		}
		if said, err := f.whoami(next); err != nil || said != "hello dev-"+kind {
			t.Fatal(said, err)
		}
		f.until("hanaperd does not end the old certificate", func() bool { return strings.Count(f.hanaperd.log.String(), "superseded") > n })
		f.until("the old certificate is admitted still", func() bool {
			f.publish()
			_, err := f.whoami(old)
			return err != nil
		})
		if said, err := f.whoami(next); err != nil || said != "hello dev-"+kind {
			t.Error(said, err)
		}
	}
	// Refused by what the policy says, in hanaperd's words.
	dir := f.device("dev-3")
	pair := f.pair(dir)
	answer, err := exec.Command("curl", "--silent", "--show-error", "--cacert", f.root, "--cert", filepath.Join(dir, "client.pem"), "--key", filepath.Join(dir, "pkey.pem"),
		"-H", "Content-Type: application/pkcs10", "--data-binary", "AAAA", f.url+"/.well-known/est/simplereenroll").CombinedOutput()
	if err != nil || !strings.Contains(string(answer), "certification request") {
		t.Errorf("%s %v", answer, err)
	}
	if said, err := f.whoami(pair); err != nil || said != "hello dev-3" {
		t.Error(said, err)
	}
}
