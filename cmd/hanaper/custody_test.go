package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

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
