package main

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hanaper/hanaper/internal/programtest"
	"github.com/hanaper/hanaper/softhsm"
)

// told is what 'status' says of a desk, with its exit code.
func (d *desk) told() (s statusDocument, text, errs string, code int) {
	d.t.Helper()
	out, _, _ := d.run("status", "--json")
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		d.t.Fatal(err, out)
	}
	text, errs, code = d.run("status")
	return
}

// unpublished waits until 'status' says that CRL 2 of the issuing CA is not published, and checks how it says so.
func (d *desk) unpublished(url, why, hint string) {
	t := d.t
	t.Helper()
	var s statusDocument
	var text, errs string
	var code int
	eventually(t, "status that is not 0", func() bool {
		s, text, errs, code = d.told()
		return code != 0 && len(s.Faults) > 0 && s.Faults[0].Number != ""
	})
	if f := s.Faults[0]; code != 1 || !s.Serving || f.Number != "2" || f.Since == "" || !strings.Contains(f.Error, why) || !strings.Contains(f.Hint, hint) {
		t.Errorf("exit %d: %+v", code, s)
	}
	for _, want := range []string{"the CRL of CN=Specimen Issuing CA, number 2, is not published", why, "since 20", "hanaper-repo: hint: ", hint} {
		if !strings.Contains(errs, want) {
			t.Errorf("status does not say %q: %s", want, errs)
		}
	}
	if !strings.Contains(text, "not the newest: number 2 is not published") || !strings.Contains(text, "not published since 20") {
		t.Errorf("status: %s", text)
	}
	res, err := http.Get(url + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	words, _ := io.ReadAll(res.Body)
	res.Body.Close()
	// It goes on serving what is good, and tells strangers no name.
	if res.StatusCode != 200 || !strings.HasPrefix(string(words), "degraded: something is not published since 20") || strings.Contains(string(words), d.dir) {
		t.Errorf("health: %d: %s", res.StatusCode, words)
	}
	data, err := os.ReadFile(d.path("log"))
	if err != nil || !strings.Contains(string(data), hint) || strings.Contains(string(data), `hint=""`) {
		t.Errorf("the log has no hint: %v: %s", err, data)
	}
}

// published waits until 'status' is 0 again, with CRL 2.
func (d *desk) published() {
	d.t.Helper()
	var s statusDocument
	eventually(d.t, "status 0", func() bool {
		var code int
		s, _, _, code = d.told()
		return code == 0 && len(s.CRLs) == 2 && (s.CRLs[0].Number == "2" || s.CRLs[1].Number == "2")
	})
	if len(s.Faults) != 0 || !s.Serving {
		d.t.Errorf("%+v", s)
	}
}

// TestStatusTokenAway: while the online keys' token is away, 'status', the health, the supervisor and the log say that a newer CRL is not published.
func TestStatusTokenAway(t *testing.T) {
	d := newDesk(t)
	w := d.world
	d.config("crls: [{file: factory.crl}]\nserve: {listen: \"127.0.0.1:0\", interval: 100ms}\n")
	d.write("factory.crl", w.MakeCRL(w.Issuing, 1))
	d.ok("init", d.path("officers"))
	if _, errs, code := d.run("status"); code != 0 || !strings.Contains(errs, "no 'hanaper-repo serve' of this configuration runs") {
		t.Errorf("exit %d: %s", code, errs)
	}
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: d.path("notify")})
	if err != nil {
		t.Fatal(err)
	}
	defer notify.Close()
	t.Setenv("NOTIFY_SOCKET", d.path("notify"))
	t.Setenv("WATCHDOG_USEC", "3000000")
	url, stop := d.serve()
	defer stop()
	if s, _, errs, code := d.told(); code != 0 || !s.Serving || len(s.Faults) != 0 || errs != "" {
		t.Fatalf("exit %d: %+v: %s", code, s, errs)
	}
	tokens := filepath.Join(filepath.Dir(d.board.PINFile), "tokens")
	if err := os.Rename(tokens, tokens+".away"); err != nil {
		t.Fatal(err)
	}
	back := func() { _ = os.Rename(tokens+".away", tokens) }
	defer back()
	d.write("factory.crl", w.MakeCRL(w.Issuing, 2, 5))
	d.unpublished(url, "token", "keys.token")
	eventually(t, "Status: line", func() bool {
		b := make([]byte, 64<<10)
		n, err := notify.Read(b)
		return err == nil && strings.Contains(string(b[:n]), "STATUS=not published since 20") && strings.Contains(string(b[:n]), "number 2")
	})
	back()
	d.published()
}

// TestStatusFullDisk: the same where the disk of the published folder is full. The disk is a small file system of its own, in a mount namespace
// where the test runs itself once more.
func TestStatusFullDisk(t *testing.T) {
	if !programtest.OwnMounts(t) {
		return
	}
	d := newDesk(t)
	w := d.world
	d.config("crls: [{file: factory.crl}]\nserve: {listen: \"127.0.0.1:0\", interval: 100ms}\n")
	fill, empty := programtest.SmallDisk(t, d.path("published"), "1m")
	t.Cleanup(func() { _ = syscall.Unmount(d.path("published"), syscall.MNT_DETACH) })
	d.write("factory.crl", w.MakeCRL(w.Issuing, 1))
	d.ok("init", d.path("officers"))
	url, stop := d.serve()
	defer stop()
	fill()
	d.write("factory.crl", w.MakeCRL(w.Issuing, 2, 5))
	d.unpublished(url, "no space left", "make room")
	empty()
	d.published()
}

// TestKeysFullDisk: keys that a token made, and no disk took the public halves of, are said to be there, with the verb that writes them.
func TestKeysFullDisk(t *testing.T) {
	if !programtest.OwnMounts(t) {
		return
	}
	d := newDesk(t)
	var err error
	if d.board, err = softhsm.ForTest(t).Create("repo-full"); err != nil {
		t.Fatal(err)
	}
	d.config("")
	small := d.path("small")
	fill, empty := programtest.SmallDisk(t, small, "64k")
	t.Cleanup(func() { _ = syscall.Unmount(small, syscall.MNT_DETACH) })
	fill()
	d.refused(1, "'hanaper-repo keys export'", "keys", "generate", "--out", small)
	if list, err := os.ReadDir(small); err != nil || len(list) != 1 {
		t.Errorf("left behind: %v %v", list, err)
	}
	empty()
	if out := d.ok("keys", "export", "--out", small); !strings.HasPrefix(out, "public key written to "+small) || strings.Count(out, "\n") != 3 {
		t.Error(out)
	}
}

// TestStatusServiceHangs: a service that takes the question and does not answer is not taken for one that has published all.
func TestStatusServiceHangs(t *testing.T) {
	d := newDesk(t)
	d.ok("init", d.path("officers"))
	l, err := net.Listen("unix", d.path("trust.high-water.json.status"))
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
	if out, errs, code := d.run("status"); code != 1 || !strings.Contains(errs, "whether all is published is not known") || !strings.Contains(out, "ENVIRONMENT") {
		t.Errorf("exit %d: %s%s", code, out, errs)
	}
	l.Close()
}

// TestStatusFarDown: the service is asked where its folder's path is longer than a socket's address may be.
func TestStatusFarDown(t *testing.T) {
	d := newDesk(t)
	far := strings.Repeat("far down/", 20)
	if err := os.MkdirAll(d.path(far), 0o700); err != nil {
		t.Fatal(err)
	}
	d.config("high_water: \"" + far + "mark.json\"\nserve: {listen: \"127.0.0.1:0\", interval: 100ms}\n")
	d.ok("init", d.path("officers"))
	_, stop := d.serve()
	defer stop()
	if s, _, errs, code := d.told(); code != 0 || !s.Serving || errs != "" {
		t.Errorf("exit %d: %+v: %s", code, s, errs)
	}
}
