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
	t.Parallel()
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
