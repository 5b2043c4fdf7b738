package factory_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/factory/record/sqlite"
	"github.com/hanaper/hanaper/internal/programtest"
)

// handedOut is what stations got answered: by device id, every different certificate.
type handedOut struct {
	mu    sync.Mutex
	certs map[string][]string
	calls int
}

func (h *handedOut) answers() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.calls
}

func (h *handedOut) add(id, cert string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls++
	for _, c := range h.certs[id] {
		if c == cert {
			return
		}
	}
	h.certs[id] = append(h.certs[id], cert)
}

// TestKill: hanaperd is killed while eight stations enrol, again and again. Whatever was answered is on record, and no
// device has two certificates. HANAPER_SOAK multiplies the rounds.
func TestKill(t *testing.T) {
	rounds := 20
	if n, err := strconv.Atoi(os.Getenv("HANAPER_SOAK")); err == nil && n > 0 {
		rounds *= n
	}
	p, bin := newPlant(t), programtest.Dir(t)
	dir := t.TempDir()
	config, address := p.writeConfig(t, dir)
	got := &handedOut{certs: map[string][]string{}}
	ctx, stop := context.WithCancel(context.Background())
	var stations sync.WaitGroup
	for i := range 8 {
		c, err := factory.NewClient(factory.ClientConfig{URL: "https://" + address, CA: []*x509.Certificate{p.operations.cert},
			Identity: p.station(t, fmt.Sprintf("line-%d", i)).tls(), Timeout: 5 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		stations.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				id := fmt.Sprintf("dev-%d-%d", i, n)
				q := deviceRequest(t, newKey(t), id)
				// Each request is sent until it is answered, and one in four again after that.
				for sent := 0; ctx.Err() == nil; {
					a, _, err := c.Enroll(ctx, q)
					if err != nil {
						time.Sleep(5 * time.Millisecond)
						continue
					}
					got.add(id, a.Certificate)
					if sent++; sent > 1 || n%4 != 0 {
						break
					}
				}
			}
		})
	}
	for range rounds {
		d, before := start(t, bin, config), got.answers()
		time.Sleep(time.Duration(100+rand.IntN(250)) * time.Millisecond)
		// A busy machine needs longer until there is something to lose.
		for end := time.Now().Add(time.Minute); got.answers() < before+10 && time.Now().Before(end); time.Sleep(time.Duration(1+rand.IntN(5)) * time.Millisecond) {
		}
		d.kill()
	}
	stop()
	stations.Wait()
	d := start(t, bin, config) // finishes what is open
	deadline := time.Now().Add(time.Minute)
	s, err := sqlite.Read(context.Background(), filepath.Join(dir, "state"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for {
		open, err := s.OpenIntents(context.Background(), 0, 1)
		if err != nil {
			t.Fatal(err)
		}
		if len(open) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("intents are left open: %s", d.log.String())
		}
		time.Sleep(20 * time.Millisecond)
	}
	if exit := d.stop(); exit != 0 {
		t.Errorf("SIGTERM: exit %d: %s", exit, d.log.String())
	}
	judge(t, p, dir, s, got)
}

// judge holds what was answered against the store, and both against openssl.
func judge(t *testing.T, p *plant, dir string, s *sqlite.Store, got *handedOut) {
	if len(got.certs) < 100 {
		t.Fatalf("only %d devices were enrolled: the test shows nothing", len(got.certs))
	}
	serials := map[string]string{}
	var files []string
	for id, certs := range got.certs {
		if len(certs) != 1 {
			t.Errorf("%s was handed %d different certificates", id, len(certs))
		}
		rec, err := s.ByDevice(context.Background(), id)
		if err != nil {
			t.Fatalf("%s has a certificate and no record: %v", id, err)
		}
		leaf, err := factory.ParseCertificates([]byte(certs[0]))
		if err != nil || !bytes.Equal(leaf[0].Raw, rec.Certificate) {
			t.Errorf("%s: the record's certificate is another (%v)", id, err)
			continue
		}
		serial := leaf[0].SerialNumber.String()
		if other := serials[serial]; other != "" || leaf[0].Subject.CommonName != id {
			t.Errorf("serial %s of %s (CN %s) is also that of %q", serial, id, leaf[0].Subject.CommonName, other)
		}
		serials[serial] = id
		files = append(files, writePEM(t, filepath.Join(dir, "out", id+".pem"), "CERTIFICATE", leaf[0].Raw))
	}
	n, err := s.Counts(context.Background())
	if err != nil || n["pending"] != 0 || n["enrolment"] != n["result"] || n["enrolment"] < int64(len(got.certs)) {
		t.Errorf("%v, %v; %d were handed out", n, err, len(got.certs))
	}
	root, mid := filepath.Join(dir, "fleet-root.pem"), filepath.Join(dir, "factory-ca.pem")
	for len(files) > 0 {
		some := files[:min(1000, len(files))]
		files = files[len(some):]
		out := openssl(t, append([]string{"verify", "-x509_strict", "-CAfile", root, "-untrusted", mid}, some...)...)
		if ok := strings.Count(out, ": OK\n"); ok != len(some) {
			t.Errorf("openssl verify accepts %d of %d", ok, len(some))
		}
	}
	if out := openssl(t, "crl", "-inform", "DER", "-in", filepath.Join(dir, "factory-ca.crl"), "-CAfile", mid, "-noout"); !strings.Contains(out, "verify OK") {
		t.Errorf("openssl crl: %s", out)
	}
	t.Logf("%d answers to %d devices, %d on record", got.calls, len(got.certs), n["result"])
}
