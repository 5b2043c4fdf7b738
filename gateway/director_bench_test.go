package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hanaper/hanaper/gateway"
	"github.com/hanaper/hanaper/gateway/fleettest"
	"github.com/hanaper/hanaper/internal/bench"
	"github.com/hanaper/hanaper/uptane"
	"github.com/hanaper/hanaper/uptane/fleet"
	"github.com/hanaper/hanaper/uptane/reposerver"
)

// pollers are how many devices come, each by a connection of its own.
const pollers = 1000

// fleetSize is how many devices are registered: 100,000, or as HANAPER_BENCH_FLEET says.
var fleetSize = func() int {
	if n, err := strconv.Atoi(os.Getenv("HANAPER_BENCH_FLEET")); err == nil && n >= pollers {
		return n
	}
	return 100_000
}()

// pollReads are the reads of the real client when nothing is new: a next root that is not there, twice, and the newest metadata.
var pollReads = []string{"/director/2.root.json", "/director/targets.json", "/repo/2.root.json", "/repo/timestamp.json", "/repo/snapshot.json", "/repo/targets.json"}

// BenchmarkCompareDirector: manifests and metadata reads a second through the gateway, with 100,000 registered devices. A device
// makes one connection with a full TLS 1.3 handshake and its certificate, as those that poll every five minutes do. The peer is
// nginx, which asks for the same certificates and serves the same files by itself, where the gateway forwards to the server.
func BenchmarkCompareDirector(b *testing.B) {
	f := newDirectorFleet(b)
	var rates []float64
	for range bench.Rounds() {
		rate, err := f.rate(f.stand.addr, f.manifest, 1)
		if err != nil {
			b.Fatal(err)
		}
		rates = append(rates, rate)
	}
	bench.Figure("manifests", bench.Median(rates), "manifests/s")
	peer := f.nginx(b)
	bench.Compare(b, "reads/static", "reads/s",
		bench.Side{Name: "reads", Rate: func() (float64, error) { return f.rate(f.stand.addr, f.poll, len(pollReads)) }},
		bench.Side{Name: "static", Rate: func() (float64, error) { return f.rate(peer, f.poll, len(pollReads)) }})
}

type directorFleet struct {
	stand   *stand
	server  *reposerver.Server
	ids     []string
	configs []*tls.Config
	// reports is a manifest, which says the same for all: their ECUs have the same key.
	reports []byte
	files   map[string][]byte
}

func newDirectorFleet(b *testing.B) *directorFleet {
	b.Helper()
	dir, ctx := b.TempDir(), b.Context()
	keys, err := reposerver.NewFolderKeys(filepath.Join(dir, "keys"), "Ed25519")
	if err != nil {
		b.Fatal(err)
	}
	mark, _, err := reposerver.OpenMark(filepath.Join(dir, "mark.json"))
	if err != nil {
		b.Fatal(err)
	}
	c := reposerver.Config{Dir: dir, Keys: keys, Mark: mark}
	for _, kind := range []uptane.Repository{uptane.Image, uptane.Director} {
		c.Kind = kind
		if err := reposerver.Create(ctx, c, reposerver.Start{}); err != nil {
			b.Fatal(err)
		}
	}
	image, err := reposerver.OpenImage(c)
	if err != nil {
		b.Fatal(err)
	}
	store, err := fleet.Open(ctx, filepath.Join(dir, "director"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { store.Close() })
	director, err := reposerver.OpenDirector(reposerver.DirectorConfig{Config: c, Image: image, Fleet: store})
	if err != nil {
		b.Fatal(err)
	}
	f := &directorFleet{files: map[string][]byte{}}
	if f.server, err = reposerver.NewServer(reposerver.ServerConfig{Image: image, Director: director, Access: reposerver.AccessConfig{Open: true}, Storage: reposerver.StorageConfig{Dir: filepath.Join(dir, "uploads")}}); err != nil {
		b.Fatal(err)
	}
	f.register(b, director)
	socket := filepath.Join(dir, "devices.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		b.Fatal(err)
	}
	up := &http.Server{Handler: f.server.Devices(), ReadHeaderTimeout: 10 * time.Second}
	go up.Serve(l)
	b.Cleanup(func() { up.Close() })
	f.stand = newStand(b, func(c *gateway.Config) { c.Upstream.URL = "unix:" + socket })
	key := fleettest.NewKey(b)
	for i := range pollers {
		id := f.ids[i*(fleetSize/pollers)]
		one := f.stand.tlsConfig(fleettest.Issue(b, f.stand.fleet.Factory, key, fleettest.DeviceTemplate(id)))
		one.Certificates[0].Certificate = append(one.Certificates[0].Certificate, f.stand.fleet.Factory.Cert.Raw)
		// What the OpenSSL of devices offers, and what both servers know: a hybrid exchange would be measured on one side alone.
		one.CurvePreferences = []tls.CurveID{tls.X25519}
		f.configs = append(f.configs, one)
	}
	f.keepFiles(b)
	return f
}

// register takes up the whole fleet, by the function that the route calls.
func (f *directorFleet) register(b *testing.B, d *reposerver.Director) {
	b.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		b.Fatal(err)
	}
	doc := fmt.Appendf(nil, `{"primary_ecu_serial":"e","ecus":[{"ecu_serial":"e","hardware_identifier":"board","clientKey":{"keytype":"ED25519","keyval":{"public":"%x"}}}]}`, []byte(key.Public().(ed25519.PublicKey)))
	signed := func(doc string) []byte {
		canonical, err := uptane.Canonical([]byte(doc))
		if err != nil {
			b.Fatal(err)
		}
		sig, _ := key.Sign(nil, canonical, crypto.Hash(0))
		out, _ := json.Marshal(map[string]any{"signed": json.RawMessage(canonical), "signatures": []map[string]any{{"keyid": "x", "method": "ed25519", "sig": sig}}})
		return out
	}
	ecu := signed(`{"attacks_detected":"","ecu_serial":"e","installed_image":{"fileinfo":{"hashes":{"sha256":"` + fmt.Sprintf("%064d", 0) + `"},"length":1},"filepath":"unknown"}}`)
	f.reports = signed(fmt.Sprintf(`{"ecu_version_manifests":{"e":%s},"primary_ecu_serial":"e"}`, ecu))
	for i := range fleetSize {
		f.ids = append(f.ids, fmt.Sprintf("vin-%06d", i))
	}
	var next atomic.Int64
	var all sync.WaitGroup
	for range 64 {
		all.Go(func() {
			for i := next.Add(1) - 1; i < int64(fleetSize); i = next.Add(1) - 1 {
				if _, err := d.Register(b.Context(), f.ids[i], doc); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	if b.Failed() {
		b.FailNow()
	}
}

// keepFiles fetches what the peer is to serve: what one of the devices gets.
func (f *directorFleet) keepFiles(b *testing.B) {
	b.Helper()
	conn, err := tls.Dial("tcp", f.stand.addr, f.configs[0])
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	r := bufio.NewReader(conn)
	for _, path := range pollReads {
		status, data, err := call(conn, r, http.MethodGet, path, nil)
		if err != nil || status != http.StatusOK && status != http.StatusNotFound {
			b.Fatalf("%s: %d %s %v", path, status, data, err)
		}
		if status == http.StatusOK {
			f.files[path] = data
		}
	}
	if len(f.files) != 4 {
		b.Fatalf("%d files", len(f.files))
	}
}

// nginx serves the files, to devices of the same root.
func (f *directorFleet) nginx(b *testing.B) string {
	b.Helper()
	dir := b.TempDir()
	for path, data := range f.files {
		at := filepath.Join(dir, "www", path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, data, 0o644)); err != nil {
			b.Fatal(err)
		}
	}
	root := f.stand.write("fleet-root.pem", "CERTIFICATE", f.stand.fleet.Root.Cert.Raw)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	conf := fmt.Sprintf(`daemon off; worker_processes 2; pid %[1]s/pid; error_log %[1]s/error.log crit;
events { worker_connections 1024; multi_accept on; }
http {
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000; open_file_cache max=1000; default_type application/json;
  client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
  server {
    listen %[2]s ssl; root %[1]s/www;
    ssl_certificate %[3]s/gateway.pem; ssl_certificate_key %[3]s/gateway.key; ssl_protocols TLSv1.3;
    ssl_client_certificate %[4]s; ssl_verify_client on; ssl_verify_depth 4; ssl_session_tickets off;
  }
}
`, dir, addr, f.stand.dir, root)
	if os.Getuid() == 0 {
		conf = "user root;" + conf
	}
	at := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(at, []byte(conf), 0o644); err != nil {
		b.Fatal(err)
	}
	program, err := exec.LookPath("nginx")
	if err != nil {
		program = "/usr/sbin/nginx"
	}
	cmd := exec.Command(program, "-p", dir, "-c", at)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		b.Fatalf("nginx, which scripts/install-peers installs: %v", err)
	}
	b.Cleanup(func() { _ = cmd.Process.Signal(os.Interrupt); _ = cmd.Wait() })
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
			return addr
		}
		if time.Now().After(end) {
			b.Fatalf("nginx: %v\n%s", err, said.String())
		}
	}
}

// rate has the pollers come, each once; do makes n requests on a connection.
func (f *directorFleet) rate(addr string, do func(*tls.Conn, *bufio.Reader) error, n int) (float64, error) {
	var next atomic.Int64
	var failed atomic.Pointer[error]
	order := rand.Perm(pollers)
	begun := time.Now()
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			for i := next.Add(1) - 1; i < pollers && failed.Load() == nil; i = next.Add(1) - 1 {
				conn, err := (&tls.Dialer{Config: f.configs[order[i]]}).DialContext(context.Background(), "tcp", addr)
				if err == nil {
					err = do(conn.(*tls.Conn), bufio.NewReader(conn))
					conn.Close()
				}
				if err != nil {
					failed.Store(&err)
				}
			}
		})
	}
	all.Wait()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return float64(pollers*n) / time.Since(begun).Seconds(), nil
}

func (f *directorFleet) manifest(conn *tls.Conn, r *bufio.Reader) error {
	status, body, err := call(conn, r, http.MethodPut, "/director/manifest", f.reports)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("manifest: %d %s", status, body)
	}
	return err
}

func (f *directorFleet) poll(conn *tls.Conn, r *bufio.Reader) error {
	for _, path := range pollReads {
		status, body, err := call(conn, r, http.MethodGet, path, nil)
		if err != nil {
			return err
		}
		want := http.StatusOK
		if f.files[path] == nil {
			want = http.StatusNotFound
		}
		if status != want {
			return fmt.Errorf("%s: %d %.200s", path, status, body)
		}
	}
	return nil
}

// call is one request on a connection that stays, with as little of a client as possible: it shares the machine's cores.
func call(conn *tls.Conn, r *bufio.Reader, method, path string, body []byte) (int, []byte, error) {
	head := method + " " + path + " HTTP/1.1\r\nHost: localhost\r\n"
	if body != nil {
		head += "Content-Type: application/json\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n"
	}
	if _, err := conn.Write(append([]byte(head+"\r\n"), body...)); err != nil {
		return 0, nil, err
	}
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	return res.StatusCode, data, err
}
