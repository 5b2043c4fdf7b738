package factory_test

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hanaper/hanaper/csr"
	"github.com/hanaper/hanaper/factory"
)

// connections is how many stations speak at once in the figures.
const connections = 16

// pile is a heap of enrolment requests made before the clock starts, each for another device and key.
type pile struct {
	requests []factory.EnrollRequest
	next     atomic.Int64
}

var piles atomic.Int64

func newPile(t testing.TB, n int) *pile {
	t.Helper()
	p := &pile{requests: make([]factory.EnrollRequest, n)}
	number := piles.Add(1)
	var group sync.WaitGroup
	for w := range runtime.NumCPU() {
		group.Go(func() {
			for i := w; i < n; i += runtime.NumCPU() {
				p.requests[i] = deviceRequest(t, newKey(t), fmt.Sprintf("bench-%d-%d", number, i))
			}
		})
	}
	group.Wait()
	return p
}

func (p *pile) take() (factory.EnrollRequest, bool) {
	i := p.next.Add(1) - 1
	if i >= int64(len(p.requests)) {
		return factory.EnrollRequest{}, false
	}
	return p.requests[i], true
}

// drain empties the pile with these workers and gives enrolments per second.
func (p *pile) drain(t testing.TB, workers int, work func(worker int, q factory.EnrollRequest) error) float64 {
	t.Helper()
	start := time.Now()
	var group sync.WaitGroup
	for w := range workers {
		group.Go(func() {
			for {
				q, ok := p.take()
				if !ok {
					return
				}
				if err := work(w, q); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	return float64(len(p.requests)) / time.Since(start).Seconds()
}

// overHTTPS enrols a pile over as many keep-alive connections with client certificates.
func overHTTPS(t testing.TB, r *running, clients []*factory.Client, p *pile) float64 {
	return p.drain(t, len(clients), func(w int, q factory.EnrollRequest) error {
		_, _, err := clients[w].Enroll(context.Background(), q)
		return err
	})
}

func stations(t testing.TB, r *running) []*factory.Client {
	var out []*factory.Client
	for i := range connections {
		c := r.client(r.station(t, fmt.Sprintf("line-%d", i)))
		if _, err := c.Health(context.Background()); err != nil {
			t.Fatal(err)
		}
		out = append(out, c)
	}
	return out
}

// inProcess does for a pile what no enrolment can do without: parse, possession, one signature in the token.
func inProcess(t testing.TB, r *running, p *pile, workers int) float64 {
	policy := csr.DevicePolicy()
	return p.drain(t, workers, func(_ int, q factory.EnrollRequest) error {
		req, err := csr.Parse([]byte(q.CSR), policy)
		if err != nil {
			return err
		}
		serial := make([]byte, 20)
		_, _ = rand.Read(serial)
		serial[0] &= 0x7f
		tmpl := &x509.Certificate{SerialNumber: new(big.Int).SetBytes(serial), Subject: pkix.Name{CommonName: req.CommonName()},
			NotBefore: time.Now(), NotAfter: inYears(1), KeyUsage: x509.KeyUsageDigitalSignature,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true}
		_, err = x509.CreateCertificate(rand.Reader, tmpl, r.issuing, req.PublicKey(), r.key)
		return err
	})
}

func BenchmarkEnrollHTTPS(b *testing.B) {
	r := serve(b, newPlant(b))
	clients, p := stations(b, r), newPile(b, b.N)
	b.ResetTimer()
	b.ReportMetric(overHTTPS(b, r, clients, p), "enrolments/s")
}

// BenchmarkEnrollService is the service without HTTP and TLS.
func BenchmarkEnrollService(b *testing.B) {
	r := serve(b, newPlant(b))
	p := newPile(b, b.N)
	b.ResetTimer()
	b.ReportMetric(p.drain(b, connections, func(_ int, q factory.EnrollRequest) error {
		_, _, err := r.service.Enroll(context.Background(), "line-1", q)
		return err
	}), "enrolments/s")
}

func BenchmarkInProcess(b *testing.B) {
	for _, workers := range []int{1, runtime.NumCPU()} {
		b.Run(fmt.Sprint("workers=", workers), func(b *testing.B) {
			r := serve(b, newPlant(b))
			p := newPile(b, b.N)
			b.ResetTimer()
			b.ReportMetric(inProcess(b, r, p, workers), "enrolments/s")
		})
	}
}
