package devicetest_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hanaper/hanaper/gateway"
	"github.com/hanaper/hanaper/gateway/fleettest"
	"github.com/hanaper/hanaper/gateway/registry/sqlite"
	"github.com/hanaper/hanaper/uptane"
	"github.com/hanaper/hanaper/uptane/devicetest"
	"github.com/hanaper/hanaper/uptane/fleet"
	"github.com/hanaper/hanaper/uptane/reposerver"
)

// Files that must survive a power cut are synced; in memory that is free.
func init() {
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() && os.Getenv("TMPDIR") == "" {
		_ = os.Setenv("TMPDIR", "/dev/shm")
	}
}

// stand is a server of both repositories and a gateway before it, as they run in the field, on loopback.
type stand struct {
	t        *testing.T
	dir      string
	keys     *reposerver.FolderKeys
	image    *reposerver.Image
	director *reposerver.Director
	client   *reposerver.Client // a release engineer's, of the Image repository
	dirc     *reposerver.Client // of the Director
	up       *httptest.Server
	shift    atomic.Int64 // of the clock of server and devices, in nanoseconds
	roots    map[uptane.Repository]crypto.Signer

	fleet    *fleettest.Fleet
	view     *fleettest.View
	tls      *fleettest.Entity
	listener string
	stop     func()
	gateway  *gateway.Gateway
}

func must[T any](t testing.TB, v T, err error) T {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (s *stand) now() time.Time { return time.Now().Add(time.Duration(s.shift.Load())) }

func (s *stand) wait(d time.Duration) { s.shift.Add(int64(d)) }

func newStand(t *testing.T) *stand {
	t.Helper()
	s := &stand{t: t, dir: t.TempDir(), roots: map[uptane.Repository]crypto.Signer{}, listener: "127.0.0.1:0"}
	var err error
	s.keys, err = reposerver.NewFolderKeys(filepath.Join(s.dir, "keys"), "Ed25519")
	if err != nil {
		t.Fatal(err)
	}
	config := reposerver.Config{Dir: s.dir, Keys: s.keys, Now: s.now}
	for _, kind := range []uptane.Repository{uptane.Image, uptane.Director} {
		c := config
		c.Kind = kind
		if err := reposerver.Create(t.Context(), c, reposerver.Start{}); err != nil {
			t.Fatal(err)
		}
	}
	s.image = must(t, first(reposerver.OpenImage(config)), nil)
	store := must(t, first(fleet.Open(t.Context(), filepath.Join(s.dir, "director"))), nil)
	t.Cleanup(func() { store.Close() })
	storage := reposerver.StorageConfig{Dir: filepath.Join(s.dir, "uploads"), PartSize: 64 << 10, MaxFile: 8 << 20}
	if s.director, err = reposerver.OpenDirector(reposerver.DirectorConfig{Config: config, Image: s.image, Fleet: store, Storage: storage}); err != nil {
		t.Fatal(err)
	}
	server, err := reposerver.NewServer(reposerver.ServerConfig{Image: s.image, Director: s.director, Now: s.now, Storage: storage, Access: reposerver.AccessConfig{Open: true}})
	if err != nil {
		t.Fatal(err)
	}
	admin := httptest.NewServer(server.Admin())
	s.up = httptest.NewServer(server.Devices())
	t.Cleanup(admin.Close)
	t.Cleanup(s.up.Close)
	for _, director := range []bool{false, true} {
		c, err := reposerver.NewClient(reposerver.ClientConfig{URL: admin.URL, Director: director})
		if err != nil {
			t.Fatal(err)
		}
		if director {
			s.dirc = c
		} else {
			s.client = c
		}
	}
	s.fleet = fleettest.New(t)
	s.view = s.fleet.View
	s.tls = fleettest.Issue(t, nil, fleettest.NewKey(t), x509.Certificate{Subject: pkix.Name{CommonName: "gateway"}, DNSNames: []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	der, err := x509.MarshalPKCS8PrivateKey(s.tls.Key)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string]*pem.Block{"gateway.pem": {Type: "CERTIFICATE", Bytes: s.tls.Cert.Raw}, "gateway.key": {Type: "PRIVATE KEY", Bytes: der}} {
		if err := os.WriteFile(filepath.Join(s.dir, name), pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.startGateway()
	t.Cleanup(func() { s.stop() })
	return s
}

// first drops the error of a call that must not fail, and tells it.
func first[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// startGateway starts the gateway, at the address that it had before.
func (s *stand) startGateway() {
	t := s.t
	t.Helper()
	settings, err := gateway.NewSettings(gateway.Config{Listen: "127.0.0.1:0", Environment: "test", TLS: gateway.TLSConfig{Certificate: "gateway.pem", Key: "gateway.key"},
		Trust:    gateway.TrustConfig{Source: "trust", Root: "1.root.json", State: "state"},
		Registry: gateway.RegistryConfig{Path: "devices.db"}, Upstream: gateway.UpstreamConfig{URL: s.up.URL}}, s.dir)
	if err != nil {
		t.Fatal(err)
	}
	known, err := sqlite.Open(sqlite.Config{Path: settings.Registry().Path})
	if err != nil {
		t.Fatal(err)
	}
	if s.gateway, err = gateway.NewGateway(settings, known, slog.New(slog.DiscardHandler), nil); err != nil {
		t.Fatal(err)
	}
	devices, err := net.Listen("tcp", s.listener)
	if err != nil {
		t.Fatal(err)
	}
	admin, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.listener = devices.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.gateway.Serve(ctx, devices, admin) }()
	s.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("gateway: %v", err)
		}
		if err := known.Close(); err != nil {
			t.Errorf("registry: %v", err)
		}
	}
	if err := s.gateway.SetTrust(s.view); err != nil {
		t.Fatal(err)
	}
}

func (s *stand) restartGateway() {
	s.t.Helper()
	s.stop()
	s.startGateway()
}

// httpFor is a device's way through the gateway.
func (s *stand) httpFor(e *fleettest.Entity) *http.Client {
	pool := x509.NewCertPool()
	pool.AddCert(s.tls.Cert)
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "localhost", Certificates: []tls.Certificate{{Certificate: [][]byte{e.Cert.Raw}, PrivateKey: e.Key}}}}
	s.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second}
}

func edKey(t testing.TB) crypto.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	return inFile(t, must(t, key, err))
}

func rsaKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	return inFile(t, must(t, key, err))
}

// inFile puts a key into a file and reads it from there, as a device without a token does.
func inFile(t testing.TB, key crypto.Signer) crypto.Signer {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "ecu.key")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	read, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	return must(t, read, err).(crypto.Signer)
}

// device is one that left the factory: a certificate, keys, and the root of each repository as it is now.
func (s *stand) device(name string, ecus ...devicetest.ECU) devicetest.Config {
	s.t.Helper()
	sum := sha256.Sum256([]byte("factory"))
	return devicetest.Config{
		Dir: s.t.TempDir(), URL: "https://" + s.listener, HTTP: s.httpFor(s.fleet.Device(s.t, name)), Now: s.now, Primary: ecus[0], Secondaries: ecus[1:],
		DirectorRoot: must(s.t, first(s.dirc.Root(s.t.Context())), nil), ImageRoot: must(s.t, first(s.client.Root(s.t.Context())), nil),
		Factory: devicetest.Image{Name: "factory", Length: 7, SHA256: hex.EncodeToString(sum[:])}, DirectorSnapshot: true,
	}
}

// on switches a device on, through registration.
func (s *stand) on(c devicetest.Config) *devicetest.Device {
	s.t.Helper()
	d, err := devicetest.New(c)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := d.Start(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	return d
}

func (s *stand) cycle(d *devicetest.Device) error {
	s.wait(time.Minute) // a device may not write without end
	return d.Cycle(s.t.Context())
}

// targetsKey signs targets: the server's own, which is in a folder here.
func (s *stand) targetsKey() crypto.Signer {
	s.t.Helper()
	root := first(uptane.ParseRoot(first(s.client.Root(s.t.Context()))))
	return first(s.keys.Find(s.t.Context(), root.Keys(uptane.RoleTargets).Keys[0].ID()))
}

func (s *stand) upload(name string, content []byte) {
	s.t.Helper()
	if err := s.client.Upload(s.t.Context(), reposerver.Upload{Name: name, Source: bytes.NewReader(content), Size: int64(len(content))}); err != nil {
		s.t.Fatal(err)
	}
}

func (s *stand) entry(name string, content []byte, hardware ...string) uptane.Target {
	now := s.now().UTC().Truncate(time.Second)
	sum := sha256.Sum256(content)
	return uptane.Target{Length: int64(len(content)), SHA256: hex.EncodeToString(sum[:]), Custom: first(uptane.ImageCustom{Name: name, Version: "1", HardwareIDs: hardware,
		Format: uptane.Binary, CreatedAt: now, UpdatedAt: now}.JSON())}
}

// change edits the targets, signs and pushes them.
func (s *stand) change(edit func(*uptane.TargetsConfig)) {
	s.t.Helper()
	data, sum, err := s.client.Targets(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	old := first(uptane.ParseTargets(uptane.Image, data))
	next := first(old.Next(s.now().UTC().Truncate(time.Second).AddDate(0, 1, 0), func(c *uptane.TargetsConfig) error {
		if c.Targets == nil {
			c.Targets = map[string]uptane.Target{}
		}
		edit(c)
		return nil
	}))
	if err := s.client.PushTargets(s.t.Context(), first(uptane.Sign(next, s.targetsKey())), sum); err != nil {
		s.t.Fatal(err)
	}
}

// publish uploads an image and lists it.
func (s *stand) publish(name string, content []byte, hardware ...string) {
	s.t.Helper()
	s.upload(name, content)
	s.change(func(c *uptane.TargetsConfig) { c.Targets[name] = s.entry(name, content, hardware...) })
}

func (s *stand) assign(device, target string, ecus ...string) {
	s.t.Helper()
	if _, err := s.director.Assign(s.t.Context(), device, target, ecus...); err != nil {
		s.t.Fatal(err)
	}
}

func (s *stand) record(device string) *reposerver.Device {
	s.t.Helper()
	d, found, err := s.director.Device(s.t.Context(), device)
	if err != nil || !found {
		s.t.Fatalf("device %s: found %v, %v", device, found, err)
	}
	return d
}

// outcome is how a device's ECU ended, as the Director keeps it: "installed", "failed INSTALL_FAILED", or nothing.
func (s *stand) outcome(device, ecu string) string {
	s.t.Helper()
	o := s.record(device).Outcomes[ecu]
	if o.Code != "" {
		return o.Result + " " + o.Code
	}
	return o.Result
}

// rotate replaces the root key of a repository.
func (s *stand) rotate(kind uptane.Repository) {
	s.t.Helper()
	c := s.client
	if kind == uptane.Director {
		c = s.dirc
	}
	root := first(uptane.ParseRoot(first(c.Root(s.t.Context()))))
	old := s.roots[kind]
	if old == nil {
		old = first(s.keys.Find(s.t.Context(), root.Keys(uptane.RoleRoot).Keys[0].ID()))
	}
	s.roots[kind] = edKey(s.t)
	next := first(root.Next(s.now().UTC().Truncate(time.Second).AddDate(1, 0, 0), func(c *uptane.RootConfig) error {
		c.Roles[uptane.RoleRoot] = uptane.RoleKeys{Keys: []uptane.Key{first(uptane.NewKey(s.roots[kind].Public()))}, Threshold: 1}
		return nil
	}))
	if err := c.PushRoot(s.t.Context(), first(uptane.Sign(next, old, s.roots[kind]))); err != nil {
		s.t.Fatal(err)
	}
}

// between changes answers on their way to a device.
type between struct {
	next   http.RoundTripper
	answer func(path string, body []byte) (status int, changed []byte)
}

func (b between) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := b.next.RoundTrip(r)
	if err != nil || r.Method != http.MethodGet {
		return res, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	status, changed := b.answer(r.URL.Path, body)
	if status != 0 {
		res.StatusCode, res.Status = status, http.StatusText(status)
	}
	res.Body, res.ContentLength = io.NopCloser(bytes.NewReader(changed)), int64(len(changed))
	return res, nil
}
