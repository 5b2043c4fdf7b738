package factory_test

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/factory/record/postgres"
	"github.com/hanaper/hanaper/factory/record/sqlite"
	"github.com/hanaper/hanaper/internal/postgrestest"
	"github.com/hanaper/hanaper/internal/programtest"
)

// work runs the service's background work until the test ends.
func (r *running) work(t *testing.T) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { r.service.Run(ctx); close(done) }()
	t.Cleanup(func() { stop(); <-done })
}

// enrolled is what so many devices got.
type enrolled struct {
	requests     []factory.EnrollRequest
	certificates []string
}

func (r *running) enroll(t *testing.T, from, to int) *enrolled {
	t.Helper()
	e := &enrolled{}
	for i := from; i < to; i++ {
		q := deviceRequest(t, newKey(t), fmt.Sprintf("dev-%d", i))
		a, _, err := r.service.Enroll(context.Background(), "line-1", q)
		if err != nil {
			t.Fatal(err)
		}
		e.requests, e.certificates = append(e.requests, q), append(e.certificates, a.Certificate)
	}
	return e
}

// same asks for all again: each gets what it got, and nothing is made.
func (r *running) same(t *testing.T, e *enrolled) {
	t.Helper()
	for i, q := range e.requests {
		if a, isNew, err := r.service.Enroll(context.Background(), "line-1", q); err != nil || isNew || a.Certificate != e.certificates[i] {
			t.Fatalf("device %d: lost or doubled: %v, %v", i, isNew, err)
		}
	}
}

// sick waits until health says that the store is damaged, and sees that no new device is enrolled then: an index that has lost a device would let
// it have a second certificate.
func (r *running) sick(t *testing.T) {
	t.Helper()
	ctx := context.Background()
	eventually(t, "the damage is told", func() bool {
		h := r.service.Health(ctx)
		return h.Status == "degraded" && strings.Contains(h.Store, "damaged")
	})
	if _, _, err := r.service.Enroll(ctx, "line-1", deviceRequest(t, newKey(t), "dev-new")); code(t, err) != factory.CodeDamaged {
		t.Errorf("a new device of a damaged store: %v", err)
	}
	if !strings.Contains(string(r.service.Metrics(ctx)), `hanaperd_up{part="store"} 0`) {
		t.Error("the metric says that the store is up")
	}
}

// TestRottenFile: pages of a table and of an index that changed on the disk are found at the start, health tells, and no new device is
// enrolled. A backup from before is the way out.
func TestRottenFile(t *testing.T) {
	ctx, p, dir := context.Background(), newPlant(t), t.TempDir()
	r := serveAt(t, p, filepath.Join(dir, "state"))
	got := r.enroll(t, 0, 60)
	backup := filepath.Join(dir, "backup.db")
	if err := r.store.Backup(ctx, backup); err != nil {
		t.Fatal(err)
	}
	file, err := sqlite.ReadFile(ctx, backup)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	whole, err := os.ReadFile(backup)
	if err != nil {
		t.Fatal(err)
	}
	for what, name := range map[string]string{"table": "result", "index": "sqlite_autoindex_device_1", "another index": "certificate_enrolment", "table of keys": "device_key"} {
		t.Run(what, func(t *testing.T) {
			var page int
			if err := file.DB.QueryRowContext(ctx, "SELECT rootpage FROM sqlite_master WHERE name = ?", name).Scan(&page); err != nil {
				t.Fatal(err)
			}
			harmed := append([]byte{}, whole...)
			for i := (page-1)*4096 + 8; i < page*4096; i += 7 {
				harmed[i] ^= 0x2a
			}
			state := filepath.Join(t.TempDir(), "state")
			if err := os.MkdirAll(state, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(state, sqlite.File), harmed, 0o600); err != nil {
				t.Fatal(err)
			}
			sick := serveAt(t, p, state, func(c *factory.ServiceConfig) { c.Log = slog.New(slog.NewTextHandler(t.Output(), nil)) })
			sick.work(t)
			sick.sick(t)
		})
	}
	again := filepath.Join(dir, "again")
	if _, err := sqlite.Restore(ctx, again, backup, "it was restored"); err != nil {
		t.Fatal(err)
	}
	well := serveAt(t, p, again)
	well.same(t, got)
	if err := well.store.Accept(ctx, "operator olga", "all stations have reported"); err != nil {
		t.Fatal(err)
	}
	well.work(t)
	eventually(t, "well", func() bool { return well.service.Health(ctx).Status == "ok" })
	well.same(t, well.enroll(t, 60, 62))
	well.same(t, got)
}

// TestRottenDatabase: the same with PostgreSQL, whose pages have checksums: of a table, of what a table keeps outside of its rows (a large list), and of an index.
func TestRottenDatabase(t *testing.T) {
	ctx, p := context.Background(), newPlant(t)
	cluster := postgrestest.Start(t)
	database := cluster.Database()
	open := func(t *testing.T) (*running, func()) {
		s, err := postgres.Open(ctx, postgres.Config{Database: database})
		if err != nil {
			t.Fatal(err)
		}
		r := serveAt(t, p, t.TempDir(), func(c *factory.ServiceConfig) { c.Store = s })
		return r, func() { s.Close() }
	}
	r, done := open(t)
	got := r.enroll(t, 0, 200)
	for i := range 200 { // a list of more than a page
		if _, err := r.service.Revoke(ctx, "olga", revokeUnknown(fmt.Sprintf("5f%x", sha256.Sum256([]byte{byte(i)}))[:40])); err != nil {
			t.Fatal(err)
		}
	}
	done()
	for what, relation := range map[string]string{"table": "result", "index": "device_fold_key", "list": "(SELECT reltoastrelid::regclass FROM pg_class WHERE relname = 'crl')"} {
		t.Run(what, func(t *testing.T) {
			if !strings.HasPrefix(relation, "(") {
				relation = "'" + relation + "'"
			}
			file := cluster.SQL("base1", "CHECKPOINT; SELECT pg_relation_filepath("+relation+"::regclass)")
			path := filepath.Join(cluster.Dir(), "data", file)
			cluster.Stop()
			whole, err := os.ReadFile(path)
			if err != nil || len(whole) < 8192 {
				t.Fatal(len(whole), err)
			}
			harmed := append([]byte{}, whole...)
			harmed[len(harmed)-100] ^= 1 // one bit, in the last page
			if err := os.WriteFile(path, harmed, 0o600); err != nil {
				t.Fatal(err)
			}
			cluster.Run()
			sick, done := open(t)
			t.Cleanup(func() {
				done()
				cluster.Stop()
				if err := os.WriteFile(path, whole, 0o600); err != nil {
					t.Fatal(err)
				}
				cluster.Run()
			})
			sick.work(t)
			sick.sick(t)
		})
	}
	well, done := open(t)
	defer done()
	well.work(t)
	eventually(t, "well", func() bool { return well.service.Health(ctx).Status == "ok" })
	well.same(t, got)
}

// TestDatabaseEnds: the database ends while nobody is at the line, and comes back: health tells both within its interval, and nothing is lost.
func TestDatabaseEnds(t *testing.T) {
	ctx, p := context.Background(), newPlant(t)
	cluster := postgrestest.Start(t)
	s, err := postgres.Open(ctx, postgres.Config{Database: cluster.Database()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	r := serveAt(t, p, t.TempDir(), func(c *factory.ServiceConfig) { c.Store = s })
	r.work(t)
	got := r.enroll(t, 0, 5)
	eventually(t, "well", func() bool { return r.service.Health(ctx).Status == "ok" })
	for _, end := range []func(){cluster.Kill, cluster.Stop} {
		end()
		eventually(t, "ended", func() bool { h := r.service.Health(ctx); return h.Status == "degraded" && h.Store != "ok" })
		if _, _, err := r.service.Enroll(ctx, "line-1", deviceRequest(t, newKey(t), "dev-new")); code(t, err) != factory.CodeUnavailable {
			t.Errorf("%v", err)
		}
		cluster.Run()
		eventually(t, "back", func() bool { return r.service.Health(ctx).Status == "ok" })
		r.same(t, got)
	}
	if n, err := s.Counts(ctx); err != nil || n["device"] != 5 || n["result"] != 5 {
		t.Errorf("%v, %v", n, err)
	}
}

// TestFileDeleted: the store's file is deleted while it serves: health tells within its interval, with nobody at the line, and nothing is enrolled into a file
// that has no name. Put back, all goes on.
func TestFileDeleted(t *testing.T) {
	ctx := context.Background()
	r := serve(t, newPlant(t))
	r.work(t)
	got := r.enroll(t, 0, 5)
	eventually(t, "well", func() bool { return r.service.Health(ctx).Status == "ok" })
	path := filepath.Join(r.dir, sqlite.File)
	kept := filepath.Join(r.dir, "kept")
	if err := os.Link(path, kept); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	eventually(t, "deleted", func() bool { h := r.service.Health(ctx); return h.Status == "degraded" && h.Store != "ok" })
	if _, _, err := r.service.Enroll(ctx, "line-1", deviceRequest(t, newKey(t), "dev-new")); code(t, err) != factory.CodeUnavailable {
		t.Errorf("%v", err)
	}
	if err := os.Rename(kept, path); err != nil {
		t.Fatal(err)
	}
	eventually(t, "put back", func() bool { return r.service.Health(ctx).Status == "ok" })
	r.same(t, got)
	r.same(t, r.enroll(t, 5, 7))
}

// TestFullDisk: the disk takes nothing more, as a file size limit on the running hanaperd has it: health tells within its interval, with nobody at the line; with
// room again all goes on by itself, and nothing is lost or doubled.
func TestFullDisk(t *testing.T) {
	ctx, p, bin, dir := context.Background(), newPlant(t), programtest.Dir(t), t.TempDir()
	config, address := p.writeConfig(t, dir)
	d := start(t, bin, config)
	defer d.kill()
	c, err := factory.NewClient(factory.ClientConfig{URL: "https://" + address, CA: []*x509.Certificate{p.operations.cert}, Identity: p.station(t, "line-1").tls(), Timeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	trusting := p.station(t, "line-2").tls()
	roots := x509.NewCertPool()
	roots.AddCert(p.operations.cert)
	conf := &tls.Config{Certificates: []tls.Certificate{trusting}, RootCAs: roots}
	limit := func(bytes string) {
		if out, err := exec.Command("prlimit", "--pid", fmt.Sprint(d.cmd.Process.Pid), "--fsize="+bytes+":unlimited").CombinedOutput(); err != nil {
			t.Fatalf("prlimit: %v: %s", err, out)
		}
	}
	status := func() string {
		answer, err := (&http.Client{Transport: &http.Transport{TLSClientConfig: conf, DisableKeepAlives: true}}).Get("https://" + address + "/healthz")
		if err != nil {
			return err.Error()
		}
		defer answer.Body.Close()
		var h factory.Health
		if err := json.NewDecoder(answer.Body).Decode(&h); err != nil {
			return err.Error()
		}
		return h.Status + ", store " + h.Store
	}
	got := &handedOut{certs: map[string][]string{}}
	var requests []factory.EnrollRequest
	for i := range 8 {
		requests = append(requests, deviceRequest(t, newKey(t), fmt.Sprintf("dev-%d", i)))
	}
	ask := func(n int) error {
		a, _, err := c.Enroll(ctx, requests[n])
		if err == nil {
			got.add(fmt.Sprintf("dev-%d", n), a.Certificate)
		}
		return err
	}
	for n := range 4 {
		if err := ask(n); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "well", func() bool { return status() == "ok, store ok" })
	for range 2 {
		limit("4096")
		eventually(t, "full", func() bool { return strings.HasPrefix(status(), "degraded, store") && status() != "degraded, store ok" })
		for n := 4; n < 8; n++ {
			if err := ask(n); code(t, err) != factory.CodeUnavailable {
				t.Errorf("a full disk: %v", err)
			}
		}
		limit("unlimited")
		eventually(t, "room again", func() bool { return status() == "ok, store ok" })
		for n := range 4 {
			if err := ask(n); err != nil {
				t.Error(err)
			}
		}
	}
	for n := range 8 {
		if err := ask(n); err != nil {
			t.Error(err)
		}
	}
	if exit := d.stop(); exit != 0 {
		t.Errorf("exit %d: %s", exit, d.log.String())
	}
	s, err := sqlite.Read(ctx, filepath.Join(dir, "state"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	n, err := s.Counts(ctx)
	if err != nil || n["device"] != 8 || n["result"] != 8 || n["pending"] != 0 {
		t.Errorf("%v, %v", n, err)
	}
	for id, certs := range got.certs {
		if len(certs) != 1 {
			t.Errorf("%s got %d certificates", id, len(certs))
		}
	}
}
