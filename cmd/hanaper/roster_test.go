package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/internal/shell"
)

// hanaper runs the program in this process and returns its exit code and what it printed.
func hanaper(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = shell.Run(&cli.App{Name: "hanaper", Commands: commands(), Writer: &out, ErrWriter: &errs}, append([]string{"hanaper"}, args...))
	return code, out.String(), errs.String()
}

type desk struct {
	*testing.T
	dir string
}

func (d desk) path(name string) string { return filepath.Join(d.dir, name) }

func (d desk) write(name, text string) string {
	d.Helper()
	if err := os.WriteFile(d.path(name), []byte(text), 0o600); err != nil {
		d.Fatal(err)
	}
	return d.path(name)
}

func (d desk) key(name string) string {
	return d.path(name) + ".key?pin-source=" + d.path("passphrase")
}

func (d desk) ok(args ...string) string {
	d.Helper()
	code, out, errs := hanaper(d.T, args...)
	if code != 0 {
		d.Fatalf("hanaper %s: exit %d: %s", strings.Join(args, " "), code, errs)
	}
	return out
}

// refused runs a command that must fail with this code and text, and leave nothing at out.
func (d desk) refused(want int, says, out string, args ...string) {
	d.Helper()
	code, _, errs := hanaper(d.T, args...)
	if code != want || !strings.Contains(errs, says) {
		d.Errorf("hanaper %s: exit %d, want %d: %s", strings.Join(args, " "), code, want, errs)
	}
	if strings.Contains(errs, "correct horse") {
		d.Errorf("the passphrase is in the error: %s", errs)
	}
	if out == "" {
		return
	}
	if _, err := os.Lstat(d.path(out)); !errors.Is(err, fs.ErrNotExist) {
		d.Errorf("hanaper %s: %s was written", strings.Join(args, " "), out)
	}
}

func TestOfficersAndRosters(t *testing.T) {
	d := desk{t, t.TempDir()}
	d.write("passphrase", "correct horse battery\n")
	yes, no := d.write("yes", "Yes\n"), d.write("no", "yes\n")
	for i, name := range []string{"ada", "berta", "clara", "dora"} {
		args := []string{"officer", "enroll", "--name", strings.ToUpper(name[:1]) + name[1:], "--key", d.key(name),
			"--algorithm", []string{"Ed25519", "P-256", "P-384", "Ed25519"}[i], "--out", d.path(name + ".officer.json")}
		if i < 3 {
			args = append(args, "--decryption-key", d.path(name)+"-shares.key?pin-source="+d.path("passphrase"))
		}
		out := d.program(args...)
		if !strings.Contains(out, "signing key") {
			t.Error(out)
		}
		info, err := os.Stat(d.path(name + ".key"))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("key file: %v", err)
		}
		d.fewRounds(name)
		if i < 3 {
			d.fewRounds(name + "-shares")
		}
	}
	d.ok("officer", "show", d.path("ada.officer.json"))
	if out := d.ok("officer", "show", "--json", d.path("dora.officer.json")); !strings.Contains(out, `"name": "Dora"`) {
		t.Error(out)
	}

	first := d.ok("roster", "new", "--environment", "production", "--threshold", "2", "--time", "2026-11-21T09:00:00Z", "--out", d.path("roster-1.json"),
		d.path("ada.officer.json"), d.path("berta.officer.json"), d.path("clara.officer.json"))
	if !strings.Contains(first, "2 of 3 officers must agree") {
		t.Error(first)
	}
	var view struct{ SHA256, Words string }
	if err := json.Unmarshal([]byte(d.ok("roster", "show", "--json", d.path("roster-1.json"))), &view); err != nil {
		t.Fatal(err)
	}
	d.ok("roster", "verify", "--digest", view.SHA256, d.path("roster-1.json"))

	d.ok("roster", "new", "--environment", "production", "--threshold", "2", "--previous", d.path("roster-1.json"), "--time", "2026-11-22T09:00:00Z",
		"--out", d.path("roster-2.json"), d.path("ada.officer.json"), d.path("berta.officer.json"), d.path("dora.officer.json"))
	approve := func(who, out, answers string) []string {
		return []string{"roster", "approve", "--previous", d.path("roster-1.json"), "--officer", d.key(who), "--answers", answers, "--out", d.path(out), d.path("roster-2.json")}
	}
	d.refused(3, "not Yes", "a", approve("ada", "a", no)...)
	d.refused(3, "nobody's", "a", approve("dora", "a", yes)...)
	d.ok(approve("ada", "ada.approval", yes)...)
	verify := func(approvals ...string) []string {
		args := []string{"roster", "verify", "--digest", view.SHA256}
		for _, a := range approvals {
			args = append(args, "--approval", d.path(a))
		}
		return append(args, d.path("roster-1.json"), d.path("roster-2.json"))
	}
	d.refused(4, "1 of 2 officers", "", verify("ada.approval")...)
	d.refused(4, "1 of 2 officers", "", verify("ada.approval", "ada.approval")...)
	d.ok(approve("clara", "clara.approval", yes)...)
	if out := d.ok(verify("ada.approval", "clara.approval")...); !strings.Contains(out, "epoch 2") {
		t.Error(out)
	}

	check := func(who, at string) []string {
		return []string{"officer", "check", "--roster", d.path("roster-1.json"), "--officer", d.key(who), "--decryption-key", d.key(who + "-shares"), "--time", at, "--out", d.path(who + ".check")}
	}
	d.ok(check("ada", "2026-11-23T09:00:00Z")...)
	d.refused(2, "exists already", "", check("ada", "2026-11-23T09:00:00Z")...)
	d.refused(3, "nobody's", "dora.check", "officer", "check", "--roster", d.path("roster-1.json"), "--officer", d.key("dora"), "--time", "2026-11-23T09:00:00Z", "--out", d.path("dora.check"))
	cards := []string{"roster", "cards", "--time", "2026-12-23T09:00:00Z", d.path("roster-1.json"), d.path("ada.check")}
	d.refused(3, "only 1 officers have live cards", "", cards...)
	d.ok(check("clara", "2026-11-23T09:00:00Z")...)
	if code, out, errs := hanaper(t, append(cards, d.path("clara.check"))...); code != 0 || !strings.Contains(errs, "no quorum is left") || !strings.Contains(out, "overdue") {
		t.Errorf("cards: %d %s %s", code, out, errs)
	}

	other := strings.Repeat("0", 64)
	enroll := func(more ...string) []string {
		return append([]string{"officer", "enroll", "--name", "Mallory", "--out", d.path("m.json")}, more...)
	}
	d.refused(4, "its digest is", "", "roster", "verify", "--digest", other, d.path("roster-1.json"))
	d.refused(2, "lower-case hexadecimal", "", "roster", "verify", "--digest", strings.Repeat("G", 64), d.path("roster-1.json"))
	d.refused(2, "no roster given", "", "roster", "verify", "--digest", other)
	d.refused(2, "exists already", "", "officer", "enroll", "--name", "Ada", "--key", d.key("ada"), "--out", d.path("ada.officer.json"))
	d.refused(2, "name", "m.json", "officer", "enroll", "--name", "A/B", "--key", d.key("ada"), "--out", d.path("m.json"))
	d.refused(2, "role", "m.json", enroll("--key", d.key("ada"), "--role", "boss")...)
	d.refused(2, "not known", "m.key", enroll("--key", d.key("m"), "--algorithm", "DSA")...)
	d.refused(2, "does not fit", "m.key", enroll("--key", d.key("m"), "--scheme", "rsa-pss-sha256")...)
	d.refused(2, "cannot decrypt", "m.key", enroll("--key", d.key("m"), "--decryption-key", d.key("m2"), "--decryption-algorithm", "Ed25519")...)
	d.refused(2, "two keys", "m.json", enroll("--key", d.key("berta"), "--decryption-key", d.key("berta"))...)
	d.refused(1, "cannot be decrypted", "m.json", enroll("--key", d.path("ada.key")+"?pin-source="+d.write("wrong", "wrong horse battery"))...)
	d.refused(2, "at least 8", "m.key", enroll("--key", d.path("m.key")+"?pin-source="+d.write("short", "short"))...)
	d.refused(2, "differ", "m.key", enroll("--key", d.path("m.key"), "--answers", d.write("differ", "correct horse battery\ncorrect horse batter\n"))...)
	d.refused(2, "no enrolment", "r.json", "roster", "new", "--environment", "e", "--threshold", "1", "--out", d.path("r.json"))
	d.refused(2, "stands twice", "r.json", "roster", "new", "--environment", "e", "--threshold", "1", "--out", d.path("r.json"), d.path("ada.officer.json"), d.enrolAgain("ada"))
	d.refused(2, "threshold 3", "r.json", "roster", "new", "--environment", "e", "--threshold", "3", "--out", d.path("r.json"), d.path("ada.officer.json"), d.path("berta.officer.json"))
	d.refused(1, "exist", "", "roster", "new", "--environment", "e", "--threshold", "1", "--out", d.path("roster-1.json"), d.path("ada.officer.json"))
	d.refused(4, "envelope", "", "officer", "show", d.path("roster-1.json"))
	d.refused(2, "roster", "", "roster", "show", d.path("ada.officer.json"))
}

// enrolAgain enrols a key under another name.
func (d desk) enrolAgain(key string) string {
	d.Helper()
	d.ok("officer", "enroll", "--name", "Somebody Else", "--key", d.key(key), "--out", d.path(key+"-again.json"))
	return d.path(key + "-again.json")
}

// TestCardsAndBackups: which backups of a ceremony the officers of a roster can open, by the keys that their shares are for.
func TestCardsAndBackups(t *testing.T) {
	golden := func(name string) string { return "../../ceremony/testdata/golden/1.0/" + name }
	cards := func(roster string) string {
		_, out, errs := hanaper(t, "roster", "cards", "--time", "2026-11-22T00:00:00Z", "--ceremony", golden("custody"), golden(roster)+"/roster.json")
		if !strings.Contains(errs, "only 0 officers have live cards") {
			t.Error(errs)
		}
		return out
	}
	if out := cards("custody"); !strings.Contains(out, "Officer 1, Officer 2, Officer 3  yes") || strings.Contains(out, "WARNING") {
		t.Error(out)
	}
	// Officers of the same names, and with other keys.
	if out := cards("finished"); !strings.Contains(out, "NO") || !strings.Contains(out, "WARNING: backup root-backup of key root-key opens with 2 shares") {
		t.Error(out)
	}
}
