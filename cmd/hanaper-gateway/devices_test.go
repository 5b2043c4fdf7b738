package main

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hanaper/hanaper/gateway"
	"github.com/hanaper/hanaper/gateway/registry/sqlite"
	"github.com/hanaper/hanaper/internal/postgrestest"
	"github.com/hanaper/hanaper/internal/programtest"
	"github.com/hanaper/hanaper/trust/trusttest"
)

// with adds lines to the site's configuration.
func (s *site) with(lines string) {
	s.Helper()
	s.write("gateway.yaml", []byte(s.config()+lines))
}

// devices runs a verb that must succeed, and gives its output.
func (s *site) devices(args ...string) string {
	s.Helper()
	code, out, errs := run(append([]string{"devices", args[0], "--config", s.path("gateway.yaml")}, args[1:]...)...)
	if code != 0 {
		s.Fatalf("devices %v: %d %s", args, code, errs)
	}
	return out
}

func (s *site) refusedVerb(want string, args ...string) {
	s.Helper()
	before := s.devices("log", "--json")
	code, out, errs := run(append([]string{"devices", args[0], "--config", s.path("gateway.yaml")}, args[1:]...)...)
	if code == 0 || !strings.Contains(errs, want) {
		s.Errorf("devices %v: %d %s %s, want %q", args, code, out, errs, want)
	}
	if after := s.devices("log", "--json"); after != before {
		s.Errorf("devices %v: refused, and logged: %s", args, after)
	}
}

// TestDevicesVerbs: the verbs do the same by the socket of a gateway that runs, and on the registry's file where none does.
func TestDevicesVerbs(t *testing.T) {
	s := newSite(t)
	s.with("control: {socket: control.sock}\n")
	r := s.serve()
	a, b := s.world.Device("device-a", 101), s.world.Device("=1+1", 102)
	r.served(a)
	r.served(b)
	if info, err := os.Stat(s.path("control.sock")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v, %v", info, err)
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	who := fmt.Sprintf("uid %s (%s)", me.Uid, me.Username)
	for _, running := range []bool{true, false} {
		if !running {
			r.stop()
			if _, err := os.Stat(s.path("control.sock")); err == nil {
				t.Error("the socket is left")
			}
		}
		s.devices("block", "--why", "stolen", "DEVICE-A")
		if out := s.devices("list", "--state", "blocked"); !strings.Contains(out, "device-a") || strings.Contains(out, "1+1") {
			t.Errorf("running %v: %s", running, out)
		}
		if out := s.devices("show", "device-a"); !strings.Contains(out, "stolen") || !strings.Contains(out, who) {
			t.Errorf("running %v: %s", running, out)
		}
		if running {
			r.refused(a, "device-blocked")
		}
		s.refusedVerb("is blocked", "block", "device-a")
		s.refusedVerb("is blocked", "allow-rekey", "device-a")
		s.devices("unblock", "device-a")
		if running {
			r.served(a)
		}
		s.devices("retire", "--why", "scrapped", "device-a")
		s.refusedVerb("is retired", "unblock", "device-a")
		if running {
			r.await("the retirement", func() bool { status, _, err := r.get(a); return err != nil || status != 200 })
		}
		s.devices("reinstate", "device-a")
		s.devices("allow-rekey", "device-a")
		s.devices("note", "device-a", "bench 3")
		s.devices("unflag", "device-a")
		// The names of an earlier release.
		s.devices("delete", "--why", "lost", "device-a")
		s.devices("release", "device-a")
		if out := s.devices("list"); strings.Contains(out, "device-a") {
			t.Errorf("released: %s", out)
		}
		if running {
			r.served(a)
		} else {
			s.refusedVerb("no such device", "note", "device-a", "x")
		}
		s.refusedVerb("no such device", "unblock", "nobody")
		s.refusedVerb("is no state", "list", "--state", "deleted")
		s.refusedVerb("is no flag", "list", "--flag", "x")

		n := fmt.Sprint(running)
		good := s.write("list.csv", []byte("\ufeffdevice_id,notes,generation,key_sha256\r\nn1-"+n+",\"a, b\",2,\r\nn2-"+n+",,,"+strings.Repeat("ab", 32)+"\r\n"))
		before := s.devices("export")
		if out := s.devices("import", "--dry-run", good); !strings.Contains(out, "2 devices would be registered") || s.devices("export") != before {
			t.Errorf("%s", out)
		}
		s.devices("import", "--why", "delivery 12", good)
		s.refusedVerb("n1-"+n, "import", "--dry-run", good)
		s.refusedVerb("known already", "import", good)
		after := s.devices("export", "--state", "pending")
		for text, want := range map[string]string{
			"":                             "first line",
			"id\nx\n":                      "does not name the column device_id",
			"device_id,color\nx,red\n":     "color is not one of",
			"device_id,device_id\nx,y\n":   "stands twice",
			"device_id\nx\ny\nX\n":         "devices 1 and 3 are the same",
			"device_id\nx/y\n":             "0x2f",
			"device_id\nx y\n":             "0x20",
			"device_id,generation\nx,0\n":  "no number from 1 on",
			"device_id,key_sha256\nx,ab\n": "no SHA-256 in hex",
			"device_id,notes\nx\n":         "wrong number of fields",
			"device_id\n\"x\n":             "quote",
			"device_id\nx\xff\n":           "not UTF-8",
			"device_id,notes\nx," + strings.Repeat("n", 4001) + "\n": "may have 4000",
			"device_id,environment\nx,a b\n":                         "environment",
			"device_id\n":                                            "1 to 200000 devices",
		} {
			if !running && len(text) > 40 {
				continue // the same parser
			}
			if code, _, errs := run("devices", "import", "--config", s.path("gateway.yaml"), s.write("bad.csv", []byte(text))); code == 0 || !strings.Contains(errs, want) {
				t.Errorf("%q: %d %s, want %q", text, code, errs, want)
			}
		}
		if s.devices("export", "--state", "pending") != after {
			t.Error("a refused list came in")
		}
		rows, err := csv.NewReader(strings.NewReader(s.devices("export"))).ReadAll()
		if err != nil || len(rows) < 4 || !strings.Contains(fmt.Sprint(rows), "'=1+1") {
			t.Errorf("%v, %v", rows, err)
		}
		for _, line := range strings.Split(strings.TrimSpace(s.devices("export", "--format", "ndjson", "--prefix", "N1-"+n)), "\n") {
			var d gateway.Device
			if err := json.Unmarshal([]byte(line), &d); err != nil || d.Name != "n1-"+n || d.Notes != "a, b" || d.Generation != 2 || d.State != gateway.Pending {
				t.Errorf("%s %v", line, err)
			}
		}
		if out := s.devices("log", "--limit", "1"); !strings.Contains(out, "delivery 12") || !strings.Contains(out, who) || strings.Contains(out, "scrapped") {
			t.Errorf("%s", out)
		}
	}
}

// TestRegisteredOnly: with registered_only a device of the fleet that nobody registered is refused, and leaves nothing.
func TestRegisteredOnly(t *testing.T) {
	s := newSite(t)
	s.with("registered_only: true\ncontrol: {socket: control.sock}\n")
	r := s.serve()
	a := s.world.Device("device-a", 101)
	r.refused(a, "device-not-registered")
	if out := s.devices("list"); strings.Contains(out, "device-a") {
		t.Error(out)
	}
	s.devices("import", s.write("list.csv", []byte("device_id\nDevice-A\n")))
	r.served(a)
	r.refused(s.world.Device("device-b", 102), "device-not-registered")
	r.stop()
}

// killed is how many devices come before and after a kill; with HANAPER_SOAK it is as many as the issue asks.
func killed() int {
	if os.Getenv("HANAPER_SOAK") != "" {
		return 10_000
	}
	return 150
}

// TestKilledWhileDevicesCome: what was acknowledged to a device is on the disk, whenever the gateway is killed.
func TestKilledWhileDevicesCome(t *testing.T) {
	s := newSite(t)
	r := s.serve()
	n := killed()
	devices := make([]trusttest.CA, n)
	for i := range devices {
		devices[i] = s.world.Device(fmt.Sprintf("device-%05d", i), int64(1000+i))
	}
	acknowledged := make([]atomic.Bool, n)
	var next, served atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for {
				i := next.Add(1) - 1
				if i >= int64(n) {
					return
				}
				if status, _, err := r.get(devices[i]); err == nil && status == 200 {
					acknowledged[i].Store(true)
					if served.Add(1) == int64(n)*2/3 {
						_ = r.cmd.Process.Signal(syscall.SIGKILL)
					}
				}
			}
		})
	}
	all.Wait()
	<-r.ended
	reg, err := sqlite.Open(sqlite.Config{Path: s.path("devices.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer reg.Close()
	lost := 0
	for i := range devices {
		if _, err := reg.Device(t.Context(), "test", fmt.Sprintf("device-%05d", i)); err != nil && acknowledged[i].Load() {
			lost++
		}
	}
	if lost > 0 || served.Load() < int64(n)/2 {
		t.Errorf("%d of %d acknowledged devices are lost", lost, served.Load())
	}
	t.Logf("%d were acknowledged, %d are lost", served.Load(), lost)
}

// TestTwoGateways: what is done at one gateway binds the other, on open connections too; and with the database away nobody new comes in, and after the set
// time nobody.
func TestTwoGateways(t *testing.T) {
	cluster := postgrestest.Start(t)
	s := newSite(t)
	database := cluster.Database()
	conf := func(state, socket string) string {
		return strings.NewReplacer("{path: devices.db}", fmt.Sprintf("{postgres: %q, blind: 2s}", database), "state: state", "state: "+state).Replace(s.config()) + "control: {socket: " + socket + "}\n"
	}
	s.write("gateway.yaml", []byte(conf("state-1", "1.sock")))
	one := s.serve()
	first := s.path("gateway.yaml")
	s.write("gateway.yaml", []byte(conf("state-2", "2.sock")))
	two := s.serve()
	a, b, c := s.world.Device("device-a", 101), s.world.Device("device-b", 102), s.world.Device("device-c", 103)
	one.served(a)
	two.served(a)
	two.served(b)
	if n := strings.Count(one.said()+two.said(), `msg="first contact"`); n != 2 {
		t.Errorf("%d first contacts, want 2", n)
	}
	// The site's configuration is now the second gateway's: its socket blocks, and the first one refuses.
	s.devices("block", "--why", "stolen", "device-a")
	begin := time.Now()
	one.await("the block", func() bool { status, _, err := one.get(a); return err != nil || status != 200 })
	t.Logf("the other gateway refuses after %v", time.Since(begin).Round(time.Millisecond))
	one.refused(a, "device-blocked")
	s.devices("unblock", "device-a")
	one.await("the unblock", func() bool { status, _, err := one.get(a); return err == nil && status == 200 })

	cluster.Kill()
	if status, body, err := one.get(c); err == nil && status == 200 {
		t.Errorf("a new device came in: %s", body)
	}
	one.await("health", func() bool {
		resp, err := http.Get("http://" + one.admin + "/healthz")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusServiceUnavailable
	})
	one.await("that nobody is admitted", func() bool { status, _, err := one.get(b); return err != nil || status != 200 })
	cluster.Run()
	for _, r := range []*running{one, two} {
		r.await("that all are well again", func() bool { status, _, err := r.get(b); return err == nil && status == 200 })
	}
	one.await("the new device", func() bool { status, _, err := one.get(c); return err == nil && status == 200 })
	one.stop()
	two.stop()
	if _, err := os.Stat(filepath.Join(s.dir, "devices.db")); err == nil || first == "" {
		t.Error("a file was made beside the database")
	}
}

// TestDevicesFullDisk: an act or a list on a full disk says that nothing was done and what to do, by the socket and without it, and nothing was; so does a backup.
func TestDevicesFullDisk(t *testing.T) {
	if !programtest.OwnMounts(t) {
		return
	}
	s := newSite(t)
	fill, empty := programtest.SmallDisk(t, s.path("small"), "2m")
	t.Cleanup(func() { _ = syscall.Unmount(s.path("small"), syscall.MNT_DETACH) })
	s.write("gateway.yaml", []byte(strings.Replace(s.config(), "path: devices.db", "path: small/devices.db", 1)+"control: {socket: control.sock}\n"))
	var list strings.Builder
	list.WriteString("device_id\n")
	for i := range 20000 {
		fmt.Fprintf(&list, "new-%05d\n", i)
	}
	s.write("new.csv", []byte(list.String()))
	r := s.serve()
	a := s.world.Device("device-a", 101)
	r.served(a)
	for _, running := range []bool{true, false} {
		if !running {
			r.stop()
		}
		fill()
		for _, args := range [][]string{{"import", s.path("new.csv")}, {"block", "--why", strings.Repeat("stolen ", 100), "device-a"}} {
			// Some acts find room in pages that the write-ahead log has already.
			code, out, errs := 0, "", ""
			for n := 0; code == 0 && n < 200; n++ {
				code, out, errs = run(append([]string{"devices", args[0], "--config", s.path("gateway.yaml")}, args[1:]...)...)
				if code == 0 {
					s.devices("unblock", "device-a")
				}
			}
			if code != 1 || !strings.Contains(errs, "hint: nothing was ") || !strings.Contains(errs, "ake room on") {
				t.Errorf("running %v: %s: exit %d: %s%s", running, args[0], code, out, errs)
			}
		}
		if running {
			r.served(a)
		}
		if code, out, errs := run("registry", "backup", "--config", s.path("gateway.yaml"), s.path("small/backup.db")); code != 1 || running && !strings.Contains(errs, "small/backup.db cannot be written: ") || !strings.Contains(errs, "make room") {
			t.Errorf("backup: exit %d: %s%s", code, out, errs)
		}
		empty()
		if out := s.devices("list"); strings.Contains(out, "blocked") || strings.Contains(out, "new-") {
			t.Errorf("running %v: %s", running, out)
		}
		if found, err := filepath.Glob(s.path("small/.backup*")); err != nil || len(found) > 0 {
			t.Errorf("left behind: %v %v", found, err)
		}
	}
	if code, out, errs := run("registry", "backup", "--config", s.path("gateway.yaml"), s.path("small/backup.db")); code != 0 || !strings.HasPrefix(out, "backup written to "+s.path("small/backup.db")+"\n") {
		t.Errorf("exit %d: %s%s", code, out, errs)
	}
}

// TestBackupVerbs: a backup while the gateway runs, a restore when it has stopped; a gateway does not begin with an older registry by itself.
func TestBackupVerbs(t *testing.T) {
	s := newSite(t)
	s.with("control: {socket: control.sock}\n")
	r := s.serve()
	a := s.world.Device("device-a", 101)
	r.served(a)
	verb := func(args ...string) (int, string) {
		code, out, errs := run(append([]string{"registry"}, args...)...)
		return code, out + errs
	}
	config, backup := s.path("gateway.yaml"), s.path("backup.db")
	if code, said := verb("backup", "--config", config, backup); code != 0 || !strings.Contains(said, "1 devices") {
		t.Fatal(said)
	}
	s.devices("block", "--why", "stolen", "device-a")
	r.refused(a, "device-blocked")
	if code, said := verb("restore", "--config", config, backup); code == 0 || !strings.Contains(said, "stop it first") {
		t.Errorf("%d %s", code, said)
	}
	r.await("the mark", func() bool {
		data, _ := os.ReadFile(s.path("state/registry"))
		return strings.HasSuffix(string(data), "\n1\n")
	})
	r.stop()
	// Put back by hand, it would admit the device.
	data, err := os.ReadFile(backup)
	if err != nil {
		t.Fatal(err)
	}
	for _, end := range []string{"", "-wal", "-shm"} {
		if err := os.Rename(s.path("devices.db"+end), s.path("right.db"+end)); err != nil && end == "" {
			t.Fatal(err)
		}
	}
	s.write("devices.db", data)
	if code, _, errs := run("serve", "--config", config); code == 0 || !strings.Contains(errs, "was put back") {
		t.Fatalf("%d %s", code, errs)
	}
	for _, end := range []string{"-wal", "-shm", ""} {
		_ = os.Remove(s.path("devices.db" + end))
		if err := os.Rename(s.path("right.db"+end), s.path("devices.db"+end)); err != nil && end == "" {
			t.Fatal(err)
		}
	}
	if code, said := verb("restore", "--config", config, "--why", "a test", backup); code != 0 || !strings.Contains(said, "1 devices that were kept out") {
		t.Fatal(said)
	}
	r = s.serve()
	r.refused(a, "device-blocked")
	if out := s.devices("log"); !strings.Contains(out, "act 1 is lost") || !strings.Contains(out, "carried over: stolen") {
		t.Error(out)
	}
	r.stop()
}
