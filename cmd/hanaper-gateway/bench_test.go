package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/gob"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/internal/bench"
	"github.com/hanaper/hanaper/trust/trusttest"
)

// benchFleet are the devices of the benchmark; each comes once for the first time, and once to a gateway that has not verified it yet.
var benchFleet = max(20_000, (bench.Rounds()+1)*benchVisits)

const (
	// warmFleet are those that come again and again.
	warmFleet = 1000
	// visits of a round, by this many clients at a time.
	benchVisits  = 3000
	benchClients = 32
	// requests of a round, on connections that stay.
	benchRequests = 30_000
	// idleConnections are held, to see what each takes.
	idleConnections = 4000
	// revokedSerials is the length of the CRL that is in force.
	revokedSerials = 100_000
)

// arena is a gateway and its peers, all before the same upstream, and the load: each a process of its own.
type arena struct {
	*testing.B
	world                    *trusttest.World
	dir                      string
	config                   string
	upstream, load           *child
	goproxy, nginx           *child
	gateway                  *child
	certFile, keyFile, roots string
}

// BenchmarkCompareGateway compares the gateway, with all its rules, its registry and a CRL of 100,000, with what Go and nginx have for
// terminating mutual TLS and forwarding. Ratios are of work a second on cores that load and upstream share; the figures named processor are the
// server's own time for each.
func BenchmarkCompareGateway(b *testing.B) {
	a := newArena(b)
	fmt.Println()

	// First contact: each device comes for the first time. Its registration is on the disk before its request is forwarded.
	others := func(round int) order { return order{Visits: benchVisits, From: round * benchVisits, Many: benchVisits} }
	a.contest("first-contact", benchVisits, others, side{"gateway", a.gateway}, side{"goproxy", a.goproxy})

	// Cold: the registry knows the devices, and the gateway has verified none of them since its start.
	a.restart("cold")
	a.contest("cold", benchVisits, others, side{"gateway", a.gateway}, side{"goproxy", a.goproxy})

	bench.Figure("start-gateway", float64(a.restart("warm").Milliseconds()), "ms")
	a.contest("handshake", benchVisits, func(int) order { return order{Visits: benchVisits, Many: warmFleet} },
		side{"gateway", a.gateway}, side{"goproxy", a.goproxy}, side{"nginx", a.nginx})

	a.restart("proxy")
	a.contest("proxy", benchRequests, func(int) order { return order{Requests: benchRequests, Many: warmFleet} },
		side{"gateway", a.gateway}, side{"plain", a.goproxy}, side{"nginx", a.nginx})

	a.idle()
	a.attacks()
	b.ReportMetric(0, "ns/op")
}

func newArena(b *testing.B) *arena {
	b.Helper()
	a := &arena{B: b, dir: b.TempDir(), world: trusttest.NewAt(b, time.Now().Truncate(time.Second))}
	a.world.Import()
	serials := make([]int64, revokedSerials)
	for i := range serials {
		serials[i] = 1<<40 + int64(i)*7919
	}
	a.world.AddCRL(1, serials...)
	a.roots = a.write("fleet-root.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.world.Root.Cert.Raw}))
	a.write("1.root.json", a.world.Offline["metadata/1.root.json"])
	a.identity()
	a.upstream = play(b, "upstream")
	a.load = play(b, "load", a.fleet())
	a.config = a.write("gateway.yaml", fmt.Appendf(nil, `listen: 127.0.0.1:0
admin: 127.0.0.1:0
environment: test
tls: {certificate: gateway.pem, key: gateway.key}
trust: {source: %q, root: 1.root.json, state: state}
registry: {path: devices.db}
upstream: {url: "http://%s"}
limits: {idle: 10m}
`, a.world.Dir, a.upstream.addr))
	a.restart("first-contact")
	a.startPeers()
	return a
}

func (a *arena) startPeers() {
	a.goproxy = play(a, "goproxy", a.upstream.addr, a.certFile, a.keyFile, a.roots)
	a.nginx = startNginx(a, a.upstream.addr, a.certFile, a.keyFile, a.roots)
}

// restart gives a gateway that has verified nothing yet, before the same registry.
func (a *arena) restart(name string) (took time.Duration) {
	if a.gateway != nil {
		a.gateway.end()
	}
	begun := time.Now()
	a.gateway = startGateway(a, a.config, name)
	return time.Since(begun)
}

func (a *arena) write(name string, data []byte) string {
	a.Helper()
	path := filepath.Join(a.dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		a.Fatal(err)
	}
	return path
}

// identity is the servers' certificate, the same for all.
func (a *arena) identity() {
	key := a.world.Key().(*ecdsa.PrivateKey)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		a.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.Fatal(err)
	}
	a.certFile = a.write("gateway.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	a.keyFile = a.write("gateway.key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
}

// fleet makes the devices, chains of three certificates by P-256, and writes them for the load.
func (a *arena) fleet() string {
	a.Helper()
	fleet := fleetFile{Issuing: a.world.Issuing.Cert.Raw}
	for i := range benchFleet {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			a.Fatal(err)
		}
		tmpl := &x509.Certificate{SerialNumber: big.NewInt(int64(1000 + i)), Subject: pkix.Name{CommonName: fmt.Sprintf("vin-%06d", i)},
			NotBefore: time.Now().AddDate(0, 0, -1), NotAfter: time.Now().AddDate(10, 0, 0), BasicConstraintsValid: true,
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
		var d deviceFile
		if d.Cert, err = x509.CreateCertificate(rand.Reader, tmpl, a.world.Issuing.Cert, key.Public(), a.world.Issuing.Key); err != nil {
			a.Fatal(err)
		}
		if d.Key, err = x509.MarshalECPrivateKey(key); err != nil {
			a.Fatal(err)
		}
		fleet.Devices = append(fleet.Devices, d)
	}
	path := filepath.Join(a.dir, "fleet")
	f, err := os.Create(path)
	if err == nil {
		err = gob.NewEncoder(f).Encode(fleet)
	}
	if err != nil {
		a.Fatal(err)
	}
	if err := f.Close(); err != nil {
		a.Fatal(err)
	}
	return path
}

type side struct {
	name   string
	server *child
}

// contest lets the sides take turns and prints the first's ratios to the others: of work a second, and of the 99th percentile of latency.
func (a *arena) contest(name string, each int, work func(round int) order, sides ...side) {
	a.Helper()
	rates, late, cpu := map[string][]float64{}, map[string][]float64{}, map[string][]float64{}
	for round := range bench.Rounds() + 1 {
		for i := range sides {
			s := sides[(i+round)%len(sides)]
			o := work(round)
			o.Addr, o.Clients = s.server.addr, benchClients
			before := s.server.processor()
			got := a.load.ask(a, o)
			if got.Failed > 0 {
				a.Fatalf("%s, %s: %d failed, the first: %s", name, s.name, got.Failed, got.First)
			}
			if round > 0 { // the first one warms up
				rates[s.name] = append(rates[s.name], float64(each)/got.Seconds)
				late[s.name] = append(late[s.name], got.P99.Seconds()*1000)
				cpu[s.name] = append(cpu[s.name], (s.server.processor()-before)/float64(each)*1e6)
			}
		}
	}
	for _, s := range sides {
		bench.Figure(name+"-"+s.name, bench.Median(rates[s.name]), "/s")
		bench.Figure(name+"-"+s.name+"-p99", bench.Median(late[s.name]), "ms")
		bench.Figure(name+"-"+s.name+"-processor", bench.Median(cpu[s.name]), "µs")
	}
	for _, peer := range sides[1:] {
		bench.Ratio(name+"/"+peer.name, bench.Median(quotients(rates[sides[0].name], rates[peer.name])))
		bench.Ratio(name+"-p99/"+peer.name, bench.Median(quotients(late[peer.name], late[sides[0].name])))
	}
}

// attacks prints what is left to the others while somebody attacks: work a second, over that of a moment before.
func (a *arena) attacks() {
	a.Helper()
	config, err := os.ReadFile(a.config)
	if err != nil {
		a.Fatal(err)
	}
	const ofOne = 16
	a.config = a.write("attacked.yaml", []byte(strings.Replace(string(config), "limits: {", fmt.Sprintf("limits: {device_connections: %d, ", ofOne), 1)))
	a.restart("attacked")
	attacker := play(a, "load", filepath.Join(a.dir, "fleet"))
	others := order{Addr: a.gateway.addr, Visits: benchVisits / 2, From: 1, Many: warmFleet, Clients: benchClients, Source: "127.0.0.2"}
	for name, attack := range map[string]order{"half-open": {HalfOpen: 5000}, "greedy-device": {Greedy: 100 * ofOne}} {
		attack.Addr = a.gateway.addr
		var left []float64
		for round := range bench.Rounds() + 1 {
			rate := func() float64 {
				got := a.load.ask(a, others)
				if got.Failed > 0 {
					a.Fatalf("%s: %d of the others failed, the first: %s", name, got.Failed, got.First)
				}
				return float64(others.Visits) / got.Seconds
			}
			before := rate()
			attacker.ask(a, attack)
			during := rate()
			attacker.ask(a, order{Addr: a.gateway.addr})
			if round > 0 { // the first one warms up
				left = append(left, during/before)
			}
		}
		bench.Ratio("others/"+name, bench.Median(left))
	}
}

func quotients(over, under []float64) []float64 {
	list := make([]float64, len(over))
	for i := range list {
		list[i] = over[i] / under[i]
	}
	return list
}

// idle prints what a connection takes on which nothing happens, of servers that begin anew.
func (a *arena) idle() {
	a.Helper()
	a.restart("idle")
	a.startPeers()
	for _, s := range []side{{"gateway", a.gateway}, {"goproxy", a.goproxy}, {"nginx", a.nginx}} {
		o := order{Addr: s.server.addr, Clients: benchClients, Many: idleConnections, Visits: 500}
		a.load.ask(a, o)
		before := s.server.memory()
		o.Visits, o.Hold = 0, idleConnections
		got := a.load.ask(a, o)
		if got.Failed > 0 {
			a.Fatalf("idle, %s: %d failed, the first: %s", s.name, got.Failed, got.First)
		}
		time.Sleep(3 * time.Second)
		bench.Figure("idle-"+s.name, (s.server.memory()-before)/idleConnections, "kB")
	}
}
