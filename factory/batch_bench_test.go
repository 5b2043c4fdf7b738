package factory_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hanaper/hanaper/factory"
)

// batchOf is how many lines a batch of the figures has.
const batchOf = 100

// inBatches enrols a pile in batches, over as many connections as there are clients, and gives enrolments per second.
func inBatches(t testing.TB, clients []*factory.Client, p *pile) float64 {
	start := time.Now()
	var group sync.WaitGroup
	for _, c := range clients {
		group.Go(func() {
			for {
				var some []factory.EnrollRequest
				for range batchOf {
					q, ok := p.take()
					if !ok {
						break
					}
					some = append(some, q)
				}
				if len(some) == 0 {
					return
				}
				_, err := c.EnrollBatch(context.Background(), some, 0, func(r factory.BatchResult) {
					if r.Err != nil {
						t.Error(r.Err)
					}
				})
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	return float64(len(p.requests)) / time.Since(start).Seconds()
}

// estClients speak EST over one keep-alive connection each.
func estClients(t testing.TB, r *running) []*http.Client {
	pool := x509.NewCertPool()
	pool.AddCert(r.operations.cert)
	var out []*http.Client
	for i := range connections {
		tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{r.station(t, fmt.Sprintf("est-%d", i)).tls()}}}
		t.Cleanup(tr.CloseIdleConnections)
		out = append(out, &http.Client{Transport: tr})
	}
	return out
}

// postEST sends one request as EST has it.
func postEST(c *http.Client, url string, form []byte) (status int, text string, err error) {
	resp, err := c.Post(url, "application/pkcs10", bytes.NewReader(form))
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// BenchmarkBatch enrols in batches, in one process with their clients.
func BenchmarkBatch(b *testing.B) {
	r := serve(b, newPlant(b))
	clients, p := stations(b, r), newPile(b, b.N)
	b.ResetTimer()
	at := processor()
	b.ReportMetric(inBatches(b, clients[:2], p), "enrolments/s")
	b.ReportMetric(float64((processor()-at).Microseconds())/float64(b.N), "processor-µs")
}

// processor is the processor time that this process has used, in user and system mode: on a busy machine it says more than time does.
func processor() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
