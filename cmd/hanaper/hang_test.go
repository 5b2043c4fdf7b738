package main

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/hsm/pkcs11/shimtest"
	"github.com/hanaper/hanaper/internal/programtest"
	"github.com/hanaper/hanaper/softhsm"
)

// TestHang: whatever verb opens a token, and at whatever call its library hangs, the person at the terminal is told. The
// library is only slow here, so that the verbs end; how a program is ended that waits for good shows TestHangEnded.
func TestHang(t *testing.T) {
	d := newCeremony(t, "hang")
	s := shimtest.New(t)
	honest, err := softhsm.Module()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(d.text("bindings.yaml"), honest) != 1 {
		t.Fatal(d.text("bindings.yaml"))
	}
	d.write("bindings.yaml", strings.Replace(d.text("bindings.yaml"), honest, s.Module, 1))
	d.ok(d.approve("ada", "ada.json")...)
	d.ok(d.approve("berta", "berta.json", "--with", d.path("ada.json"))...)
	d.write("so", "so-pin-123\n")
	d.write("pin", "user-pin-123\n")

	told := make(chan string, 1000)
	t.Cleanup(func() { pkcs11.OnSlow(time.Hour, func(string) {}) })
	pkcs11.OnSlow(100*time.Millisecond, func(said string) { told <- said })
	goOn := func(verb, at string) []string {
		return []string{"ceremony", verb, "--officer", d.key("ada"), "--officer", d.key("berta"), "--bindings", d.path("bindings.yaml"),
			"--time", at, "--state", d.path("state"), "--answers", d.path("yes")}
	}
	for _, x := range []struct {
		name, call string
		code       int
		args       []string
	}{
		{"token list", "C_Initialize", 0, []string{"token", "list", "--module", s.Module}},
		{"token show", "C_FindObjects", 0, []string{"token", "show", "--public", "pkcs11:token=hang?module-path=" + s.Module}},
		{"token init", "C_InitToken", 0, []string{"token", "init", "--module", s.Module, "--label", "hang-2", "--so-pin-source", d.path("so"), "--pin-source", d.path("pin"), "--transcript", d.path("tokens.log")}},
		// The first run ends at a token that fails, so that there is something to resume and to abort.
		{"ceremony run", "C_Login", 1, d.run("out", "ada.json", "berta.json")},
		{"ceremony resume", "C_OpenSession", 1, append(goOn("resume", "2026-11-21T09:30:00Z"), d.path("out"))},
		{"ceremony abort", "C_Initialize", 0, append(append(goOn("abort", "2026-11-21T10:00:00Z"), "--reason", "the token hangs"), d.path("out"))},
	} {
		for len(told) > 0 {
			<-told
		}
		rules := []string{x.call + " 1 slow 1500"}
		if x.code != 0 {
			rules = append(rules, "C_GenerateKeyPair 1+ ckr 0x30")
		}
		s.Plan(t, rules...)
		if code, out, errs := hanaper(t, x.args...); code != x.code {
			t.Errorf("%s: exit code %d:\n%s%s", x.name, code, out, errs)
		}
		if len(told) == 0 {
			t.Errorf("%s, %s is slow: nobody was told", x.name, x.call)
		} else if said := <-told; !strings.Contains(said, s.Module+" has not answered for") {
			t.Errorf("%s: %s", x.name, said)
		}
	}
}

// TestHangEnded waits out the time after which the program itself speaks of a token that hangs for good, and ends it as it says.
func TestHangEnded(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for 20 s")
	}
	t.Parallel()
	shim := shimtest.New(t)
	shim.Plan(t, "C_Initialize 1 hang")
	s := sit(t, exec.Command(programtest.Path(t, "hanaper"), "token", "list", "--module", shim.Module))
	s.sees("has not answered")
	s.sees("look at the token")
	s.sees("press Ctrl-C twice")
	for range 2 {
		if _, err := s.keys.WriteString("\x03"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	s.leaves(-1) // by the signal
}
