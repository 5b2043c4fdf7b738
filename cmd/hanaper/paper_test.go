package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestPaper: print, record, diff and calendar of one ceremony, from the script to the verified folder.
func TestPaper(t *testing.T) {
	d := newCeremony(t, "ceremony on paper")
	d.ok("ceremony", "print", "--out", d.path("script.pdf"), d.path("script.yaml"))
	d.ok("ceremony", "print", "--format", "html", "--out", d.path("script.page"), d.path("script.yaml"))
	for _, want := range []string{"generate-key", "root-certificate", "Small Fleet Root", d.digest("script.yaml"), d.digest("roster.json"), "ada", "Exception form"} {
		if !strings.Contains(d.pdf("script.pdf"), strings.ReplaceAll(want, " ", "")) || !strings.Contains(d.read("script.page"), want) {
			t.Errorf("%q is not on paper", want)
		}
	}
	d.refused(2, "neither pdf nor html", "script.doc", "ceremony", "print", "--out", d.path("script.doc"), d.path("script.yaml"))
	d.refused(2, "exists", "", "ceremony", "print", "--out", d.path("script.pdf"), d.path("script.yaml"))
	d.write("bad.yaml", strings.Replace(d.read("script.yaml"), "P-384", "P-1", 1))
	d.refused(2, "CER-001", "bad.pdf", "ceremony", "print", "--out", d.path("bad.pdf"), d.path("bad.yaml"))
	d.refused(2, "SCRIPT is missing", "none.pdf", "ceremony", "print", "--out", d.path("none.pdf"))

	d.ok(d.approve("ada", "ada.json")...)
	d.ok(d.approve("berta", "berta.json", "--with", d.path("ada.json"))...)
	d.ok(d.run("out", "ada.json", "berta.json")...)
	roster := d.digest("roster.json")
	d.ok("ceremony", "record", "--roster", roster, "--out", d.path("record.pdf"), d.path("out"))
	d.ok("ceremony", "record", "--roster", roster, "--out", d.path("record.html"), d.path("out"))
	if text := d.pdf("record.pdf"); strings.Contains(text, "NOTauthenticated") || !strings.Contains(text, "Whocanbeheldtowhat") || !strings.Contains(text, "approvedbefore") {
		t.Error(text)
	}
	d.refused(4, "NOT authenticated", "", "ceremony", "record", "--out", d.path("unknown.html"), d.path("out"))
	if !strings.Contains(d.read("unknown.html"), "consistent, NOT authenticated") {
		t.Error("the record of a folder without an anchor is not marked")
	}
	d.refused(4, "roster.json", "wrong.pdf", "ceremony", "record", "--roster", strings.Repeat("0", 64), "--out", d.path("wrong.pdf"), d.path("out"))
	d.refused(2, "no folder", "wrong.pdf", "ceremony", "record", "--roster", roster, "--out", d.path("wrong.pdf"), d.path("script.yaml"))

	d.compares()
	d.calendars()

	if err := os.WriteFile(d.path("out/artefacts/root.pem"), []byte("another"), 0o644); err != nil {
		t.Fatal(err)
	}
	d.refused(4, "artefacts/root.pem", "wrong.pdf", "ceremony", "record", "--roster", roster, "--out", d.path("wrong.pdf"), d.path("out"))
}

func (d desk) compares() {
	d.Helper()
	d.write("next.yaml", strings.NewReplacer("number: 1", "number: 2", "ceremony: small", "ceremony: next").Replace(d.read("script.yaml")))
	if out := d.ok("ceremony", "diff", d.path("out"), d.path("script.yaml")); !strings.Contains(out, "no differences") {
		d.Error(out)
	}
	var r diffReport
	if err := json.Unmarshal([]byte(d.ok("ceremony", "diff", "--json", d.path("script.yaml"), d.path("next.yaml"))), &r); err != nil || len(r.Changes) != 2 ||
		r.Old != d.digest("script.yaml") || r.New != d.digest("next.yaml") || r.Changes[1].Field != "number" || r.Changes[1].NewStep != 3 {
		d.Errorf("%+v, %v", r, err)
	}
	if out := d.ok("ceremony", "diff", d.path("script.yaml"), d.path("next.yaml")); !strings.Contains(out, "3 crl root-crl") {
		d.Error(out)
	}
	d.refused(2, "NEW is missing", "", "ceremony", "diff", d.path("script.yaml"))
	d.refused(2, "no such file", "", "ceremony", "diff", d.path("script.yaml"), d.path("none.yaml"))
}

func (d desk) calendars() {
	d.Helper()
	at := []string{"calendar", "--time", "2026-11-21T10:00:00Z"}
	var r struct {
		Entries []struct {
			Expires time.Time
			Kind    string
		}
		Warnings []string
	}
	out := d.ok(append(at, "--json", "--roster", d.path("roster.json"), "--ics", d.path("dates.ics"), d.path("out"))...)
	if err := json.Unmarshal([]byte(out), &r); err != nil || len(r.Entries) != 5 || r.Entries[0].Kind != "crl" || r.Entries[4].Expires.Year() != 2046 || len(r.Warnings) != 1 {
		d.Errorf("%v: %s", err, out)
	}
	if ics := d.read("dates.ics"); strings.Count(ics, "BEGIN:VEVENT\r\n") != 5 || strings.Count(ics, "Due: card check of ada") != 2 {
		d.Error(ics)
	}
	d.ok("officer", "check", "--officer", d.key("ada"), "--roster", d.path("roster.json"), "--time", "2026-11-21T09:30:00Z", "--out", d.path("ada.check"))
	d.ok("officer", "check", "--officer", d.key("berta"), "--roster", d.path("roster.json"), "--time", "2026-11-21T09:30:00Z", "--out", d.path("berta.check"))
	_, out, errs := hanaper(d.T, append(at, "--roster", d.path("roster.json"), "--check", d.path("ada.check"), "--check", d.path("berta.check"), "--within", "400d", d.path("out"))...)
	if !strings.Contains(out, "CRL 1 of CN=Small Fleet Root") || strings.Contains(out, "2046") || !strings.Contains(out, "card check of berta") || !strings.Contains(errs, "no more than 0 may be lost") {
		d.Error(out, errs)
	}
	if out := d.ok(append(at, "--within", "10d", d.path("out"))...); strings.Count(out, "\n") != 1 {
		d.Error(out)
	}
	for _, c := range []struct{ says, args string }{
		{"no folder and no roster", ""}, {"no span", "--within soon DIR"}, {"no span", "--within -3d DIR"}, {"without its roster", "--check x DIR"}, {"no such file", "none"},
		{"flags stand before", "DIR --json"}, {"is no folder", "FILE"}, {"give 1 to", "--days 0 --roster ROSTER"},
	} {
		args := append(at[:3:3], "--ics", d.path("none.ics"))
		for _, a := range strings.Fields(c.args) {
			args = append(args, strings.NewReplacer("DIR", d.path("out"), "FILE", d.path("script.yaml"), "ROSTER", d.path("roster.json")).Replace(a))
		}
		d.refused(2, c.says, "none.ics", args...)
	}
}

func (d desk) read(name string) string {
	d.Helper()
	data, err := os.ReadFile(d.path(name))
	if err != nil {
		d.Fatal(err)
	}
	return string(data)
}

// pdf is the text of a PDF, without white space.
func (d desk) pdf(name string) string {
	d.Helper()
	out, err := exec.Command("pdftotext", "-raw", d.path(name), "-").Output()
	if err != nil {
		d.Fatalf("pdftotext (apt-get install poppler-utils): %v", err)
	}
	return strings.Join(strings.Fields(string(out)), "")
}
