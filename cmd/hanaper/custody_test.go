package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/ceremony"
	"github.com/hanaper/hanaper/internal/programtest"
	"github.com/hanaper/hanaper/softhsm"
)

const custodyScript = `version: 1
ceremony: %s
environment: production
window: {from: 2026-11-21T00:00:00Z, until: 2026-11-22T00:00:00Z}
roster: {file: roster.json, sha256: %s}
%s
tokens:
  vault: {uri: "pkcs11:token=custody-command%s"%s}
%s
steps:
%s`

// TestCustodyCommand initialises a token, puts its PINs into the officers' hands, and opens it by their cards in a second
// ceremony; two of three cards do, one does not.
func TestCustodyCommand(t *testing.T) {
	d := desk{t, t.TempDir()}
	d.write("passphrase", "correct horse battery\n")
	d.write("yes", "Yes\nYes\n")
	d.write("so-pin", "a-first-so-pin")
	d.write("user-pin", "a-first-user-pin")
	roster := []string{"roster", "new", "--environment", "production", "--threshold", "2", "--time", "2026-11-20T09:00:00Z", "--out", d.path("roster.json")}
	var cards []string
	for _, name := range []string{"ada", "berta", "clara"} {
		card := d.path(name) + "-shares.key?pin-source=" + d.path("passphrase")
		cards = append(cards, "--custodian", card)
		d.keyFile(name, "ED25519")
		d.keyFile(name+"-shares", "P-256")
		d.ok("officer", "enroll", "--name", name, "--key", d.key(name), "--decryption-key", card, "--out", d.path(name+".officer.json"))
		roster = append(roster, d.path(name+".officer.json"))
	}
	d.ok(roster...)
	softhsm.ForTest(t)
	module, err := softhsm.Module()
	if err != nil {
		t.Fatal(err)
	}
	d.write("bindings.yaml", fmt.Sprintf("tokens:\n  vault: %q\npins:\n  vault: {so: %s, user: %s}\n", "pkcs11:?module-path="+module, d.path("so-pin"), d.path("user-pin")))
	perform := func(out string, cards ...string) []string {
		_ = os.Remove(d.path("ada.json"))
		_ = os.Remove(d.path("berta.json"))
		d.ok(d.approve("ada", "ada.json")...)
		d.ok(d.approve("berta", "berta.json", "--with", d.path("ada.json"))...)
		args := d.run(out, "ada.json", "berta.json")
		if out != "out" { // a later ceremony is held later, however long the first one took
			args[slices.Index(args, "--time")+1] = "2026-11-21T09:30:00Z"
		}
		return append(append(append([]string{}, args[:2]...), cards...), args[2:]...)
	}
	d.write("script.yaml", fmt.Sprintf(custodyScript, "first", d.digest("roster.json"), "", "", "", "inputs: {}", `  - init-token: {token: vault}
  - hold-secret: {name: vault-user, token: vault, purpose: user}
  - hold-secret: {name: vault-so, token: vault, purpose: so}
  - generate-key: {name: k, token: vault, algorithm: P-256}
`))
	d.ok(perform("out", cards...)...)
	d.ok("ceremony", "verify", "--roster", d.digest("roster.json"), d.path("out"))

	shares := d.text("out/shares/vault-user.json")
	serial := between(shares, `"serial":"`, `"`)
	if serial == "" {
		serial = between(shares, `"token_serial":"`, `"`)
	}
	if serial == "" {
		serial = between(shares, `"token":"`, `"`)
	}
	if serial == "" {
		t.Fatalf("no serial in %.300s", shares)
	}
	d.write("script.yaml", fmt.Sprintf(custodyScript, "second", d.digest("roster.json"),
		"earlier: {folder: out, checkpoint: "+d.digest("out/checkpoint")+"}", ";serial="+serial, ", user_shares: user",
		"inputs: {user: {file: out/shares/vault-user.json, sha256: "+d.digest("out/shares/vault-user.json")+"}}", `  - import-artefact: {key: k, token: vault}
  - destroy-key: {key: k}
`))
	d.refused(3, "2 decryption keys are needed, and 1 are named", "out-2", perform("out-2", cards[:2]...)...)
	d.refused(3, "2 decryption keys are needed, and 0 are named", "out-2", perform("out-2")...)
	d.refused(3, "1 of 2 shares", "out-2", perform("out-2", append(cards[:2:2], "--custodian", d.key("ada"))...)...)
	d.write("yes", "Yes\nYes\n")
	d.ok(perform("out-2", cards[2:]...)...)
	d.ok("ceremony", "verify", "--earlier", d.digest("out/checkpoint"), d.path("out-2"))

	d.sharesOfAborted(perform, cards, serial)

	err = filepath.WalkDir(d.dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || strings.HasSuffix(name, "-pin") || strings.HasSuffix(name, "passphrase") {
			return err
		}
		data, err := os.ReadFile(name)
		for _, s := range []string{"correct horse battery", "a-first-so-pin", "a-first-user-pin"} {
			if bytes.Contains(data, []byte(s)) {
				t.Errorf("a secret is in %s", name)
			}
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func between(s, from, to string) string {
	_, rest, ok := strings.Cut(strings.ReplaceAll(s, `": "`, `":"`), from)
	if !ok {
		return ""
	}
	v, _, _ := strings.Cut(rest, to)
	return v
}

// sharesOfAborted aborts a third ceremony, which has changed the user PIN, and opens the token in a fourth, with the shares that only
// the transcript of the third has.
func (d desk) sharesOfAborted(perform func(string, ...string) []string, cards []string, serial string) {
	d.Helper()
	script := func(name, earlier, shares, steps string) {
		d.write("script.yaml", fmt.Sprintf(custodyScript, name, d.digest("roster.json"), "earlier: {folder: "+earlier+", checkpoint: "+d.digest(earlier+"/checkpoint")+"}", ";serial="+serial, ", user_shares: user",
			"inputs: {user: {file: "+shares+", sha256: "+d.digest(shares)+"}}", steps))
	}
	script("third", "out-2", "out/shares/vault-user.json", `  - hold-secret: {name: vault-user-2, token: vault, purpose: user, previous: user}
  - generate-key: {name: k2, token: vault, algorithm: P-256}
`)
	// At a terminal, where people can type stop; approved by the program itself, whose digest an approval names.
	at := func(args ...string) *sitting {
		return sit(d.T, exec.Command(programtest.Path(d.T, "hanaper"), args...))
	}
	_, _ = os.Remove(d.path("ada.json")), os.Remove(d.path("berta.json"))
	at(d.approve("ada", "ada.json")...).leaves(0)
	at(d.approve("berta", "berta.json", "--with", d.path("ada.json"))...).leaves(0)
	present := append([]string{"--bindings", d.path("bindings.yaml"), "--officer", d.key("ada"), "--officer", d.key("berta"), "--state", d.path("state")}, cards...)
	s := at(append(append([]string{"ceremony", "run", "--out", d.path("out-3"), "--time", "2026-11-21T09:40:00Z", "--approval", d.path("ada.json"), "--approval", d.path("berta.json")}, present...), d.path("script.yaml"))...)
	s.answers("Type Yes", "Yes")
	s.answers("Somebody else", "")
	s.answers("A bag or seal number", "")
	s.answers(ceremony.AskStop, "next")
	s.answers(ceremony.AskStop, "stop")
	s.leaves(1)
	d.write("yes", "Yes\nYes\nYes\n")
	d.ok(append(append([]string{"ceremony", "abort", "--reason", "a test", "--time", "2026-11-21T09:41:00Z", "--answers", d.path("yes")}, present...), d.path("out-3"))...)
	roster := d.digest("roster.json")
	before := d.digest("out-3/manifest.json")
	shares := func(out string, more ...string) []string {
		return append(append([]string{"ceremony", "shares", "--out", d.path(out)}, more...), d.path("out-3"))
	}
	d.refused(4, "NOT authenticated", "shares", shares("shares")...)
	d.refused(4, "is not the roster of the digest given", "shares", shares("shares", "--roster", strings.Repeat("0", 64))...)
	d.refused(2, "must stay as it is", "out-3/shares", shares("out-3/shares", "--roster", roster)...)
	d.refused(3, "no transcript", "shares", "ceremony", "shares", "--out", d.path("shares"), "--roster", roster, d.path("out-2"))
	if out := d.ok(shares("shares", "--roster", roster)...); !strings.Contains(out, "it opens with these alone") || !strings.Contains(out, "2 of ada, berta, clara") {
		d.Error(out)
	}
	was := d.text("shares/third/vault-user-2.json")
	if code, out, errs := hanaper(d.T, shares("shares", "--roster", roster)...); code != 2 || out != "" || !strings.Contains(errs, "is there already") || d.text("shares/third/vault-user-2.json") != was {
		d.Errorf("again: exit code %d: %s%s", code, out, errs)
	}
	if d.digest("out-3/manifest.json") != before {
		d.Error("the folder was changed")
	}
	if out := d.ok("ceremony", "status", "--roster", roster, d.path("out-3")); !strings.Contains(squeeze(out), "take them out of its transcript with `hanaper ceremony shares`") {
		d.Error(out)
	}
	script("fourth", "out-3", "shares/third/vault-user-2.json", "  - generate-key: {name: k3, token: vault, algorithm: P-256}\n")
	d.write("yes", "Yes\nYes\n")
	args := perform("out-4", cards[2:]...)
	args[slices.Index(args, "--time")+1] = "2026-11-21T09:50:00Z"
	d.ok(args...)
	d.ok("ceremony", "verify", "--roster", roster, d.path("out-4"))
}
