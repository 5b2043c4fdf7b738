package factory_test

import (
	"bufio"
	"compress/gzip"
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/internal/cpio"
	"github.com/hanaper/hanaper/internal/programtest"
	"github.com/hanaper/hanaper/softhsm"
)

// TestMain: as the first process of a virtual machine (TestClockOfMachine boots one with this very program) it sets the machine up, runs
// the tests that its command line names, and switches it off.
func TestMain(m *testing.M) {
	if os.Getpid() == 1 {
		onMachine(m)
	}
	softhsm.Main(m)
}

// onMachine does not return.
func onMachine(m *testing.M) {
	for _, at := range []struct{ kind, path string }{{"devtmpfs", "/dev"}, {"proc", "/proc"}, {"tmpfs", "/tmp"}} {
		if err := unix.Mount(at.kind, at.path, at.kind, 0, ""); err != nil {
			fmt.Println("machine: mount", at.path, err)
		}
	}
	os.Setenv("TMPDIR", "/tmp")
	os.Setenv(programtest.Variable, "/bin")
	if err := loopback(); err != nil {
		fmt.Println("machine: lo:", err)
	}
	code := m.Run()
	fmt.Println("machine: tests ended with", code)
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	select {}
}

func loopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	if err := lo.SetInet4Addr([]byte{127, 0, 0, 1}); err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFADDR, lo); err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
}

// TestClockOfMachine boots a virtual machine, on whose own clock, set to and fro, the programs as they are shipped run: see TestOnMachine.
// The lists that came of it are held by openssl. HANAPER_SOAK has all jumps walked.
func TestClockOfMachine(t *testing.T) {
	if os.Getpid() == 1 {
		return
	}
	jumps := "200d"
	if os.Getenv("HANAPER_SOAK") != "" {
		jumps = "200d,1h,-1h,-365d"
	}
	dir := t.TempDir()
	kernel := filepath.Join(dir, "kernel")
	if out, err := exec.Command("../scripts/kernel", kernel).CombinedOutput(); err != nil {
		t.Fatalf("scripts/kernel: %v\n%s", err, out)
	}
	initrd := filepath.Join(dir, "initrd")
	packMachine(t, initrd)
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio", "-accel", "tcg", "-cpu", "max",
		"-m", "1024", "-rtc", "base=utc", "-kernel", filepath.Join(kernel, "vmlinuz"), "-initrd", initrd,
		"-append", "console=ttyS0 quiet panic=-1 HANAPER_JUMPS="+jumps+" -- -test.v -test.run=^TestOnMachine$")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	text := strings.ReplaceAll(string(out), "\r", "")
	if err != nil || !strings.Contains(text, "machine: tests ended with 0\n") {
		t.Fatalf("the virtual machine: %v\n%s", err, text)
	}
	lists := 0
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) != 5 || fields[0] != "machine:" || fields[1] != "list" {
			continue
		}
		lists++
		judgeList(t, dir, fields[2], fields[3], fields[4])
	}
	if want := 3 * (strings.Count(jumps, ",") + 1); lists < want {
		t.Errorf("%d lists came, want %d\n%s", lists, want, text)
	}
}

// judgeList has openssl say that a list is by its issuer, not from the future, and not at its end at the time that was right then.
func judgeList(t *testing.T, dir, at, issuer, list string) {
	t.Helper()
	der := func(name, text, kind string) string {
		data, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		return writePEM(t, filepath.Join(dir, name), kind, data)
	}
	ca, crl := der("ca.pem", issuer, "CERTIFICATE"), der("list.pem", list, "X509 CRL")
	if exit, out, said := run(t, "openssl", "crl", "-in", crl, "-CAfile", ca, "-noout", "-verify"); exit != 0 || !strings.Contains(said+out, "verify OK") {
		t.Errorf("openssl: %d, %s%s", exit, out, said)
	}
	_, out, _ := run(t, "openssl", "crl", "-in", crl, "-noout", "-lastupdate", "-nextupdate")
	date := func(name string) time.Time {
		found := regexp.MustCompile(name + `=(.*)`).FindStringSubmatch(out)
		if found == nil {
			t.Fatalf("openssl gives no %s: %s", name, out)
		}
		when, err := time.Parse("Jan _2 15:04:05 2006 MST", found[1])
		if err != nil {
			t.Fatal(err)
		}
		return when
	}
	seconds, err := strconv.ParseInt(at, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	right := time.Unix(seconds, 0)
	if from, until := date("lastUpdate"), date("nextUpdate"); from.After(right) || !until.After(right) {
		t.Errorf("at %s there is a list from %s to %s", right.UTC(), from, until)
	}
}

// packMachine writes the machine's file system: this program as its init, hanaperd, SoftHSM, and the libraries that they load.
func packMachine(t *testing.T, path string) {
	t.Helper()
	module, err := softhsm.Module()
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	zip, err := gzip.NewWriterLevel(f, gzip.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	buffered := bufio.NewWriter(zip)
	w := cpio.NewWriter(buffered)
	for _, dir := range []string{"dev", "proc", "tmp"} {
		w.Dir(dir, 0o755)
	}
	inside := map[string]string{"init": self, "bin/hanaperd": filepath.Join(programtest.Dir(t), "hanaperd"), strings.TrimPrefix(module, "/"): module}
	for _, program := range []string{self, inside["bin/hanaperd"], module} {
		out, err := exec.Command("ldd", program).Output()
		if err != nil {
			t.Fatalf("ldd %s: %v", program, err)
		}
		for _, lib := range regexp.MustCompile(`(/\S+) \(0x`).FindAllStringSubmatch(string(out), -1) {
			inside[strings.TrimPrefix(lib[1], "/")] = lib[1]
		}
	}
	for name, from := range inside {
		w.Copy(name, from)
	}
	if err := w.End(); err != nil {
		t.Fatal(err)
	}
	if err := buffered.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
}

// jump sets the machine's clock.
func jump(t *testing.T, by time.Duration) {
	t.Helper()
	at := unix.NsecToTimespec(time.Now().Add(by).UnixNano())
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &at); err != nil {
		t.Fatal(err)
	}
}

// TestOnMachine: a real hanaperd on a machine whose clock is set, by the jumps that HANAPER_JUMPS lists, for four seconds and for good: nothing is dated by
// the wrong clock, known devices are answered, revocations are kept, and there is a way out, which is walked.
func TestOnMachine(t *testing.T) {
	if os.Getpid() != 1 {
		return
	}
	for _, text := range strings.Split(os.Getenv("HANAPER_JUMPS"), ",") {
		days, ok := strings.CutSuffix(text, "d")
		by, err := time.ParseDuration(text)
		if ok {
			var n int
			n, err = strconv.Atoi(days)
			by = time.Duration(n) * day
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Run(text, func(t *testing.T) { walkJump(t, by) })
	}
}

// clockLine is a plant with one hanaperd, whose certificates began long ago.
type clockLine struct {
	*plant
	t           *testing.T
	dir, config string
	address     string
	daemon      *daemon
	station     *factory.Client
	olga        identity
	// off is how much the clock is set wrong.
	off time.Duration
}

func walkJump(t *testing.T, by time.Duration) {
	jump(t, -500*day) // for the plant
	l := &clockLine{plant: newPlant(t), t: t, dir: t.TempDir()}
	station := l.lasting(l.plant.station(t, "line-1"))
	l.olga, l.server = l.lasting(l.operator(t, "olga")), l.lasting(l.server)
	jump(t, 500*day)
	l.config, l.address = l.writeConfig(t, l.dir)
	l.daemon = start(t, programtest.Dir(t), l.config)
	defer func() { l.daemon.kill() }()
	l.station = l.client(station)
	known := deviceRequest(t, newKey(t), "dev-1")
	first := l.enrol(known)
	l.waitForList("a first list", func(list *x509.RevocationList) bool { return true })

	// For four seconds.
	l.set(by)
	if _, _, err := l.station.Enroll(t.Context(), deviceRequest(t, newKey(t), "dev-2")); code(t, err) != factory.CodeClock {
		t.Errorf("a new device while the clock is wrong: %v", err)
	}
	if again := l.enrol(known); again.Certificate != first.Certificate {
		t.Error("a known device got another certificate")
	}
	serial := l.revoke("dev-1")
	time.Sleep(4 * time.Second)
	if list := l.list(); len(list.RevokedCertificateEntries) != 0 {
		t.Errorf("a list was dated by the wrong clock: from %s", list.ThisUpdate)
	}
	l.set(-by)
	l.waitForList("the revocation, once the clock is right", func(list *x509.RevocationList) bool { return has(list, serial) })
	second := l.enrol(deviceRequest(t, newKey(t), "dev-2"))
	l.dates(second)

	// For good, over a start. An hour ahead at a start is what an hour of rest looks like: that clock is believed.
	l.daemon.kill()
	l.set(by)
	l.daemon = start(t, programtest.Dir(t), l.config)
	believed := by == time.Hour
	_, _, err := l.station.Enroll(t.Context(), deviceRequest(t, newKey(t), "dev-3"))
	if believed != (err == nil) || !believed && code(t, err) != factory.CodeClock {
		t.Errorf("a new device after a start with the wrong clock: %v", err)
	}
	// The operator believes the wrong clock, and a list is dated by it.
	l.accept("compared with the clock of the hall")
	serial = l.revoke("dev-2")
	l.waitForList("a list by the clock that was said to be right", func(list *x509.RevocationList) bool { return has(list, serial) })
	// Then somebody sets it right. Whatever the wrong clock dated, the way out is the same verb.
	l.set(-by)
	if _, _, err := l.station.Enroll(t.Context(), deviceRequest(t, newKey(t), "dev-4")); code(t, err) != factory.CodeClock {
		t.Errorf("a new device when the clock jumped back: %v", err)
	}
	l.accept("compared with two telephones")
	l.dates(l.enrol(deviceRequest(t, newKey(t), "dev-4")))
	serial = l.revoke("dev-4")
	l.waitForList("a list by the right clock", func(list *x509.RevocationList) bool { return has(list, serial) })
}

// lasting is who with a certificate that is good wherever the clock goes: what is tried here is not that expired ones are refused.
func (l *clockLine) lasting(who identity) identity {
	tmpl := *who.cert
	tmpl.SerialNumber, tmpl.NotAfter = nil, inYears(5)
	return l.operations.unchecked(l.t, &tmpl)
}

func (l *clockLine) client(who identity) *factory.Client {
	c, err := factory.NewClient(factory.ClientConfig{URL: "https://" + l.address, CA: []*x509.Certificate{l.operations.cert}, Identity: who.tls(), Timeout: 30 * time.Second})
	if err != nil {
		l.t.Fatal(err)
	}
	return c
}

func (l *clockLine) set(by time.Duration) { jump(l.t, by); l.off += by }

// right is the time as it is.
func (l *clockLine) right() time.Time { return time.Now().Add(-l.off) }

func (l *clockLine) enrol(q factory.EnrollRequest) factory.EnrollAnswer {
	l.t.Helper()
	a, _, err := l.station.Enroll(l.t.Context(), q)
	if err != nil {
		l.t.Fatal(err)
	}
	return *a
}

// dates holds a certificate to the right time.
func (l *clockLine) dates(a factory.EnrollAnswer) {
	l.t.Helper()
	block, _ := pem.Decode([]byte(a.Certificate))
	if block == nil {
		l.t.Fatalf("no certificate: %q", a.Certificate)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		l.t.Fatal(err)
	}
	if now := l.right(); cert.NotBefore.After(now) || cert.NotBefore.Before(now.Add(-time.Hour)) {
		l.t.Errorf("at %s a certificate begins at %s", now.UTC(), cert.NotBefore)
	}
}

func (l *clockLine) revoke(device string) string {
	l.t.Helper()
	cert, key := l.olga.write(l.t, l.dir, "olga")
	exit, out, said := run(l.t, filepath.Join(programtest.Dir(l.t), "hanaperd"), "revoke", "--url", "https://"+l.address, "--ca", filepath.Join(l.dir, "operations-root.pem"), "--cert", cert, "--key", key,
		"--json", "--reason", "key_compromise", "--device-id", device)
	if exit != 0 {
		l.t.Fatalf("revoke: %d %s%s", exit, out, said)
	}
	found := regexp.MustCompile(`"serial": ?"([0-9a-fA-F]+)"`).FindStringSubmatch(out)
	if found == nil {
		l.t.Fatalf("revoke says no serial: %s", out)
	}
	return found[1]
}

func (l *clockLine) accept(note string) {
	l.t.Helper()
	cert, key := l.olga.write(l.t, l.dir, "olga")
	if exit, out, said := run(l.t, filepath.Join(programtest.Dir(l.t), "hanaperd"), "store", "clock", "--url", "https://"+l.address, "--ca", filepath.Join(l.dir, "operations-root.pem"), "--cert", cert, "--key", key,
		"--note", note); exit != 0 {
		l.t.Fatalf("store clock: %d %s%s", exit, out, said)
	}
}

func (l *clockLine) list() *x509.RevocationList {
	l.t.Helper()
	data, err := os.ReadFile(filepath.Join(l.dir, "factory-ca.crl"))
	if err != nil {
		return nil
	}
	list, err := x509.ParseRevocationList(data)
	if err != nil {
		l.t.Fatal(err)
	}
	return list
}

// waitForList waits for a list, and says it on the console, with the time that is believed to be right, for the judge outside.
func (l *clockLine) waitForList(what string, want func(*x509.RevocationList) bool) {
	l.t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(200 * time.Millisecond) {
		if list := l.list(); list != nil && want(list) {
			fmt.Printf("machine: list %d %s %s\n", time.Now().Unix(), base64.StdEncoding.EncodeToString(l.issuing.Raw), base64.StdEncoding.EncodeToString(list.Raw))
			return
		}
		if time.Now().After(end) {
			l.t.Fatalf("%s did not come: %s", what, l.daemon.log.String())
		}
	}
}

func has(list *x509.RevocationList, serial string) bool {
	for _, e := range list.RevokedCertificateEntries {
		if strings.EqualFold(strings.TrimLeft(hex.EncodeToString(e.SerialNumber.Bytes()), "0"), strings.TrimLeft(serial, "0")) {
			return true
		}
	}
	return false
}
