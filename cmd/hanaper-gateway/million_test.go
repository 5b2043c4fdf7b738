package main

import (
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hanaper/hanaper/internal/bench"
	"github.com/hanaper/hanaper/trust"
	"github.com/hanaper/hanaper/trust/trusttest"
)

// million makes a list of n serials of 20 random octets, in no order, with reasons, and these besides.
func million(t testing.TB, ca trusttest.CA, now time.Time, number int64, n int, these ...int64) []byte {
	t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: now, NextUpdate: now.AddDate(0, 0, 30)}
	raw := make([]byte, 20*n)
	_, _ = rand.Read(raw)
	for i := range n {
		s := raw[20*i : 20*i+20]
		s[0] = s[0]&0x7f | 1
		// The same ones each time: what is revoked stays revoked.
		copy(s[1:], fmt.Appendf(nil, "%019d", (i*7919)%n))
		s[0] = 1 + byte((i*7919)%n%100)
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: new(big.Int).SetBytes(s), RevocationTime: now, ReasonCode: 1})
	}
	for _, s := range these {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: big.NewInt(s), RevocationTime: now, ReasonCode: 1})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, ca.Cert, ca.Key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// memory is a line of /proc/PID/status, in MB.
func (r *running) memory(line string) float64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.cmd.Process.Pid))
	if err != nil {
		r.Fatal(err)
	}
	_, after, _ := strings.Cut(string(data), line+":")
	kb, err := strconv.ParseFloat(strings.Fields(after)[0], 64)
	if err != nil {
		r.Fatal(err)
	}
	return kb / 1024
}

// TestMillionRevoked: a list of very many serials, and the next one, come into force at a gateway process while devices go on being served: none is
// refused that may come, and what it takes is printed. With HANAPER_SOAK it is a million.
func TestMillionRevoked(t *testing.T) {
	n := 20_000
	if os.Getenv("HANAPER_SOAK") != "" {
		n = 1_000_000
	}
	revokeMany(t, n, 3)
}

// revokeMany gives the worst time from publication to a refusal, in seconds, and the highest memory above that before, in MB.
func revokeMany(t *testing.T, n, rounds int) (slowest, above float64) {
	s := newSite(t)
	w := s.world
	web := httptest.NewServer(http.FileServer(http.Dir(w.Dir)))
	defer web.Close()
	s.write("gateway.yaml", []byte(strings.Replace(s.config(), fmt.Sprintf("%q", w.Dir), fmt.Sprintf("%q", web.URL), 1)))
	r := s.serve()
	good := w.Device("device-good", 100)
	r.served(good)
	// What was the most until now counts no more (proc(5), clear_refs).
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", r.cmd.Process.Pid), []byte("5"), 0); err != nil {
		t.Fatal(err)
	}
	baseline := r.memory("VmRSS")
	var requests, failed atomic.Int64
	var longest atomic.Int64
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
			}
			began := time.Now()
			if status, _, err := r.get(good); err != nil || status != 200 {
				failed.Add(1)
			}
			requests.Add(1)
			longest.Store(max(longest.Load(), int64(time.Since(began))))
		}
	}()
	var these []int64
	for round := range rounds {
		bad := w.Device(fmt.Sprintf("device-%d", round), int64(1000+round))
		r.served(bad)
		these = append(these, bad.Cert.SerialNumber.Int64())
		der := million(t, w.Issuing, w.Now, int64(2+round), n, these...)
		if err := w.Publish(func(p *trust.Publisher) error { return p.AddCRL(der) }); err != nil {
			t.Fatal(err)
		}
		der = nil
		r.await("a refusal", func() bool { _, _, err := r.get(bad); return err != nil })
		refused := time.Now()
		info, err := os.Stat(filepath.Join(w.Dir, trust.TimestampPath))
		if err != nil {
			t.Fatal(err)
		}
		slowest = max(slowest, refused.Sub(info.ModTime()).Seconds())
	}
	close(stop)
	<-stopped
	above = r.memory("VmHWM") - baseline
	t.Logf("%d serials: in force %.2f s after timestamp.json was there; %.0f MB above %.0f MB at most, %.0f MB above it at the end; %d requests meanwhile, the longest %v",
		n, slowest, above, baseline, r.memory("VmRSS")-baseline, requests.Load(), time.Duration(longest.Load()).Round(time.Millisecond))
	if failed.Load() > 0 || requests.Load() == 0 {
		t.Errorf("%d of %d requests failed", failed.Load(), requests.Load())
	}
	r.stop()
	return slowest, above
}

// BenchmarkCompareMillion prints what a million revoked serials take in a gateway process, three lists one after the other.
func BenchmarkCompareMillion(b *testing.B) {
	var slowest, above float64
	for range b.N {
		ok := testing.RunTests(func(string, string) (bool, error) { return true, nil }, []testing.InternalTest{{Name: "million", F: func(t *testing.T) {
			slowest, above = revokeMany(t, 1_000_000, 3)
		}}})
		if !ok {
			b.Fatal("a request failed")
		}
	}
	bench.Figure("million_revoked_in_force", slowest, "s")
	bench.Figure("million_revoked_memory_above_baseline", above, "MB")
}
