package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/internal/programtest"
)

var socketCall = regexp.MustCompile(`socket(?:pair)?\((\w+)`)

// TestAirGap performs a whole ceremony in a network namespace that has only a downed loopback, under strace: no socket of
// a family other than AF_UNIX is made. Neither PIN nor passphrase is in any argument, environment, output or file.
func TestAirGap(t *testing.T) {
	d := newCeremony(t, "air gap")
	bin, trace := programtest.Path(t, "hanaper"), d.path("trace")
	if out, err := exec.Command("unshare", "--net", "--map-root-user", "--user", "ip", "-o", "link").CombinedOutput(); err != nil ||
		strings.Count(string(out), "\n") != 1 || !strings.Contains(string(out), "lo: <LOOPBACK> ") || !strings.Contains(string(out), "state DOWN") {
		t.Fatalf("a namespace with only a downed loopback (util-linux, iproute2, and the right to make one): %v\n%s", err, out)
	}
	secrets := [][]byte{[]byte("correct horse battery")}
	bindings, err := os.ReadFile(d.path("bindings.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	pinFile := regexp.MustCompile(`pin-source=([^"&]+)`).FindSubmatch(bindings)
	module := string(regexp.MustCompile(`module-path=([^"&]+)`).FindSubmatch(bindings)[1])
	pin, err := os.ReadFile(string(pinFile[1]))
	if err != nil {
		t.Fatal(err)
	}
	secrets = append(secrets, bytes.TrimSpace(pin))
	// Approvals name this program's digest, so the program under trace approves too.
	isolated := func(args ...string) string {
		t.Helper()
		argv := append([]string{"--net", "--map-root-user", "--user", "strace", "-f", "-v", "-s", "4096", "-e", "trace=network,execve", "-o", trace, bin}, args...)
		cmd := exec.Command("unshare", argv...)
		cmd.Dir = d.dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("under unshare and strace, which must be installed and permitted: %v\n%s", err, out)
		}
		calls, err := os.ReadFile(trace)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range socketCall.FindAllStringSubmatch(string(calls), -1) {
			if m[1] != "AF_UNIX" {
				t.Errorf("%v made a socket of family %s", args[:2], m[1])
			}
		}
		if !strings.Contains(string(calls), "execve(") {
			t.Error("nothing was traced")
		}
		return string(out) + string(calls)
	}
	said := isolated("officer", "enroll", "--name", "dora", "--key", d.key("dora"), "--decryption-key", d.path("dora-shares.key")+"?pin-source="+d.path("passphrase"), "--out", d.path("dora.officer.json"))
	said += isolated("roster", "new", "--environment", "production", "--threshold", "2", "--time", "2026-11-20T09:00:00Z", "--out", d.path("roster-2.json"),
		d.path("ada.officer.json"), d.path("dora.officer.json"))
	said += isolated("token", "list", "--module", module)
	said += isolated("ceremony", "check", d.path("script.yaml"))
	said += isolated("ceremony", "print", "--out", d.path("script.pdf"), d.path("script.yaml"))
	said += isolated("ceremony", "rehearse", "--out", d.path("rehearsal"), "--time", "2026-11-21T09:00:00Z", "--answers", d.path("yes"), d.path("script.yaml"))
	said += isolated(d.approve("ada", "ada.json")...)
	said += isolated(d.approve("berta", "berta.json", "--with", d.path("ada.json"))...)
	said += isolated(d.run("out", "ada.json", "berta.json")...)
	said += isolated("ceremony", "verify", "--roster", d.digest("roster.json"), d.path("out"))
	said += isolated("ceremony", "record", "--roster", d.digest("roster.json"), "--out", d.path("record.pdf"), d.path("out"))
	said += isolated("calendar", "--time", "2026-11-21T10:00:00Z", "--ics", d.path("dates.ics"), d.path("out"))
	for _, s := range secrets {
		if strings.Contains(said, string(s)) {
			t.Error("a secret is in the output, the arguments or the environment")
		}
	}
	err = filepath.WalkDir(d.path("out"), func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(name)
		for _, s := range secrets {
			if bytes.Contains(data, s) {
				t.Errorf("a secret is in %s", name)
			}
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	for _, f := range []string{"ada.key", "berta.key"} {
		if st, err := os.Stat(d.path(f)); err != nil || st.Mode().Perm() != 0o600 {
			t.Error(fmt.Errorf("%s: %v", f, err))
		}
	}
}
