package factory_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/factory/issuancelog"
	"github.com/hanaper/hanaper/factory/logbook"
	"github.com/hanaper/hanaper/factory/record/sqlite"
	"github.com/hanaper/hanaper/internal/programtest"
)

const logName = "factory.plant7.example/issuance"

// addLog gives hanaperd's configuration an issuance log with a key in the issuing key's token; it returns the verifier key.
func (p *plant) addLog(t testing.TB, bin, config string) string {
	t.Helper()
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	key := p.key.URI()
	key.ModulePath, key.PINSource, key.Object, key.ID = p.board.Module, p.board.PINFile, "issuance-log", nil
	section := fmt.Sprintf("log: {folder: log, key: %q, verifier: %%q}\n", key.String())
	write := func(vkey string) {
		if err := os.WriteFile(config, append(bytes.Clone(text), fmt.Sprintf(section, vkey)...), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("")
	exit, out, errs := run(t, filepath.Join(bin, "hanaperd"), "log", "key", "--config", config, "--name", logName)
	if exit != 0 {
		t.Fatalf("log key: %d: %s", exit, errs)
	}
	vkey := strings.TrimSpace(out)
	write(vkey)
	return vkey
}

// logged waits until the log's checkpoint covers every event of the record, and gives their number.
func logged(t testing.TB, dir, vkey string) int64 {
	t.Helper()
	policy, err := logbook.NewPolicy(logbook.PolicyConfig{Key: vkey})
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		s, err := sqlite.Read(context.Background(), filepath.Join(dir, "state"))
		if err != nil {
			t.Fatal(err)
		}
		n, err := s.Sequence(context.Background())
		s.Close()
		if err != nil {
			t.Fatal(err)
		}
		if data, err := os.ReadFile(filepath.Join(dir, "log", "checkpoint")); err == nil {
			if c, err := policy.Verify(data); err == nil && c.Size == n && n > 0 {
				return n
			}
		}
		if time.Now().After(end) {
			t.Fatalf("the log does not come to %d entries", n)
		}
	}
}

// TestKilledWithLog: hanaperd is killed while stations enrol and the log follows, again and again. In the end each entry has the
// number of its event, none is missing and none is there twice, and every checkpoint that a station got is of this log.
// HANAPER_SOAK multiplies the rounds.
func TestKilledWithLog(t *testing.T) {
	rounds := 12
	if n, err := strconv.Atoi(os.Getenv("HANAPER_SOAK")); err == nil && n > 0 {
		rounds *= n
	}
	p, bin, dir := newPlant(t), programtest.Dir(t), t.TempDir()
	config, address := p.writeConfig(t, dir)
	vkey := p.addLog(t, bin, config)
	policy, err := logbook.NewPolicy(logbook.PolicyConfig{Key: vkey})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var stations sync.WaitGroup
	var mu sync.Mutex
	notes, answers := map[string]bool{}, 0
	count := func() (int, int) {
		mu.Lock()
		defer mu.Unlock()
		return answers, len(notes)
	}
	for i := range 4 {
		c, err := factory.NewClient(factory.ClientConfig{URL: "https://" + address, CA: []*x509.Certificate{p.operations.cert},
			Identity: p.station(t, fmt.Sprintf("line-%d", i)).tls(), Timeout: 5 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		kept := logbook.NewKept(filepath.Join(dir, fmt.Sprintf("kept-%d", i)), policy, nil)
		stations.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				held, err := kept.Size()
				if err != nil {
					t.Error(err)
					return
				}
				a, _, err := c.EnrollHolding(ctx, deviceRequest(t, newKey(t), fmt.Sprintf("dev-%d-%d", i, n)), held)
				if err != nil {
					time.Sleep(5 * time.Millisecond)
					continue
				}
				mu.Lock()
				answers++
				mu.Unlock()
				if a.Log.Checkpoint == "" {
					continue
				}
				proof, err := logbook.ParseHashes(a.Log.Consistency)
				if err != nil {
					t.Error(err)
				}
				if _, err := kept.Accept(ctx, logbook.Offer{Note: []byte(a.Log.Checkpoint), From: held, Proof: proof}); err != nil {
					t.Error(err)
				}
				mu.Lock()
				notes[a.Log.Checkpoint] = true
				mu.Unlock()
			}
		})
	}
	for range rounds {
		d := start(t, bin, config)
		before, seen := count()
		time.Sleep(time.Duration(600+rand.IntN(900)) * time.Millisecond)
		// A busy machine needs longer for what there is to lose.
		for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			if a, n := count(); a >= before+20 && n > seen {
				break
			}
		}
		d.kill()
	}
	stop()
	stations.Wait()
	d := start(t, bin, config)
	size := logged(t, dir, vkey)
	if exit := d.stop(); exit != 0 {
		t.Errorf("SIGTERM: exit %d: %s", exit, d.log.String())
	}
	args := []string{"log", "verify", "--config", config, "--json"}
	i := 0
	for note := range notes {
		at := filepath.Join(dir, fmt.Sprintf("note-%d", i))
		if err := os.WriteFile(at, []byte(note), 0o600); err != nil {
			t.Fatal(err)
		}
		args, i = append(args, "--since", at), i+1
	}
	exit, out, errs := run(t, filepath.Join(bin, "hanaperd"), args...)
	var audit struct {
		Size    int64
		Entries map[string]int64
	}
	if err := json.Unmarshal([]byte(out), &audit); err != nil || exit != 0 || audit.Size != size || audit.Entries["issue"] < int64(answers) {
		t.Fatalf("log verify: %d, %s, %s", exit, out, errs)
	}
	if answers < 20*rounds || len(notes) < rounds/2 {
		t.Errorf("%d answers, %d checkpoints: the test shows nothing", answers, len(notes))
	}
	t.Logf("%d kills, %d answers, %d entries %v, %d checkpoints held against the end", rounds, answers, size, audit.Entries, len(notes))
}

// loggedLine is a production line whose station keeps checkpoints.
func loggedLine(t *testing.T) (l *line, vkey string) {
	l = newLine(t)
	l.daemon.stop()
	vkey = l.addLog(t, l.bin, l.daemonConfig)
	text, err := os.ReadFile(l.config)
	if err != nil {
		t.Fatal(err)
	}
	text = append(text, fmt.Sprintf("log: {key: %q, kept: log.checkpoint}\n", vkey)...)
	text = bytes.Replace(text, []byte("lot: \"2026-47\"}"), []byte("lot: \"2026-47\", key_store: file}"), 1)
	if err := os.WriteFile(l.config, text, 0o600); err != nil {
		t.Fatal(err)
	}
	l.daemon = start(t, l.bin, l.daemonConfig)
	return l, vkey
}

// make enrols devices through the station program.
func (l *line) make(t *testing.T, ids ...string) {
	t.Helper()
	for _, id := range ids {
		if exit, _, errs := l.enroll(t, l.config, id); exit != 0 {
			t.Fatalf("%s: exit %d: %s", id, exit, errs)
		}
	}
}

func (l *line) at(name string) string { return filepath.Join(l.dir, name) }

// keep copies files or folders of the line aside; the function brings those named back.
func (l *line) keep(t *testing.T, names ...string) (back func(...string)) {
	t.Helper()
	aside := t.TempDir()
	for _, name := range names {
		if out, err := exec.Command("cp", "-a", l.at(name), filepath.Join(aside, name)).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	return func(names ...string) {
		t.Helper()
		for _, name := range names {
			if err := os.RemoveAll(l.at(name)); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command("cp", "-a", filepath.Join(aside, name), l.at(name)).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		}
	}
}

func (l *line) hanaperd(t *testing.T, args ...string) (int, string, string) {
	t.Helper()
	return run(t, filepath.Join(l.bin, "hanaperd"), args...)
}

// refusedStart runs hanaperd serve, which must end by itself with this exit code.
func (l *line) refusedStart(t *testing.T, want int, says string) {
	t.Helper()
	exit, _, errs := l.hanaperd(t, "serve", "--config", l.daemonConfig)
	if exit != want || !strings.Contains(errs, says) {
		t.Errorf("serve: exit %d, want %d with %q: %s", exit, want, says, errs)
	}
}

// TestLogOnTheLine walks the log through a factory's life with the real programs: stations keep checkpoints; the folder is
// deleted, cut back and flipped; it is built anew from the record; proofs and an archive are judged by other code.
func TestLogOnTheLine(t *testing.T) {
	l, vkey := loggedLine(t)
	l.make(t, "vin-0001", "vin-0002")
	logged(t, l.dir, vkey)
	back := l.keep(t, "log")
	l.make(t, "vin-0003", "vin-0004")
	size := logged(t, l.dir, vkey)
	l.make(t, "vin-0005") // its answer carries the checkpoint of the four
	kept, err := os.ReadFile(l.at("log.checkpoint"))
	if err != nil || !bytes.HasPrefix(kept, fmt.Appendf(nil, "%s\n%d\n", logName, size)) {
		t.Fatalf("the station keeps %q, %v", kept, err)
	}
	size = logged(t, l.dir, vkey)
	operator := l.client(t, l.operator(t, "olga"))
	if h, err := operator.Health(context.Background()); err != nil || h.Log != "ok" || h.Status != "ok" {
		t.Errorf("%+v, %v", h, err)
	}
	if exit, out, errs := l.hanaperd(t, "log", "verify", "--config", l.daemonConfig, "--since", l.at("log.checkpoint")); exit != 0 || !strings.Contains(out, logName) {
		t.Errorf("log verify: %d: %s%s", exit, out, errs)
	}
	l.proofs(t, vkey, size)
	l.daemon.stop()

	// The folder is refused when it was deleted, cut back or flipped, and built anew with the same root.
	for name, c := range map[string]struct {
		change func()
		says   string
	}{
		"deleted":  {func() { _ = os.RemoveAll(l.at("log")) }, "is gone"},
		"cut back": {func() { back("log") }, "was cut back"},
		"flipped": {func() {
			at := filepath.Join(l.at("log"), "tile", "entries", "000.p", fmt.Sprint(size))
			data, err := os.ReadFile(at)
			if err != nil {
				t.Fatal(err)
			}
			data[70] ^= 1
			if err := os.WriteFile(at, data, 0o644); err != nil {
				t.Fatal(err)
			}
		}, "does not hold the hashes"},
	} {
		c.change()
		l.refusedStart(t, 4, c.says)
		if exit, _, errs := l.hanaperd(t, "log", "verify", "--config", l.daemonConfig, "--since", l.at("log.checkpoint")); exit != 4 && name != "deleted" {
			t.Errorf("%s: log verify: %d: %s", name, exit, errs)
		}
		if exit, _, errs := l.hanaperd(t, "log", "rebuild", "--config", l.daemonConfig, "--since", l.at("log.checkpoint")); exit != 0 {
			t.Fatalf("%s: log rebuild: %d: %s", name, exit, errs)
		}
		if exit, _, errs := l.hanaperd(t, "log", "verify", "--config", l.daemonConfig, "--since", l.at("log.checkpoint")); exit != 0 {
			t.Errorf("%s: log verify after rebuild: %d: %s", name, exit, errs)
		}
	}
	l.daemon = start(t, l.bin, l.daemonConfig)
	l.make(t, "vin-0006")
	logged(t, l.dir, vkey)
}

// proofs has a device proven and an archive made; cryptography of Python judges both.
func (l *line) proofs(t *testing.T, vkey string, size int64) {
	t.Helper()
	if exit, _, errs := l.hanaperd(t, "log", "prove", "--config", l.daemonConfig, "--out", l.at("proof.json"), "VIN-0003"); exit != 0 {
		t.Fatalf("log prove: %d: %s", exit, errs)
	}
	if exit, out, errs := l.hanaperd(t, "log", "verify", "--proof", l.at("proof.json"), "--verifier", vkey); exit != 0 || !strings.Contains(out, "vin-0003") {
		t.Errorf("log verify --proof: %d: %s%s", exit, out, errs)
	}
	if exit, _, errs := l.hanaperd(t, "log", "prove", "--config", l.daemonConfig, "--out", l.at("none.json"), "vin-0999"); exit != 3 {
		t.Errorf("a device that is not there: %d: %s", exit, errs)
	}
	if _, err := os.Lstat(l.at("none.json")); err == nil {
		t.Error("a refused proof was written")
	}
	if exit, _, errs := l.hanaperd(t, "log", "archive", "--config", l.daemonConfig, "--out", l.at("archive")); exit != 0 {
		t.Fatalf("log archive: %d: %s", exit, errs)
	}
	if exit, _, errs := l.hanaperd(t, "log", "verify", "--archive", l.at("archive"), "--verifier", vkey, "--since", l.at("log.checkpoint")); exit != 0 {
		t.Errorf("log verify --archive: %d: %s", exit, errs)
	}
	if exit, _, errs := l.hanaperd(t, "log", "verify", "--archive", l.at("archive")); exit != 2 || !strings.Contains(errs, vkey) {
		t.Errorf("log verify --archive without a key: %d: %s", exit, errs)
	}
	if out, err := exec.Command("grep", "-r", "-l", "vin-", l.at("archive")).Output(); err == nil {
		t.Errorf("the archive names devices: %s", out)
	}
	out, err := exec.Command("python3", "testdata/judge_log.py", vkey, l.at("archive"), l.at("proof.json")).CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != fmt.Sprintf("%d entries, vin-0003 is proven", size) {
		t.Errorf("python: %v: %s", err, out)
	}
}

// client speaks to the line's hanaperd.
func (l *line) client(t *testing.T, who identity) *factory.Client {
	t.Helper()
	c, err := factory.NewClient(factory.ClientConfig{URL: "https://" + l.address, CA: []*x509.Certificate{l.operations.cert}, Identity: who.tls(), Timeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestStationNotices: record and log are put back together from a copy, and agree with each other. The station has seen more: it
// refuses, keeps the evidence, and tells hanaperd, which enrols nobody from then on.
func TestStationNotices(t *testing.T) {
	for name, more := range map[string][]string{"cut back": nil, "cut back and grown otherwise": {"other-1", "other-2", "other-3", "other-4", "other-5", "other-6"}} {
		t.Run(name, func(t *testing.T) {
			l, vkey := loggedLine(t)
			l.make(t, "vin-0001")
			logged(t, l.dir, vkey)
			l.daemon.stop()
			all := []string{"state", "log", "factory-ca.crl", "factory-ca.crl.mark"}
			back := l.keep(t, all...)
			l.daemon = start(t, l.bin, l.daemonConfig)
			l.make(t, "vin-0002", "vin-0003", "vin-0004")
			logged(t, l.dir, vkey)
			l.make(t, "vin-0005")
			kept, err := os.ReadFile(l.at("log.checkpoint"))
			if err != nil {
				t.Fatal(err)
			}
			l.daemon.stop()
			// All that hanaperd keeps is put back together: it has nothing to compare with.
			back(all...)
			l.daemon = start(t, l.bin, l.daemonConfig)
			other := l.client(t, l.plant.station(t, "line-9"))
			for _, id := range more {
				if _, _, err := other.Enroll(context.Background(), deviceRequest(t, newKey(t), id)); err != nil {
					t.Fatal(err)
				}
			}
			if more != nil {
				logged(t, l.dir, vkey)
			}
			exit, _, errs := l.enroll(t, l.config, "vin-0006")
			if exit != 4 || !strings.Contains(errs, "issuance log") {
				t.Fatalf("exit %d: %s", exit, errs)
			}
			if _, err := os.Lstat(l.at("import-vin-0006")); err == nil {
				t.Error("the device was finished")
			}
			found, _ := filepath.Glob(l.at("log.checkpoint.refused-*.json"))
			if len(found) != 1 {
				t.Errorf("evidence: %v", found)
			}
			if now, err := os.ReadFile(l.at("log.checkpoint")); err != nil || !bytes.Equal(now, kept) {
				t.Error("the kept checkpoint was changed")
			}
			h, err := l.client(t, l.operator(t, "olga")).Health(context.Background())
			if err == nil || h.Log == "ok" {
				t.Errorf("hanaperd says %+v, %v", h, err)
			}
			if !strings.Contains(l.daemon.log.String(), issuancelog.ErrCarried.Error()) {
				t.Errorf("hanaperd's log: %s", l.daemon.log.String())
			}
			fresh := deviceRequest(t, newKey(t), "vin-0007")
			if _, _, err := other.Enroll(context.Background(), fresh); err == nil || code(t, err) != factory.CodeHeld {
				t.Errorf("a record that was put back enrols: %v", err)
			}
			if more == nil {
				return
			}
			// What an operator has decided on is not held again by a station that still keeps its old checkpoint; it refuses by itself.
			if _, err := l.client(t, l.operator(t, "olga")).Accept(context.Background(), "the officers have decided"); err != nil {
				t.Fatal(err)
			}
			if exit, _, errs := l.enroll(t, l.config, "vin-0006"); exit != 4 {
				t.Errorf("exit %d: %s", exit, errs)
			}
			if _, _, err := other.Enroll(context.Background(), fresh); err != nil {
				t.Error(err)
			}
		})
	}
}
