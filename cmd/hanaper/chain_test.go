package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestVerifyChain: folders, or a folder of folders, are one chain for the program; exit codes are those of verify.
func TestVerifyChain(t *testing.T) {
	d := desk{t, t.TempDir()}
	golden := "../../ceremony/testdata/golden/1.0/"
	for name, from := range map[string]string{"years/2026": "second/earlier", "years/2027": "second", "years/rehearsed": "rehearsal", "other": "custody"} {
		if err := os.CopyFS(d.path(name), os.DirFS(golden+from)); err != nil {
			t.Fatal(err)
		}
	}
	d.write("years/notes.txt", "not a ceremony")
	sum := func(name string) string {
		data, err := os.ReadFile(d.path(name))
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%x", sha256.Sum256(data))
	}
	roster, first, last := sum("years/2026/roster.json"), sum("years/2026/checkpoint"), sum("years/2027/checkpoint")
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"--roster " + roster + " YEARS", 0, "verified: 2 ceremonies are one chain, of the roster given"},
		{"--roster " + roster + " --checkpoint " + strings.ToUpper(last) + " YEARS/2027 YEARS/2026", 0, "verified: 2 ceremonies"},
		{"--since " + first + " YEARS/2027", 0, "finished, verified before"},
		{"YEARS", 4, "NOT authenticated"},
		{"--checkpoint " + first + " YEARS", 4, "is the last of the chain"},
		{"--roster " + roster + " YEARS OTHER", 4, "no ceremony in common"},
		{"", 2, "no folder given"},
		{"--earlier " + first + " YEARS", 2, "--since"},
		{"--roster " + roster + " YEARS/2026/artefacts", 2, "neither is nor holds"},
		{"YEARS --roster " + roster, 2, "flags stand before"},
	} {
		args := strings.Fields(strings.NewReplacer("YEARS", d.path("years"), "OTHER", d.path("other")).Replace(c.args))
		code, out, errs := hanaper(t, append([]string{"ceremony", "verify", "--chain"}, args...)...)
		if code != c.code || !strings.Contains(out+errs, c.want) {
			t.Errorf("%s: exit code %d: %s%s", c.args, code, out, errs)
		}
	}
	if code, out, errs := hanaper(t, "ceremony", "verify", "--since", first, d.path("years/2027")); code != 2 || !strings.Contains(errs, "add --chain") {
		t.Errorf("--since without --chain: exit code %d: %s%s", code, out, errs)
	}
	_, out, _ := hanaper(t, "ceremony", "verify", "--chain", "--json", "--roster", roster, d.path("years"))
	var r struct {
		Authenticated bool
		Ceremonies    []struct {
			Ceremony string
			Folders  []string
		}
		Notes []string
	}
	if err := json.Unmarshal([]byte(out), &r); err != nil || !r.Authenticated || len(r.Ceremonies) != 2 || filepath.Base(r.Ceremonies[1].Folders[0]) != "2027" || len(r.Notes) != 1 {
		t.Errorf("%v: %s", err, out)
	}
}

// TestStatusCommand: the tables, the JSON and the exit codes; the calendar of the folder has the same dates.
func TestStatusCommand(t *testing.T) {
	dir := "../../ceremony/testdata/golden/1.0/"
	data, err := os.ReadFile(dir + "second/roster.json")
	if err != nil {
		t.Fatal(err)
	}
	roster, at := fmt.Sprintf("%x", sha256.Sum256(data)), []string{"--time", "2027-11-02T00:00:00Z"}
	code, out, errs := hanaper(t, append(append([]string{"ceremony", "status"}, at...), "--roster", roster, dir+"second")...)
	for _, want := range []string{"Officers: any 2 must agree", "Tokens", "Keys", "destroyed", "Certificates", "REVOKED", "CRLs", "Versions", "What ends next", "OVER"} {
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("exit code %d, no %q: %s%s", code, want, out, errs)
		}
	}
	if code, out, errs := hanaper(t, "ceremony", "status", dir+"second"); code != 4 || !strings.Contains(out, "Officers") || !strings.Contains(errs, "NOT authenticated") {
		t.Errorf("without an anchor: exit code %d: %s", code, errs)
	}
	// A page that is kept without the error says by itself that nobody vouches for it.
	unattested, err := os.ReadFile(dir + "unattested/roster.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ begins, flag string }{
		{"NOT AUTHENTICATED", dir + "second"}, {"NOT ATTESTED", fmt.Sprintf("--roster=%x", sha256.Sum256(unattested))}, {"NOT AUTHENTICATED", "--chain"},
	} {
		args := []string{"ceremony", "status", c.flag, dir + "unattested"}
		switch c.flag {
		case "--chain":
			args = []string{"ceremony", "verify", "--chain", dir + "second"}
		case dir + "second":
			args = args[:3]
		}
		if code, out, _ := hanaper(t, args...); code != 4 || !strings.HasPrefix(out, c.begins) {
			t.Errorf("%v: exit code %d: %.200s", args, code, out)
		}
	}
	if _, out, _ := hanaper(t, "ceremony", "status", "--json", fmt.Sprintf("--roster=%x", sha256.Sum256(unattested)), dir+"unattested"); !strings.Contains(out, `"attested": false`) {
		t.Errorf("of a folder that is not attested the JSON says %.400s", out)
	}
	if code, _, errs := hanaper(t, "ceremony", "status", dir+"none"); code != 2 {
		t.Errorf("no folder: exit code %d: %s", code, errs)
	}
	type ends struct {
		Expires, Kind, What, File, Note, UID string
	}
	var s struct{ Ends []ends }
	var cal struct{ Entries []ends }
	_, out, _ = hanaper(t, "ceremony", "status", "--json", "--roster", roster, dir+"second")
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		t.Fatal(err)
	}
	_, out, errs = hanaper(t, append(append([]string{"calendar", "--json"}, at...), dir+"second")...)
	if err := json.Unmarshal([]byte(out), &cal); err != nil || fmt.Sprint(cal.Entries) != fmt.Sprint(s.Ends) || len(s.Ends) < 5 {
		t.Errorf("%v: the calendar has %v, the status %v: %s", err, cal.Entries, s.Ends, errs)
	}
	// Who can open which backup is told as the status and check tell it; the folder of an earlier ceremony adds nothing.
	type opened struct {
		Backups []struct {
			Backup, Key, Environment string
			Threshold                int
			Holders, Living          []string
			Opens                    bool
		}
		Warnings []string
	}
	for _, c := range []struct {
		name, roster string
		living       int
		opens        bool
	}{{"custody", "", 3, true}, {"custody", dir + "custody/roster.json", 3, true}, {"custody", dir + "second/roster.json", 0, false}} {
		args := append([]string{"calendar", "--json"}, at...)
		if c.roster != "" {
			args = append(args, "--roster", c.roster)
		}
		var got opened
		_, out, errs = hanaper(t, append(args, dir+c.name)...)
		if err := json.Unmarshal([]byte(out), &got); err != nil || len(got.Backups) == 0 {
			t.Fatalf("%v: no backups: %s%s", err, out, errs)
		}
		for _, b := range got.Backups {
			if len(b.Living) != c.living || b.Opens != c.opens || b.Environment == "" || strings.Contains(strings.Join(got.Warnings, "\n"), b.Backup) == c.opens {
				t.Errorf("%+v: %+v, %q", c, b, got.Warnings)
			}
		}
	}
	if code, out, errs := hanaper(t, append(append([]string{"calendar"}, at...), dir+"custody", dir+"second", dir+"second/earlier")...); code != 0 || strings.Count(out, "Backups, and who of the roster can open them") != 1 {
		t.Errorf("exit code %d: %s%s", code, out, errs)
	}
	// A ceremony's folder that was changed gives no dates.
	d := desk{t, t.TempDir()}
	if err := os.CopyFS(d.path("c"), os.DirFS(dir+"second")); err != nil {
		t.Fatal(err)
	}
	d.write("c/artefacts/fleet-root.pem", "another")
	if code, out, errs := hanaper(t, "calendar", d.path("c")); code != 4 || out != "" || !strings.Contains(errs, "fleet-root.pem") {
		t.Errorf("a changed folder: exit code %d: %s%s", code, out, errs)
	}
}

// TestNewCommand: a script is written from a folder that a number vouches for, passes check, and takes no file's place.
func TestNewCommand(t *testing.T) {
	d := desk{t, t.TempDir()}
	if err := os.CopyFS(d.path("c"), os.DirFS("../../ceremony/testdata/golden/1.0/second")); err != nil {
		t.Fatal(err)
	}
	roster := d.digest("c/roster.json")
	call := func(out string, more ...string) (int, string, string) {
		return hanaper(t, append([]string{"ceremony", "new", "--out", d.path(out), "--from", "2028-10-20T00:00:00Z"}, more...)...)
	}
	code, out, errs := call("next.yaml", "--roster", roster, "yearly", d.path("c"))
	if code != 0 || !strings.Contains(out, "passes it: 12 steps") {
		t.Fatalf("exit code %d: %s%s", code, out, errs)
	}
	text := d.read("next.yaml")
	if out := d.ok("ceremony", "check", d.path("next.yaml")); !strings.Contains(out, "Ceremony second-2 for environment demo") || !strings.Contains(text, "folder: c,") {
		t.Error(out, text)
	}
	d.write("enrolled.json", "{}")
	for _, c := range []struct {
		code int
		want string
		out  string
		args []string
	}{
		{2, "is there already", "next.yaml", []string{"--roster", roster, "yearly", d.path("c")}},
		{4, "NOT authenticated", "none.yaml", []string{"yearly", d.path("c")}},
		{4, "is not the roster of the digest given", "none.yaml", []string{"--roster", strings.Repeat("0", 64), "yearly", d.path("c")}},
		{2, "there is no kind", "none.yaml", []string{"--roster", roster, "monthly", d.path("c")}},
		{2, "give a kind, and the folder", "none.yaml", []string{"--roster", roster, "yearly"}},
		{2, "give a kind, and the folder", "none.yaml", []string{"--roster", roster}},
		{2, "flags stand before KIND", "none.yaml", []string{"yearly", d.path("c"), "--roster", roster}},
		{2, "name the folder of the last ceremony", "none.yaml", []string{"--roster", roster, "yearly", d.path("nowhere")}},
		{2, "NAME=FILE", "none.yaml", []string{"--roster", roster, "--factory", d.path("c"), "factory", d.path("c")}},
		{2, "--from", "none.yaml", []string{"--from", "today", "--roster", roster, "yearly", d.path("c")}},
		{2, "needs its roster", "none.yaml", []string{"first"}},
		{2, "", "none.yaml", []string{"--officers", d.path("enrolled.json"), "first"}},
		{1, "", "nowhere/none.yaml", []string{"--roster", roster, "yearly", d.path("c")}},
	} {
		code, out, errs := call(c.out, c.args...)
		if code != c.code || out != "" || !strings.Contains(errs, c.want) {
			t.Errorf("%v: exit code %d, want %d and %q: %s%s", c.args, code, c.code, c.want, out, errs)
		}
		if _, err := os.Stat(d.path("none.yaml")); err == nil || d.read("next.yaml") != text {
			t.Fatalf("%v: a file was written", c.args)
		}
	}
	// The machine knows that another ceremony has carried on from this one: the draft is written, and it is said.
	if err := os.MkdirAll(d.path("state/nonces"), 0o755); err != nil {
		t.Fatal(err)
	}
	d.write("state/nonces/followed-"+d.digest("c/checkpoint"), strings.Repeat("0", 64)+"\n")
	for state, want := range map[string]bool{"state": true, "no-state": false} {
		code, out, errs = call("after-"+state+".yaml", "--state", d.path(state), "--roster", roster, "yearly", d.path("c"))
		if code != 0 || strings.Contains(errs, "is not the folder of the last ceremony") != want || !strings.Contains(out, "passes it") {
			t.Errorf("%s: exit code %d: %s%s", state, code, out, errs)
		}
		if _, err := os.Stat(d.path("no-state")); err == nil {
			t.Error("a state folder was made")
		}
	}
	// What check refuses is written, for people to mend, and said.
	code, out, errs = call("late.yaml", "--from", "2046-12-01T00:00:00Z", "--roster", roster, "yearly", d.path("c"))
	if code != 2 || !strings.Contains(out, "written to") || !strings.Contains(errs, "refuses it as it stands") {
		t.Errorf("after the roots ended: exit code %d: %s%s", code, out, errs)
	}
}
