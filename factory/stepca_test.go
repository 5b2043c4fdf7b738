package factory_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/hanaper/hanaper/csr"
	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/internal/programtest"
	"github.com/hanaper/hanaper/softhsm"
)

// stepCA is a real step-ca, a process of its own.
type stepCA struct {
	dir string
	// url is where it answers; server is the CA of its own TLS certificate.
	url, insecure string
	server        identity
	// challenges is the address that it asks for http-01.
	challenges string
	process    int
}

// freeAddress is an address of this machine that is free now.
func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func serialNumber() *big.Int {
	b := make([]byte, 16)
	_, _ = rand.Read(b)
	return new(big.Int).SetBytes(append([]byte{0x40}, b...))
}

// newServerCA makes the small CA of a step-ca's own TLS certificate.
func newServerCA(t testing.TB) identity {
	t.Helper()
	key := newKey(t)
	tmpl := &x509.Certificate{SerialNumber: serialNumber(), Subject: pkix.Name{CommonName: "step-ca's own"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: inYears(1),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return identity{cert, key}
}

// startStepCA starts a step-ca with this authority and what else its configuration says, and waits until it answers.
func startStepCA(t testing.TB, s *stepCA, config map[string]any) {
	t.Helper()
	address := freeAddress(t)
	s.url = "https://" + address
	all := map[string]any{"address": address, "dnsNames": []string{"127.0.0.1"}, "db": map[string]string{"type": "badgerv2", "dataSource": filepath.Join(s.dir, "db")},
		"logger": map[string]string{"format": "json"}}
	for k, v := range config {
		all[k] = v
	}
	text, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(s.dir, "ca.json")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(s.challenges)
	args := []string{"--quiet"}
	if s.challenges != "" {
		args = append(args, "--insecure", "--acme-http-port", port, "--resolver", resolver(t))
	}
	cmd := exec.Command(programtest.StepCA(t), append(args, path)...)
	cmd.Env = append(os.Environ(), append(softhsm.ForTest(t).Env(), "STEPPATH="+s.dir, "HOME="+s.dir)...)
	// Its log goes into a file: reading it would be this process's work.
	log, err := os.Create(filepath.Join(s.dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	said := func() string {
		text, _ := os.ReadFile(log.Name())
		return string(text[max(0, len(text)-20_000):])
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.process = cmd.Process.Pid
	done := make(chan struct{})
	go func() { _ = cmd.Wait(); close(done) }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			_ = cmd.Process.Kill()
			<-done
		}
		if t.Failed() {
			t.Logf("step-ca said: %s", said())
		}
	})
	for {
		select {
		case <-done:
			t.Fatalf("step-ca ended: %s", said())
		case <-time.After(50 * time.Millisecond):
		}
		if resp, err := s.client().Get(s.url + "/health"); err == nil {
			resp.Body.Close()
			return
		}
	}
}

// client trusts the CA of step-ca's own certificate.
func (s *stepCA) client() *http.Client {
	pool := x509.NewCertPool()
	pool.AddCert(s.server.cert)
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}, Timeout: 20 * time.Second}
}

// resolver answers that every name is this machine.
func resolver(t testing.TB) string {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		b := make([]byte, 1500)
		for {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			var q dnsmessage.Message
			if q.Unpack(b[:n]) != nil || len(q.Questions) != 1 {
				continue
			}
			a := dnsmessage.Message{Header: dnsmessage.Header{ID: q.ID, Response: true, RecursionAvailable: true}, Questions: q.Questions}
			if q.Questions[0].Type == dnsmessage.TypeA {
				a.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: q.Questions[0].Name, Class: dnsmessage.ClassINET, TTL: 60}, Body: &dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}}}}
			}
			if out, err := a.Pack(); err == nil {
				_, _ = c.WriteTo(out, from)
			}
		}
	}()
	return c.LocalAddr().String()
}

// throughHanaperd starts hanaperd, and a step-ca that is its station.
func throughHanaperd(t *testing.T, p *plant, operator bool, provisioners ...any) (*stepCA, *factory.Client) {
	t.Helper()
	return throughProfile(t, p, operator, "", provisioners...)
}

// throughProfile is throughHanaperd with a profile for all devices, if one is given.
func throughProfile(t *testing.T, p *plant, operator bool, profile string, provisioners ...any) (*stepCA, *factory.Client) {
	t.Helper()
	dir := t.TempDir()
	config, address := p.writeConfig(t, dir)
	if profile != "" {
		text, err := os.ReadFile(config)
		if err == nil {
			err = os.WriteFile(config, append(text, "profiles: [gate.yaml]\ndevices: {profile: gate}\n"...), 0o600)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "gate.yaml"), []byte("name: gate\n"+profile), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	d := start(t, programtest.Dir(t), config)
	t.Cleanup(func() { d.stop() })
	s := &stepCA{dir: t.TempDir(), challenges: freeAddress(t), insecure: freeAddress(t), server: newServerCA(t)}
	at := func(cert, key string) map[string]string { return map[string]string{"certificate": cert, "key": key} }
	conf := map[string]string{"root": filepath.Join(dir, "operations-root.pem"), "fleetRoot": filepath.Join(dir, "fleet-root.pem"), "lot": "lot-7", "hardwareId": "gate"}
	station := at(p.station(t, "step-ca").write(t, s.dir, "station"))
	own := at(s.server.write(t, s.dir, "own"))
	conf["certificate"], conf["key"], conf["serverCertificate"], conf["serverKey"] = station["certificate"], station["key"], own["certificate"], own["key"]
	if operator {
		o := at(p.operator(t, "step-ca").write(t, s.dir, "operator"))
		conf["operatorCertificate"], conf["operatorKey"] = o["certificate"], o["key"]
	}
	startStepCA(t, s, map[string]any{"insecureAddress": s.insecure,
		"authority": map[string]any{"type": "hanapercas", "certificateAuthority": "https://" + address, "config": conf, "provisioners": provisioners}})
	c, err := factory.NewClient(factory.ClientConfig{URL: "https://" + address, CA: []*x509.Certificate{p.operations.cert}, Identity: p.operator(t, "olga").tls()})
	if err != nil {
		t.Fatal(err)
	}
	return s, c
}

// account is a new ACME account. What step-ca fails at is not tried again.
func (s *stepCA) account(t *testing.T) *acme.Client {
	t.Helper()
	c := &acme.Client{Key: newKey(t), DirectoryURL: s.url + "/acme/line/directory", HTTPClient: s.client(), RetryBackoff: func(_ int, _ *http.Request, resp *http.Response) time.Duration {
		if resp != nil && resp.StatusCode >= 500 {
			return -1
		}
		return 10 * time.Millisecond
	}}
	if _, err := c.Register(context.Background(), &acme.Account{}, acme.AcceptTOS); err != nil {
		t.Fatal(err)
	}
	return c
}

// order has a device id proven by http-01, and asks for a certificate with a request.
func (s *stepCA) order(t *testing.T, c *acme.Client, id string, request []byte) ([][]byte, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	o, err := c.AuthorizeOrder(ctx, acme.DomainIDs(id))
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range o.AuthzURLs {
		z, err := c.GetAuthorization(ctx, u)
		if err != nil {
			t.Fatal(err)
		}
		for _, ch := range z.Challenges {
			if ch.Type != "http-01" {
				continue
			}
			proof, err := c.HTTP01ChallengeResponse(ch.Token)
			if err != nil {
				t.Fatal(err)
			}
			l, err := net.Listen("tcp", s.challenges)
			if err != nil {
				t.Fatal(err)
			}
			srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Host != id+s.challenges[strings.LastIndex(s.challenges, ":"):] && r.Host != id || r.URL.Path != c.HTTP01ChallengePath(ch.Token) {
					t.Errorf("the challenge was asked for at %s%s", r.Host, r.URL.Path)
				}
				_, _ = w.Write([]byte(proof))
			})}
			go srv.Serve(l)
			defer srv.Close()
			if _, err := c.Accept(ctx, ch); err != nil {
				t.Fatal(err)
			}
			if _, err := c.WaitAuthorization(ctx, u); err != nil {
				t.Fatal(err)
			}
		}
	}
	if o, err = c.WaitOrder(ctx, o.URI); err != nil {
		t.Fatal(err)
	}
	der, _, err := c.CreateOrderCert(ctx, o.FinalizeURL, request, true)
	return der, err
}

func bareRequest(t testing.TB, key crypto.Signer, id string) []byte {
	t.Helper()
	der, err := csr.Create(rand.Reader, key, csr.Template{Subject: pkix.Name{CommonName: id}})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// TestStepCA: a real step-ca with our one import issues by ACME through hanaperd: under its record, and by its rules.
func TestStepCA(t *testing.T) {
	p := newPlant(t)
	s, hanaperd := throughHanaperd(t, p, true, map[string]any{"type": "ACME", "name": "line"})
	ctx := context.Background()
	c := s.account(t)
	const id = "dev-1.line.example"
	key := newKey(t)
	chain, err := s.order(t, c, id, bareRequest(t, key, id))
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil || leaf.Subject.CommonName != id || len(leaf.DNSNames) != 0 || len(leaf.ExtKeyUsage) != 1 || leaf.ExtKeyUsage[0] != x509.ExtKeyUsageClientAuth {
		t.Fatalf("%+v, %v", leaf, err)
	}
	dir := t.TempDir()
	openssl(t, "verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", writePEM(t, filepath.Join(dir, "root.pem"), "CERTIFICATE", p.fleet.cert.Raw),
		"-untrusted", writePEM(t, filepath.Join(dir, "chain.pem"), "CERTIFICATE", chain[1:]...), writePEM(t, filepath.Join(dir, "dev.pem"), "CERTIFICATE", chain[0]))
	d, err := hanaperd.Device(ctx, id)
	if err != nil || d.Status != "issued" || d.Station != "step-ca" || d.Lot != "lot-7" || d.HardwareID != "gate" || d.Certificate != string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: chain[0]})) {
		t.Fatalf("%+v, %v", d, err)
	}
	before, err := hanaperd.Store(ctx)
	if err != nil {
		t.Fatal(err)
	}
	// hanaperd answers the same key with the certificate on record, which step-ca keeps once.
	if again, err := s.order(t, c, id, bareRequest(t, key, id)); err == nil && !bytes.Equal(again[0], chain[0]) {
		t.Error("the same key was given a second certificate")
	}
	if _, err := s.order(t, c, id, bareRequest(t, newKey(t), id)); err == nil {
		t.Error("a device id was given to a second key")
	}
	if _, err := s.order(t, c, "dev-2.line.example", bareRequest(t, key, "dev-2.line.example")); err == nil {
		t.Error("a key was given a second device id")
	}
	if after, err := hanaperd.Store(ctx); err != nil || after.Sequence > before.Sequence+1 {
		t.Errorf("refusals left %d events, %v", after.Sequence-before.Sequence, err)
	}
	if _, err := hanaperd.Device(ctx, "dev-2.line.example"); code(t, err) != factory.CodeNotFound {
		t.Error(err)
	}

	if err := c.RevokeCert(ctx, nil, chain[0], acme.CRLReasonKeyCompromise); err != nil {
		t.Fatal(err)
	}
	if d, err = hanaperd.Device(ctx, id); err != nil || d.Status != "revoked" || d.Reason != "key_compromise" {
		t.Errorf("%+v, %v", d, err)
	}
}

// TestStepCAWithoutOperator: where the configuration names no operator, nothing is revoked; and a renewal by step-ca's own way is refused.
func TestStepCAWithoutOperator(t *testing.T) {
	p := newPlant(t)
	s, hanaperd := throughHanaperd(t, p, false, map[string]any{"type": "ACME", "name": "line"}, scep(t, "open", ""), scep(t, "asked", "let-me-in"))
	ctx := context.Background()
	c := s.account(t)
	const id = "dev-1.line.example"
	key := newKey(t)
	chain, err := s.order(t, c, id, bareRequest(t, key, id))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.RevokeCert(ctx, nil, chain[0], acme.CRLReasonKeyCompromise); err == nil {
		t.Error("a certificate was revoked without an operator")
	}
	device := s.client()
	device.Transport.(*http.Transport).TLSClientConfig.Certificates = []tls.Certificate{{Certificate: chain, PrivateKey: key}}
	resp, err := device.Post(s.url+"/1.0/renew", "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusNotImplemented {
		t.Errorf("a renewal without a request was answered with %s", resp.Status)
	}
	if d, err := hanaperd.Device(ctx, id); err != nil || d.Status != "issued" {
		t.Errorf("%+v, %v", d, err)
	}
	if cert, out, err := s.scepclient(t, "asked", "scep-2", "let-me-in"); err == nil {
		t.Errorf("a request with more than the profile allows was taken: %s, %s", out, cert)
	}
	if _, err := hanaperd.Device(context.Background(), "scep-2"); code(t, err) != factory.CodeNotFound {
		t.Error(err)
	}
	s.enrolBySCEP(t, hanaperd, "open", "scep-1", "")
}

// TestStepCAProfile: what ACME and SCEP clients of other projects always ask for beside the common name is by hanaperd's profile.
func TestStepCAProfile(t *testing.T) {
	p := newPlant(t)
	s, hanaperd := throughProfile(t, p, false, "asks: {subjectAltName: ignore, challengePassword: ignore}\n", map[string]any{"type": "ACME", "name": "line"}, scep(t, "asked", "let-me-in"))
	s.enrolBySCEP(t, hanaperd, "asked", "scep-1", "let-me-in")
	if _, out, err := s.scepclient(t, "asked", "scep-3", "wrong"); err == nil {
		t.Errorf("a wrong challenge was taken: %s", out)
	}

	// dehydrated asks with a SAN, puts what proves the name into a folder, and does all else with openssl and curl.
	const id = "dev-1.line.example"
	dir := t.TempDir()
	l, err := net.Listen("tcp", s.challenges)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.StripPrefix("/.well-known/acme-challenge/", http.FileServer(http.Dir(dir)))}
	go srv.Serve(l)
	defer srv.Close()
	conf := filepath.Join(t.TempDir(), "config")
	text := fmt.Sprintf("CA=%q\nBASEDIR=%q\nWELLKNOWN=%q\nCHALLENGETYPE=http-01\nKEY_ALGO=prime256v1\nCURL_OPTS=%q\n", s.url+"/acme/line/directory", filepath.Dir(conf), dir, "--cacert "+filepath.Join(s.dir, "own.pem"))
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"--register", "--accept-terms"}, {"--cron", "--domain", id}} {
		if out, err := exec.Command("dehydrated", append(args, "--config", conf)...).CombinedOutput(); err != nil {
			t.Fatalf("dehydrated %v: %v: %s", args, err, out)
		}
	}
	got, err := os.ReadFile(filepath.Join(filepath.Dir(conf), "certs", id, "cert.pem"))
	if err != nil {
		t.Fatal(err)
	}
	d, err := hanaperd.Device(context.Background(), id)
	if err != nil || d.Station != "step-ca" || strings.TrimSpace(d.Certificate) != strings.TrimSpace(string(got)) {
		t.Errorf("%+v, %v\n%s", d, err, got)
	}
}

// scepclient is another project's client, which keeps what it makes beside the key. A challenge password goes into the request that the
// device signs.
func (s *stepCA) scepclient(t *testing.T, provisioner, id, challenge string) (certificate string, out []byte, err error) {
	t.Helper()
	dir := t.TempDir()
	certificate = filepath.Join(dir, "dev.pem")
	cmd := exec.Command("scepclient", "-server-url", "http://"+s.insecure+"/scep/"+provisioner, "-cn", id, "-organization", "", "-ou", "", "-country", "",
		"-challenge", challenge, "-private-key", filepath.Join(dir, "dev.key"), "-certificate", certificate)
	cmd.Dir = dir
	out, err = cmd.CombinedOutput()
	return certificate, out, err
}

// enrolBySCEP has that client enrol a device.
func (s *stepCA) enrolBySCEP(t *testing.T, hanaperd *factory.Client, provisioner, id, challenge string) {
	t.Helper()
	cert, out, err := s.scepclient(t, provisioner, id, challenge)
	if err != nil {
		t.Fatalf("scepclient: %v: %s", err, out)
	}
	got, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	d, err := hanaperd.Device(context.Background(), id)
	if err != nil || d.Station != "step-ca" || strings.TrimSpace(d.Certificate) != strings.TrimSpace(string(got)) {
		t.Errorf("%+v, %v\n%s", d, err, got)
	}
}

// scep is a SCEP provisioner with the RSA key that its messages are encrypted to.
func scep(t *testing.T, name, challenge string) any {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: serialNumber(), Subject: pkix.Name{CommonName: "SCEP"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: inYears(1),
		KeyUsage: x509.KeyUsageKeyEncipherment | x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]any{"type": "SCEP", "name": name, "challenge": challenge, "minimumPublicKeyLength": 2048, "encryptionAlgorithmIdentifier": 2, "excludeIntermediate": true,
		"decrypterCertificate": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), "decrypterKeyPEM": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})}
}
