package factory_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/factory/issuancelog"
	"github.com/hanaper/hanaper/factory/logbook"
	"github.com/hanaper/hanaper/internal/postgrestest"
)

// follow gives all servers one issuance log in one folder.
func (c *crash) follow() {
	c.t.Helper()
	vkey := c.addLog(c.t, c.bin, c.configs[0])
	text, err := os.ReadFile(c.configs[0])
	if err != nil {
		c.t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\nlog: ")
	for _, config := range c.configs[1:] {
		f, err := os.OpenFile(config, os.O_APPEND|os.O_WRONLY, 0)
		if err == nil {
			_, err = f.WriteString("log: " + section)
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			c.t.Fatal(err)
		}
	}
	if c.log, err = logbook.NewPolicy(logbook.PolicyConfig{Key: vkey}); err != nil {
		c.t.Fatal(err)
	}
}

// feeder is the server that writes the log: it has the folder's lock open. It waits until there is one.
func (c *crash) feeder() int {
	c.t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		for n, d := range c.daemons {
			open, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", d.cmd.Process.Pid))
			for _, fd := range open {
				if to, err := os.Readlink(fd); err == nil && strings.HasSuffix(to, "/log/.hanaper.lock") {
					return n
				}
			}
		}
	}
	c.t.Fatal("nobody writes the log")
	return 0
}

// grown waits until the log's checkpoint covers more than so many entries, and gives how many.
func (c *crash) grown(above int64) int64 {
	c.t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		data, err := os.ReadFile(filepath.Join(c.dir, "log", "checkpoint"))
		if err != nil {
			continue
		}
		if note, err := c.log.Verify(data); err == nil && note.Size > above {
			return note.Size
		}
	}
	c.t.Fatalf("the log does not grow above %d entries: %s", above, c.daemons[0].log.String())
	return 0
}

// agrees holds the log against the record, entry by entry, and against every checkpoint that a station got: each event has the entry of its
// number, and there is no other.
func (c *crash) agrees() {
	s := c.store()
	defer s.Close()
	ctx, rec := context.Background(), issuancelog.Of(s)
	secret, err := rec.LogSecret(ctx)
	if err != nil {
		c.t.Fatal(err)
	}
	events, err := rec.LogSize(ctx)
	if err != nil {
		c.t.Fatal(err)
	}
	conf := logbook.AuditConfig{Policy: c.log}
	for note := range c.notes {
		conf.Since = append(conf.Since, []byte(note))
	}
	var some []issuancelog.Event
	conf.Leaf = func(index uint64, leaf logbook.Leaf) (err error) {
		if len(some) == 0 {
			if some, err = rec.LogEvents(ctx, index, 1000); err != nil || len(some) == 0 {
				return fmt.Errorf("entry %d is of no event: %w", index, err)
			}
		}
		if some[0].Index != index || some[0].Leaf(secret) != leaf {
			return fmt.Errorf("entry %d is not event %d", index, some[0].Index+1)
		}
		some = some[1:]
		return nil
	}
	a, err := logbook.Check(ctx, logbook.Folder(filepath.Join(c.dir, "log")), conf)
	if err != nil {
		c.t.Fatal(err)
	}
	if uint64(a.Checkpoint.Size) != events || a.Counts[logbook.Issue] < int64(len(c.got.certs)) {
		c.t.Errorf("%d entries %v of %d events, %d devices", a.Checkpoint.Size, a.Counts, events, len(c.got.certs))
	}
	exit, out, errs := run(c.t, filepath.Join(c.bin, "hanaperd"), "log", "verify", "--config", c.configs[0], "--json")
	var said struct{ Size int64 }
	if err := json.Unmarshal([]byte(out), &said); err != nil || exit != 0 || said.Size != a.Checkpoint.Size {
		c.t.Errorf("log verify: %d, %s, %s", exit, out, errs)
	}
	c.t.Logf("%d entries %v, %d checkpoints of stations held against the end", a.Checkpoint.Size, a.Counts, len(c.notes))
}

// TestKillFeeder: two hanaperd on one PostgreSQL database and one issuance log in a folder that they share. The one that writes the log is killed, or
// stopped and then ended, or the database ends, again and again while stations enrol at both. The other one goes on with the log by itself; while the
// writer is stopped enrolment goes on without. Each event has the entry of its number, none is missing or there twice, and
// every checkpoint that a station got is of this log.
func TestKillFeeder(t *testing.T) {
	c := newCrash(t, 2, postgrestest.Start(t))
	c.follow()
	ctx, stop := context.WithCancel(context.Background())
	c.start(0)
	c.start(1)
	stations := c.stations(ctx)
	var once sync.Once
	stopped, times := 0, rounds()
	if os.Getenv("HANAPER_SOAK") == "" {
		times = 5 // one of each
	}
	size := c.grown(0)
	for n := range times {
		leader := c.feeder()
		switch {
		case n%5 == 4:
			c.cluster.Kill()
			c.cluster.Run()
		case n%5 == 2:
			// Frozen, it keeps the database's lock and the folder's: the log stands, enrolment does not.
			p := c.daemons[leader].cmd.Process
			_ = p.Signal(syscall.SIGSTOP)
			c.work()
			once.Do(func() { c.standing(1 - leader) })
			stopped++
			c.daemons[leader].kill()
			c.work()
			c.start(leader)
		default:
			c.daemons[leader].kill()
			c.work() // the other one alone
			if other := c.feeder(); other == leader {
				t.Fatal("the killed server writes the log")
			}
			c.start(leader)
		}
		size = c.grown(size)
	}
	stop()
	stations.Wait()
	s := c.store()
	last, err := s.Sequence(context.Background())
	s.Close()
	if err != nil {
		t.Fatal(err)
	}
	if last > size {
		c.grown(last - 1)
	}
	c.end(func() {}, stations)
	// What was open was finished by the restart of both, and logged before they ended or at the next start.
	c.start(0)
	s = c.store()
	if last, err = s.Sequence(context.Background()); err != nil {
		t.Fatal(err)
	}
	s.Close()
	c.grown(last - 1)
	if exit := c.daemons[0].stop(); exit != 0 {
		t.Errorf("SIGTERM: exit %d", exit)
	}
	c.agrees()
	if len(c.notes) < times/2 {
		t.Errorf("%d checkpoints: the test shows nothing", len(c.notes))
	}
	t.Logf("%d rounds, %d of them with a stopped writer", times, stopped)
}

// standing waits until a server's health says that no server writes the log.
func (c *crash) standing(n int) {
	c.t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		if h, err := c.health(n); err == nil && strings.Contains(h.Log, "no server writes the log") {
			return
		}
	}
	c.t.Error("health does not say that no server writes the log")
}

// health asks a server how it is, whatever the status of the answer.
func (c *crash) health(n int) (h factory.Health, err error) {
	roots := x509.NewCertPool()
	roots.AddCert(c.operations.cert)
	conf := &tls.Config{Certificates: []tls.Certificate{c.station(c.t, "line-x").tls()}, RootCAs: roots}
	answer, err := (&http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{TLSClientConfig: conf, DisableKeepAlives: true}}).Get("https://" + c.addresses[n] + "/healthz")
	if err != nil {
		return h, err
	}
	defer answer.Body.Close()
	return h, json.NewDecoder(answer.Body).Decode(&h)
}
