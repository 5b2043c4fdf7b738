package factory_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
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
	"github.com/hanaper/hanaper/factory/logbook"
	"github.com/hanaper/hanaper/factory/record"
	"github.com/hanaper/hanaper/factory/record/postgres"
	"github.com/hanaper/hanaper/factory/record/sqlite"
	"github.com/hanaper/hanaper/internal/postgrestest"
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

// crash is a line whose servers, and whose database, are ended again and again while stations enrol.
type crash struct {
	*plant
	t         *testing.T
	bin, dir  string
	configs   []string
	addresses []string
	daemons   []*daemon
	// cluster is nil where the record is in SQLite.
	cluster  *postgrestest.Cluster
	database string
	got      *handedOut
	// log is whose checkpoints the stations keep; nil where no issuance log is kept. notes are all that they got.
	log   *logbook.Policy
	mu    sync.Mutex
	notes map[string]bool
}

// newCrash lays a line out with so many servers on one record.
func newCrash(t *testing.T, servers int, cluster *postgrestest.Cluster) *crash {
	c := &crash{plant: newPlant(t), t: t, bin: programtest.Dir(t), dir: t.TempDir(), cluster: cluster, got: &handedOut{certs: map[string][]string{}}, notes: map[string]bool{}}
	if cluster != nil {
		c.database = cluster.Database()
	}
	for n := range servers {
		config, address := c.writeConfigFor(t, c.dir, n, c.database)
		c.configs, c.addresses = append(c.configs, config), append(c.addresses, address)
		c.daemons = append(c.daemons, nil)
	}
	return c
}

func (c *crash) start(n int) { c.daemons[n] = start(c.t, c.bin, c.configs[n]) }

// stations enrol until ctx ends, at one server after another; the wait ends when all have.
func (c *crash) stations(ctx context.Context) *sync.WaitGroup {
	var group sync.WaitGroup
	for i := range 8 {
		var clients []*factory.Client
		who := c.station(c.t, fmt.Sprintf("line-%d", i)).tls()
		for _, address := range c.addresses {
			client, err := factory.NewClient(factory.ClientConfig{URL: "https://" + address, CA: []*x509.Certificate{c.operations.cert}, Identity: who, Timeout: 5 * time.Second})
			if err != nil {
				c.t.Fatal(err)
			}
			clients = append(clients, client)
		}
		kept := logbook.NewKept(filepath.Join(c.dir, fmt.Sprintf("kept-%d", i)), c.log, nil)
		group.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				id := fmt.Sprintf("dev-%d-%d", i, n)
				q := deviceRequest(c.t, newKey(c.t), id)
				// Each request is sent until it is answered, and one in four again after that: to any server.
				for sent, to := 0, i+n; ctx.Err() == nil; to++ {
					a, err := c.ask(ctx, clients[to%len(clients)], q, kept)
					if err != nil {
						time.Sleep(5 * time.Millisecond)
						continue
					}
					c.got.add(id, a.Certificate)
					if sent++; sent > 1 || n%4 != 0 {
						break
					}
				}
			}
		})
	}
	return &group
}

// ask enrols, and where there is a log holds what comes with the answer against the checkpoint that the station keeps.
func (c *crash) ask(ctx context.Context, client *factory.Client, q factory.EnrollRequest, kept *logbook.Kept) (*factory.EnrollAnswer, error) {
	if c.log == nil {
		a, _, err := client.Enroll(ctx, q)
		return a, err
	}
	held, err := kept.Size()
	if err != nil {
		c.t.Error(err)
	}
	a, _, err := client.EnrollHolding(ctx, q, held)
	if err != nil || a.Log == nil || a.Log.Checkpoint == "" {
		return a, err
	}
	proof, bad := logbook.ParseHashes(a.Log.Consistency)
	if bad == nil {
		_, bad = kept.Accept(ctx, logbook.Offer{Note: []byte(a.Log.Checkpoint), From: held, Proof: proof})
	}
	// The other server may not have the last checkpoint yet.
	if bad != nil && !errors.Is(bad, logbook.ErrOlder) {
		c.t.Error(bad)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.notes[a.Log.Checkpoint] = true
	return a, nil
}

// work lets the stations enrol for a moment, so that there is something to lose.
func (c *crash) work() {
	before := c.got.answers()
	time.Sleep(time.Duration(100+rand.IntN(250)) * time.Millisecond)
	// A busy machine needs longer.
	for end := time.Now().Add(time.Minute); c.got.answers() < before+15 && time.Now().Before(end); time.Sleep(time.Duration(1+rand.IntN(5)) * time.Millisecond) {
	}
}

func (c *crash) store() record.Store {
	c.t.Helper()
	var s record.Store
	var err error
	if c.cluster == nil {
		s, err = sqlite.Read(context.Background(), filepath.Join(c.dir, "state"))
	} else {
		s, err = postgres.Open(context.Background(), postgres.Config{Database: c.database})
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return s
}

// end starts what is down, waits until no intent is open, stops all cleanly, and judges.
func (c *crash) end(stop func(), stations *sync.WaitGroup) {
	stop()
	stations.Wait()
	for n, d := range c.daemons {
		if d != nil {
			d.kill()
		}
		c.start(n) // finishes what is open
	}
	s := c.store()
	defer s.Close()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		open, err := s.OpenIntents(context.Background(), 0, 1)
		if err != nil {
			c.t.Fatal(err)
		}
		if len(open) == 0 {
			break
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("intents are left open: %s", c.daemons[0].log.String())
		}
	}
	if why, err := s.Holding(context.Background()); err != nil || why != "" {
		c.t.Errorf("the store is held: %s, %v", why, err)
	}
	for _, d := range c.daemons {
		if exit := d.stop(); exit != 0 {
			c.t.Errorf("SIGTERM: exit %d: %s", exit, d.log.String())
		}
	}
	if err := s.Check(context.Background()); err != nil {
		c.t.Error(err)
	}
	judge(c.t, c.plant, c.dir, s, c.got)
}

// rounds is how often something is ended: ten times, and 200 times under make soak (HANAPER_SOAK is 10 there).
func rounds() int {
	if times, err := strconv.Atoi(os.Getenv("HANAPER_SOAK")); err == nil && times > 0 {
		return 20 * times
	}
	return 10
}

// TestKill: hanaperd is killed while eight stations enrol, again and again. Whatever was answered is on record, and no
// device has two certificates.
func TestKill(t *testing.T) {
	c := newCrash(t, 1, nil)
	ctx, stop := context.WithCancel(context.Background())
	stations := c.stations(ctx)
	for range rounds() {
		c.start(0)
		c.work()
		c.daemons[0].kill()
		c.daemons[0] = nil
	}
	c.end(stop, stations)
}

// TestKillTwoServers: two hanaperd on one PostgreSQL database, and one of them, or the database, is killed again and again. The other goes on.
func TestKillTwoServers(t *testing.T) {
	c := newCrash(t, 2, postgrestest.Start(t))
	ctx, stop := context.WithCancel(context.Background())
	c.start(0)
	c.start(1)
	stations := c.stations(ctx)
	for n := range rounds() {
		c.work()
		switch n % 5 {
		case 4: // the database, as a crash and as an operator end it
			if n%2 == 0 {
				c.cluster.Kill()
			} else {
				c.cluster.Stop()
			}
			c.cluster.Run()
		default:
			c.daemons[n%2].kill()
			c.work() // the other one alone
			c.start(n % 2)
		}
	}
	c.end(stop, stations)
}

// judge holds what was answered against the store, and both against openssl.
func judge(t *testing.T, p *plant, dir string, s record.Store, got *handedOut) {
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
	// Events have no gap, and each certificate one number.
	if last, err := s.Sequence(context.Background()); err != nil || last != n["event"] || last < n["result"] {
		t.Errorf("the last of %d events has the number %d (%v)", n["event"], last, err)
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
