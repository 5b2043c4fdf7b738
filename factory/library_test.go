package factory_test

import (
	"context"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/factory/record/sqlite"
	"github.com/hanaper/hanaper/hsm/pkcs11/peertest"
	"github.com/hanaper/hanaper/hsm/pkcs11/shimtest"
	"github.com/hanaper/hanaper/internal/programtest"
)

// withLibrary changes a configuration: another library, and what is added to the section issuing.
func withLibrary(t *testing.T, config, from, to, more string) {
	t.Helper()
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.ReplaceAll(string(text), "module-path="+from, "module-path="+to)
	changed = strings.Replace(changed, "issuing: {", "issuing: {"+more+", ", 1)
	if changed == string(text) || !strings.Contains(changed, to) {
		t.Fatalf("nothing was changed in\n%s", text)
	}
	if err := os.WriteFile(config, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
}

// libraries lists the processes of a program's libraries.
func libraries(t *testing.T, pid int) (found []int) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range stats {
		text, err := os.ReadFile(at)
		if err != nil {
			continue
		}
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		if parent, _ := strconv.Atoi(fields[1]); parent == pid && fields[0] != "Z" {
			n, _ := strconv.Atoi(filepath.Base(filepath.Dir(at)))
			found = append(found, n)
		}
	}
	return found
}

// promptly is how soon enrolment must go on: 2 s on a machine that does nothing else, which make soak has. The alternative is minutes.
func promptly() time.Duration {
	if os.Getenv("HANAPER_SOAK") != "" {
		return 2 * time.Second
	}
	return 20 * time.Second
}

// TestLibraryFaults: the library of a real hanaperd is killed, stopped and crashed while eight stations enrol: the service goes on, no
// station sees an error, no device gets two certificates, and enrolments go on soon (promptly).
func TestLibraryFaults(t *testing.T) {
	rounds := 4
	if n, err := strconv.Atoi(os.Getenv("HANAPER_SOAK")); err == nil && n > 0 {
		rounds *= 4 * n
	}
	p, bin, shim := newPlant(t), programtest.Dir(t), shimtest.New(t)
	dir := t.TempDir()
	config, address := p.writeConfig(t, dir)
	withLibrary(t, config, p.board.Module, shim.Module, "environment: [HANAPER_SHIM_REAL, HANAPER_SHIM_PLAN, HANAPER_SHIM_LOG]")
	d := start(t, bin, config)
	got := &handedOut{certs: map[string][]string{}}
	ctx, stop := context.WithCancel(context.Background())
	var stations sync.WaitGroup
	var failed atomic.Int64
	for i := range 8 {
		c := clientOf(t, p, address, fmt.Sprintf("line-%d", i))
		stations.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				id := fmt.Sprintf("dev-%d-%d", i, n)
				a, _, err := c.Enroll(context.Background(), deviceRequest(t, newKey(t), id))
				if err != nil {
					failed.Add(1)
					t.Errorf("%s: %v", id, err)
					return
				}
				got.add(id, a.Certificate)
			}
		})
	}
	pid := d.cmd.Process.Pid
	library := func() int {
		for range 500 {
			if found := libraries(t, pid); len(found) == 1 {
				return found[0]
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Fatalf("hanaperd has no library: %s", d.log.String())
		return 0
	}
	for range rounds {
		for name, fault := range map[string]func(now int){
			"killed": func(now int) { _ = syscall.Kill(now, syscall.SIGKILL) }, "stopped": func(now int) { _ = syscall.Kill(now, syscall.SIGSTOP) },
			"crashed": func(int) { shim.Plan(t, "C_Sign 5 crash") },
		} {
			now := library()
			fault(now)
			begin := time.Now()
			for next := now; next == now; {
				if found := libraries(t, pid); len(found) == 1 {
					next = found[0]
				}
				time.Sleep(2 * time.Millisecond)
				if time.Since(begin) > time.Minute {
					t.Fatalf("%s: the library is not started anew", name)
				}
			}
			shim.Plan(t)
			for before := got.answers(); got.answers() < before+10 && failed.Load() == 0; time.Sleep(time.Millisecond) {
				if time.Since(begin) > time.Minute {
					t.Fatalf("%s: nothing is enrolled any more", name)
				}
			}
			if took := time.Since(begin); took > promptly() {
				t.Errorf("%s: enrolling again after %v", name, took)
			}
		}
	}
	stop()
	stations.Wait()
	if exit := d.stop(); exit != 0 {
		t.Errorf("SIGTERM: exit %d: %s", exit, d.log.String())
	}
	if !strings.Contains(d.log.String(), "started anew") {
		t.Errorf("the log does not tell: %s", d.log.String())
	}
	s, err := sqlite.Read(context.Background(), filepath.Join(dir, "state"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	judge(t, p, dir, s, got)
}

func clientOf(t *testing.T, p *plant, address, station string) *factory.Client {
	t.Helper()
	return newClientOf(t, p, address, p.station(t, station), 40*time.Second)
}

func newClientOf(t *testing.T, p *plant, address string, who identity, timeout time.Duration) *factory.Client {
	t.Helper()
	c, err := factory.NewClient(factory.ClientConfig{URL: "https://" + address, CA: []*x509.Certificate{p.operations.cert}, Identity: who.tls(), Timeout: timeout, Tries: 1})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestHungToken: the token of a real hanaperd hangs (SIGSTOP of the server behind it; 60 s in make soak): health says so, every request is answered
// within its time, a revocation is kept and its list follows, signatures are made within 2 s of the token's return, and SIGTERM is
// obeyed while it hangs.
func TestHungToken(t *testing.T) {
	hung := 6 * time.Second
	if n, err := strconv.Atoi(os.Getenv("HANAPER_SOAK")); err == nil && n > 0 {
		hung = time.Minute
	}
	p, bin := newPlant(t), programtest.Dir(t)
	server := peertest.NewServer(t)
	dir := t.TempDir()
	config, address := p.writeConfig(t, dir)
	withLibrary(t, config, p.board.Module, server.Module, "deadline: 1s")
	d := start(t, bin, config)
	station, operator := clientOf(t, p, address, "line-1"), newClientOf(t, p, address, p.operator(t, "olga"), 40*time.Second)
	if _, _, err := station.Enroll(t.Context(), deviceRequest(t, newKey(t), "dev-1")); err != nil {
		t.Fatal(err)
	}
	server.Halt()
	halted := time.Now()
	type answer struct {
		err  error
		took time.Duration
	}
	answers := make(chan answer, 2)
	go func() {
		_, _, err := station.Enroll(t.Context(), deviceRequest(t, newKey(t), "dev-2"))
		answers <- answer{err, time.Since(halted)}
	}()
	go func() {
		a, err := operator.Revoke(t.Context(), factory.RevokeRequest{DeviceID: "dev-1", Reason: "key_compromise"})
		if err == nil && a.RevokedAt.IsZero() {
			err = fmt.Errorf("%+v", a)
		}
		answers <- answer{err, time.Since(halted)}
	}()
	sick := time.Duration(0)
	for sick == 0 && time.Since(halted) < hung {
		h, err := operator.Health(t.Context())
		if err != nil || h.Status != "ok" {
			sick = time.Since(halted)
		}
		time.Sleep(50 * time.Millisecond)
	}
	if sick == 0 || sick > promptly()+2*time.Second {
		t.Errorf("health said that the token is away after %v", sick)
	}
	if a, err := operator.Device(t.Context(), "dev-1"); err != nil || a.RevokedAt == nil {
		t.Errorf("the revocation is not kept: %+v, %v", a, err)
	}
	time.Sleep(time.Until(halted.Add(hung)))
	server.Continue()
	back := time.Now()
	if _, _, err := station.Enroll(t.Context(), deviceRequest(t, newKey(t), "dev-3")); err != nil {
		t.Error(err)
	}
	if took := time.Since(back); took > promptly() {
		t.Errorf("enrolling again after %v", took)
	}
	for range 2 {
		a := <-answers
		if a.took > time.Minute || hung < 20*time.Second && a.err != nil {
			t.Errorf("answered after %v: %v", a.took, a.err)
		}
	}
	listed := false
	for end := time.Now().Add(10 * time.Second); !listed && time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if der, err := operator.CRL(t.Context()); err == nil {
			list, err := x509.ParseRevocationList(der)
			listed = err == nil && len(list.RevokedCertificateEntries) == 1
		}
	}
	if !listed {
		t.Error("no list has the revocation")
	}
	server.Halt()
	go func() { _, _, _ = station.Enroll(t.Context(), deviceRequest(t, newKey(t), "dev-4")) }()
	time.Sleep(300 * time.Millisecond)
	begin, library := time.Now(), libraries(t, d.cmd.Process.Pid)
	d.stop()
	if took := time.Since(begin); took > time.Minute {
		t.Errorf("SIGTERM was obeyed after %v", took)
	}
	t.Logf("degraded after %v, SIGTERM obeyed after %v", sick, time.Since(begin))
	server.Continue()
	for _, l := range library {
		for range 100 {
			if _, err := os.Stat(fmt.Sprintf("/proc/%d", l)); err != nil {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}
