package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/programtest"
	"github.com/hanaper/hanaper/softhsm"
)

const smallScript = `version: 1
ceremony: small
environment: production
window: {from: 2026-11-21T00:00:00Z, until: 2026-11-22T00:00:00Z}
roster: {file: roster.json, sha256: %s}
tokens:
  roots: {uri: "%s"}
steps:
  - generate-key: {name: root-key, token: roots, algorithm: P-384}
  - root-certificate:
      name: root
      key: root-key
      profile: fleet-root
      subject: {common_name: Small Fleet Root}
      not_before: 2026-11-21T00:00:00Z
      not_after: 2046-11-21T00:00:00Z
  - crl: {name: root-crl, issuer: root, number: 1, this_update: 2026-11-21T00:00:00Z, next_update: 2027-11-21T00:00:00Z}
`

// newCeremony has three officers, a roster of 2 of 3, a token, its bindings and a script.
func newCeremony(t *testing.T, label string) desk {
	t.Helper()
	d := desk{t, t.TempDir()}
	d.write("passphrase", "correct horse battery\n")
	d.write("yes", "Yes\n")
	enrolments := []string{"roster", "new", "--environment", "production", "--threshold", "2", "--time", "2026-11-20T09:00:00Z", "--out", d.path("roster.json")}
	for _, name := range []string{"ada", "berta", "clara"} {
		d.keyFile(name, "ED25519")
		d.ok("officer", "enroll", "--name", name, "--key", d.key(name), "--out", d.path(name+".officer.json"))
		enrolments = append(enrolments, d.path(name+".officer.json"))
	}
	d.ok(enrolments...)
	b, err := softhsm.ForTest(t).Create(label)
	if err != nil {
		t.Fatal(err)
	}
	d.write("bindings.yaml", fmt.Sprintf("tokens:\n  roots: %q\n", hsm.URI{Token: b.Label, ModulePath: b.Module, PINSource: b.PINFile}.String()))
	d.write("script.yaml", fmt.Sprintf(smallScript, d.digest("roster.json"), hsm.URI{Token: b.Label, Serial: b.Serial}))
	return d
}

func (d desk) digest(name string) string {
	d.Helper()
	data, err := os.ReadFile(d.path(name))
	if err != nil {
		d.Fatal(err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(data))
}

var pinSource = regexp.MustCompile(`pin-source=[^"&]+`)

func (d desk) text(name string) string {
	d.Helper()
	data, err := os.ReadFile(d.path(name))
	if err != nil {
		d.Fatal(err)
	}
	return string(data)
}

func (d desk) approve(who, out string, more ...string) []string {
	return append(append([]string{"ceremony", "approve", "--officer", d.key(who), "--out", d.path(out), "--answers", d.path("yes")}, more...), d.path("script.yaml"))
}

func (d desk) run(out string, approvals ...string) []string {
	args := []string{"ceremony", "run", "--out", d.path(out), "--officer", d.key("ada"), "--officer", d.key("berta"), "--bindings", d.path("bindings.yaml"),
		"--time", "2026-11-21T09:00:00Z", "--state", d.path("state"), "--answers", d.path("yes")}
	for _, a := range approvals {
		args = append(args, "--approval", d.path(a))
	}
	return append(args, d.path("script.yaml"))
}

func TestCeremony(t *testing.T) {
	d := newCeremony(t, "ceremony command")
	if out := d.ok("ceremony", "check", d.path("script.yaml")); !strings.Contains(out, `generate the P-384 key "root-key"`) || !strings.Contains(out, d.digest("script.yaml")) {
		t.Error(out)
	}
	var report struct{ Steps []struct{ Kind string } }
	if err := json.Unmarshal([]byte(d.ok("ceremony", "check", "--json", d.path("script.yaml"))), &report); err != nil || len(report.Steps) != 3 {
		t.Errorf("%v, %v", report, err)
	}
	d.ok(d.approve("ada", "ada.json")...)
	d.ok(d.approve("berta", "berta.json", "--with", d.path("ada.json"))...)
	d.ok(d.approve("clara", "clara-alone.json")...)

	d.refused(3, "CER-020", "out", d.run("out")...)
	d.refused(3, "CER-020", "out", d.run("out", "ada.json")...)
	d.refused(3, "CER-020", "out", d.run("out", "ada.json", "ada.json")...)
	d.refused(3, "with --with", "out", d.run("out", "ada.json", "clara-alone.json")...)
	d.refused(2, "no PKCS#11 module", "out", "ceremony", "run", "--out", d.path("out"), "--officer", d.key("ada"), "--approval", d.path("ada.json"), "--approval", d.path("berta.json"),
		"--time", "2026-11-21T09:00:00Z", "--answers", d.path("yes"), d.path("script.yaml"))

	for name, c := range map[string]struct {
		bindings, says string
		code           int
	}{
		"an unknown module": {"tokens:\n  roots: \"pkcs11:?module-path=/no/such.so\"\n", "/no/such.so", 1},
		"a stray token":     {"tokens:\n  leaves: \"pkcs11:?module-path=/no/such.so\"\n", "no PKCS#11 module", 2},
		"another label":     {"tokens:\n  roots: \"pkcs11:token=other?module-path=/no/such.so\"\n", "another token than the script", 2},
		"a typo":            {"tokns: {}\n", "unknown key", 2},
	} {
		good := d.text("bindings.yaml")
		d.write("bindings.yaml", c.bindings)
		t.Log(name)
		d.refused(c.code, c.says, "out", d.run("out", "ada.json", "berta.json")...)
		d.write("bindings.yaml", good)
	}
	good := d.text("bindings.yaml")
	d.write("wrong-pin", "not-the-pin\n")
	d.write("bindings.yaml", pinSource.ReplaceAllString(good, "pin-source="+d.path("wrong-pin")))
	d.refused(1, "PIN", "out", d.run("out", "ada.json", "berta.json")...)
	d.write("bindings.yaml", good)

	d.ok(d.run("out", "ada.json", "berta.json")...)
	d.refused(3, "used before", "again", d.run("again", "ada.json", "berta.json")...)

	if out := d.ok("ceremony", "verify", "--roster", d.digest("roster.json"), d.path("out")); !strings.Contains(out, "verified") || !strings.Contains(out, "approved by berta") {
		t.Error(out)
	}
	d.refused(4, "consistent, NOT authenticated", "", "ceremony", "verify", d.path("out"))
	d.refused(4, "roster.json", "", "ceremony", "verify", "--roster", strings.Repeat("0", 64), d.path("out"))
	cert := d.path("out/artefacts/root.pem")
	if err := os.WriteFile(cert, []byte("another"), 0o644); err != nil {
		t.Fatal(err)
	}
	d.refused(4, "artefacts/root.pem", "", "ceremony", "verify", "--roster", d.digest("roster.json"), d.path("out"))
	d.refused(2, "has ended", "", "ceremony", "resume", "--officer", d.key("ada"), d.path("out"))
}

// TestRehearse performs the script on throw-away tokens, in a process of its own: SoftHSM is one store a process.
func TestRehearse(t *testing.T) {
	d := newCeremony(t, "rehearse command")
	out, err := exec.Command(programtest.Path(t, "hanaper"), "ceremony", "rehearse", "--out", d.path("rehearsal"), "--time", "2026-11-21T09:00:00Z", "--answers", d.path("yes"), d.path("script.yaml")).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "rehearsed: ") {
		t.Fatalf("%v\n%s", err, out)
	}
	d.refused(4, "REHEARSAL", "", "ceremony", "verify", "--roster", d.digest("roster.json"), d.path("rehearsal"))
	if _, err := os.Stat(d.path("rehearsal/artefacts/root.pem.rehearsal")); err != nil {
		t.Error(err)
	}
}
