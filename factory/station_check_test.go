package factory_test

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/internal/programtest"
)

// TestStationCheck: what is well and what is not is told apart, nothing is enrolled or left behind, and hanaperd away is named.
func TestStationCheck(t *testing.T) {
	l := newLine(t)
	program := filepath.Join(l.bin, "hanaper-station")
	b := spoolBoard(t, "check-board")
	var findings []struct{ What, State, Text string }
	check := func(want int, more ...string) map[string]string {
		t.Helper()
		exit, out, stderr := run(t, program, append([]string{"check", "--config", l.config, "--json"}, more...)...)
		findings = nil
		if err := json.Unmarshal([]byte(out), &findings); exit != want || err != nil {
			t.Fatalf("exit %d, %v: %s%s", exit, err, out, stderr)
		}
		by := map[string]string{}
		for _, f := range findings {
			by[f.What] = f.State + ": " + f.Text
		}
		return by
	}
	well := check(0, "--token", b.URI)
	for what, want := range map[string]string{"configuration": "ok", "station's certificate": "ok: line-1", "fleet root": "ok", "hanaperd": "ok", "clock": "ok", "import folders": "ok", "spools": "ok", "token": "ok"} {
		if !strings.HasPrefix(well[what], want) {
			t.Errorf("%s: %q", what, well[what])
		}
	}
	if bad := check(1, "--token", "pkcs11:token=nobody?module-path="+b.Module+"&pin-source="+b.PINFile); !strings.HasPrefix(bad["token"], "wrong: no such token") {
		t.Errorf("%v", bad)
	}
	file := filepath.Join(l.dir, "station.pem")
	if bad := check(1, "--import", filepath.Join(file, "x", "{id}")); !strings.HasPrefix(bad["import folders"], "wrong") {
		t.Errorf("%v", bad)
	}
	if left, _ := filepath.Glob(filepath.Join(l.dir, ".hanaper-check-*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	l.daemon.stop()
	if bad := check(1); !strings.HasPrefix(bad["hanaperd"], "wrong") || !strings.Contains(bad["hanaperd"], "cannot be reached") {
		t.Errorf("%v", bad)
	}
	if rows := l.rows(t); !strings.Contains(rows, "certificate:0") || !strings.Contains(rows, "enrolment:0") {
		t.Errorf("wrote %s", rows)
	}
}

// TestScan: labels are enrolled as they are read; one that was misread is refused before anything is made, and the next one goes on.
func TestScan(t *testing.T) {
	l := newLine(t)
	b, err := os.ReadFile(l.config)
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(l.dir, "scan.yaml")
	if err := os.WriteFile(config, []byte(strings.Replace(string(b), "device: {", "device: {key_store: file, id_check: vin, ", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	scan := func(labels string) (int, string, string) {
		cmd := exec.Command(filepath.Join(l.bin, "hanaper-station"), "scan", "--config", config, "--import", filepath.Join(l.dir, "devices", "{id}"))
		var out, stderr strings.Builder
		cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(labels), &out, &stderr
		_ = cmd.Run()
		return cmd.ProcessState.ExitCode(), out.String(), stderr.String()
	}
	// The second has one digit misread, the third is the first read twice in a row.
	exit, out, stderr := scan("1M8GDM9AXKP042789\r\n1M8GDM9AXKP042788\r\n1M8GDM9AXKP042788\r\n\r\n11111111111111111\n")
	if exit != 3 || strings.Count(out, "serial") != 2 || !strings.Contains(stderr, "is no VIN") || !strings.Contains(stderr, "read twice") {
		t.Errorf("exit %d: %s%s", exit, out, stderr)
	}
	if rows := l.rows(t); !strings.Contains(rows, "certificate:2") {
		t.Errorf("the record has %s", rows)
	}
	if made, _ := filepath.Glob(filepath.Join(l.dir, "devices", "*")); len(made) != 2 {
		t.Errorf("made: %v", made)
	}
	if exit, out, stderr := scan("11111111111111111"); exit != 0 {
		t.Errorf("again: exit %d: %s%s", exit, out, stderr)
	}
}

// TestCopy: a folder goes to a device by the system's ssh and OpenSSH's server, is read back, and comes again without a change; a device whose
// host key is not known gets nothing, and a folder of another device is left alone.
func TestCopy(t *testing.T) {
	l := newLine(t)
	config := l.fileKeys(t)
	for _, id := range []string{"dev-1", "dev-2"} {
		if exit, _, stderr := l.enroll(t, config, id); exit != 0 {
			t.Fatal(stderr)
		}
	}
	port, identity, known, strange := sshServer(t)
	at := filepath.Join(t.TempDir(), "sota", "import")
	copied := func(id, knownHosts string) (int, string) {
		exit, out, stderr := run(t, filepath.Join(l.bin, "hanaper-station"), "copy", "--folder", filepath.Join(l.dir, "import-"+id), "--target", "127.0.0.1", "--port", port,
			"--directory", at, "--identity", identity, "--known-hosts", knownHosts)
		return exit, strings.Join(strings.Fields(out+stderr), " ")
	}
	if exit, said := copied("dev-1", strange); exit != 3 || !strings.Contains(said, "never taken unseen") {
		t.Errorf("exit %d: %s", exit, said)
	}
	if text := folderText(t, filepath.Dir(at)); text != "" {
		t.Errorf("written: %s", text)
	}
	for range 2 {
		if exit, said := copied("dev-1", known); exit != 0 || !strings.Contains(said, "read back") {
			t.Fatalf("exit %d: %s", exit, said)
		}
	}
	if have, want := strings.ReplaceAll(folderText(t, at), at, ""), strings.ReplaceAll(folderText(t, filepath.Join(l.dir, "import-dev-1")), filepath.Join(l.dir, "import-dev-1"), ""); have != want {
		t.Errorf("%s, not %s", have, want)
	}
	if st, err := os.Stat(filepath.Join(at, "pkey.pem")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st, err)
	}
	before := folderText(t, at)
	if exit, said := copied("dev-2", known); exit != 3 || !strings.Contains(said, "says something else") {
		t.Errorf("exit %d: %s", exit, said)
	}
	if after := folderText(t, filepath.Dir(at)); after != before {
		t.Errorf("changed: %s", after)
	}
	for _, more := range [][]string{{"--target", "-oProxyCommand=touch /tmp/x"}, {"--target", "a b"}, {"--directory", "/a;b"}, {"--directory", "/a/../b"}, {"--directory", "import"}, {"--port", "0"}, {"--folder", l.dir}} {
		args := append([]string{"copy", "--folder", filepath.Join(l.dir, "import-dev-1"), "--target", "127.0.0.1"}, more...)
		for i, a := range args {
			if i < len(args)-2 && (a == more[0]) {
				args[i+1] = more[1]
			}
		}
		if exit, _, stderr := run(t, filepath.Join(l.bin, "hanaper-station"), args...); exit != 2 {
			t.Errorf("%v: exit %d: %s", more, exit, stderr)
		}
	}
}

// sshServer starts OpenSSH's server on loopback with keys of its own; it gives the port, the file of a key that it lets in, one with its host
// key, and one with another's.
func sshServer(t *testing.T) (port, identity, known, strange string) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"host", "other", "user"} {
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, name)).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	_, port, _ = net.SplitHostPort(programtest.FreeAddress(t))
	if os.Geteuid() == 0 {
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	conf := fmt.Sprintf("Port %s\nListenAddress 127.0.0.1\nHostKey %s/host\nAuthorizedKeysFile %s/user.pub\nStrictModes no\nUsePAM no\nPidFile none\nPasswordAuthentication no\nPermitRootLogin yes\n", port, dir, dir)
	if err := os.WriteFile(filepath.Join(dir, "sshd_config"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/usr/sbin/sshd", "-D", "-e", "-f", filepath.Join(dir, "sshd_config"))
	if err := cmd.Start(); err != nil {
		t.Fatalf("sshd (see scripts/packages-test.txt): %v", err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for name, path := range map[string]*string{"host": &known, "other": &strange} {
		pub, err := os.ReadFile(filepath.Join(dir, name+".pub"))
		if err != nil {
			t.Fatal(err)
		}
		*path = filepath.Join(dir, name+".known")
		if err := os.WriteFile(*path, []byte("[127.0.0.1]:"+port+" "+string(pub)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for range 600 {
		if c, err := net.Dial("tcp", "127.0.0.1:"+port); err == nil {
			c.Close()
			return port, filepath.Join(dir, "user"), known, strange
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal("sshd does not listen")
	return
}
