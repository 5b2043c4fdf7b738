package gateway_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hanaper/hanaper/gateway/fleettest"
	"github.com/hanaper/hanaper/internal/bench"
)

// BenchmarkCompareHandshake: connections a second, each with a full TLS 1.3 handshake with client certificate, one GET,
// and its end. The peer is a bare net/http server that answers the GET itself, where the gateway forwards it to an upstream.
// handshake_cold has every connection come from a device that the gateway has not met.
func BenchmarkCompareHandshake(b *testing.B) {
	p := newPair(b, 64)
	bench.Compare(b, "handshake", "connections/s",
		bench.Side{Name: "handshake_gateway", Rate: func() (float64, error) { return p.rate(p.stand.addr, p.devices) }},
		bench.Side{Name: "handshake_bare", Rate: func() (float64, error) { return p.rate(p.bare, p.devices) }})
}

// BenchmarkCompareHandshakeCold is the same with devices that come for the first time: the gateway verifies each
// certificate and registers the device durably.
func BenchmarkCompareHandshakeCold(b *testing.B) {
	p := newPair(b, 0)
	next := func(addr string) (float64, error) {
		fresh := make([]*fleettest.Entity, connections)
		key := fleettest.NewKey(b)
		for i := range fresh {
			fresh[i] = fleettest.Issue(b, p.stand.fleet.Factory, key, fleettest.DeviceTemplate(fmt.Sprintf("cold-%d", p.made.Add(1))))
		}
		return p.rate(addr, fresh)
	}
	bench.Compare(b, "handshake_cold", "connections/s",
		bench.Side{Name: "handshake_cold_gateway", Rate: func() (float64, error) { return next(p.stand.addr) }},
		bench.Side{Name: "handshake_cold_bare", Rate: func() (float64, error) { return next(p.bare) }})
}

const (
	// connections of a round, by this many clients at a time.
	connections = 2000
	clients     = 32
)

// pair is a gateway and a bare server for the same devices.
type pair struct {
	stand   *stand
	bare    string
	devices []*fleettest.Entity
	made    atomic.Int64
}

func newPair(b *testing.B, devices int) *pair {
	p := &pair{stand: newStand(b, nil)}
	for i := range devices {
		p.devices = append(p.devices, p.stand.fleet.Device(b, fmt.Sprintf("device-%d", i)))
	}
	p.stand.respond = func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }
	roots := x509.NewCertPool()
	roots.AddCert(p.stand.fleet.Root.Cert)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }))
	server.TLS = &tls.Config{MinVersion: tls.VersionTLS13, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots,
		Certificates: []tls.Certificate{{Certificate: [][]byte{p.stand.server.Cert.Raw}, PrivateKey: p.stand.server.Key}}}
	server.StartTLS()
	b.Cleanup(server.Close)
	p.bare = server.Listener.Addr().String()
	return p
}

// rate has the clients share the connections. A bare server knows no intermediates, so every device sends its chain.
func (p *pair) rate(addr string, devices []*fleettest.Entity) (float64, error) {
	var next atomic.Int64
	var failed atomic.Pointer[error]
	configs := make([]*tls.Config, len(devices))
	for i, d := range devices {
		configs[i] = p.stand.tlsConfig(d)
		configs[i].Certificates[0].Certificate = append(configs[i].Certificates[0].Certificate, p.stand.fleet.Factory.Cert.Raw)
		configs[i].Certificates[0].Leaf = d.Cert
	}
	begun := time.Now()
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= connections || failed.Load() != nil {
					return
				}
				if err := visit(addr, configs[i%len(configs)]); err != nil {
					failed.Store(&err)
				}
			}
		})
	}
	all.Wait()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return connections / time.Since(begun).Seconds(), nil
}

const visitRequest = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

func visit(addr string, c *tls.Config) error {
	conn, err := tls.Dial("tcp", addr, c)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, visitRequest); err != nil {
		return err
	}
	answer, err := io.ReadAll(conn)
	if err != nil || len(answer) < 12 || string(answer[9:12]) != "200" {
		return fmt.Errorf("answer %q: %w", answer, err)
	}
	return nil
}
