package imagetest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/internal/programtest"
	"github.com/hanaper/hanaper/softhsm"
)

// desk is what officers made ready at home: keys, a roster of two of three, an approved script, and a token.
type desk struct {
	t   testing.TB
	dir string
	// program is hanaper on the host, and tool the SHA-256 of the one in the image.
	program, tool, roster string
	passphrase, pin       string
	now                   time.Time
}

// script is small, and does each kind of thing: a key, a signature, a list.
const script = `version: 1
ceremony: at-the-image
environment: production
title: A ceremony on the image
window: {from: %s, until: %s}
roster: {file: roster.json, sha256: %s}
tokens:
  roots: {uri: "pkcs11:token=%s;serial=%s"}
steps:
  - generate-key: {name: fleet-root-key, token: roots, label: Fleet Root, algorithm: P-384}
  - root-certificate: {name: fleet-root, key: fleet-root-key, profile: fleet-root, subject: {common_name: Image Fleet Root}, not_before: %s, not_after: %s}
  - generate-key: {name: operations-root-key, token: roots, label: Operations Root, algorithm: P-256}
  - crl: {name: fleet-root-crl, issuer: fleet-root, number: 1, this_update: %s, next_update: %s}
`

func newDesk(t testing.TB) *desk {
	t.Helper()
	image(t)
	d := &desk{t: t, dir: t.TempDir(), program: programtest.Path(t, "hanaper"), passphrase: "a passphrase that no stick may hold", now: time.Now().UTC().Truncate(24 * time.Hour)}
	d.tool = strings.TrimSpace(os.Getenv("HANAPER_IMAGE_TOOL"))
	if d.tool == "" {
		d.tool = toolIn(t)
	}
	fleet := d.path("fleet")
	if err := os.Mkdir(fleet, 0o755); err != nil {
		t.Fatal(err)
	}
	d.write("passphrase", d.passphrase+"\n")
	d.write("yes", "Yes\n")
	var enrolled []string
	for _, name := range []string{"ada", "grace", "katherine"} {
		d.run("openssl", "genpkey", "-algorithm", "ED25519", "-out", "plain")
		d.run("openssl", "pkcs8", "-topk8", "-in", "plain", "-v2", "aes-256-cbc", "-iter", "1000", "-passout", "file:passphrase", "-out", "fleet/"+name+".key")
		d.run(d.program, "officer", "enroll", "--name", name, "--key", "fleet/"+name+".key?pin-source=passphrase", "--out", name+".json")
		enrolled = append(enrolled, name+".json")
	}
	d.run("rm", "plain")
	d.run(d.program, append([]string{"roster", "new", "--environment", "production", "--threshold", "2", "--time", d.at(-24 * time.Hour), "--out", "fleet/roster.json"}, enrolled...)...)
	d.roster = d.digest("fleet/roster.json")
	board, err := softhsm.ForTest(t).Create("Fleet Roots")
	if err != nil {
		t.Fatal(err)
	}
	pin, err := os.ReadFile(board.PINFile)
	if err != nil {
		t.Fatal(err)
	}
	d.pin = strings.TrimSpace(string(pin))
	host(t, "cp", "-r", filepath.Join(filepath.Dir(board.PINFile), "tokens"), d.path("token-softhsm"))
	host(t, "mkdir", d.path("token"))
	host(t, "mv", d.path("token-softhsm"), d.path("token", "softhsm"))
	d.write("fleet/script.yaml", fmt.Sprintf(script, d.at(0), d.at(48*time.Hour), d.roster, "Fleet%20Roots", board.Serial, d.at(0), d.at(20*365*24*time.Hour), d.at(0), d.at(300*24*time.Hour)))
	for i, name := range []string{"ada", "grace"} {
		args := []string{"ceremony", "approve", "--officer", "fleet/" + name + ".key?pin-source=passphrase", "--tool", d.tool, "--answers", "yes", "--out", "fleet/approval-" + name + ".json"}
		if i > 0 {
			args = append(args, "--with", "fleet/approval-ada.json")
		}
		d.run(d.program, append(args, "fleet/script.yaml")...)
	}
	return d
}

func (d *desk) at(after time.Duration) string { return d.now.Add(after).Format("2006-01-02T15:04:05Z") }

func (d *desk) path(name ...string) string { return filepath.Join(append([]string{d.dir}, name...)...) }

func (d *desk) write(name, text string) {
	d.t.Helper()
	if err := os.WriteFile(d.path(name), []byte(text), 0o600); err != nil {
		d.t.Fatal(err)
	}
}

func (d *desk) run(name string, args ...string) string {
	d.t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = d.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		d.t.Fatalf("%s %s: %v\n%s", filepath.Base(name), strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (d *desk) digest(name string) string {
	d.t.Helper()
	data, err := os.ReadFile(d.path(name))
	if err != nil {
		d.t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// toolIn is the SHA-256 of hanaper in the image, from its manifest.
func toolIn(t testing.TB) string {
	t.Helper()
	manifest, err := os.ReadFile(filepath.Join(image(t), "manifest"))
	if err != nil {
		t.Fatal(err)
	}
	for l := range strings.Lines(string(manifest)) {
		fields := strings.Fields(l)
		name := false
		for _, f := range fields {
			name = name || strings.TrimPrefix(f, "/") == "usr/bin/hanaper"
		}
		for _, f := range fields {
			if name && len(f) == 64 {
				return f
			}
		}
	}
	t.Fatal("the image's manifest has no usr/bin/hanaper")
	return ""
}

// sticks are what is plugged in: the ceremony's, the token's, the machine's memory, and an empty one.
type sticks struct{ fleet, token, state, copy string }

func (d *desk) sticks() sticks {
	d.t.Helper()
	s := sticks{fleet: fat(d.t, d.path("fleet.img"), "FLEET", d.path("fleet")), token: ext4(d.t, d.path("token.img"), "TOKEN", d.path("token")),
		state: ext4(d.t, d.path("state.img"), "HANAPER-STATE", ""), copy: fat(d.t, d.path("copy.img"), "COPY")}
	return s
}

func (s sticks) all() []string { return []string{s.fleet, s.token, s.state, s.copy} }

// again are copies of sticks.
func (d *desk) again(s sticks, name string) sticks {
	d.t.Helper()
	return sticks{copied(d.t, s.fleet, d.path("fleet-"+name+".img")), copied(d.t, s.token, d.path("token-"+name+".img")), copied(d.t, s.state, d.path("state-"+name+".img")), copied(d.t, s.copy, d.path("copy-"+name+".img"))}
}
