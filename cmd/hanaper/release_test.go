package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/release"
	"github.com/hanaper/hanaper/softhsm"
)

// TestReleaseVerify: a release is verified by each thing that people can hold, and by nothing that lies in its folder; the account remembers it.
func TestReleaseVerify(t *testing.T) {
	d := newReleases(t, "release verify")
	roster, first, second := d.digest("roster.json"), d.digest("rel-1/ceremony/checkpoint"), d.digest("rel-2/ceremony/checkpoint")
	var r releaseReport
	if err := json.Unmarshal([]byte(d.ok(d.verify("--roster", roster, "--json", d.path("rel-1"))...)), &r); err != nil || !r.Verified || r.Version != "v0.2.0" || !r.Installed || r.Manifest != d.digest("rel-1/manifest.json") ||
		r.Checkpoint != first || len(r.HeldTo) != 1 || r.Files != 3 || len(r.Notes) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	if r.Roster != roster || fmt.Sprint(r.SignedBy) != "[ada berta]" {
		t.Errorf("%s %v", r.Roster, r.SignedBy)
	}
	if want := fmt.Sprintf(`{"format":1,"rosters":{"%s":{"version":"v0.2.0","manifest_sha256":"%s","spki_sha256":"%s"}}}`+"\n", roster, r.Manifest, r.Key); d.text("memory/release.json") != want {
		t.Error(d.text("memory/release.json"))
	}
	d.refuses("a typo", 2, "is no folder", "rel-22", "--roster", roster)
	d.refuses("a file of the folder", 2, "is no folder", "rel-2/manifest.json", "--roster", roster)
	d.refuses("an anchor of another release", 4, "checkpoint: is not that of the digest given", "rel-2", "--checkpoint", first)
	for _, verb := range [][]string{{"verify"}, {"status"}, {"record", "--out", d.path("record.pdf")}, {"shares", "--out", d.path("shares")}, {"attest", "--officer", d.path("roster.json")}, {"new", "--out", d.path("next.yaml"), "rehearse"}} {
		d.refused(4, "checkpoint: is not that of the digest given", "", slices.Concat([]string{"ceremony"}, verb[:1], []string{"--checkpoint", first}, verb[1:], []string{d.path("rel-2/ceremony")})...)
	}
	d.ok("ceremony", "verify", "--earlier", first, "--checkpoint", second, d.path("rel-2/ceremony"))
	for _, args := range [][]string{{"--roster", first}, {"--earlier", roster}, {"--earlier", second}, {"--json", "--roster", second}} {
		code, out, errs := hanaper(t, slices.Concat([]string{"ceremony", "verify"}, args, []string{d.path("rel-2/ceremony")})...)
		if code != 4 || !strings.Contains(errs, "digest given") || strings.Contains(out, "verified: ") || strings.Contains(out, `"authenticated": true`) {
			t.Errorf("%v: %d: %s%s", args, code, out, errs)
		}
	}
	for _, args := range [][]string{{"--checkpoint", second}, {"--roster", strings.ToUpper(roster)}, {"--earlier", first}, {"--key", r.Key}, {"--roster", roster, "--checkpoint", second, "--key", r.Key, "--not-below", "0.2.1"}} {
		if out := d.ok(append(d.verify(args...), d.path("rel-2"))...); !strings.Contains(out, "release v0.2.1") || !strings.Contains(out, "verified: 3 files") || !strings.Contains(out, "this program is that of the release") {
			t.Error(out)
		}
	}
	if !strings.Contains(d.text("memory/release.json"), `"v0.2.1"`) {
		t.Error(d.text("memory/release.json"))
	}
	for _, c := range []struct {
		what, says string
		code       int
		args       []string
	}{
		{"no anchor", "nothing says whose release this is", 2, nil},
		{"no digest", "is not a SHA-256 digest", 2, []string{"--roster", "x"}},
		{"another roster", "roster.json", 4, []string{"--roster", second[:60] + "0000"}},
		{"another checkpoint", "checkpoint", 4, []string{"--checkpoint", strings.Repeat("0", 64)}},
		{"another key", "is signed by the key", 4, []string{"--key", strings.Repeat("0", 64)}},
		{"another key beside a good roster", "is signed by the key", 4, []string{"--roster", roster, "--key", strings.Repeat("0", 64)}},
		{"another checkpoint beside a good key", "checkpoint", 4, []string{"--key", r.Key, "--checkpoint", strings.Repeat("0", 64)}},
		{"a checkpoint as a roster", "is not the roster of the digest given", 4, []string{"--roster", first}},
		{"its own checkpoint as a roster", "is not the roster of the digest given", 4, []string{"--roster", second}},
		{"a roster as a checkpoint", "carries on from", 4, []string{"--earlier", roster}},
		{"its own checkpoint as an earlier one", "carries on from", 4, []string{"--earlier", strings.ToUpper(second)}},
		{"below", "you take none below v0.3.0", 3, []string{"--roster", roster, "--not-below", "v0.3.0"}},
		{"no version", "is no version", 2, []string{"--roster", roster, "--not-below", "new"}},
	} {
		d.refuses(c.what, c.code, c.says, "rel-2", c.args...)
	}
	// The old release, in which everything verifies.
	d.refuses("an old release", 3, "release v0.2.1 was verified by this account", "rel-1", "--roster", roster)
	// The checkpoint names this one: it passes, and what is remembered stays.
	before := d.text("memory/release.json")
	if out := d.ok(append(d.verify("--roster", roster, "--checkpoint", first), d.path("rel-1"))...); !strings.Contains(out, "older than release v0.2.1") || d.text("memory/release.json") != before {
		t.Errorf("%s%s", out, d.text("memory/release.json"))
	}
	// Who goes back on purpose is protected from there.
	if out := d.ok(append(d.verify("--roster", roster, "--older"), d.path("rel-1"))...); !strings.Contains(out, "you go back from release v0.2.1") || !strings.Contains(d.text("memory/release.json"), `"v0.2.0"`) || strings.Contains(d.text("memory/release.json"), `"`+roster+`":{"version":"v0.2.1"`) {
		t.Errorf("%s%s", out, d.text("memory/release.json"))
	}
	d.write("memory/release.json", strings.Replace(before, `{"version":"v0.2.1","manifest_sha256":"`+d.digest("rel-2/manifest.json"), `{"version":"v0.2.0","manifest_sha256":"`+d.digest("rel-2/manifest.json"), 1))
	d.refuses("another release of the version", 3, "another release v0.2.0 was verified", "rel-1", "--roster", roster, "--older")
	d.refuses("another release of the version, by its checkpoint", 3, "another release v0.2.0 was verified", "rel-1", "--checkpoint", first)
	known := `{"version":"v0.2.0","manifest_sha256":"` + second + `","spki_sha256":"` + second + `"}`
	for name, text := range map[string]string{"a newer memory": `{"format":2,"rosters":{"` + roster + `":` + known + `}}`, "half a memory": `{"format":1`, "an empty memory": "", "another key of it": `{"formaT":1,"format":1}`,
		"a line twice": `{"format":1,"rosters":{"` + roster + `":` + known + `,"` + roster + `":` + known + `}}`, "no line": `{"format":1,"rosters":{"x":` + known + `}}`,
		"no version": `{"format":1,"keys":{"` + roster + `":` + strings.Replace(known, "v0.2.0", "new", 1) + `}}`, "no key": `{"format":1,"rosters":{"` + roster + `":` + strings.Replace(known, `"spki_sha256":"`, `"spki_sha256":"0`, 1) + `}}`} {
		d.write("memory/release.json", text)
		d.refuses(name, 2, "release.json", "rel-2", "--roster", roster)
	}
}

// TestReleaseLines: what was verified by the key alone, or by other officers, changes nothing of what is remembered of ours.
func TestReleaseLines(t *testing.T) {
	ours, theirs := newReleases(t, "release ours"), newReleases(t, "release theirs")
	theirs.make("rel-9", "v999999.0.0", "")
	theirs.sign("rel-9", "release-9", "14:00:00", "rel-2/ceremony", "import-artefact: {key: release-key, token: roots}")
	var r releaseReport
	by := func(d releaseDesk, dir string, args ...string) string {
		return ours.ok(append(ours.verify(args...), d.path(dir))...)
	}
	if err := json.Unmarshal([]byte(by(theirs, "rel-9", "--json", "--roster", theirs.digest("roster.json"))), &r); err != nil {
		t.Fatal(err)
	}
	// By the key alone no older one is taken, either, before anything was verified so.
	if code, _, errs := hanaper(t, append(ours.verify("--key", r.Key), theirs.path("rel-1"))...); code != 3 || !strings.Contains(errs, "v999999.0.0 was verified") {
		t.Errorf("first by the key alone: %d: %s", code, errs)
	}
	// A thief of our key has officers of his own; for the memory theirs serves.
	by(theirs, "rel-9", "--key", r.Key)
	by(ours, "rel-2", "--roster", ours.digest("roster.json"))
	ours.refuses("an old release", 3, "release v0.2.1 was verified by this account", "rel-1", "--roster", ours.digest("roster.json"))
	if code, _, errs := hanaper(t, append(ours.verify("--key", r.Key), theirs.path("rel-2"))...); code != 3 || !strings.Contains(errs, "v999999.0.0 was verified") {
		t.Errorf("by the key alone: %d: %s", code, errs)
	}
	by(theirs, "rel-2", "--key", r.Key, "--older")
	if code, _, errs := hanaper(t, append(ours.verify("--key", r.Key), theirs.path("rel-1"))...); code != 3 || !strings.Contains(errs, "v0.2.1 was verified") {
		t.Errorf("after a step back: %d: %s", code, errs)
	}
	if code, _, errs := hanaper(t, append(ours.verify("--roster", theirs.digest("roster.json")), theirs.path("rel-2"))...); code != 3 || !strings.Contains(errs, "v999999.0.0 was verified") {
		t.Errorf("the key alone took the officers' memory back: %d: %s", code, errs)
	}
}

// TestReleaseKeyNotBehind: what officers released with a key is the least that is taken by the key alone from then on, also where something was verified by the
// key alone before.
func TestReleaseKeyNotBehind(t *testing.T) {
	d := newReleases(t, "release behind")
	d.make("rel-3", "v0.3.0", "")
	d.sign("rel-3", "release-3", "14:00:00", "rel-2/ceremony", "import-artefact: {key: release-key, token: roots}")
	var r releaseReport
	roster := d.digest("roster.json")
	if err := json.Unmarshal([]byte(d.ok("release", "verify", "--state", d.path("scratch"), "--json", "--roster", roster, d.path("rel-1"))), &r); err != nil {
		t.Fatal(err)
	}
	d.ok(append(d.verify("--key", r.Key), d.path("rel-1"))...)
	d.ok(append(d.verify("--roster", roster), d.path("rel-3"))...)
	d.refuses("an old release by the key alone", 3, "release v0.3.0 was verified by this account", "rel-2", "--key", r.Key)
	// Who goes back on purpose is not held to it.
	d.ok(append(d.verify("--key", r.Key, "--older"), d.path("rel-2"))...)
	d.ok(append(d.verify("--key", r.Key), d.path("rel-2"))...)
	d.refuses("an old release by the officers", 3, "release v0.3.0 was verified by this account", "rel-2", "--roster", roster)
}

// TestReleaseAtOnce: of releases that are verified at once the newest is remembered.
func TestReleaseAtOnce(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	digest := strings.Repeat("ab", 32)
	for round := range 5 {
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				r := &releaseReport{Version: fmt.Sprintf("v%d.%d.0", round, i), Manifest: digest, Key: digest, HeldTo: []string{"roster"}, firstRoster: digest}
				if _, err := r.remember(state, false); err != nil && advice.KindOf(err) != advice.Refused {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if m, err := recallReleases(state); err != nil || m.Rosters[digest].Version != fmt.Sprintf("v%d.19.0", round) {
			t.Fatalf("%+v, %v", m, err)
		}
	}
}

// TestReleaseOtherOfficers: where the roster was replaced, it is said who signed.
func TestReleaseOtherOfficers(t *testing.T) {
	d := newReleases(t, "release officers")
	roster := d.digest("roster.json")
	for _, n := range []string{"dora", "edna"} {
		d.keyFile(n, "ED25519")
		d.ok("officer", "enroll", "--name", n, "--key", d.key(n), "--out", d.path(n+".officer.json"))
	}
	d.ok("roster", "new", "--environment", "production", "--threshold", "2", "--time", "2026-11-20T10:00:00Z", "--previous", d.path("roster.json"), "--out", d.path("roster-2.json"), d.path("dora.officer.json"), d.path("edna.officer.json"))
	for _, n := range []string{"ada", "berta"} {
		d.ok("roster", "approve", "--previous", d.path("roster.json"), "--officer", d.key(n), "--answers", d.path("yes"), "--out", d.path("r2-"+n+".json"), d.path("roster-2.json"))
	}
	next := d.digest("roster-2.json")
	d.make("rel-3", "v0.3.0", "")
	script := fmt.Sprintf(releaseScript, "release-3", next, fmt.Sprintf("earlier: {folder: rel-2/ceremony, checkpoint: %s}\n", d.digest("rel-2/ceremony/checkpoint")), d.uri, "rel-3", d.digest("rel-3/manifest.json"), "import-artefact: {key: release-key, token: roots}", "release-3")
	d.write("script.yaml", strings.Replace(script, "{file: roster.json, sha256: "+next+"}", fmt.Sprintf("{file: roster-2.json, sha256: %s, approvals: [{file: r2-ada.json, sha256: %s}, {file: r2-berta.json, sha256: %s}]}",
		next, d.digest("r2-ada.json"), d.digest("r2-berta.json")), 1))
	d.ok(d.approve("dora", "3-dora.json")...)
	d.ok(d.approve("edna", "3-edna.json", "--with", d.path("3-dora.json"))...)
	d.ok("ceremony", "run", "--out", d.path("rel-3/ceremony"), "--officer", d.key("dora"), "--officer", d.key("edna"), "--bindings", d.path("bindings.yaml"), "--time", "2026-11-21T14:00:00Z",
		"--state", d.path("state"), "--answers", d.path("yes"), "--approval", d.path("3-dora.json"), "--approval", d.path("3-edna.json"), d.path("script.yaml"))
	var r releaseReport
	if err := json.Unmarshal([]byte(d.ok(append(d.verify("--json", "--roster", roster), d.path("rel-3"))...)), &r); err != nil || r.Roster != next || fmt.Sprint(r.SignedBy) != "[dora edna]" ||
		!strings.Contains(strings.Join(r.Notes, "\n"), "the roster is another now than that of your --roster") || !strings.Contains(strings.Join(r.Notes, "\n"), next) {
		t.Errorf("%+v, %v", r, err)
	}
	if out := d.ok(append(d.verify("--roster", roster), d.path("rel-3"))...); !strings.Contains(out, "signed as performed by dora, edna, of the roster "+next) {
		t.Error(out)
	}
	if out := d.ok(append(d.verify("--roster", next), d.path("rel-3"))...); strings.Contains(out, "another now") {
		t.Error(out)
	}
	// It is the same line of officers: their older releases are refused, by their first roster too.
	d.refuses("an old release", 3, "release v0.3.0 was verified by this account", "rel-2", "--roster", roster)
}

// TestReleaseMemory: what a release of this format remembered is read for ever, and written so.
func TestReleaseMemory(t *testing.T) {
	const dir = "testdata/release-memory"
	m, err := recallReleases(dir)
	ab, cd, ef := strings.Repeat("ab", 32), strings.Repeat("cd", 32), strings.Repeat("ef", 32)
	if err != nil || m.Format != 1 || !maps.Equal(m.Rosters, map[string]knownRelease{ef: {"v0.2.0", ab, cd}}) || !maps.Equal(m.Keys, map[string]knownRelease{cd: {"v0.1.0", ef, cd}}) {
		t.Fatalf("%+v, %v", m, err)
	}
	again := t.TempDir()
	if err := m.keep(again); err != nil {
		t.Fatal(err)
	}
	if a, b := (desk{t, dir}).text("release.json"), (desk{t, again}).text("release.json"); a != b {
		t.Errorf("%s\n%s", a, b)
	}
	if m, err := recallReleases(t.TempDir()); err != nil || len(m.Rosters)+len(m.Keys) > 0 {
		t.Errorf("%+v, %v", m, err)
	}
}

// TestReleaseTampered: whatever a courier changes in a release, with or without the manifest and SHA256SUMS, is refused, and nothing is written.
func TestReleaseTampered(t *testing.T) {
	d := newReleases(t, "release tampered")
	roster := d.digest("roster.json")
	anchors := []string{"--roster", roster, "--not-installed"}
	var key struct {
		Key string `json:"spki_sha256"`
	}
	if err := json.Unmarshal([]byte(d.ok(append(d.verify("--roster", roster, "--json"), d.path("rel-2"))...)), &key); err != nil {
		t.Fatal(err)
	}
	put := func(name string, data []byte) {
		t.Helper()
		if err := os.WriteFile(d.path("x/"+name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// One byte of each file, that of the ceremonies included.
	paths := 0
	for path := range d.files("rel-2") {
		name, err := filepath.Rel(d.path("rel-2"), path)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(path); err != nil || info.IsDir() {
			continue
		}
		paths++
		d.copy("rel-2", "x")
		data := []byte(d.text("x/" + name))
		data[len(data)/2] ^= 1
		put(name, data)
		d.refuses("a changed byte in "+name, 4, "", "x", anchors...)
		d.refuses("a changed byte in "+name+", by the key alone", 4, "", "x", "--key", key.Key, "--not-installed")
		d.copy("rel-2", "x")
		if err := os.Remove(d.path("x/" + name)); err != nil {
			t.Fatal(err)
		}
		d.refuses(name+" gone", 4, "", "x", anchors...)
	}
	if paths < 25 {
		t.Errorf("only %d files", paths)
	}

	// The courier exchanges a package and all that names it.
	made := func(name string) {
		d.copy("rel-2", "x")
		put("hanaper_0.2_amd64.deb", []byte("another package"))
		m, err := release.Parse("x", []byte(d.text("x/manifest.json")))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(d.path("x/ceremony"), d.path("kept")); err != nil {
			t.Fatal(err)
		}
		if err := m.Make(d.path("x"), func(path string, data []byte) error { return os.WriteFile(path, data, 0o644) }); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(d.path("kept"), d.path("x/ceremony")); err != nil {
			t.Fatal(err)
		}
		if name != "" { // and the manifest in the ceremony, too
			put("ceremony/inputs/manifest", []byte(d.text("x/manifest.json")))
			env := bytes.Replace([]byte(d.text("x/ceremony/artefacts/release-2.dsse.json")), []byte(base64.StdEncoding.EncodeToString([]byte(d.text("rel-2/manifest.json")))),
				[]byte(base64.StdEncoding.EncodeToString([]byte(d.text("x/manifest.json")))), 1)
			put("ceremony/artefacts/release-2.dsse.json", env)
		}
	}
	made("")
	d.refuses("another package, with the manifest", 4, "manifest.json: is not what was signed", "x", anchors...)
	d.refuses("the same, in words of each file", 4, "hanaper_0.2_amd64.deb: is not what was signed", "x", anchors...)
	made("all")
	d.refuses("another package, with the manifest and the envelope", 4, "is not the file that the ceremony wrote", "x", anchors...)

	// An older release's folder with the ceremony of the new one, and the other way round.
	d.copy("rel-1", "x")
	if err := os.RemoveAll(d.path("x/ceremony")); err != nil {
		t.Fatal(err)
	}
	d.copy("rel-2/ceremony", "x/ceremony")
	d.refuses("the files of another release", 4, "is not release v0.2.1 as it was signed", "x", anchors...)
	d.copy("rel-2", "x")
	d.copy("rel-1/ceremony", "x/ceremony")
	d.refuses("the ceremony of another release", 4, "is not release v0.2.0 as it was signed", "x", anchors...)

	// What else can lie in a folder.
	d.copy("rel-2", "x")
	put("hanaper_0.3_amd64.deb", []byte("one more"))
	d.refuses("a package more", 4, "hanaper_0.3_amd64.deb: is not of this release", "x", anchors...)
	d.copy("rel-2", "x")
	if err := os.Rename(d.path("x/hanaper_0.2_amd64.deb"), d.path("elsewhere")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(d.path("elsewhere"), d.path("x/hanaper_0.2_amd64.deb")); err != nil {
		t.Fatal(err)
	}
	d.refuses("a link", 4, "a symbolic link", "x", anchors...)
	d.copy("rel-2", "x")
	if err := os.Rename(d.path("x/ceremony"), d.path("kept")); err != nil {
		t.Fatal(err)
	}
	d.refuses("no ceremony", 4, "ceremony", "x", anchors...)
	if err := os.Symlink(d.path("kept"), d.path("x/ceremony")); err != nil {
		t.Fatal(err)
	}
	d.refuses("a linked ceremony", 4, "ceremony: is no regular file but a symbolic link", "x", anchors...)
	d.refuses("no folder", 2, "is no folder", "none", anchors...)

	// Another program than the one that was released.
	d.make("rel-3", "v0.2.2", strings.Repeat("ab", 32))
	d.sign("rel-3", "release-3", "14:00:00", "rel-2/ceremony", "import-artefact: {key: release-key, token: roots}")
	d.refuses("another program is installed", 4, "this program: is not the hanaper of this release", "rel-3", "--roster", roster)
	if out := d.ok(append(d.verify(anchors...), d.path("rel-3"))...); !strings.Contains(out, "this program was left out") {
		t.Error(out)
	}
}

// TestReleaseUnattested: what one officer alone has performed and signed is no release, by whatever anchor.
func TestReleaseUnattested(t *testing.T) {
	d := newReleases(t, "release unattested")
	var r releaseReport
	if err := json.Unmarshal([]byte(d.ok(append(d.verify("--roster", d.digest("roster.json"), "--json"), d.path("rel-2"))...)), &r); err != nil {
		t.Fatal(err)
	}
	d.make("rel-3", "v0.2.2", "")
	d.write("script.yaml", fmt.Sprintf(releaseScript, "release-3", d.digest("roster.json"), fmt.Sprintf("earlier: {folder: rel-2/ceremony, checkpoint: %s}\n", d.digest("rel-2/ceremony/checkpoint")), d.uri, "rel-3",
		d.digest("rel-3/manifest.json"), "import-artefact: {key: release-key, token: roots}", "release-3"))
	d.ok(d.approve("ada", "3-ada.json")...)
	d.ok(d.approve("berta", "3-berta.json", "--with", d.path("3-ada.json"))...)
	d.ok("ceremony", "run", "--out", d.path("rel-3/ceremony"), "--officer", d.key("ada"), "--bindings", d.path("bindings.yaml"), "--time", "2026-11-21T14:00:00Z",
		"--state", d.path("state"), "--answers", d.path("yes"), "--approval", d.path("3-ada.json"), "--approval", d.path("3-berta.json"), d.path("script.yaml"))
	for _, args := range [][]string{{"--roster", d.digest("roster.json")}, {"--checkpoint", d.digest("rel-3/ceremony/checkpoint")}, {"--key", r.Key}, {"--earlier", r.Checkpoint}} {
		d.refuses("signed by one of two", 4, "attested", "rel-3", args...)
	}
	// A ceremony that signed no release is none.
	d.make("rel-4", "v0.2.3", "")
	d.write("script.yaml", fmt.Sprintf(smallScript, d.digest("roster.json"), d.uri))
	b, err := softhsm.ForTest(t).Create("release other")
	if err != nil {
		t.Fatal(err)
	}
	d.write("bindings.yaml", fmt.Sprintf("tokens:\n  roots: %q\n", hsm.URI{Token: b.Label, ModulePath: b.Module, PINSource: b.PINFile}.String()))
	d.write("script.yaml", fmt.Sprintf(smallScript, d.digest("roster.json"), hsm.URI{Token: b.Label, Serial: b.Serial}))
	d.ok(d.approve("ada", "4-ada.json")...)
	d.ok(d.approve("berta", "4-berta.json", "--with", d.path("4-ada.json"))...)
	d.ok(d.run("rel-4/ceremony", "4-ada.json", "4-berta.json")...)
	d.refuses("no release", 4, "signed no release", "rel-4", "--roster", d.digest("roster.json"))
}

// TestApproveRelease: an officer takes the program's digest from a release that verifies, and from no other; nothing is written, and no key is
// asked for, before it does.
func TestApproveRelease(t *testing.T) {
	d := newReleases(t, "release approve")
	roster := d.digest("roster.json")
	tool := strings.Repeat("ab", 32)
	d.make("rel-3", "v0.2.2", tool)
	d.sign("rel-3", "release-3", "14:00:00", "rel-2/ceremony", "import-artefact: {key: release-key, token: roots}")
	d.write("script.yaml", fmt.Sprintf(smallScript, roster, d.uri))
	by := func(dir string, more ...string) []string {
		return d.approve("ada", "approval", append([]string{"--state", d.path("memory"), "--release", d.path(dir)}, more...)...)
	}
	d.refused(2, "nothing says whose release", "approval", by("rel-3")...)
	d.refused(2, "--tool and --release", "approval", by("rel-3", "--release-roster", roster, "--tool", tool)...)
	d.refused(2, "add --release", "approval", d.approve("ada", "approval", "--release-roster", roster)...)
	d.refused(4, "roster.json", "approval", by("rel-3", "--release-roster", strings.Repeat("0", 64))...)
	d.refused(3, "none below v0.3.0", "approval", by("rel-3", "--release-roster", roster, "--release-not-below", "v0.3.0")...)
	d.ok(append(d.verify("--roster", roster), d.path("rel-2"))...)
	d.refused(3, "release v0.2.1 was verified by this account", "approval", by("rel-1", "--release-roster", roster)...)
	d.refused(2, "--release-older is for a release", "approval", d.approve("ada", "approval", "--release-older")...)
	remembered := d.text("memory/release.json")
	for _, more := range [][]string{{"--release-older"}, {"--release-checkpoint", d.digest("rel-1/ceremony/checkpoint")}} {
		if out := d.ok(by("rel-1", append(more, "--release-roster", roster)...)...); !strings.Contains(out, "of release v0.2.0") || !strings.Contains(out, "release v0.2.1") || d.text("memory/release.json") != remembered {
			t.Errorf("%v: %s", more, out)
		}
		if err := os.Remove(d.path("approval")); err != nil {
			t.Fatal(err)
		}
	}
	d.copy("rel-3", "x")
	if err := os.WriteFile(d.path("x/hanaper_0.2_amd64.deb"), []byte("another"), 0o644); err != nil {
		t.Fatal(err)
	}
	d.refused(4, "hanaper_0.2_amd64.deb: is not what was signed", "approval", by("x", "--release-roster", roster)...)

	before := d.text("memory/release.json")
	out := d.ok(by("rel-3", "--release-roster", roster)...)
	if !strings.Contains(out, tool) || !strings.Contains(out, "of release v0.2.2") || !strings.Contains(out, "held to your --release-roster") {
		t.Error(out)
	}
	var env struct{ Payload []byte }
	if err := json.Unmarshal([]byte(d.text("approval")), &env); err != nil || !bytes.Contains(env.Payload, []byte(`"tool": "`+tool+`"`)) {
		t.Errorf("%s, %v", env.Payload, err)
	}
	if d.text("memory/release.json") != before {
		t.Error("who approves remembers nothing")
	}
	// The second officer joins: the release must name the same program.
	if code, _, errs := hanaper(t, d.approve("berta", "approval-2", "--state", d.path("memory"), "--with", d.path("approval"), "--release", d.path("rel-2"), "--release-roster", roster)...); code != 3 || !strings.Contains(errs, "is for the program") {
		t.Errorf("%d: %s", code, errs)
	}
	d.ok(d.approve("berta", "approval-2", "--state", d.path("memory"), "--with", d.path("approval"), "--release", d.path("rel-3"), "--release-roster", roster)...)
}

// TestNotARelease: who names the folder of a release in the place of its ceremony's is told so by each verb, and nothing is written.
func TestNotARelease(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, err := range []error{os.MkdirAll(at("v0.2.0/ceremony"), 0o755), os.WriteFile(at("v0.2.0/manifest.json"), []byte("{}"), 0o600), os.WriteFile(at("key"), []byte("x"), 0o600)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	digest := strings.Repeat("a", 64)
	for _, args := range [][]string{
		{"ceremony", "verify", "--roster", digest}, {"ceremony", "status", "--roster", digest}, {"ceremony", "record", "--roster", digest, "--out", at("record.pdf")},
		{"ceremony", "attest", "--roster", digest, "--officer", at("key")}, {"ceremony", "shares", "--roster", digest, "--out", at("shares")},
		{"ceremony", "new", "--roster", digest, "--manifest", at("v0.2.0/manifest.json"), "--out", at("script.yaml"), "release"},
	} {
		code, out, errs := hanaper(t, append(args, at("v0.2.0"))...)
		if list, err := os.ReadDir(dir); code != 2 || !strings.Contains(errs, "v0.2.0 is the folder of a release") || !strings.Contains(errs, at("v0.2.0/ceremony")) || err != nil || len(list) != 2 {
			t.Errorf("%v: exit %d, %v: %s%s", args[:2], code, list, out, errs)
		}
	}
}
